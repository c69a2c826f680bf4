//! Watches on etcd: readers of the mirror's log, and of etcd itself while they are behind the log's beginning.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use tokio::task::yield_now;

use super::feed::Feed;
use super::mirror::Mirror;
use crate::contract::Error;
use crate::key::KeyPrefix;
use crate::subscription::Subscription;
use crate::watch::{Batch, Progress, WatchSource};

/// The most events handed out at one time.
const BATCH_EVENTS_MAX: usize = 512;

/// One watch; ends when dropped.
pub(super) struct Watcher {
    cluster: Arc<super::Cluster>,
    prefix: KeyPrefix,
    position: Arc<Position>,
    /// A watch of one's own, until the log begins.
    behind: Option<Feed>,
    /// Everything up to here has been handed out.
    seen: u64,
}

struct Position {
    mirror: Arc<Mirror>,
    /// None while behind.
    joined: ArcSwapOption<Subscription>,
}

impl Watcher {
    pub(super) fn new(cluster: Arc<super::Cluster>, prefix: KeyPrefix, after: u64) -> Self {
        let position = Position { mirror: cluster.mirror.clone(), joined: ArcSwapOption::empty() };
        Self { cluster, prefix, position: Arc::new(position), behind: None, seen: after }
    }

    /// Reads the log, from where this watch is, when that is still there.
    fn join(&mut self) -> bool {
        let Some(subscription) = self.position.mirror.subscribe(self.prefix.clone(), self.seen) else { return false };
        self.position.joined.store(Some(subscription));
        self.behind = None;
        true
    }

    fn leave(&self) {
        if let Some(subscription) = self.position.joined.swap(None) {
            self.position.mirror.unsubscribe(&subscription);
        }
    }

    /// What etcd itself tells, until the log can be joined.
    async fn catch_up(&mut self) -> Result<Option<Batch>, Error> {
        if self.join() {
            return Ok(None);
        }
        // etcd itself would go on at the compacted revision, without the deletions of exactly that one.
        let oldest = self.position.mirror.compacted();
        if self.seen < oldest {
            return Err(Error::Compacted { requested: self.seen, oldest });
        }
        if self.behind.is_none() {
            let feed = Feed::open(&self.cluster.members, &self.cluster.layout, self.seen).await;
            self.behind = Some(feed.map_err(|failure| failure.into_error("watch"))?);
        }
        let Some(feed) = &mut self.behind else { return Ok(None) };
        let mut batch = feed.next().await.inspect_err(|error| {
            if let Error::Compacted { oldest, .. } = error {
                self.position.mirror.note_compacted(*oldest);
            }
        })?;
        batch.events.retain(|event| self.prefix.contains(&event.key) && event.revision > self.seen);
        self.seen = self.seen.max(batch.revision);
        batch.revision = self.seen;
        Ok(Some(batch))
    }
}

#[async_trait]
impl WatchSource for Watcher {
    async fn next(&mut self) -> Result<Batch, Error> {
        loop {
            let Some(subscription) = self.position.joined.load_full() else {
                if let Some(batch) = self.catch_up().await? {
                    return Ok(batch);
                }
                continue;
            };
            match self.position.mirror.read(&subscription, BATCH_EVENTS_MAX) {
                Ok(Some(mut batch)) => {
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
                Ok(None) => subscription.wake.notified().await,
                Err(_) => self.leave(),
            }
        }
    }

    fn progress(&self) -> Arc<dyn Progress> {
        self.position.clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.leave();
    }
}

#[async_trait]
impl Progress for Position {
    fn complete(&self, seen: u64) -> u64 {
        let Some(subscription) = self.joined.load_full() else { return seen };
        // The order matters: an event is noted with its subscription before its revision is published.
        let revision = self.mirror.revision();
        if subscription.is_current(seen) { revision.max(seen) } else { seen }
    }

    async fn reached(&self, revision: u64) {
        self.mirror.reached(revision).await;
    }

    fn oldest(&self) -> u64 {
        self.mirror.compacted()
    }
}
