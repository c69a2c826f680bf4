//! Watches on the embedded store: readers of the shared log.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::yield_now;

use super::shared::{Shared, compacted};
use crate::contract::Error;
use crate::subscription::Subscription;
use crate::watch::{Batch, Progress, WatchSource};

/// The most events handed out at one time.
const BATCH_EVENTS_MAX: usize = 512;

/// One watch; ends when dropped.
pub(super) struct Watcher {
    position: Arc<Position>,
    /// Everything up to here has been handed out.
    seen: u64,
}

struct Position {
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
}

impl Watcher {
    pub(super) fn new(shared: Arc<Shared>, subscription: Arc<Subscription>, after: u64) -> Self {
        Self { position: Arc::new(Position { shared, subscription }), seen: after }
    }
}

#[async_trait]
impl WatchSource for Watcher {
    async fn next(&mut self) -> Result<Batch, Error> {
        let Position { shared, subscription } = &*self.position;
        loop {
            let read = shared.read(subscription, BATCH_EVENTS_MAX);
            if let Some(mut batch) = read.map_err(|overtaken| compacted(self.seen, overtaken))? {
                // A watch may begin in the future.
                batch.events.retain(|event| event.revision > self.seen);
                self.seen = self.seen.max(batch.revision);
                batch.revision = self.seen;
                if batch.events.is_empty() {
                    // Whoever reads a long history of others leaves them time.
                    yield_now().await;
                }
                return Ok(batch);
            }
            if shared.is_closed() {
                return Err(Error::Closed);
            }
            subscription.wake.notified().await;
        }
    }

    fn progress(&self) -> Arc<dyn Progress> {
        self.position.clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.position.shared.unsubscribe(&self.position.subscription);
    }
}

#[async_trait]
impl Progress for Position {
    fn complete(&self, seen: u64) -> u64 {
        // The order matters: an event is noted with its subscription before its revision is published.
        let revision = self.shared.state().revision;
        if self.subscription.is_current(seen) { revision.max(seen) } else { seen }
    }

    async fn reached(&self, revision: u64) {
        self.shared.reached(revision).await;
    }

    fn oldest(&self) -> u64 {
        self.shared.oldest()
    }
}
