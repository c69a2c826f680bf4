//! Log segments: files of zeros made ahead of time, filled with frames from the front.
//!
//! Writing into blocks that exist spares the file system a journal commit of its own with every sync
//! (`benches/engines.rs` has the numbers).

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::disk::{Appender, Disk};
use super::frame::{self, ALIGNMENT, Frame, Parsed, u32_at, u64_at};
use super::recovery::OpenError;

/// Bytes before the first frame.
pub(super) const HEADER_BYTES: usize = 512;

/// The version of everything that is written. Opening refuses newer ones; older ones back to
/// [`OLDEST_VERSION`] are read, and raised where the log goes on.
pub(super) const FORMAT_VERSION: u32 = 2;

/// The oldest version that is read. Version 1 knew no leases, no versions of keys, and one key a revision.
pub(super) const OLDEST_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"icedlog\0";

/// The path of segment `number`.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("log-{number:016x}"))
}

/// Makes the file of segment `number`, safe on disk, under its own name.
pub(super) fn create(disk: &dyn Disk, dir: &Path, number: u64, bytes: u64) -> io::Result<()> {
    let unfinished = dir.join("log-unfinished");
    let made = fill(disk, &unfinished, number, bytes).and_then(|()| disk.rename(&unfinished, &path(dir, number)));
    if made.is_err() {
        // Most likely there is no space: do not keep what there was of it.
        let _ = disk.remove(&unfinished);
    }
    made?;
    disk.sync_dir(dir)
}

fn fill(disk: &dyn Disk, path: &Path, number: u64, bytes: u64) -> io::Result<()> {
    let mut file = Appender::new(disk.create(path)?);
    let mut block = vec![0; 1 << 20];
    block[..HEADER_BYTES].copy_from_slice(&header(number));
    for start in (0..bytes).step_by(block.len()) {
        let part = (bytes - start).min(block.len() as u64);
        file.write_all(&block[..usize::try_from(part).unwrap_or(block.len())])?;
        block[..HEADER_BYTES].fill(0);
    }
    file.sync()
}

/// Makes a segment one of the present version, so that older programs refuse it before they misread what is
/// appended. The header is one sector and therefore replaced whole.
pub(super) fn raise(disk: &dyn Disk, dir: &Path, number: u64) -> io::Result<()> {
    let mut file = disk.open(&path(dir, number))?;
    file.write_at(&header(number), 0)?;
    file.sync()
}

fn header(number: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
    header[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The numbers of all segments in `dir`, in order.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    numbered(dir, "log-")
}

/// The hexadecimal numbers of the files whose names begin with `prefix`, in order.
pub(super) fn numbered(dir: &Path, prefix: &str) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for file in fs::read_dir(dir)? {
        let name = file?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(prefix)).filter(|digits| digits.len() == 16);
        numbers.extend(digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A segment read back.
pub(super) struct Contents {
    pub(super) frames: Vec<Frame>,
    /// Where the next frame goes.
    pub(super) end: u64,
    /// The file's size.
    pub(super) bytes: u64,
    /// Whether an unfinished frame stands at `end`.
    pub(super) torn: bool,
    pub(super) version: u32,
}

/// Reads segment `number` and checks every byte of it.
pub(super) fn read(dir: &Path, number: u64) -> Result<Contents, OpenError> {
    let path = path(dir, number);
    let bytes = fs::read(&path).map_err(OpenError::io("read", &path))?;
    let version = check_header(&path, &bytes, number)?;
    let (end, length) = (HEADER_BYTES as u64, bytes.len() as u64);
    let mut contents = Contents { frames: Vec::new(), end, bytes: length, torn: false, version };
    let mut at = HEADER_BYTES;
    while at + ALIGNMENT <= bytes.len() {
        match frame::parse(&bytes, at) {
            Parsed::Frame(frame) => {
                at += frame.bytes;
                contents.frames.push(frame);
            }
            Parsed::End => break,
            Parsed::Torn => {
                contents.torn = true;
                break;
            }
            Parsed::Damaged(reason) => return Err(OpenError::Damaged { path, offset: at as u64, reason }),
        }
    }
    contents.end = at as u64;
    Ok(contents)
}

/// Returns the segment's version.
fn check_header(path: &Path, bytes: &[u8], number: u64) -> Result<u32, OpenError> {
    let damaged = |reason| OpenError::Damaged { path: path.to_owned(), offset: 0, reason };
    let header = bytes.get(..HEADER_BYTES).ok_or_else(|| damaged("segment header is missing"))?;
    if u32_at(header, HEADER_BYTES - 4) != crc32c::crc32c(&header[..HEADER_BYTES - 4]) || &header[..8] != MAGIC {
        return Err(damaged("segment header is not valid"));
    }
    let found = u32_at(header, 8);
    check_version(path, found)?;
    if u64_at(header, 16) != number {
        return Err(damaged("segment has another segment's name"));
    }
    Ok(found)
}

/// Refuses a version that this program cannot read.
pub(super) fn check_version(path: &Path, found: u32) -> Result<(), OpenError> {
    if (OLDEST_VERSION..=FORMAT_VERSION).contains(&found) {
        return Ok(());
    }
    Err(OpenError::Version { path: path.to_owned(), found, supported: FORMAT_VERSION })
}
