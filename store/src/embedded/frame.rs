//! The bytes of the log: frames of records. Pure.
//!
//! A frame is one committed batch: a header of 32 bytes and its records, padded to 32 bytes. Headers are
//! therefore never split over two sectors, and so are written whole or not at all. Numbers are little
//! endian.
//!
//! ```text
//! header: magic u32 | payload length u32 | first revision u64 | time, ms u64 | payload crc u32 | header crc u32
//! record: kind u8 | flags u8 | key length u16 | value length u32 | number u64 | key | value
//! ```
//!
//! The number is the deadline in milliseconds of a put, or its lease if the flag says so; the lease that was granted
//! (the value is its time to live) or revoked; the revision of a compaction. Format 1 knew no flags and no kinds but put
//! and delete, so what it wrote is read in the same way.

use bytes::Bytes;

use super::lease::{LeaseId, NO_LEASE};
use super::transaction::{Change, Written};
use crate::key::{KEY_BYTES_MAX, Key};

/// Frames begin at multiples of this.
pub(super) const ALIGNMENT: usize = 32;

/// What a disk writes in one piece.
const SECTOR: usize = 512;

/// The most bytes of records in a frame: what its header can say.
pub(super) const PAYLOAD_BYTES_MAX: usize = u32::MAX as usize;

/// The most bytes of a record beside its value.
pub(super) const RECORD_OVERHEAD_MAX: usize = RECORD_HEADER + KEY_BYTES_MAX;

const MAGIC: u32 = u32::from_le_bytes(*b"icf1");
const RECORD_HEADER: usize = 16;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const GRANTED: u8 = 3;
const REVOKED: u8 = 4;
const COMPACTED: u8 = 5;

/// The write has the revision of the one before it.
const FOLLOWS: u8 = 1;
/// The number is a lease.
const LEASED: u8 = 2;

/// One change as read back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    Write(WriteRecord),
    Granted { id: LeaseId, ttl_millis: u64 },
    Revoked { id: LeaseId },
    Compacted { revision: u64 },
}

/// One write as read back. Its revision is its place among the writes that do not follow another.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WriteRecord {
    pub(super) key: Key,
    /// `None` for a deletion.
    pub(super) value: Option<Bytes>,
    pub(super) deadline_millis: Option<u64>,
    pub(super) lease: LeaseId,
    pub(super) follows: bool,
}

/// A batch as read back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) first_revision: u64,
    pub(super) time_millis: u64,
    pub(super) records: Vec<Record>,
    /// With header and padding.
    pub(super) bytes: usize,
}

/// What stands at a place where a frame may begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Frame(Frame),
    /// Only zeros follow.
    End,
    /// A frame whose writing was cut short: some sector of it was never written.
    Torn,
    /// Bytes that were not written like this.
    Damaged(&'static str),
}

/// The bytes of the record of `change`.
pub(super) fn record_bytes(change: &Change) -> usize {
    let content = match change {
        Change::Write(Written { event, .. }) => {
            event.key.as_str().len() + event.current.as_ref().map_or(0, |entry| entry.value.len())
        }
        Change::Granted { ttl_millis, .. } => size_of_val(ttl_millis),
        Change::Revoked { .. } | Change::Compacted { .. } => 0,
    };
    RECORD_HEADER + content
}

/// The bytes of the record of a deletion.
pub(super) fn deletion_bytes(key: &Key) -> usize {
    RECORD_HEADER + key.as_str().len()
}

/// Appends the frame of `changes`, which are not empty, to `buffer`. Their records have [`PAYLOAD_BYTES_MAX`] at most.
pub(super) fn encode(buffer: &mut Vec<u8>, changes: &[Change], time_millis: u64) {
    let start = buffer.len();
    buffer.resize(start + ALIGNMENT, 0);
    changes.iter().for_each(|change| encode_record(buffer, change));
    let payload = buffer.len() - start - ALIGNMENT;
    let payload_crc = crc32c::crc32c(&buffer[start + ALIGNMENT..]);
    buffer.resize(start + padded(payload), 0);
    let first_revision = changes.iter().find_map(Change::written).map_or(0, |written| written.event.revision);
    let payload = u32::try_from(payload).expect("the committer bounds a batch's bytes");
    let header = &mut buffer[start..start + ALIGNMENT];
    header[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    header[4..8].copy_from_slice(&payload.to_le_bytes());
    header[8..16].copy_from_slice(&first_revision.to_le_bytes());
    header[16..24].copy_from_slice(&time_millis.to_le_bytes());
    header[24..28].copy_from_slice(&payload_crc.to_le_bytes());
    let header_crc = crc32c::crc32c(&header[..28]);
    header[28..32].copy_from_slice(&header_crc.to_le_bytes());
}

fn encode_record(buffer: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(written) => encode_write(buffer, written),
        Change::Granted { id, ttl_millis } => {
            encode_parts(buffer, [GRANTED, 0], id.cast_unsigned(), &[], &ttl_millis.to_le_bytes());
        }
        Change::Revoked { id } => encode_parts(buffer, [REVOKED, 0], id.cast_unsigned(), &[], &[]),
        Change::Compacted { revision } => encode_parts(buffer, [COMPACTED, 0], *revision, &[], &[]),
    }
}

fn encode_write(buffer: &mut Vec<u8>, written: &Written) {
    let current = written.event.current.as_ref();
    let lease = current.map_or(NO_LEASE, |entry| entry.lease);
    let number = if lease == NO_LEASE { written.deadline_millis.unwrap_or(0) } else { lease.cast_unsigned() };
    let flags = if written.follows { FOLLOWS } else { 0 } | if lease == NO_LEASE { 0 } else { LEASED };
    let kind = if current.is_some() { PUT } else { DELETE };
    let value = current.map_or(&[][..], |entry| &entry.value);
    encode_parts(buffer, [kind, flags], number, written.event.key.as_str().as_bytes(), value);
}

fn encode_parts(buffer: &mut Vec<u8>, kind: [u8; 2], number: u64, key: &[u8], value: &[u8]) {
    let key_length = u16::try_from(key.len()).expect("the store refuses longer keys");
    let value_length = u32::try_from(value.len()).expect("the store refuses larger values");
    buffer.extend_from_slice(&kind);
    buffer.extend_from_slice(&key_length.to_le_bytes());
    buffer.extend_from_slice(&value_length.to_le_bytes());
    buffer.extend_from_slice(&number.to_le_bytes());
    buffer.extend_from_slice(key);
    buffer.extend_from_slice(value);
}

fn padded(payload: usize) -> usize {
    ALIGNMENT + payload.next_multiple_of(ALIGNMENT)
}

struct Header {
    payload: usize,
    first_revision: u64,
    time_millis: u64,
    payload_crc: u32,
}

fn header(bytes: &[u8]) -> Option<Header> {
    let header = bytes.get(..ALIGNMENT)?;
    let valid = u32_at(header, 0) == MAGIC && u32_at(header, 28) == crc32c::crc32c(&header[..28]);
    valid.then(|| Header {
        payload: u32_at(header, 4) as usize,
        first_revision: u64_at(header, 8),
        time_millis: u64_at(header, 16),
        payload_crc: u32_at(header, 24),
    })
}

/// Reads what begins at `at`, a multiple of [`ALIGNMENT`], in the bytes of a whole segment.
///
/// Only the newest frame can be torn, for the next is written after it is safe. So whatever is followed
/// by a whole frame is damage, and so is a bad frame with no sector missing.
pub(super) fn parse(segment: &[u8], at: usize) -> Parsed {
    let rest = &segment[at..];
    let Some(header) = header(rest) else {
        return parse_without_header(rest);
    };
    let end = ALIGNMENT + header.payload;
    if let Some(payload) = rest.get(ALIGNMENT..end)
        && crc32c::crc32c(payload) == header.payload_crc
    {
        return match decode_records(payload) {
            Some(records) => Parsed::Frame(Frame {
                first_revision: header.first_revision,
                time_millis: header.time_millis,
                records,
                bytes: padded(header.payload).min(rest.len()),
            }),
            None => Parsed::Damaged("a record does not fit its frame"),
        };
    }
    if frame_follows(rest) {
        return Parsed::Damaged("checksum mismatch before further frames");
    }
    if end > rest.len() || misses_sector(segment, at, at + end) {
        return Parsed::Torn;
    }
    Parsed::Damaged("checksum mismatch in the last frame")
}

fn parse_without_header(rest: &[u8]) -> Parsed {
    let written = rest.iter().take(ALIGNMENT).any(|byte| *byte != 0);
    if written {
        return Parsed::Damaged("frame header is not valid");
    }
    if rest.iter().all(|byte| *byte == 0) {
        return Parsed::End;
    }
    if frame_follows(rest) { Parsed::Damaged("frames are missing before further frames") } else { Parsed::Torn }
}

/// Whether a whole frame begins anywhere after the first place.
fn frame_follows(rest: &[u8]) -> bool {
    (ALIGNMENT..rest.len()).step_by(ALIGNMENT).any(|at| {
        header(&rest[at..]).is_some_and(|header| {
            let payload = rest[at..].get(ALIGNMENT..ALIGNMENT + header.payload);
            payload.is_some_and(|payload| crc32c::crc32c(payload) == header.payload_crc)
        })
    })
}

/// Whether some sector, or the part of it that lies in `from..to`, was never written.
fn misses_sector(segment: &[u8], from: usize, to: usize) -> bool {
    let first = from - from % SECTOR;
    (first..to).step_by(SECTOR).any(|at| segment[at.max(from)..(at + SECTOR).min(to)].iter().all(|byte| *byte == 0))
}

fn decode_records(mut payload: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !payload.is_empty() {
        let header = payload.get(..RECORD_HEADER)?;
        let key_end = RECORD_HEADER + usize::from(u16::from_le_bytes([header[2], header[3]]));
        let end = key_end + u32_at(header, 4) as usize;
        let key = payload.get(RECORD_HEADER..key_end)?;
        records.push(decode_record(header, key, payload.get(key_end..end)?)?);
        payload = &payload[end..];
    }
    Some(records)
}

fn decode_record(header: &[u8], key: &[u8], value: &[u8]) -> Option<Record> {
    let (kind, flags, number) = (header[0], header[1], u64_at(header, 8));
    match kind {
        PUT | DELETE => {
            let leased = flags & LEASED != 0;
            Some(Record::Write(WriteRecord {
                key: Key::foreign(std::str::from_utf8(key).ok()?).ok()?,
                value: (kind == PUT).then(|| Bytes::copy_from_slice(value)),
                deadline_millis: Some(number).filter(|deadline| *deadline != 0 && !leased),
                lease: if leased { number.cast_signed() } else { NO_LEASE },
                follows: flags & FOLLOWS != 0,
            }))
        }
        GRANTED => {
            let ttl_millis = u64::from_le_bytes(value.try_into().ok()?);
            Some(Record::Granted { id: number.cast_signed(), ttl_millis })
        }
        REVOKED => Some(Record::Revoked { id: number.cast_signed() }),
        COMPACTED => Some(Record::Compacted { revision: number }),
        _ => None,
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests;
