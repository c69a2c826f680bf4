//! Snapshots: the whole state in one file, so that the log before it can go.
//!
//! They are written from an immutable state while writes go on, and double as backups. Blocks of about a
//! megabyte carry a checksum each; the header carries the number of entries. A file appears under its
//! name only when it is complete and safe, so anything wrong in it is damage.
//!
//! ```text
//! header: magic 8 | version u32 | 0 u32 | revision u64 | segment u64 | entries u64 | 0.. | crc u32 (64 bytes)
//! block:  payload length u32 | payload crc u32 | entries
//! entry:  key length u16 | 0 u16 | value length u32 | created u64 | modified u64 | deadline, ms u64 | key | value
//! ```

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::disk::{Appender, Disk};
use super::expiry::Deadlines;
use super::frame::{u32_at, u64_at};
use super::recovery::OpenError;
use super::segment::{FORMAT_VERSION, numbered};
use super::shared::{Map, State};
use crate::contract::Entry;
use crate::key::Key;

const MAGIC: &[u8; 8] = b"icedsnap";
const HEADER_BYTES: usize = 64;
const BLOCK_BYTES: usize = 1 << 20;
const ENTRY_HEADER: usize = 32;

/// What is written: a state, and the segment that was being filled when it was taken.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) state: Arc<State>,
    pub(super) deadlines: Deadlines,
    pub(super) segment: u64,
    /// Its size, when it was read from a file.
    pub(super) bytes: u64,
}

/// The revisions of all snapshots in `dir`, in order.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    numbered(dir, "snapshot-")
}

pub(super) fn path(dir: &Path, revision: u64) -> PathBuf {
    dir.join(format!("snapshot-{revision:016x}"))
}

/// Writes a snapshot, safe on disk, and returns its size.
pub(super) fn write(disk: &dyn Disk, dir: &Path, snapshot: &Snapshot) -> io::Result<u64> {
    let unfinished = dir.join("snapshot-unfinished");
    let made = write_file(disk, &unfinished, snapshot)
        .and_then(|bytes| disk.rename(&unfinished, &path(dir, snapshot.state.revision)).map(|()| bytes));
    if made.is_err() {
        // Most likely there is no space: do not keep what there was of it.
        let _ = disk.remove(&unfinished);
    }
    let bytes = made?;
    disk.sync_dir(dir)?;
    Ok(bytes)
}

fn write_file(disk: &dyn Disk, path: &Path, snapshot: &Snapshot) -> io::Result<u64> {
    let mut file = Appender::new(disk.create(path)?);
    file.write_all(&header(snapshot))?;
    let mut block = Vec::with_capacity(BLOCK_BYTES * 2);
    for (key, entry) in &snapshot.state.map {
        encode(&mut block, entry, snapshot.deadlines.get(key).copied().unwrap_or(0));
        if block.len() >= BLOCK_BYTES {
            write_block(&mut file, &mut block)?;
        }
    }
    if !block.is_empty() {
        write_block(&mut file, &mut block)?;
    }
    file.sync()?;
    Ok(file.bytes)
}

fn header(snapshot: &Snapshot) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&snapshot.state.revision.to_le_bytes());
    header[24..32].copy_from_slice(&snapshot.segment.to_le_bytes());
    header[32..40].copy_from_slice(&(snapshot.state.map.len() as u64).to_le_bytes());
    let crc = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
    header[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn encode(block: &mut Vec<u8>, entry: &Entry, deadline_millis: u64) {
    let key = entry.key.as_str().as_bytes();
    block.extend_from_slice(&u16::try_from(key.len()).expect("the store refuses longer keys").to_le_bytes());
    block.extend_from_slice(&[0, 0]);
    block.extend_from_slice(&u32::try_from(entry.value.len()).expect("the store refuses larger values").to_le_bytes());
    block.extend_from_slice(&entry.create_revision.to_le_bytes());
    block.extend_from_slice(&entry.mod_revision.to_le_bytes());
    block.extend_from_slice(&deadline_millis.to_le_bytes());
    block.extend_from_slice(key);
    block.extend_from_slice(&entry.value);
}

fn write_block(file: &mut impl Write, block: &mut Vec<u8>) -> io::Result<()> {
    let length = u32::try_from(block.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(&crc32c::crc32c(block).to_le_bytes())?;
    file.write_all(block)?;
    block.clear();
    Ok(())
}

/// Reads the snapshot taken at `revision` and checks every byte of it.
pub(super) fn read(dir: &Path, revision: u64) -> Result<Snapshot, OpenError> {
    let path = path(dir, revision);
    let damaged = |offset: u64, reason| OpenError::Damaged { path: path.clone(), offset, reason };
    let io = |source| OpenError::io("read", &path)(source);
    let file = File::open(&path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut file = BufReader::with_capacity(BLOCK_BYTES, file);
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header).map_err(|_| damaged(0, "snapshot header is missing"))?;
    if &header[..8] != MAGIC || u32_at(&header, HEADER_BYTES - 4) != crc32c::crc32c(&header[..HEADER_BYTES - 4]) {
        return Err(damaged(0, "snapshot header is not valid"));
    }
    let found = u32_at(&header, 8);
    if found != FORMAT_VERSION {
        return Err(OpenError::Version { path, found, supported: FORMAT_VERSION });
    }
    if u64_at(&header, 16) != revision {
        return Err(damaged(0, "snapshot has another snapshot's name"));
    }
    let mut map = Map::new();
    let mut deadlines = Deadlines::new();
    let mut block = Vec::new();
    let mut at = HEADER_BYTES as u64;
    while at < length {
        let read = read_block(&mut file, &mut block, length - at).map_err(|reason| damaged(at, reason))?;
        decode_block(&block, &mut map, &mut deadlines).ok_or_else(|| damaged(at, "an entry does not fit its block"))?;
        at += read;
    }
    if map.len() as u64 != u64_at(&header, 32) {
        return Err(damaged(0, "entries are missing"));
    }
    let state = Arc::new(State { revision, map });
    Ok(Snapshot { state, deadlines, segment: u64_at(&header, 24), bytes: length })
}

fn read_block(file: &mut impl Read, block: &mut Vec<u8>, left: u64) -> Result<u64, &'static str> {
    let mut header = [0; 8];
    file.read_exact(&mut header).map_err(|_| "block header is missing")?;
    let length = u32_at(&header, 0);
    let bytes = u64::from(length) + header.len() as u64;
    if bytes > left {
        return Err("block is longer than the file");
    }
    block.resize(length as usize, 0);
    file.read_exact(block).map_err(|_| "block is missing")?;
    if crc32c::crc32c(block) != u32_at(&header, 4) {
        return Err("checksum mismatch in a block");
    }
    Ok(bytes)
}

fn decode_block(mut block: &[u8], map: &mut Map, deadlines: &mut Deadlines) -> Option<()> {
    while !block.is_empty() {
        let header = block.get(..ENTRY_HEADER)?;
        let key_end = ENTRY_HEADER + usize::from(u16::from_le_bytes([header[0], header[1]]));
        let end = key_end + u32_at(header, 4) as usize;
        let key = Key::parse(std::str::from_utf8(block.get(ENTRY_HEADER..key_end)?).ok()?).ok()?;
        let value = Bytes::copy_from_slice(block.get(key_end..end)?);
        let (create_revision, mod_revision) = (u64_at(header, 8), u64_at(header, 16));
        let deadline = u64_at(header, 24);
        if deadline != 0 {
            deadlines.insert(key.clone(), deadline);
        }
        map.insert(key.clone(), Arc::new(Entry { key, value, create_revision, mod_revision }));
        block = &block[end..];
    }
    Some(())
}
