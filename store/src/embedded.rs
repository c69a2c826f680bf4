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

mod committer;
mod disk;
mod expiry;
mod files;
mod frame;
mod journal;
mod options;
mod queue;
mod recovery;
mod segment;
mod shared;
mod snapshot;
mod transaction;
mod watcher;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

pub use self::disk::{Disk, FileSystem, LogFile};
pub(crate) use self::options::millis;
pub use self::options::{Clock, Options};
pub use self::recovery::OpenError;

use self::committer::Committer;
use self::queue::{Action, Queue, Write};
use self::recovery::{Recovered, lock, recover};
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
    _lock: File,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, which is made when it does not exist. Blocks while it reads the store.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
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

    async fn write<T>(
        &self,
        key: Key,
        expect: Expect,
        action: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Action,
    ) -> Result<T, Error> {
        self.shared.writable()?;
        let permit = self.room.clone().acquire_owned().await.map_err(|_| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.queue.push(Write { key, expect, action: action(reply), _permit: permit })?;
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
        self.write(key, expect, |reply| Action::Put { value, ttl, reply }).await
    }

    async fn delete(&self, key: Key, expect: Expect) -> Result<Deleted, Error> {
        self.write(key, expect, |reply| Action::Delete { reply }).await
    }

    async fn watch(&self, prefix: KeyPrefix, after: u64) -> Result<WatchStream, Error> {
        let subscription = self.shared.subscribe(prefix, after)?;
        Ok(WatchStream::new(Box::new(Watcher::new(self.shared.clone(), subscription, after))))
    }

    async fn revision(&self) -> Result<u64, Error> {
        Ok(self.shared.state().revision)
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
        self.shared.writable()
    }
}
