//! The watch cache of one prefix: immutable snapshots for lists, one ordered log for all watchers.
//!
//! ```text
//!  dyn Store ──watch──▶ driver ──decode once──▶ snapshot (swapped whole) ──▶ get, range, wait_for
//!                                     └───────▶ event log ──by position──▶ Watcher, Watcher, ...
//! ```
//!
//! What is kept of a value is up to the decode function: for an API server the encoded object and the
//! few fields it filters by, not a tree. A [`Watcher`] owns a position, not a queue. One that is slow is
//! parked at its position and goes on from there; it fails with [`Compacted`] only when the log has moved
//! past it, and never skips.

mod class;
mod driver;
mod map;
mod snapshot;
mod watcher;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

pub use self::class::{Class, Made, Make};
pub use self::snapshot::Snapshot;
pub use self::watcher::Watcher;

use self::class::Classes;
use self::driver::Driver;
use self::map::Map;
use crate::contract::{Entry, Error, EventKind, Store};
use crate::counters::CacheCounters;
use crate::embedded::{Clock, millis};
use crate::key::{Key, KeyPrefix};
use crate::log::{Log, Overtaken, Recorded, Retention};
use crate::watch::Progress;

/// What a cache keeps of one value.
#[derive(Debug)]
pub struct Decoded<V> {
    /// What snapshots and events show.
    pub view: V,
    /// The memory it takes; what is shared with the store counts as well.
    pub bytes: usize,
    /// What it can be found by besides its key, in [`Snapshot::indexed`]; shared with others of the same value.
    pub index: Option<Arc<str>>,
}

/// Turns a stored entry into what is kept of it. The error is logged and counted, and the entry left out.
pub type Decode<V> = Arc<dyn Fn(&Entry) -> Result<Decoded<V>, String> + Send + Sync>;

/// One change, as watchers of a cache see it.
#[derive(Debug)]
pub struct Event<V> {
    /// The revision of the change.
    pub revision: u64,
    /// Whether the key was written or deleted.
    pub kind: EventKind,
    /// The changed key.
    pub key: Key,
    /// The state after the change; `None` for a deletion.
    pub current: Option<Arc<V>>,
    /// The state before the change; `None` when the key was created.
    pub previous: Option<Arc<V>>,
    /// Its place in the cache's log.
    position: u64,
    previous_bytes: usize,
    previous_index: Option<Arc<str>>,
}

/// How many old states are kept at hand. They share what has not changed since.
const RECALLED_MAX: usize = 8;

/// Bookkeeping per event in the log, counted as part of what history costs.
const EVENT_OVERHEAD_BYTES: usize = 120;

impl<V> Recorded for Event<V> {
    fn revision(&self) -> u64 {
        self.revision
    }

    /// The current object is in the snapshot, or is the previous one of a later event.
    fn retained_bytes(&self) -> usize {
        EVENT_OVERHEAD_BYTES + self.previous_bytes
    }
}

/// The history a watcher or list asked for is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("revision {requested} has been compacted, the oldest is {oldest}")]
pub struct Compacted {
    /// The revision asked for, or read up to.
    pub requested: u64,
    /// The oldest revision that can be asked for now.
    pub oldest: u64,
}

/// The cache has not reached the revision asked for in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("revision is too large, the current one is {current}")]
pub struct TooLarge {
    /// The revision the cache has reached.
    pub current: u64,
}

/// Limits of a cache.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// What time it is.
    pub clock: Clock,
    /// How long events are kept.
    pub history: Duration,
    /// The most bytes of replaced and deleted objects kept for that; older events go earlier.
    pub history_bytes_max: usize,
}

impl CacheOptions {
    /// The defaults, with this clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, history: Duration::from_secs(5 * 60), history_bytes_max: 64 << 20 }
    }
}

/// See the module's documentation.
pub struct Cache<V> {
    prefix: KeyPrefix,
    options: CacheOptions,
    counters: CacheCounters,
    state: ArcSwap<State<V>>,
    /// Also the lock under which state and log change together.
    log: RwLock<Log<Event<V>>>,
    /// The revision applied last; 0 until the cache is ready. Wakes watchers and waiters.
    applied: watch::Sender<u64>,
    /// The revision from which on the cache is ready.
    ready_at: AtomicU64,
    /// States of old revisions that were asked for lately: pages of one list ask for the same.
    recalled: Mutex<VecDeque<Snapshot<V>>>,
    progress: ArcSwapOption<Vouching>,
    classes: Mutex<Classes<V>>,
}

/// Thin, as an atomic pointer has to be.
struct Vouching(Arc<dyn Progress>);

#[derive(Debug)]
struct Held<V> {
    view: Arc<V>,
    bytes: usize,
    index: Option<Arc<str>>,
}

impl<V> Clone for Held<V> {
    fn clone(&self) -> Self {
        Self { view: self.view.clone(), bytes: self.bytes, index: self.index.clone() }
    }
}

struct State<V> {
    revision: u64,
    map: Map<V>,
}

impl<V: Send + Sync + 'static> Cache<V> {
    /// A cache of everything below `prefix`, and the future that keeps it up to date, which the caller
    /// runs as a task; it ends when the store is closed, and may be dropped at any time.
    pub fn new(
        store: Arc<dyn Store>,
        prefix: KeyPrefix,
        decode: Decode<V>,
        options: CacheOptions,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let cache = Arc::new(Self {
            prefix,
            options,
            counters: CacheCounters::default(),
            state: ArcSwap::from_pointee(State { revision: 0, map: Map::default() }),
            log: RwLock::new(Log::starting_after(0)),
            applied: watch::Sender::new(0),
            ready_at: AtomicU64::new(0),
            recalled: Mutex::default(),
            progress: ArcSwapOption::empty(),
            classes: Mutex::default(),
        });
        let driver = Driver::new(cache.clone(), store, decode);
        (cache, driver.run())
    }

    /// The prefix that is cached.
    pub fn prefix(&self) -> &KeyPrefix {
        &self.prefix
    }

    /// What the cache has done.
    pub fn counters(&self) -> &CacheCounters {
        &self.counters
    }

    /// Whether the cache has caught up with the store for the first time. Before that, snapshots are empty
    /// or old.
    pub fn is_ready(&self) -> bool {
        *self.applied.borrow() > 0
    }

    /// Waits until [`Self::is_ready`].
    pub async fn ready(&self) {
        let mut applied = self.applied.subscribe();
        // The sender lives in self, so waiting cannot fail.
        let _ = applied.wait_for(|revision| *revision > 0).await;
    }

    /// Everything, as of the newest revision the cache can vouch for. Never waits.
    pub fn snapshot(&self) -> Snapshot<V> {
        let state = self.state.load();
        let revision = match self.progress() {
            Some(progress) => progress.complete(state.revision),
            None => state.revision,
        };
        Snapshot::new(revision, state.map.clone())
    }

    /// Drops old states that nobody may ask for any more.
    fn forget_recalled(&self) {
        let mut recalled = self.recalled.lock();
        if !recalled.is_empty() {
            let oldest = self.progress().map_or(0, |progress| progress.oldest());
            recalled.retain(|snapshot| snapshot.revision() >= oldest);
        }
    }

    fn advance(&self, revision: u64) {
        if revision >= self.ready_at.load(Ordering::Acquire) {
            self.applied.send_replace(revision);
        }
    }

    fn progress(&self) -> Option<Arc<dyn Progress>> {
        self.progress.load().as_ref().map(|vouching| vouching.0.clone())
    }

    /// Everything, as of `revision` or later: waits until the cache has got there.
    pub async fn wait_for(&self, revision: u64, timeout: Duration) -> Result<Snapshot<V>, TooLarge> {
        let mut applied = self.applied.subscribe();
        let deadline = Instant::now() + timeout;
        let mut reached = false;
        loop {
            applied.mark_unchanged();
            let snapshot = self.snapshot();
            if snapshot.revision() >= revision && self.is_ready() {
                return Ok(snapshot);
            }
            let progress = self.progress();
            tokio::select! {
                () = reach(progress.as_deref(), revision), if !reached => reached = true,
                _ = applied.changed() => {}
                () = sleep_until(deadline) => return Err(TooLarge { current: snapshot.revision() }),
            }
        }
    }

    /// Everything, as of exactly `revision`, which the cache must have reached (see [`Self::wait_for`]);
    /// [`Error::Future`] otherwise. [`Error::Compacted`] when the store or the cache has forgotten it.
    pub fn snapshot_at(&self, revision: u64) -> Result<Snapshot<V>, Error> {
        let current = self.snapshot();
        if revision > current.revision() {
            return Err(Error::Future { requested: revision, current: current.revision() });
        }
        let store_oldest = self.progress().map_or(0, |progress| progress.oldest());
        if revision < store_oldest {
            return Err(Error::Compacted { requested: revision, oldest: store_oldest });
        }
        if let Some(snapshot) = self.recalled.lock().iter().find(|snapshot| snapshot.revision() == revision) {
            return Ok(snapshot.clone());
        }
        let snapshot = self.recall(revision)?;
        let mut recalled = self.recalled.lock();
        recalled.truncate(RECALLED_MAX - 1);
        recalled.push_front(snapshot.clone());
        Ok(snapshot)
    }

    /// The current state with everything after `revision` undone. Takes it piece by piece: whoever applies events waits
    /// for that.
    fn recall(&self, revision: u64) -> Result<Snapshot<V>, Error> {
        let (state, mut end) = {
            let log = self.log.read();
            (self.state.load_full(), log.end())
        };
        let mut map = state.map.clone();
        loop {
            let newer = self.log.read().newer(revision, end);
            let gone = |overtaken: Overtaken| Error::Compacted { requested: revision, oldest: overtaken.oldest };
            let (start, events) = newer.map_err(gone)?;
            if events.is_empty() {
                return Ok(Snapshot::new(revision, map));
            }
            events.iter().rev().for_each(|event| undo(&mut map, event));
            end = start;
        }
    }

    /// Every change after the revision `from`, which may lie in the future.
    pub fn watch(self: &Arc<Self>, from: u64) -> Result<Watcher<V>, Compacted> {
        Watcher::new(self.clone(), from)
    }

    /// The watchers of this name, which says everything that they want: they share what `make` makes of an event.
    pub fn class(&self, name: String, make: impl FnOnce() -> Make<V>) -> Arc<Class<V>> {
        self.classes.lock().join(name, make)
    }

    fn retention(&self) -> Retention {
        Retention { age_millis: millis(self.options.history), bytes_max: self.options.history_bytes_max }
    }
}

fn undo<V>(map: &mut Map<V>, event: &Event<V>) {
    match &event.previous {
        Some(view) => {
            let index = event.previous_index.clone();
            map.insert(&event.key, Held { view: view.clone(), bytes: event.previous_bytes, index })
        }
        None => map.remove(&event.key),
    };
}

async fn reach(progress: Option<&dyn Progress>, revision: u64) {
    match progress {
        Some(progress) => progress.reached(revision).await,
        None => std::future::pending().await,
    }
}

impl<V> std::fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
