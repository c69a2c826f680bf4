//! One reader of a cache's event log.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::coop::consume_budget;

use super::{Cache, Compacted, Event};
use crate::log::Overtaken;

/// The most events taken from the log at one time.
const READ_MAX: usize = 128;

/// Delivers every event after a revision, once and in order.
pub struct Watcher<V> {
    cache: Arc<Cache<V>>,
    /// The next position to read in the log.
    position: u64,
    /// Read but not yet handed out.
    buffer: VecDeque<Arc<Event<V>>>,
    /// Nothing at or below this revision is handed out.
    from: u64,
    /// The revision handed out last. More of it may follow, as one write may change several keys.
    seen: u64,
    applied: watch::Receiver<u64>,
}

impl<V: Send + Sync + 'static> Watcher<V> {
    pub(super) fn new(cache: Arc<Cache<V>>, from: u64) -> Result<Self, Compacted> {
        let applied = cache.applied.subscribe();
        let position = cache
            .log
            .read()
            .position_after(from)
            .map_err(|overtaken| Compacted { requested: from, oldest: overtaken.oldest })?;
        cache.counters.watchers.add(1);
        Ok(Self { cache, position, buffer: VecDeque::new(), from, seen: from, applied })
    }

    /// Waits for the next event. Cancel safe. After [`Compacted`] the watcher is over.
    pub async fn next(&mut self) -> Result<Arc<Event<V>>, Compacted> {
        // Whoever reads a long history leaves others time.
        consume_budget().await;
        loop {
            self.applied.mark_unchanged();
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            // The sender lives in the cache, which lives in self.
            let _ = self.applied.changed().await;
        }
    }

    /// The next event, if there is one already: for writing several in one go.
    pub fn try_next(&mut self) -> Result<Option<Arc<Event<V>>>, Compacted> {
        loop {
            if let Some(event) = self.buffer.pop_front() {
                // A watch may begin in the future.
                if event.revision <= self.from {
                    continue;
                }
                self.seen = event.revision;
                self.cache.counters.delivered.add(1);
                return Ok(Some(event));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    fn fill(&mut self) -> Result<bool, Compacted> {
        let read = {
            let log = self.cache.log.read();
            log.read(self.position).map(|events| self.buffer.extend(events.take(READ_MAX).cloned()))
        };
        read.map_err(|overtaken| self.overtaken(overtaken))?;
        self.position += self.buffer.len() as u64;
        Ok(!self.buffer.is_empty())
    }

    fn overtaken(&self, overtaken: Overtaken) -> Compacted {
        self.cache.counters.overtaken.add(1);
        Compacted { requested: self.seen, oldest: overtaken.oldest }
    }

    /// The revision up to which everything has been handed out; advances while nothing happens below
    /// the prefix. What a bookmark says.
    pub fn revision(&self) -> u64 {
        if let Some(next) = self.buffer.front() {
            return self.from.max(next.revision - 1);
        }
        // In this order: what the snapshot vouches for is in the log by now.
        let complete = self.cache.snapshot().revision();
        if self.position == self.cache.log.read().end() { self.seen.max(complete) } else { self.seen }
    }
}

impl<V> Drop for Watcher<V> {
    fn drop(&mut self) {
        self.cache.counters.watchers.sub(1);
    }
}

impl<V> std::fmt::Debug for Watcher<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("prefix", &self.cache.prefix).field("seen", &self.seen).finish_non_exhaustive()
    }
}
