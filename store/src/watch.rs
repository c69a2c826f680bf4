//! What a watch hands out: batches of events, and how far it is complete.

use std::sync::Arc;

use async_trait::async_trait;

use crate::contract::{Error, Event};

/// Events in revision order, and the revision up to which the stream is complete after them.
#[derive(Debug, Clone)]
pub struct Batch {
    /// May be empty when only `revision` has advanced.
    pub events: Vec<Arc<Event>>,
    /// No event at or below this revision will follow.
    pub revision: u64,
}

/// A running watch. Dropping it ends it.
pub struct WatchStream {
    source: Box<dyn WatchSource>,
}

impl WatchStream {
    /// Wraps a backend's source.
    #[must_use]
    pub fn new(source: Box<dyn WatchSource>) -> Self {
        Self { source }
    }

    /// Waits for the next batch. Cancel safe: what was not returned is returned by the next call. After
    /// an error the stream is over.
    pub async fn next(&mut self) -> Result<Batch, Error> {
        self.source.next().await
    }

    /// How far this watch is complete between events.
    #[must_use]
    pub fn progress(&self) -> Arc<dyn Progress> {
        self.source.progress()
    }
}

impl std::fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchStream")
    }
}

/// A backend's side of a [`WatchStream`].
#[async_trait]
pub trait WatchSource: Send {
    /// See [`WatchStream::next`].
    async fn next(&mut self) -> Result<Batch, Error>;

    /// See [`WatchStream::progress`].
    fn progress(&self) -> Arc<dyn Progress>;
}

/// Knowledge about a watch's completeness that needs no event: most revisions touch other prefixes, and
/// waking every watcher for each of them would make an idle cluster busy.
#[async_trait]
pub trait Progress: Send + Sync {
    /// The revision up to which a consumer that has handled everything up to `seen` is complete; never
    /// below `seen`.
    fn complete(&self, seen: u64) -> u64;

    /// Waits until the backend has reached `revision`, if it can tell; otherwise asks it to report its
    /// revision through the stream soon, and never returns.
    async fn reached(&self, revision: u64);

    /// The oldest revision the store can still read at.
    fn oldest(&self) -> u64;
}
