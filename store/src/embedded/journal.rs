//! The log being written: one frame and one sync per batch, into segments made ahead of time.
//!
//! A failed sync is never tried again: the kernel may have dropped the pages, so a second one that
//! succeeds would prove nothing. The store refuses writes from then on.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::disk::{Disk, LogFile};
use super::expiry::Deadlines;
use super::files::Files;
use super::frame;
use super::options::Options;
use super::recovery::OpenError;
use super::segment::{self, HEADER_BYTES};
use super::shared::{Shared, State};
use super::snapshot::Snapshot;
use super::transaction::Change;

/// A batch buffer larger than this is given back after use.
const BUFFER_KEEP_BYTES: usize = 8 << 20;

/// Why a batch was not made durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AppendError {
    /// There is no room; nothing was written.
    Full,
    /// The disk failed; what it holds now is unknown.
    Failed { reason: String },
}

/// Where a log goes on.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Position {
    /// The segment being filled.
    pub(super) number: u64,
    pub(super) offset: u64,
    /// The segment's size.
    pub(super) bytes: u64,
    /// Whether an unfinished frame stands at `offset`.
    pub(super) torn: bool,
    /// The next segment and its size, if it was made already.
    pub(super) spare: Option<(u64, u64)>,
    /// Bytes of log since the last snapshot.
    pub(super) log_bytes: u64,
    /// The size of that snapshot.
    pub(super) snapshot_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    sync: bool,
    snapshot_after_bytes: u64,
    position: Position,
    file: Box<dyn LogFile>,
    files: Files,
    buffer: Vec<u8>,
    write_found_no_space: bool,
}

impl Journal {
    /// Goes on at `position`, after removing what is unfinished there.
    pub(super) fn open(dir: &Path, options: &Options, mut position: Position) -> Result<Self, OpenError> {
        let path = segment::path(dir, position.number);
        let mut file = options.disk.open(&path).map_err(OpenError::io("open", &path))?;
        if std::mem::take(&mut position.torn) {
            erase(&mut *file, &position).map_err(OpenError::io("erase the unfinished end of", &path))?;
        }
        let files = Files::start(options.disk.clone(), dir, options.segment_bytes)
            .map_err(OpenError::io("start a thread for", dir))?;
        Ok(Self {
            dir: dir.to_owned(),
            disk: options.disk.clone(),
            sync: options.sync,
            snapshot_after_bytes: options.snapshot_after_bytes,
            position,
            file,
            files,
            buffer: Vec::new(),
            write_found_no_space: false,
        })
    }

    /// Whether there will be no room for another segment. What is left of this one is for deletions.
    pub(super) fn is_for_deletions(&self) -> bool {
        self.files.is_full()
    }

    /// Whether to look again soon if there is room for another segment.
    pub(super) fn expects_room(&self) -> bool {
        self.files.is_full() || self.files.is_making_spare()
    }

    /// Whether the last attempt to write or to make a segment found no space.
    pub(super) fn is_full(&self) -> bool {
        self.write_found_no_space || self.files.is_full()
    }

    /// Writes a batch and waits until it is safe.
    pub(super) fn append(&mut self, changes: &[Change], now_millis: u64, shared: &Shared) -> Result<(), AppendError> {
        self.buffer.clear();
        frame::encode(&mut self.buffer, changes, now_millis);
        let bytes = self.buffer.len() as u64;
        if self.position.offset + bytes > self.position.bytes {
            self.next_segment();
        }
        if let Err(error) = self.file.write_at(&self.buffer, self.position.offset) {
            return Err(self.not_written(&error));
        }
        if self.sync {
            let started = Instant::now();
            self.file.sync().map_err(|error| failed("sync", &error))?;
            shared.counters.sync_nanos.add(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        shared.counters.log_bytes.add(bytes);
        self.write_found_no_space = false;
        self.position.offset += bytes;
        self.position.log_bytes += bytes;
        if self.buffer.capacity() > BUFFER_KEEP_BYTES {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Goes over to the next segment if it is ready. Otherwise this one grows, which makes syncs slower
    /// but nobody wait.
    fn next_segment(&mut self) {
        if self.position.spare.is_none() {
            self.position.spare = self.files.take_spare();
        }
        let Some((number, bytes)) = self.position.spare.take() else { return };
        match self.disk.open(&segment::path(&self.dir, number)) {
            Ok(file) => {
                self.file = file;
                self.position = Position { number, offset: HEADER_BYTES as u64, bytes, ..self.position };
            }
            // Nothing was written to it, so it can be made anew.
            Err(error) => tracing::error!(%error, number, "cannot open the next log segment"),
        }
    }

    /// Takes back what a failed write may have left.
    fn not_written(&mut self, error: &io::Error) -> AppendError {
        let no_space =
            matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge);
        if !no_space {
            return failed("write", error);
        }
        // What is taken back has to be gone before the next frame comes to the same place: a mixture of both
        // would look like damage.
        match self.file.set_len(self.position.offset).and_then(|()| self.file.sync()) {
            Ok(()) => {
                self.position.bytes = self.position.offset;
                self.write_found_no_space = true;
                AppendError::Full
            }
            Err(error) => failed("take back a write to", &error),
        }
    }

    /// Has the next segment made and a snapshot taken when it is time, both by another thread.
    pub(super) fn housekeeping(&mut self, state: impl FnOnce() -> Arc<State>, deadlines: &Deadlines, shared: &Shared) {
        if self.position.spare.is_none() {
            self.files.want_spare(self.position.number + 1, shared.options.clock.now_millis());
        }
        let due = self.snapshot_after_bytes.max(self.position.snapshot_bytes);
        if let Some(bytes) = self.files.take_snapshot_bytes() {
            self.position.snapshot_bytes = bytes;
            shared.counters.checkpoints.add(1);
        }
        if self.position.log_bytes > due && !self.files.is_taking_snapshot() {
            let segment = self.position.number;
            self.files.take_snapshot(Snapshot { state: state(), deadlines: deadlines.clone(), segment, bytes: 0 });
            // When it fails, the next attempt comes after as much log again.
            self.position.log_bytes = 0;
        }
    }
}

fn erase(file: &mut dyn LogFile, position: &Position) -> io::Result<()> {
    file.set_len(position.offset)?;
    file.set_len(position.bytes)?;
    file.sync()
}

fn failed(operation: &str, error: &io::Error) -> AppendError {
    AppendError::Failed { reason: format!("cannot {operation} the log: {error}") }
}
