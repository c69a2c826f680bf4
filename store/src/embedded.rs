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
mod expiry;
mod journal;
mod options;
mod queue;
mod shared;
mod transaction;
mod watcher;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

pub(crate) use self::options::millis;
pub use self::options::{Clock, Options};

use self::committer::Committer;
use self::expiry::Expiry;
use self::journal::Journal;
use self::queue::{Action, Queue, Write};
use self::shared::{Map, Shared, State};
use self::watcher::Watcher;
use crate::contract::{Deleted, Entry, Error, Expect, Page, RangeRequest, Store};
use crate::counters::StoreCounters;
use crate::key::{Key, KeyPrefix};
use crate::log::Log;
use crate::watch::WatchStream;

/// The revision of a store in which nothing was ever written.
const FIRST_REVISION: u64 = 1;

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
        source: std::io::Error,
    },
    /// Another process has the directory open.
    #[error("{path} is in use by another process")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
}

/// A store in a directory. Dropping it finishes queued writes and closes the files.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    room: Arc<Semaphore>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, which is made when it does not exist.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let io = |operation| move |source| OpenError::Io { operation, path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(io("create"))?;
        let room = Arc::new(Semaphore::new(options.pending_max));
        let state = State { revision: FIRST_REVISION, map: Map::new() };
        let shared = Arc::new(Shared::new(options, state, Log::starting_after(FIRST_REVISION)));
        let queue = Arc::new(Queue::default());
        let committer = Committer {
            shared: shared.clone(),
            queue: queue.clone(),
            journal: Journal,
            expiry: Expiry::default(),
            forget_at_millis: None,
        };
        let thread = std::thread::Builder::new().name("store-commit".into()).spawn(move || committer.run());
        let committer = Mutex::new(Some(thread.map_err(io("start a thread for"))?));
        Ok(Self { shared, queue, room, committer })
    }

    /// What the store has done.
    #[must_use]
    pub fn counters(&self) -> &StoreCounters {
        &self.shared.counters
    }

    /// Commits what is queued, closes the files and ends every watch. Reads go on; writes fail.
    pub fn close(&self) {
        self.queue.close();
        if let Some(thread) = self.committer.lock().take()
            && thread.join().is_err()
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
