//! Backups: a snapshot in a file of its own, with a checksum of the whole, and the way back.
//!
//! ```text
//! snapshot | 0.. up to a multiple of 512 | trailer of 512 bytes | SHA-256 of all before
//! trailer: magic 8 | version u32 | 0 u32 | snapshot's length u64 | revision u64 | 0.. | crc u32
//! ```
//!
//! The sizes are those that `etcdctl snapshot save` expects of what a server sends: whole sectors, then a hash.
//!
//! A backup is taken from a store that is open in this process ([`EmbeddedStore::backup`]), or from a directory that
//! may be open in another ([`Backup::read`]): the files of a store only grow at their ends or disappear whole, so
//! what is read without a lock, from the end on, is a state that there was at some moment, or is refused and read again.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::disk::{FileSystem, create_new_private};
use super::expiry::Deadlines;
use super::frame::{u32_at, u64_at};
use super::mvcc::Txn;
use super::recovery::{self, FIRST_SEGMENT, FIRST_SEGMENT_BYTES, OpenError};
use super::shared::State;
use super::snapshot::{self, Snapshot};
use super::transaction::Change;
use super::{EmbeddedStore, segment};
use crate::contract::Error;

const MAGIC: &[u8; 8] = b"icedbkup";

/// The version of the trailer; what lies before it has one of its own.
const VERSION: u32 = 1;

const SECTOR: usize = 512;
const HASH_BYTES: usize = 32;

const BUFFER_BYTES: usize = 1 << 20;

/// How often a directory is read again when its files changed meanwhile.
const READ_ATTEMPTS_MAX: usize = 10;

/// Everything, as of one revision.
#[derive(Debug)]
pub struct Backup {
    snapshot: Snapshot,
}

/// Why a backup cannot be kept or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file operation failed.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file is no backup, or not whole.
    #[error("{path} is not a whole backup: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// The file was written by a newer version.
    #[error("{path} has backup version {found}, this program supports {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// There is something in the directory already.
    #[error("{path} is not empty; a backup is restored into an empty directory")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// Others cannot be kept out of the directory, most likely because a server has it open.
    #[error("cannot restore into the directory")]
    Lock(#[source] OpenError),
    /// What was restored cannot be opened.
    #[error("cannot open what was restored")]
    Open(#[source] OpenError),
}

impl BackupError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }
}

impl EmbeddedStore {
    /// What is stored now. Writes go on meanwhile.
    pub async fn backup(&self) -> Result<Backup, Error> {
        self.transact(|txn| Ok::<_, Error>(Backup::new(txn.transaction.state().clone(), deadlines(txn)))).await?
    }
}

/// The deadlines with what was written in the batch being decided, whose state the backup is of.
fn deadlines(txn: &Txn<'_>) -> Deadlines {
    let mut deadlines = txn.deadlines.clone();
    for written in txn.transaction.changes().iter().filter_map(Change::written) {
        match written.deadline_millis {
            Some(deadline) => deadlines.insert(written.event.key.clone(), deadline),
            None => deadlines.remove(&written.event.key),
        };
    }
    deadlines
}

impl Backup {
    fn new(state: State, deadlines: Deadlines) -> Self {
        Self { snapshot: Snapshot { state: Arc::new(state), deadlines, segment: FIRST_SEGMENT, bytes: 0 } }
    }

    /// Reads the store in `dir`, which another process may be writing to. Changes nothing.
    pub fn read(dir: &Path) -> Result<Self, OpenError> {
        let mut attempt = 1;
        loop {
            match recovery::read(dir) {
                Ok((state, deadlines)) => return Ok(Self::new(state, deadlines)),
                Err(error) if attempt == READ_ATTEMPTS_MAX || !changes_meanwhile(&error) => return Err(error),
                Err(error) => tracing::debug!(%error, attempt, "the store changed while it was read"),
            }
            attempt += 1;
        }
    }

    /// The revision whose state this is.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.snapshot.state.revision
    }

    /// How many keys it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.snapshot.state.map.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.snapshot.state.map.is_empty()
    }

    /// Writes the backup to a file that only its owner may read, in place of what had the name. It has the name only
    /// when it is whole and safe on disk.
    pub fn save(&self, path: &Path) -> Result<(), BackupError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".unfinished");
        let unfinished = path.with_file_name(name);
        let written = self.write_file(&unfinished).and_then(|()| fs::rename(&unfinished, path)).and_then(|()| {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        });
        if written.is_err() {
            // Most likely there is no space: do not keep what there was of it.
            let _ = fs::remove_file(&unfinished);
        }
        written.map_err(BackupError::io("write", path))
    }

    fn write_file(&self, path: &Path) -> io::Result<()> {
        // What an earlier backup left behind, or a link that somebody laid there, is not written to.
        if let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let file = create_new_private(path)?;
        self.write(&mut BufWriter::with_capacity(BUFFER_BYTES, &file))?;
        file.sync_all()
    }

    /// Writes the backup. Whoever wants it safe on disk syncs the file.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut hashed = Hashed { out, hash: Sha256::new(), bytes: 0 };
        snapshot::write_to(&mut hashed, &self.snapshot)?;
        let length = hashed.bytes;
        let padding = usize::try_from(length.next_multiple_of(SECTOR as u64) - length).unwrap_or(0);
        hashed.write_all(&[0; SECTOR][..padding])?;
        hashed.write_all(&trailer(length, self.revision()))?;
        let hash = hashed.hash.finalize();
        out.write_all(&hash)?;
        out.flush()
    }
}

/// What is found when a writer appends or removes files during the reading.
fn changes_meanwhile(error: &OpenError) -> bool {
    match error {
        OpenError::Damaged { .. } | OpenError::Missing { .. } => true,
        OpenError::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        OpenError::Locked { .. } | OpenError::Version { .. } => false,
    }
}

struct Hashed<'a, W> {
    out: &'a mut W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn trailer(length: u64, revision: u64) -> [u8; SECTOR] {
    let mut trailer = [0; SECTOR];
    trailer[..8].copy_from_slice(MAGIC);
    trailer[8..12].copy_from_slice(&VERSION.to_le_bytes());
    trailer[16..24].copy_from_slice(&length.to_le_bytes());
    trailer[24..32].copy_from_slice(&revision.to_le_bytes());
    let crc = crc32c::crc32c(&trailer[..SECTOR - 4]);
    trailer[SECTOR - 4..].copy_from_slice(&crc.to_le_bytes());
    trailer
}

/// Makes a store in `dir`, which is empty or does not exist, of the backup in a file. Returns its revision.
///
/// The whole file is checked before anything is written, and the store is opened once afterwards. When anything
/// fails, nothing of it stays in `dir` but the file that keeps others out meanwhile.
pub fn restore(backup: &Path, dir: &Path) -> Result<u64, BackupError> {
    let (file, length, revision) = check(backup)?;
    let _lock = recovery::lock(dir).map_err(BackupError::Lock)?;
    let files = fs::read_dir(dir).map_err(BackupError::io("read", dir))?;
    if files.flatten().any(|file| file.file_name() != recovery::LOCK) {
        return Err(BackupError::NotEmpty { path: dir.to_owned() });
    }
    let mut made = Vec::new();
    let restored = fill(file, length, revision, dir, &mut made);
    if restored.is_err() {
        made.iter().for_each(|path| drop(fs::remove_file(path)));
    }
    restored
}

/// Notes in `made` what it has made.
fn fill(mut file: File, length: u64, revision: u64, dir: &Path, made: &mut Vec<PathBuf>) -> Result<u64, BackupError> {
    let path = snapshot::path(dir, revision);
    let write = || {
        file.seek(SeekFrom::Start(0))?;
        let mut snapshot = create_new_private(&path)?;
        made.push(path.clone());
        io::copy(&mut file.take(length), &mut snapshot)?;
        snapshot.sync_all()?;
        segment::create(&FileSystem, dir, FIRST_SEGMENT, FIRST_SEGMENT_BYTES)?;
        made.push(segment::path(dir, FIRST_SEGMENT));
        Ok(())
    };
    write().map_err(BackupError::io("write", &path))?;
    let (state, _) = recovery::read(dir).map_err(BackupError::Open)?;
    Ok(state.revision)
}

/// Checks every byte, and returns the file with its snapshot's length and revision.
fn check(path: &Path) -> Result<(File, u64, u64), BackupError> {
    let damaged = |reason| BackupError::Damaged { path: path.to_owned(), reason };
    let mut file = File::open(path).map_err(BackupError::io("open", path))?;
    let length = file.metadata().map_err(BackupError::io("read", path))?.len();
    let hashed = length.checked_sub(HASH_BYTES as u64).filter(|hashed| *hashed >= SECTOR as u64);
    let hashed = hashed.ok_or_else(|| damaged("it is too short"))?;
    let mut hash = Sha256::new();
    io::copy(&mut (&mut file).take(hashed), &mut hash).map_err(BackupError::io("read", path))?;
    let mut wanted = [0; HASH_BYTES];
    file.read_exact(&mut wanted).map_err(BackupError::io("read", path))?;
    if hash.finalize()[..] != wanted {
        return Err(damaged("its hash is another"));
    }
    let mut trailer = [0; SECTOR];
    file.seek(SeekFrom::Start(hashed - SECTOR as u64)).map_err(BackupError::io("read", path))?;
    file.read_exact(&mut trailer).map_err(BackupError::io("read", path))?;
    if &trailer[..8] != MAGIC || u32_at(&trailer, SECTOR - 4) != crc32c::crc32c(&trailer[..SECTOR - 4]) {
        return Err(damaged("it has no trailer"));
    }
    let found = u32_at(&trailer, 8);
    if found != VERSION {
        return Err(BackupError::Version { path: path.to_owned(), found });
    }
    Ok((file, u64_at(&trailer, 16), u64_at(&trailer, 24)))
}
