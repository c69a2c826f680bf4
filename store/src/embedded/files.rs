//! The thread that makes files, so that the committer never waits for one: spare segments, snapshots,
//! and the removal of what a snapshot has made superfluous.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::disk::Disk;
use super::segment;
use super::snapshot::{self, Snapshot};

/// How long to wait before trying again to make a segment.
const RETRY_MILLIS: u64 = 1000;

#[derive(Debug)]
enum Job {
    Spare { number: u64 },
    Snapshot(Box<Snapshot>),
}

/// What the thread has done, for the committer to pick up.
#[derive(Debug, Default)]
struct Done {
    spare: Option<(u64, u64)>,
    /// A segment is being made.
    making_spare: bool,
    /// The last attempt to make one found no space.
    full: bool,
    taking_snapshot: bool,
    snapshot_bytes: Option<u64>,
}

/// The committer's side of the thread. At most one job of each kind is under way.
#[derive(Debug)]
pub(super) struct Files {
    jobs: Option<Sender<Job>>,
    done: Arc<Mutex<Done>>,
    thread: Option<JoinHandle<()>>,
    not_before_millis: u64,
}

impl Files {
    pub(super) fn start(disk: Arc<dyn Disk>, dir: &Path, segment_bytes: u64) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let done = Arc::new(Mutex::new(Done::default()));
        let worker = Worker { disk, dir: dir.to_owned(), segment_bytes, done: done.clone() };
        let thread = std::thread::Builder::new().name("store-files".into()).spawn(move || worker.run(&queue))?;
        Ok(Self { jobs: Some(jobs), done, thread: Some(thread), not_before_millis: 0 })
    }

    pub(super) fn is_full(&self) -> bool {
        self.done.lock().full
    }

    /// Whether it is still to be seen if there is room for a further segment.
    pub(super) fn is_making_spare(&self) -> bool {
        self.done.lock().making_spare
    }

    /// Asks for segment `number`, unless it is there, under way, or failed a moment ago.
    pub(super) fn want_spare(&mut self, number: u64, now_millis: u64) {
        let mut done = self.done.lock();
        if done.spare.is_some() || done.making_spare || now_millis < self.not_before_millis {
            return;
        }
        done.making_spare = true;
        self.not_before_millis = now_millis + RETRY_MILLIS;
        self.send(Job::Spare { number });
    }

    pub(super) fn take_spare(&mut self) -> Option<(u64, u64)> {
        let spare = self.done.lock().spare.take();
        if spare.is_some() {
            self.not_before_millis = 0;
        }
        spare
    }

    pub(super) fn is_taking_snapshot(&self) -> bool {
        self.done.lock().taking_snapshot
    }

    pub(super) fn take_snapshot(&self, snapshot: Snapshot) {
        self.done.lock().taking_snapshot = true;
        self.send(Job::Snapshot(Box::new(snapshot)));
    }

    /// The size of a snapshot that was finished since the last call.
    pub(super) fn take_snapshot_bytes(&self) -> Option<u64> {
        self.done.lock().snapshot_bytes.take()
    }

    fn send(&self, job: Job) {
        // The thread ends only when this sender goes, or by a panic, which is reported at the end.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's file thread panicked");
        }
    }
}

struct Worker {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    done: Arc<Mutex<Done>>,
}

impl Worker {
    fn run(self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Spare { number } => self.spare(number),
                Job::Snapshot(snapshot) => self.snapshot(*snapshot),
            }
        }
    }

    fn spare(&self, number: u64) {
        let made = segment::create(&*self.disk, &self.dir, number, self.segment_bytes);
        if let Err(error) = &made {
            tracing::error!(%error, number, "cannot make a log segment; only deletions are accepted until it works");
        }
        let mut done = self.done.lock();
        done.making_spare = false;
        done.full = made.is_err();
        done.spare = made.ok().map(|()| (number, self.segment_bytes));
    }

    fn snapshot(&self, snapshot: Snapshot) {
        let written = snapshot::write(&*self.disk, &self.dir, &snapshot);
        let (revision, segment) = (snapshot.state.revision, snapshot.segment);
        // It may hold the last reference to much of an old state.
        drop(snapshot);
        match &written {
            Ok(_) => self.remove_before(revision, segment),
            Err(error) => tracing::error!(%error, revision, "cannot take a snapshot; the log grows"),
        }
        let mut done = self.done.lock();
        done.taking_snapshot = false;
        done.snapshot_bytes = written.ok();
    }

    /// Removes what the snapshot at `revision` has replaced. What cannot be removed now is removed with
    /// the next one.
    fn remove_before(&self, revision: u64, segment: u64) {
        let snapshots = snapshot::list(&self.dir).unwrap_or_default().into_iter().filter(|old| *old < revision);
        let segments = segment::list(&self.dir).unwrap_or_default().into_iter().filter(|old| *old < segment);
        let paths = snapshots
            .map(|old| snapshot::path(&self.dir, old))
            .chain(segments.map(|old| segment::path(&self.dir, old)));
        for path in paths {
            if let Err(error) = self.disk.remove(&path) {
                tracing::warn!(%error, path = %path.display(), "cannot remove an old file");
            }
        }
    }
}
