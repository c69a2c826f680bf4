//! Snapshots: the whole state in one file, so that the log before it can go.
//!
//! They are written from an immutable state while writes go on, and double as backups. Blocks of about a
//! megabyte carry a checksum each; the header carries the number of entries. A file appears under its
//! name only when it is complete and safe, so anything wrong in it is damage.
//!
//! ```text
//! header: magic 8 | version u32 | 0 u32 | revision u64 | segment u64 | entries u64 | compacted u64 | 0.. | crc u32
//!         (64 bytes)
//! block:  payload length u32 | payload crc u32 | entries
//! entry:  key length u16 | 0 u16 | value length u32 | created u64 | modified u64 | deadline, ms u64 | version u64 |
//!         lease i64 | key | value
//! ```
//!
//! An entry without a key is a lease, with its time to live in milliseconds as the deadline. Format 1 has neither
//! versions nor leases: a key's version is 1 then.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::disk::{Appender, Disk};
use super::expiry::Deadlines;
use super::frame::{u32_at, u64_at};
use super::lease::{LeaseId, Leases, NO_LEASE};
use super::recovery::OpenError;
use super::segment::{FORMAT_VERSION, OLDEST_VERSION, check_version, numbered};
use super::shared::{Map, State};
use crate::contract::Entry;
use crate::key::Key;

const MAGIC: &[u8; 8] = b"icedsnap";
const HEADER_BYTES: usize = 64;
const BLOCK_BYTES: usize = 1 << 20;
const ENTRY_HEADER: usize = 48;
const ENTRY_HEADER_1: usize = 32;

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
    write_to(&mut file, snapshot)?;
    file.sync()?;
    Ok(file.bytes)
}

/// Writes the bytes of a snapshot.
pub(super) fn write_to(file: &mut impl Write, snapshot: &Snapshot) -> io::Result<()> {
    file.write_all(&header(snapshot))?;
    let mut block = Vec::with_capacity(BLOCK_BYTES * 2);
    for (id, lease) in snapshot.state.leases.iter() {
        encode_lease(&mut block, id, lease.ttl_millis);
    }
    for (key, entry) in &snapshot.state.map {
        encode(&mut block, entry, snapshot.deadlines.get(key).copied().unwrap_or(0));
        if block.len() >= BLOCK_BYTES {
            write_block(file, &mut block)?;
        }
    }
    if !block.is_empty() {
        write_block(file, &mut block)?;
    }
    Ok(())
}

fn header(snapshot: &Snapshot) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&snapshot.state.revision.to_le_bytes());
    header[24..32].copy_from_slice(&snapshot.segment.to_le_bytes());
    header[32..40].copy_from_slice(&(snapshot.state.map.len() as u64).to_le_bytes());
    header[40..48].copy_from_slice(&snapshot.state.compacted.to_le_bytes());
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
    block.extend_from_slice(&entry.version.to_le_bytes());
    block.extend_from_slice(&entry.lease.to_le_bytes());
    block.extend_from_slice(key);
    block.extend_from_slice(&entry.value);
}

fn encode_lease(block: &mut Vec<u8>, id: LeaseId, ttl_millis: u64) {
    block.resize(block.len() + ENTRY_HEADER, 0);
    let header = block.len() - ENTRY_HEADER;
    block[header + 24..header + 32].copy_from_slice(&ttl_millis.to_le_bytes());
    block[header + 40..].copy_from_slice(&id.to_le_bytes());
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
    let version = u32_at(&header, 8);
    check_version(&path, version)?;
    if u64_at(&header, 16) != revision {
        return Err(damaged(0, "snapshot has another snapshot's name"));
    }
    let mut decoded = Decoded::new(version);
    let mut block = Vec::new();
    let mut at = HEADER_BYTES as u64;
    while at < length {
        let read = read_block(&mut file, &mut block, length - at).map_err(|reason| damaged(at, reason))?;
        decoded.block(&block).ok_or_else(|| damaged(at, "an entry does not fit its block"))?;
        at += read;
    }
    let Decoded { map, deadlines, leases, .. } = decoded;
    if map.len() as u64 != u64_at(&header, 32) {
        return Err(damaged(0, "entries are missing"));
    }
    let state = Arc::new(State { revision, map, leases, compacted: u64_at(&header, 40) });
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

/// What has been read so far.
struct Decoded {
    version: u32,
    map: Map,
    deadlines: Deadlines,
    leases: Leases,
}

impl Decoded {
    fn new(version: u32) -> Self {
        Self { version, map: Map::new(), deadlines: Deadlines::new(), leases: Leases::default() }
    }

    fn block(&mut self, mut block: &[u8]) -> Option<()> {
        let header_bytes = if self.version == OLDEST_VERSION { ENTRY_HEADER_1 } else { ENTRY_HEADER };
        while !block.is_empty() {
            let header = block.get(..header_bytes)?;
            let key_end = header_bytes + usize::from(u16::from_le_bytes([header[0], header[1]]));
            let end = key_end + u32_at(header, 4) as usize;
            self.entry(header, block.get(header_bytes..key_end)?, block.get(key_end..end)?)?;
            block = &block[end..];
        }
        Some(())
    }

    fn entry(&mut self, header: &[u8], key: &[u8], value: &[u8]) -> Option<()> {
        let (create_revision, mod_revision, deadline) = (u64_at(header, 8), u64_at(header, 16), u64_at(header, 24));
        let (version, lease) = match header.len() {
            ENTRY_HEADER_1 => (1, NO_LEASE),
            _ => (u64_at(header, 32), u64_at(header, 40).cast_signed()),
        };
        if key.is_empty() {
            self.leases.grant(lease, deadline, 0);
            return Some(());
        }
        let key = Key::foreign(std::str::from_utf8(key).ok()?).ok()?;
        if deadline != 0 {
            self.deadlines.insert(key.clone(), deadline);
        }
        self.leases.moved(&key, NO_LEASE, lease);
        let value = Bytes::copy_from_slice(value);
        let entry = Entry { key: key.clone(), value, create_revision, mod_revision, version, lease };
        self.map.insert(key, Arc::new(entry));
        Some(())
    }
}
