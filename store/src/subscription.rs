//! Who reads which prefix of a log of store events, and from where.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::contract::Event;
use crate::key::KeyPrefix;
use crate::log::{Log, Overtaken, Recorded};
use crate::watch::Batch;

/// Bookkeeping per event in the log, counted as part of what history costs.
const EVENT_OVERHEAD_BYTES: usize = 160;

/// So many events are looked at in one go, whether they are wanted or not: who writes waits for that.
const SCAN_MAX: usize = 1024;

/// A batch whose values have this many bytes gets no further event.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// No unread event.
const NOTHING: u64 = u64::MAX;

impl Recorded for Event {
    fn revision(&self) -> u64 {
        self.revision
    }

    /// The current value is counted where it is kept; the previous one lives only here.
    fn retained_bytes(&self) -> usize {
        EVENT_OVERHEAD_BYTES + self.previous.as_ref().map_or(0, |entry| entry.value.len() + entry.key.as_str().len())
    }
}

/// A watcher's place in the log. It is moved only when something below its prefix happens, so that a
/// quiet prefix neither wakes anybody nor is overtaken by the traffic of others.
#[derive(Debug)]
pub(crate) struct Subscription {
    prefix: KeyPrefix,
    /// Position of the first event not yet read, or [`NOTHING`].
    unread_from: AtomicU64,
    /// Revision of the newest event below the prefix.
    last_revision: AtomicU64,
    pub(crate) wake: Notify,
}

impl Subscription {
    /// Whether a reader that has handled everything up to `seen` lacks nothing.
    pub(crate) fn is_current(&self, seen: u64) -> bool {
        seen >= self.last_revision.load(Ordering::Acquire)
    }

    /// The next events in a log that is complete up to `revision`: about `limit`, or fewer when they are large or far
    /// between, be it none, with what shares the last one's revision. The batch tells how far it goes. `None` when
    /// nothing has happened.
    pub(crate) fn read(&self, log: &Log<Event>, revision: u64, limit: usize) -> Result<Option<Batch>, Overtaken> {
        let from = self.unread_from.swap(NOTHING, Ordering::AcqRel);
        if from == NOTHING {
            return Ok(None);
        }
        let mut events: Vec<Arc<Event>> = Vec::new();
        let mut bytes = 0;
        for (scanned, event) in log.read(from)?.enumerate() {
            let full = events.len() >= limit || bytes >= BATCH_BYTES_MAX || scanned >= SCAN_MAX;
            // What one write changed stays together.
            if full && events.last().is_none_or(|last| last.revision < event.revision) {
                self.unread_from.store(from + scanned as u64, Ordering::Release);
                return Ok(Some(Batch { events, revision: event.revision - 1 }));
            }
            if self.prefix.contains(&event.key) {
                bytes += value_bytes(event);
                events.push(event.clone());
            }
        }
        Ok(Some(Batch { events, revision }))
    }
}

fn value_bytes(event: &Event) -> usize {
    [&event.current, &event.previous].into_iter().flatten().map(|entry| entry.value.len()).sum()
}

/// Everybody who reads a log. Changed under the log's lock.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    by_prefix: RwLock<HashMap<KeyPrefix, Vec<Arc<Subscription>>>>,
}

impl Subscriptions {
    /// Adds a reader of what follows `after` in a log that is complete up to `revision`.
    pub(crate) fn add(
        &self,
        log: &Log<Event>,
        revision: u64,
        prefix: KeyPrefix,
        after: u64,
    ) -> Result<Arc<Subscription>, Overtaken> {
        let position = log.position_after(after)?;
        let unread = position < log.end();
        let subscription = Arc::new(Subscription {
            prefix: prefix.clone(),
            unread_from: AtomicU64::new(if unread { position } else { NOTHING }),
            last_revision: AtomicU64::new(if unread { revision } else { 0 }),
            wake: Notify::new(),
        });
        self.by_prefix.write().entry(prefix).or_default().push(subscription.clone());
        Ok(subscription)
    }

    pub(crate) fn remove(&self, subscription: &Arc<Subscription>) {
        let mut by_prefix = self.by_prefix.write();
        let Some(all) = by_prefix.get_mut(&subscription.prefix) else { return };
        all.retain(|other| !Arc::ptr_eq(other, subscription));
        // Nobody notes events here any more, so it must not vouch for anything either.
        subscription.last_revision.store(u64::MAX, Ordering::Release);
        if all.is_empty() {
            by_prefix.remove(&subscription.prefix);
        }
    }

    /// Notes the event at `position` with everyone whose prefix covers it, and collects who has to be woken.
    pub(crate) fn mark(&self, event: &Event, position: u64, woken: &mut Vec<Arc<Subscription>>) {
        let by_prefix = self.by_prefix.read();
        for subscription in event.key.prefixes().filter_map(|prefix| by_prefix.get(prefix)).flatten() {
            let unread = subscription.unread_from.load(Ordering::Acquire);
            // Whoever has unread events has been woken for them, or will be at the end of this batch.
            if unread == NOTHING {
                subscription.unread_from.store(position, Ordering::Release);
                woken.push(subscription.clone());
            }
            subscription.last_revision.store(event.revision, Ordering::Release);
        }
    }

    /// Has everybody find out that the log has begun anew and is complete for nobody: its positions start above 0.
    pub(crate) fn overtake_all(&self) {
        for subscription in self.by_prefix.read().values().flatten() {
            subscription.last_revision.store(u64::MAX, Ordering::Release);
            subscription.unread_from.store(0, Ordering::Release);
        }
        self.wake_all();
    }

    /// Wakes everybody, for something that is no event.
    pub(crate) fn wake_all(&self) {
        for subscription in self.by_prefix.read().values().flatten() {
            subscription.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
