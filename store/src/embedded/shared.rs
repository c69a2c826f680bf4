//! What readers see: the published state, the history, and who waits for which prefix.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use imbl::OrdMap;
use parking_lot::RwLock;
use tokio::sync::Notify;

use super::lease::Leases;
use super::options::{Options, millis};
use super::undo::Undo;
use crate::contract::{Entry, Error, Event, Page, RangeRequest};
use crate::counters::StoreCounters;
use crate::key::{Key, KeyPrefix};
use crate::log::{Forgotten, Log, Overtaken, Retention};
use crate::subscription::{Subscription, Subscriptions};
use crate::watch::Batch;

pub(super) type Map = OrdMap<Key, Arc<Entry>>;

/// One immutable version of everything.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) revision: u64,
    pub(super) map: Map,
    pub(super) leases: Leases,
    /// What a client asked to be forgotten: the history before this. 0 when nobody has.
    pub(super) compacted: u64,
}

/// The part of a store that readers, watchers and the committer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) counters: StoreCounters,
    state: ArcSwap<State>,
    /// Also the lock under which state, log and subscriptions change together.
    log: RwLock<Log<Event>>,
    oldest: AtomicU64,
    subscriptions: Subscriptions,
    /// For those who wait for a revision; costs one load while there are none.
    advanced: Notify,
    read_only: ArcSwapOption<String>,
    full: AtomicBool,
    closed: AtomicBool,
}

impl Shared {
    pub(super) fn new(options: Options, state: State, log: Log<Event>) -> Self {
        Self {
            options,
            counters: StoreCounters::default(),
            state: ArcSwap::from_pointee(state),
            oldest: AtomicU64::new(log.oldest()),
            log: RwLock::new(log),
            subscriptions: Subscriptions::default(),
            advanced: Notify::new(),
            read_only: ArcSwapOption::empty(),
            full: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// The current state; immutable, so that a reader never waits for a writer.
    pub(super) fn state(&self) -> arc_swap::Guard<Arc<State>> {
        self.state.load()
    }

    pub(super) fn oldest(&self) -> u64 {
        self.oldest.load(Ordering::Acquire)
    }

    /// Makes durable changes visible: to reads first, then to watchers, in one step.
    pub(super) fn publish(&self, state: State, events: &[Arc<Event>], now_millis: u64) {
        let mut woken = Vec::new();
        let forgotten = {
            let mut log = self.log.write();
            for event in events {
                self.subscriptions.mark(event, log.end(), &mut woken);
                log.push(event.clone(), now_millis);
            }
            let compacted = log.compact(state.compacted.saturating_sub(1));
            self.state.store(Arc::new(state));
            (compacted, self.trim(&mut log, now_millis))
        };
        for subscription in woken {
            subscription.wake.notify_one();
        }
        self.advanced.notify_waiters();
        drop(forgotten);
    }

    /// Waits until `revision` is published.
    pub(super) async fn reached(&self, revision: u64) {
        loop {
            let advanced = self.advanced.notified();
            if self.state.load().revision >= revision {
                return;
            }
            advanced.await;
        }
    }

    /// Forgets history that is too old, too large, or at or below `compact`. Returns when to look again.
    pub(super) fn forget(&self, compact: Option<u64>, now_millis: u64) -> Option<u64> {
        let mut log = self.log.write();
        let compacted = compact.map(|revision| log.compact(revision));
        let trimmed = self.trim(&mut log, now_millis);
        let next = log.front_at_millis().map(|at| at.saturating_add(millis(self.options.history)));
        drop(log);
        drop((compacted, trimmed));
        next
    }

    fn trim(&self, log: &mut Log<Event>, now_millis: u64) -> Forgotten<Event> {
        let retention =
            Retention { age_millis: millis(self.options.history), bytes_max: self.options.history_bytes_max };
        let forgotten = log.trim(retention, now_millis);
        self.oldest.store(log.oldest(), Ordering::Release);
        self.counters.history_events.set(log.len() as u64);
        self.counters.history_bytes.set(log.bytes() as u64);
        forgotten
    }

    pub(super) fn range(&self, request: &RangeRequest) -> Result<Page, Error> {
        let Some(revision) = request.revision else {
            let state = self.state.load();
            return Ok(page(&state.map, state.revision, request));
        };
        let map = self.map_at(|key| request.prefix.contains(key), revision)?;
        Ok(page(&map, revision, request))
    }

    /// The map as it was at `revision`, exact where `wanted`.
    pub(super) fn map_at(&self, wanted: impl Fn(&Key) -> bool, revision: u64) -> Result<Map, Error> {
        Undo::new(self).to(revision, wanted)
    }

    /// The state, and the position in the log after its last event.
    pub(super) fn newest(&self) -> (Arc<State>, u64) {
        let log = self.log.read();
        (self.state.load_full(), log.end())
    }

    /// Some events after `revision` that stand before position `end`; see [`Log::newer`].
    pub(super) fn newer(&self, revision: u64, end: u64) -> Result<(u64, Vec<Arc<Event>>), Overtaken> {
        self.log.read().newer(revision, end)
    }

    /// Registers a watcher and tells it where to begin.
    pub(super) fn subscribe(&self, prefix: KeyPrefix, after: u64) -> Result<Arc<Subscription>, Error> {
        let log = self.log.read();
        let subscribed = self.subscriptions.add(&log, self.state.load().revision, prefix, after);
        subscribed.map_err(|overtaken| compacted(after, overtaken))
    }

    pub(super) fn unsubscribe(&self, subscription: &Arc<Subscription>) {
        self.subscriptions.remove(subscription);
    }

    /// The next events of a subscription, at most `limit`. `None` when nothing has happened.
    pub(super) fn read(&self, subscription: &Subscription, limit: usize) -> Result<Option<Batch>, Overtaken> {
        let log = self.log.read();
        subscription.read(&log, self.state.load().revision, limit)
    }

    /// Ends every watch once it has read what there is.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.subscriptions.wake_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Notes whether there is room for more than deletions.
    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Release);
        self.counters.full.set(full.into());
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    pub(super) fn refuse_writes(&self, reason: String) {
        tracing::error!(%reason, "store refuses writes from now on");
        self.read_only.store(Some(Arc::new(reason)));
        self.counters.read_only.set(1);
    }

    pub(super) fn writable(&self) -> Result<(), Error> {
        match &*self.read_only.load() {
            None => Ok(()),
            Some(reason) => Err(Error::ReadOnly { reason: reason.as_str().into() }),
        }
    }
}

pub(super) fn compacted(requested: u64, overtaken: Overtaken) -> Error {
    Error::Compacted { requested, oldest: overtaken.oldest }
}

fn page(map: &Map, revision: u64, request: &RangeRequest) -> Page {
    let prefix = request.prefix.as_str();
    let start = match &request.start {
        None => prefix.to_owned(),
        Some(suffix) => format!("{prefix}{suffix}"),
    };
    let mut rest = map
        .range::<_, str>((Bound::Included(start.as_str()), Bound::Unbounded))
        .map(|(_, entry)| entry)
        .take_while(|entry| request.prefix.contains(&entry.key));
    let limit = if request.limit == 0 { usize::MAX } else { request.limit };
    let entries: Vec<Entry> = rest.by_ref().take(limit).map(|entry| Entry::clone(entry)).collect();
    let remaining = rest.count() as u64;
    Page { entries, revision, more: remaining > 0, remaining }
}
