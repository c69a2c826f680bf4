//! Opening a directory: the newest snapshot, then the log after it.
//!
//! What was answered is there or the store refuses to open. The only thing cut off is a frame at the very
//! end that was being written when the power went: nobody was told that it is safe.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{create_private, create_private_dir};
use super::expiry::{Deadlines, Expiry};
use super::frame::{Frame, Record, WriteRecord};
use super::journal::{Journal, Position};
use super::lease::{Leases, NO_LEASE};
use super::options::Options;
use super::segment::{self, Contents, FORMAT_VERSION};
use super::shared::{Map, State};
use super::snapshot;
use crate::contract::{Entry, Event};
use crate::log::Log;

/// The revision of a store in which nothing was ever written.
pub(super) const FIRST_REVISION: u64 = 1;

/// The segment in which a new store begins.
pub(super) const FIRST_SEGMENT: u64 = 1;

/// The first segment of a new store is small, so that a first start is quick.
pub(super) const FIRST_SEGMENT_BYTES: u64 = 1 << 20;

/// Why a directory could not be opened as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
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
    /// Another process has the directory open.
    #[error("{path} is in use by another process")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory was written by another version.
    #[error("{path} has format version {found}, this program supports {supported}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version this program reads and writes.
        supported: u32,
    },
    /// A file holds what was not written like this. Nothing was changed; restore a backup.
    #[error("{path} is damaged at byte {offset}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A file is not there.
    #[error("{path} is missing")]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

impl OpenError {
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }
}

/// The file whose lock is that of its directory. It stays when nobody has it, for whoever looks at it just then.
pub(super) const LOCK: &str = "lock";

/// Keeps others out of a directory while it lives.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is just being started has it open as well.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "cannot unlock the store's directory");
        }
    }
}

/// Keeps other processes out of `dir`.
pub(super) fn lock(dir: &Path) -> Result<Lock, OpenError> {
    create_private_dir(dir).map_err(OpenError::io("create", dir))?;
    let path = dir.join(LOCK);
    let file = create_private(&path).map_err(OpenError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(OpenError::io("lock", &path)(source)),
    }
}

/// Everything a store goes on from.
pub(super) struct Recovered {
    pub(super) state: State,
    pub(super) log: Log<Event>,
    pub(super) expiry: Expiry,
    pub(super) journal: Journal,
}

/// Reads the store in `dir`, or begins a new one.
pub(super) fn recover(dir: &Path, options: &Options) -> Result<Recovered, OpenError> {
    let (snapshots, first_segment, mut replay) = newest_snapshot(dir)?;
    let mut segments = segment::list(dir).map_err(OpenError::io("list", dir))?;
    if segments.is_empty() && snapshots == 0 {
        let bytes = FIRST_SEGMENT_BYTES.min(options.segment_bytes);
        segment::create(&*options.disk, dir, first_segment, bytes).map_err(OpenError::io("create a log in", dir))?;
        segments.push(first_segment);
    }
    let log_bytes = replay_segments(dir, &segments, first_segment, &mut replay)?;
    replay.hold_leased_keys();
    let mut position = replay.position;
    if position.torn {
        tracing::warn!(
            segment = position.number,
            offset = position.offset,
            "dropping an unfinished write at the end of the log"
        );
    }
    position.log_bytes = log_bytes;
    let journal = Journal::open(dir, options, position)?;
    for number in replay.older {
        let path = segment::path(dir, number);
        segment::raise(&*options.disk, dir, number).map_err(OpenError::io("raise the version of", &path))?;
        tracing::info!(path = %path.display(), version = FORMAT_VERSION, "raised the store's format version");
    }
    // Nobody could renew a lease while the store was closed.
    replay.state.leases.renew_all(options.clock.now_millis());
    Ok(Recovered { state: replay.state, log: replay.log, expiry: Expiry::new(replay.deadlines), journal })
}

/// Reads the store in `dir` and changes nothing: it may be open in another process. What is returned was durable.
///
/// The last segment is read first: whatever is found in one, those before it had been filled by then. The other way
/// round, what is appended to one after it was read would be missed, and what follows in the next would not.
pub(super) fn read(dir: &Path) -> Result<(State, Deadlines), OpenError> {
    let (_, first_segment, mut replay) = newest_snapshot(dir)?;
    let segments = segment::list(dir).map_err(OpenError::io("list", dir))?;
    let numbers = numbers(dir, &segments, first_segment)?;
    let mut contents = Vec::with_capacity(segments.len());
    for number in numbers.rev() {
        contents.push((number, read_durable(dir, number)?));
    }
    for (number, contents) in contents.into_iter().rev() {
        replay_segment(dir, number, contents, &mut replay)?;
    }
    replay.hold_leased_keys();
    Ok((replay.state, replay.deadlines))
}

/// Reads a segment that somebody may be writing to, and waits until what was read is safe.
fn read_durable(dir: &Path, number: u64) -> Result<Contents, OpenError> {
    let path = segment::path(dir, number);
    let file = File::open(&path).map_err(OpenError::io("open", &path))?;
    let contents = segment::read(dir, number)?;
    file.sync_data().map_err(OpenError::io("sync", &path))?;
    Ok(contents)
}

/// How many snapshots there are, the segment in which the log goes on after the newest, and its state.
fn newest_snapshot(dir: &Path) -> Result<(usize, u64, Replay), OpenError> {
    let snapshots = snapshot::list(dir).map_err(OpenError::io("list", dir))?;
    let Some(newest) = snapshots.last() else { return Ok((0, FIRST_SEGMENT, Replay::default())) };
    let snapshot = snapshot::read(dir, *newest)?;
    Ok((snapshots.len(), snapshot.segment, Replay::from(snapshot)))
}

/// Replays every segment from `first` on and returns the bytes of their frames.
fn replay_segments(dir: &Path, segments: &[u64], first: u64, replay: &mut Replay) -> Result<u64, OpenError> {
    let mut log_bytes = 0;
    for number in numbers(dir, segments, first)? {
        let contents = segment::read(dir, number)?;
        log_bytes += contents.end;
        replay_segment(dir, number, contents, replay)?;
    }
    Ok(log_bytes)
}

/// The segments from `first` on, of which none may be missing.
fn numbers(dir: &Path, segments: &[u64], first: u64) -> Result<RangeInclusive<u64>, OpenError> {
    let numbers = first..=segments.last().copied().unwrap_or(0).max(first);
    let missing = numbers.clone().find(|number| !segments.contains(number));
    missing.map_or(Ok(numbers), |number| Err(OpenError::Missing { path: segment::path(dir, number) }))
}

fn replay_segment(dir: &Path, number: u64, contents: Contents, replay: &mut Replay) -> Result<(), OpenError> {
    let offset = contents.end;
    let damaged = |reason| OpenError::Damaged { path: segment::path(dir, number), offset, reason };
    replay.segment(number, contents).map_err(damaged)
}

/// A state that grows by frames.
#[derive(Debug)]
struct Replay {
    state: State,
    deadlines: Deadlines,
    log: Log<Event>,
    /// Where the next frame goes.
    position: Position,
    /// The segments of an older version that the log goes on in.
    older: Vec<u64>,
}

impl Default for Replay {
    fn default() -> Self {
        let state = State { revision: FIRST_REVISION, map: Map::new(), leases: Leases::default(), compacted: 0 };
        let (deadlines, log) = (Deadlines::new(), Log::starting_after(FIRST_REVISION));
        Self { state, deadlines, log, position: Position::default(), older: Vec::new() }
    }
}

impl From<snapshot::Snapshot> for Replay {
    fn from(snapshot: snapshot::Snapshot) -> Self {
        let state = State::clone(&snapshot.state);
        let position = Position { snapshot_bytes: snapshot.bytes, ..Position::default() };
        let log = Log::starting_after(state.revision);
        Self { state, deadlines: snapshot.deadlines, log, position, older: Vec::new() }
    }
}

impl Replay {
    fn segment(&mut self, number: u64, contents: Contents) -> Result<(), &'static str> {
        let older = contents.version < FORMAT_VERSION;
        let unused = contents.frames.is_empty() && !contents.torn;
        if unused && self.position.number != 0 {
            // There are two when the first frame of a segment was lost. They are to be filled in order.
            self.position.spare = self.position.spare.or(Some((number, contents.bytes)));
            self.older.extend(older.then_some(number));
            return Ok(());
        }
        if self.position.torn || self.position.spare.is_some() {
            return Err("frames are missing before this segment");
        }
        let (offset, torn, bytes) = (contents.end, contents.torn, contents.bytes);
        contents.frames.into_iter().try_for_each(|frame| self.frame(frame))?;
        self.older = if older { vec![number] } else { Vec::new() };
        self.position = Position { number, offset, bytes, torn, ..self.position };
        Ok(())
    }

    /// Gives every lease its keys, when nothing more is to be replayed.
    fn hold_leased_keys(&mut self) {
        let State { map, leases, .. } = &mut self.state;
        leases.hold(map.iter().map(|(key, entry)| (key, entry.lease)));
    }

    fn frame(&mut self, frame: Frame) -> Result<(), &'static str> {
        // Everything up to here is in the snapshot. Records of leases and compactions are as good twice, but for the
        // keys of a lease that was revoked and granted again: those are taken from the entries in the end.
        let known = self.state.revision;
        let mut next = frame.first_revision;
        for record in frame.records {
            match record {
                Record::Write(write) => {
                    let revision = if write.follows { next - 1 } else { next };
                    next = revision + 1;
                    if revision > known {
                        self.write(write, revision, frame.time_millis)?;
                    }
                }
                Record::Granted { id, ttl_millis } => self.state.leases.grant(id, ttl_millis, frame.time_millis),
                Record::Revoked { id } => drop(self.state.leases.remove(id)),
                Record::Compacted { revision } => {
                    self.state.compacted = self.state.compacted.max(revision);
                    drop(self.log.compact(revision.saturating_sub(1)));
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, write: WriteRecord, revision: u64, time_millis: u64) -> Result<(), &'static str> {
        if revision != self.state.revision + u64::from(!write.follows) {
            return Err("revisions are missing");
        }
        self.state.revision = revision;
        let WriteRecord { key, value, deadline_millis, lease, .. } = write;
        match deadline_millis {
            Some(deadline) => drop(self.deadlines.insert(key.clone(), deadline)),
            None if self.deadlines.is_empty() => {}
            None => drop(self.deadlines.remove(&key)),
        }
        let state = &mut self.state;
        let previous = state.map.get(&key).cloned();
        let key = previous.as_ref().map_or(key, |entry| entry.key.clone());
        state.leases.moved(&key, previous.as_ref().map_or(NO_LEASE, |entry| entry.lease), lease);
        let current = value.map(|value| {
            let create_revision = previous.as_ref().map_or(revision, |entry| entry.create_revision);
            let version = previous.as_ref().map_or(0, |entry| entry.version) + 1;
            Arc::new(Entry { key: key.clone(), value, create_revision, mod_revision: revision, version, lease })
        });
        match &current {
            Some(entry) => state.map.insert(key.clone(), entry.clone()),
            None => state.map.remove(&key),
        };
        self.log.push(Arc::new(Event { revision, key, current, previous }), time_millis);
        Ok(())
    }
}
