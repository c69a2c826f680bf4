//! The storage contract: etcd's, reduced to what an API server needs.
//!
//! - One cluster-wide revision (`u64`). An empty store is at revision 1; every successful write adds one.
//! - A write names what it expects to find ([`Expect`]); the check and the write are one step.
//! - A write that was answered is durable, and nothing that is not durable is ever visible: not to a
//!   read, not to a watch, not in a conflict.
//! - A read sees every write answered before the read began.
//! - A watch delivers each change after its starting revision exactly once, in revision order, with the
//!   previous value, or fails with [`Error::Compacted`]; it never skips silently.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::key::{Key, KeyPrefix};
use crate::watch::WatchStream;

/// How often [`update`] retries on a conflict before it gives the conflict to the caller.
pub const UPDATE_ATTEMPTS_MAX: usize = 256;

/// One stored value with its revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is stored.
    pub key: Key,
    /// The stored bytes. Shared, never copied.
    pub value: Bytes,
    /// The revision of the write that created the key.
    pub create_revision: u64,
    /// The revision of the last write to the key.
    pub mod_revision: u64,
    /// How often the key has been written since it was created, from 1.
    pub version: u64,
    /// The lease that the key goes with, 0 for none. A time to live of [`Store::put`] may be one.
    pub lease: i64,
}

/// What a write demands of the key's present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// The key does not exist.
    Absent,
    /// The key exists and was last written at this revision.
    Revision(u64),
}

/// What to read with [`Store::range`].
#[derive(Debug, Clone)]
pub struct RangeRequest {
    /// The keys to read, in bytewise order.
    pub prefix: KeyPrefix,
    /// Begin at the first key whose suffix (the part after `prefix`) is bytewise equal to or greater
    /// than this. To go on after a key, pass its suffix followed by `"\0"`.
    pub start: Option<String>,
    /// The most entries to return; 0 is no limit.
    pub limit: usize,
    /// Read the state at exactly this revision; `None` is the current one.
    pub revision: Option<u64>,
}

impl RangeRequest {
    /// Everything below `prefix` at the current revision.
    #[must_use]
    pub fn all(prefix: KeyPrefix) -> Self {
        Self { prefix, start: None, limit: 0, revision: None }
    }
}

/// The answer of [`Store::range`].
#[derive(Debug, Clone)]
pub struct Page {
    /// The entries, in key order.
    pub entries: Vec<Entry>,
    /// The revision whose state this is: the one asked for, or the store's current one.
    pub revision: u64,
    /// Whether more entries follow in the prefix.
    pub more: bool,
    /// How many entries follow; exact when `more`, else 0.
    pub remaining: u64,
}

/// The answer of [`Store::delete`].
#[derive(Debug, Clone)]
pub struct Deleted {
    /// The revision of the deletion.
    pub revision: u64,
    /// What was deleted.
    pub previous: Entry,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Created or replaced.
    Put,
    /// Deleted, by a client or because its time to live ran out.
    Delete,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The revision of the change. Only what one write changed shares one: the keys of a lease that ended, or
    /// of a foreign client's transaction. A batch of a watch holds all of them.
    pub revision: u64,
    /// The changed key.
    pub key: Key,
    /// The state after the change; `None` when it was a deletion.
    pub current: Option<Arc<Entry>>,
    /// The state before the change; `None` when the key was created.
    pub previous: Option<Arc<Entry>>,
}

impl Event {
    /// Whether the key was written or deleted.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        if self.current.is_some() { EventKind::Put } else { EventKind::Delete }
    }
}

/// Why a store refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The key is not in the expected state; nothing was written.
    #[error("key {key} is not in the expected state")]
    Conflict {
        /// The key of the refused write.
        key: Key,
        /// Its present state.
        current: Option<Box<Entry>>,
    },
    /// The key to delete does not exist.
    #[error("key {key} not found")]
    NotFound {
        /// The missing key.
        key: Key,
        /// The store's revision when it was looked for.
        revision: u64,
    },
    /// The history at the requested revision is gone.
    #[error("revision {requested} has been compacted, the oldest is {oldest}")]
    Compacted {
        /// The revision asked for.
        requested: u64,
        /// The oldest revision that can still be read or watched from.
        oldest: u64,
    },
    /// The requested revision has not happened yet.
    #[error("revision {requested} is in the future, the current one is {current}")]
    Future {
        /// The revision asked for.
        requested: u64,
        /// The store's current revision.
        current: u64,
    },
    /// The value is larger than the store accepts.
    #[error("value of {key} has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// The key of the refused write.
        key: Key,
        /// The value's size.
        bytes: usize,
        /// The largest size accepted.
        limit: usize,
    },
    /// A transaction writes or deletes more than the store writes down at once; nothing was written.
    #[error("transaction has {bytes} bytes to write down, the limit is {limit}")]
    TransactionTooLarge {
        /// What it has.
        bytes: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// There is no room; nothing was written. Deleting, compacting or freeing disk space helps.
    #[error("no space left to write")]
    Full,
    /// An earlier failure made the store refuse all writes; reads go on. Whether the write that met the
    /// failure survives is decided when the store is next opened.
    #[error("store is read-only: {reason}")]
    ReadOnly {
        /// What failed.
        reason: Arc<str>,
    },
    /// The store is shutting down.
    #[error("store is closed")]
    Closed,
    /// The backend could not be asked, or its answer was lost: the outcome of a write is unknown.
    #[error("{operation}: {reason}")]
    Unavailable {
        /// What was attempted.
        operation: &'static str,
        /// The backend's error.
        reason: Arc<str>,
    },
}

/// A key-value store with revisions. See the module's documentation for what it promises.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads one key, and the revision of the store at that moment.
    async fn get(&self, key: &Key) -> Result<(Option<Entry>, u64), Error>;

    /// Reads a prefix. Fails with [`Error::Compacted`] or [`Error::Future`] for revisions out of reach.
    async fn range(&self, request: RangeRequest) -> Result<Page, Error>;

    /// Writes one key and returns the revision of the write. A `ttl` deletes the key when it has passed;
    /// a later put replaces or, with `None`, removes it.
    async fn put(&self, key: Key, value: Bytes, expect: Expect, ttl: Option<Duration>) -> Result<u64, Error>;

    /// Deletes one key. [`Error::NotFound`] when it does not exist, whatever was expected.
    async fn delete(&self, key: Key, expect: Expect) -> Result<Deleted, Error>;

    /// Every change below `prefix` with a revision **greater than** `after`, which is the revision of
    /// the list that was read before. `after` may lie in the future. [`Error::Compacted`] when changes
    /// after it have been forgotten.
    async fn watch(&self, prefix: KeyPrefix, after: u64) -> Result<WatchStream, Error>;

    /// The current revision, linearizable as a read.
    async fn revision(&self) -> Result<u64, Error>;

    /// The oldest revision that can be read at and watched from, as far as that is known without trying;
    /// by default the current one.
    async fn oldest(&self) -> Result<u64, Error> {
        self.revision().await
    }

    /// Forgets the history before `revision`: reads at and watches from `revision` still work, older
    /// ones fail with [`Error::Compacted`]. Compacting what is compacted already does nothing.
    async fn compact(&self, revision: u64) -> Result<(), Error>;

    /// Whether reads and writes work.
    async fn health(&self) -> Result<(), Error>;
}

/// What an [`update`] function wants done.
#[derive(Debug, Clone)]
pub enum Change {
    /// Write this value, with this time to live.
    Put(Bytes, Option<Duration>),
    /// Delete the key.
    Delete,
    /// Leave it as it is.
    Keep,
}

/// What an [`update`] did.
#[derive(Debug, Clone)]
pub enum Updated {
    /// The value was written at this revision.
    Put {
        /// The revision of the write.
        revision: u64,
        /// The state that was replaced.
        previous: Option<Entry>,
    },
    /// The key was deleted.
    Deleted(Deleted),
    /// Nothing was changed.
    Kept(Option<Entry>),
}

/// Why an [`update`] failed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError<E> {
    /// The caller's function refused.
    #[error("update refused")]
    Refused(E),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Reads `key`, asks `change` what to do with it, and does that if the key has not changed meanwhile;
/// otherwise asks again with the fresh entry. `change` must therefore have no effect of its own.
///
/// `known` is a state of the key the caller already holds (a cached one); it saves the first read. When
/// `change` refuses a `known` entry, the fresh one is read and asked about before the refusal counts.
pub async fn update<E, F, Fut>(
    store: &dyn Store,
    key: &Key,
    known: Option<Entry>,
    mut change: F,
) -> Result<Updated, UpdateError<E>>
where
    F: FnMut(Option<Entry>) -> Fut + Send,
    Fut: Future<Output = Result<Change, E>> + Send,
    E: Send,
{
    let mut fresh = known.is_none();
    let mut current = if fresh { store.get(key).await?.0 } else { known };
    for attempt in 1.. {
        let wanted = match change(current.clone()).await {
            // A stale entry proves nothing, neither a refusal nor that there is nothing to do.
            Err(_) | Ok(Change::Keep) if !fresh => {
                (current, fresh) = (store.get(key).await?.0, true);
                continue;
            }
            Err(refusal) => return Err(UpdateError::Refused(refusal)),
            Ok(wanted) => wanted,
        };
        match attempt_change(store, key, current, wanted).await {
            Err(Error::Conflict { current: found, .. }) if attempt < UPDATE_ATTEMPTS_MAX => {
                (current, fresh) = (found.map(|entry| *entry), true);
            }
            Err(Error::NotFound { .. }) if attempt < UPDATE_ATTEMPTS_MAX => (current, fresh) = (None, true),
            outcome => return Ok(outcome?),
        }
    }
    unreachable!("the last attempt returns its outcome")
}

async fn attempt_change(
    store: &dyn Store,
    key: &Key,
    current: Option<Entry>,
    wanted: Change,
) -> Result<Updated, Error> {
    let expect = current.as_ref().map_or(Expect::Absent, |entry| Expect::Revision(entry.mod_revision));
    match wanted {
        Change::Keep => Ok(Updated::Kept(current)),
        Change::Put(value, ttl) => {
            let revision = store.put(key.clone(), value, expect, ttl).await?;
            Ok(Updated::Put { revision, previous: current })
        }
        Change::Delete if current.is_none() => Ok(Updated::Kept(None)),
        Change::Delete => Ok(Updated::Deleted(store.delete(key.clone(), expect).await?)),
    }
}
