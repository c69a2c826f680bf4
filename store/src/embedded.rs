//! The embedded backend: a store in a directory, for a control plane on one machine.
//!
//! ```text
//!  put, delete ──▶ queue ──▶ committer (one thread): decide ─▶ log + one sync ─▶ publish ─▶ answer
//!  get, range ───▶ published state (immutable map, swapped whole)                  │
//!  watch ────────▶ shared event log, read by position ◀─────── wake-up ────────────┘
//! ```
//!
//! Reads touch neither disk nor lock. Values are held once as `Bytes`, shared by the map, the history
//! and everyone who reads them.
//!
//! # Why there is no engine under it
//!
//! `benches/engines.rs` asks fjall 3 and redb 4 for what the committer needs. On two cores and a disk that
//! syncs in 0.1 ms, with 1 KB values (puts per second, median time of a commit, 99th percentile):
//!
//! | | 1 put a commit | 100 puts a commit | one flipped byte in 300 places |
//! |---|---|---|---|
//! | fjall | 8,000/s, 0.10 ms, 0.3 ms | 126,000/s, 0.65 ms, 3.6 ms | refused 296, no effect 4 |
//! | redb | 4,300/s, 0.22 ms, 0.5 ms | 33,000/s, 3.0 ms, 4.2 ms | refused 10, no effect 66, data changed or lost 224 |
//! | log of zeros made ahead | 9,200/s, 0.10 ms, 0.2 ms | 585,000/s, 0.13 ms, 0.4 ms | refused 300 |
//!
//! redb does not notice damage and takes longer than a client may wait. fjall is sound, but its share of a
//! commit at a hundred clients would cost the 60,000 puts a second that this store is to do, and it keeps a
//! second copy of recent values in memory. What an engine gives for that is a tree on disk, and nobody reads
//! it: every value is in memory anyway, for reads without a system call and for the watch cache. It would be
//! read at start alone, and there a [`snapshot`] is one sequential file. So: a log, and a snapshot when the
//! log has outgrown the last one, written by another thread from an immutable state.

mod backup;
mod committer;
mod disk;
mod expiry;
mod files;
mod frame;
mod journal;
mod lease;
mod mvcc;
mod options;
mod queue;
mod recovery;
mod segment;
mod shared;
mod snapshot;
mod transaction;
mod undo;
mod watcher;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

pub use self::backup::{Backup, BackupError, restore};
pub use self::disk::{Disk, FileSystem, LogFile};
pub use self::lease::{Lease, LeaseId, Leases, NO_LEASE};
pub use self::mvcc::{KeyRange, Txn, View};
pub(crate) use self::options::millis;
pub use self::options::{Clock, Options};
pub use self::recovery::OpenError;

use self::committer::Committer;
use self::queue::{Action, Queue, Write};
use self::recovery::{Lock, Recovered, lock, recover};
use self::shared::Shared;
use self::watcher::Watcher;
use crate::contract::{Deleted, Entry, Error, Expect, Page, RangeRequest, Store};
use crate::counters::StoreCounters;
use crate::key::{Key, KeyPrefix};
use crate::watch::WatchStream;

/// A store in a directory. Dropping it finishes queued writes and closes the files.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    room: Arc<Semaphore>,
    running: Mutex<Option<Running>>,
}

/// What ends with [`EmbeddedStore::close`].
#[derive(Debug)]
struct Running {
    committer: JoinHandle<()>,
    /// Keeps other processes out.
    _lock: Lock,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, which is made when it does not exist. Blocks while it reads the store.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let options = options.bounded();
        let lock = lock(dir)?;
        let Recovered { state, log, expiry, journal } = recover(dir, &options)?;
        let room = Arc::new(Semaphore::new(options.pending_max));
        let shared = Arc::new(Shared::new(options, state, log));
        let queue = Arc::new(Queue::default());
        let committer = Committer::new(shared.clone(), queue.clone(), journal, expiry);
        let thread = std::thread::Builder::new().name("store-commit".into()).spawn(move || committer.run());
        let committer = thread.map_err(OpenError::io("start a thread for", dir))?;
        Ok(Self { shared, queue, room, running: Mutex::new(Some(Running { committer, _lock: lock })) })
    }

    /// What the store has done.
    #[must_use]
    pub fn counters(&self) -> &StoreCounters {
        &self.shared.counters
    }

    /// Commits what is queued, closes the files and ends every watch. Reads go on; writes fail.
    pub fn close(&self) {
        self.queue.close();
        if let Some(running) = self.running.lock().take()
            && running.committer.join().is_err()
        {
            tracing::error!("the store's committer panicked");
        }
    }

    async fn submit<T>(&self, action: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Action) -> Result<T, Error> {
        let permit = self.room.clone().acquire_owned().await.map_err(|_| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.queue.push(Write { action: action(reply), _permit: permit })?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, key: &Key) -> Result<(Option<Entry>, u64), Error> {
        let state = self.shared.state();
        Ok((state.map.get(key).map(|entry| Entry::clone(entry)), state.revision))
    }

    async fn range(&self, request: RangeRequest) -> Result<Page, Error> {
        self.shared.range(&request)
    }

    async fn put(&self, key: Key, value: Bytes, expect: Expect, ttl: Option<Duration>) -> Result<u64, Error> {
        let (bytes, limit) = (value.len(), self.shared.options.value_bytes_max);
        if bytes > limit {
            return Err(Error::TooLarge { key, bytes, limit });
        }
        self.shared.writable()?;
        self.submit(|reply| Action::Put { key, value, expect, ttl, reply }).await
    }

    async fn delete(&self, key: Key, expect: Expect) -> Result<Deleted, Error> {
        self.shared.writable()?;
        self.submit(|reply| Action::Delete { key, expect, reply }).await
    }

    async fn watch(&self, prefix: KeyPrefix, after: u64) -> Result<WatchStream, Error> {
        let subscription = self.shared.subscribe(prefix, after)?;
        Ok(WatchStream::new(Box::new(Watcher::new(self.shared.clone(), subscription, after))))
    }

    async fn revision(&self) -> Result<u64, Error> {
        Ok(self.shared.state().revision)
    }

    async fn oldest(&self) -> Result<u64, Error> {
        Ok(self.shared.oldest())
    }

    async fn compact(&self, revision: u64) -> Result<(), Error> {
        let current = self.shared.state().revision;
        if revision > current {
            return Err(Error::Future { requested: revision, current });
        }
        self.shared.forget(Some(revision), self.shared.options.clock.now_millis());
        Ok(())
    }

    async fn health(&self) -> Result<(), Error> {
        if self.shared.is_closed() {
            return Err(Error::Closed);
        }
        if self.shared.is_full() {
            return Err(Error::Full);
        }
        self.shared.writable()
    }
}
