//! Opening a directory: the newest snapshot, then the log after it.
//!
//! What was answered is there or the store refuses to open. The only thing cut off is a frame at the very
//! end that was being written when the power went: nobody was told that it is safe.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::expiry::{Deadlines, Expiry};
use super::frame::{Frame, Record};
use super::journal::{Journal, Position};
use super::options::Options;
use super::segment::{self, Contents};
use super::shared::{Map, State};
use super::snapshot;
use crate::contract::{Entry, Event};
use crate::log::Log;

/// The revision of a store in which nothing was ever written.
pub(super) const FIRST_REVISION: u64 = 1;

/// The first segment of a new store is small, so that a first start is quick.
const FIRST_SEGMENT_BYTES: u64 = 1 << 20;

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
    fs::create_dir_all(dir).map_err(OpenError::io("create", dir))?;
    let path = dir.join("lock");
    let file = File::create(&path).map_err(OpenError::io("create", &path))?;
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
    let snapshots = snapshot::list(dir).map_err(OpenError::io("list", dir))?;
    let mut replay = Replay::default();
    let mut first_segment = 1;
    if let Some(revision) = snapshots.last() {
        let snapshot = snapshot::read(dir, *revision)?;
        first_segment = snapshot.segment;
        replay = Replay::from(snapshot);
    }
    let mut segments = segment::list(dir).map_err(OpenError::io("list", dir))?;
    if segments.is_empty() && snapshots.is_empty() {
        let bytes = FIRST_SEGMENT_BYTES.min(options.segment_bytes);
        segment::create(&*options.disk, dir, first_segment, bytes).map_err(OpenError::io("create a log in", dir))?;
        segments.push(first_segment);
    }
    let log_bytes = replay_segments(dir, &segments, first_segment, &mut replay)?;
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
    Ok(Recovered {
        state: State { revision: replay.revision, map: replay.map },
        log: replay.log,
        expiry: Expiry::new(replay.deadlines),
        journal,
    })
}

/// Replays every segment from `first` on and returns the bytes of their frames.
fn replay_segments(dir: &Path, segments: &[u64], first: u64, replay: &mut Replay) -> Result<u64, OpenError> {
    let last = segments.last().copied().unwrap_or(0).max(first);
    let mut log_bytes = 0;
    for number in first..=last {
        let path = segment::path(dir, number);
        if !segments.contains(&number) {
            return Err(OpenError::Missing { path });
        }
        let contents = segment::read(dir, number)?;
        log_bytes += contents.end;
        replay.segment(number, &contents).map_err(|reason| OpenError::Damaged {
            path,
            offset: contents.end,
            reason,
        })?;
    }
    Ok(log_bytes)
}

/// A state that grows by frames.
#[derive(Debug)]
struct Replay {
    revision: u64,
    map: Map,
    deadlines: Deadlines,
    log: Log<Event>,
    /// Where the next frame goes.
    position: Position,
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            revision: FIRST_REVISION,
            map: Map::new(),
            deadlines: Deadlines::new(),
            log: Log::starting_after(FIRST_REVISION),
            position: Position::default(),
        }
    }
}

impl From<snapshot::Snapshot> for Replay {
    fn from(snapshot: snapshot::Snapshot) -> Self {
        let revision = snapshot.state.revision;
        let map = snapshot.state.map.clone();
        let position = Position { snapshot_bytes: snapshot.bytes, ..Position::default() };
        Self { revision, map, deadlines: snapshot.deadlines, log: Log::starting_after(revision), position }
    }
}

impl Replay {
    fn segment(&mut self, number: u64, contents: &Contents) -> Result<(), &'static str> {
        let unused = contents.frames.is_empty() && !contents.torn;
        if unused && self.position.number != 0 {
            // There are two when the first frame of a segment was lost. They are to be filled in order.
            self.position.spare = self.position.spare.or(Some((number, contents.bytes)));
            return Ok(());
        }
        if self.position.torn || self.position.spare.is_some() {
            return Err("frames are missing before this segment");
        }
        contents.frames.iter().try_for_each(|frame| self.frame(frame))?;
        let (offset, torn) = (contents.end, contents.torn);
        self.position = Position { number, offset, bytes: contents.bytes, torn, ..self.position };
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), &'static str> {
        let last = frame.first_revision + frame.records.len() as u64 - 1;
        if last <= self.revision {
            return Ok(());
        }
        if frame.first_revision != self.revision + 1 {
            return Err("revisions are missing");
        }
        frame.records.iter().for_each(|record| self.record(record, frame.time_millis));
        Ok(())
    }

    fn record(&mut self, record: &Record, time_millis: u64) {
        let revision = self.revision + 1;
        self.revision = revision;
        let previous = self.map.get(&record.key).cloned();
        let key = previous.as_ref().map_or(&record.key, |entry| &entry.key).clone();
        let current = record.value.clone().map(|value| {
            let create_revision = previous.as_ref().map_or(revision, |entry| entry.create_revision);
            Arc::new(Entry { key: key.clone(), value, create_revision, mod_revision: revision })
        });
        match &current {
            Some(entry) => self.map.insert(key.clone(), entry.clone()),
            None => self.map.remove(&key),
        };
        match record.deadline_millis {
            Some(deadline) => self.deadlines.insert(key.clone(), deadline),
            None => self.deadlines.remove(&key),
        };
        self.log.push(Arc::new(Event { revision, key, current, previous }), time_millis);
    }
}
