//! Numbers for whoever exports metrics: plain atomics, read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

/// What an embedded store has done since it was opened.
#[derive(Debug, Default)]
pub struct StoreCounters {
    /// Writes that were made durable.
    pub commits: Counter,
    /// Batches, each made durable by one sync.
    pub batches: Counter,
    /// Bytes written to the log.
    pub log_bytes: Counter,
    /// Nanoseconds spent waiting for the disk to sync.
    pub sync_nanos: Counter,
    /// Writes refused because the key was not in the expected state.
    pub conflicts: Counter,
    /// Keys deleted because their time to live ran out.
    pub expired: Counter,
    /// Keys stored now.
    pub keys: Counter,
    /// Changes kept as history now.
    pub history_events: Counter,
    /// Bytes that only the history keeps alive now.
    pub history_bytes: Counter,
    /// Changes looked at to read old revisions.
    pub undone: Counter,
    /// Checkpoints written.
    pub checkpoints: Counter,
    /// 1 while there is no room for more than deletions.
    pub full: Counter,
    /// 1 after a failure made the store read-only.
    pub read_only: Counter,
}

/// What a watch cache has done since it was made.
#[derive(Debug, Default)]
pub struct CacheCounters {
    /// Changes applied.
    pub events: Counter,
    /// Changes handed to watchers, summed over all of them.
    pub delivered: Counter,
    /// Watchers whose history had gone before they read it.
    pub overtaken: Counter,
    /// Watchers now open.
    pub watchers: Counter,
    /// Objects held now.
    pub objects: Counter,
    /// Bytes of the objects held now, as told by the decode function.
    pub object_bytes: Counter,
    /// Changes kept as history now.
    pub history_events: Counter,
    /// Bytes that only the history keeps alive now.
    pub history_bytes: Counter,
    /// Entries that could not be decoded; they are left out.
    pub undecodable: Counter,
    /// Times the cache had to be rebuilt from a list.
    pub relists: Counter,
}

/// One number; a counter or a gauge, as its owner uses it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The present value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}
