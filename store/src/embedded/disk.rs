//! The file operations whose failure decides what survives: a seam for tests that drop, tear and fail.

use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, FileExt, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Opens, makes, renames and removes the store's files. Only opening has to be replaced to fail the log.
pub trait Disk: Debug + Send + Sync {
    /// Opens an existing file.
    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>>;

    /// Makes an empty file that only its owner may read, in place of what had the name.
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(create_private(path)?))
    }

    /// Gives a file another name. Safe after the next [`Self::sync_dir`], and not before.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Removes a file. Safe after the next [`Self::sync_dir`], and not before.
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Makes renames and removals in `dir` safe.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// A log file. Written bytes are safe after the next successful sync, and not before.
pub trait LogFile: Debug + Send {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Waits until everything written is on the disk.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file off, or extends it with zeros.
    fn set_len(&mut self, bytes: u64) -> io::Result<()>;
}

/// The file system.
#[derive(Debug)]
pub struct FileSystem;

impl Disk for FileSystem {
    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(OpenOptions::new().write(true).open(path)?))
    }
}

impl LogFile for File {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }
}

/// Who may read what a store consists of, which holds every secret: its owner.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Makes an empty file that only its owner may read, or empties the one there is.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    // What was left behind by an older program may have another mode.
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    Ok(file)
}

/// Makes a file that only its owner may read, where there is none and no link either.
pub(super) fn create_new_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)
}

/// Makes a directory that only its owner may enter, if it does not exist. Those above it are made as usual.
pub(super) fn create_private_dir(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
    }
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
}

/// Writes a file from its beginning to its end.
pub(super) struct Appender {
    file: Box<dyn LogFile>,
    pub(super) bytes: u64,
}

impl Appender {
    pub(super) fn new(file: Box<dyn LogFile>) -> Self {
        Self { file, bytes: 0 }
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Write for Appender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, self.bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
