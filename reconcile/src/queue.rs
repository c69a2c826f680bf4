//! A keyed work queue: a key waits at most once, and is never worked on twice at the same time.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// First delay of a key that failed.
const RETRY_BASE: Duration = Duration::from_millis(5);
/// Limit of the doubling delay.
const RETRY_MAX: Duration = Duration::from_secs(1000);
/// Limit of every delay: users name times that no clock can show, and mean never.
const DELAY_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The queue. Clones share it. Its size is bounded by the number of distinct keys.
pub struct Queue<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys with work not yet begun: in `ready`, or in `working` and added again.
    dirty: HashSet<K>,
    working: HashSet<K>,
    /// By due time; the number keeps entries of the same instant apart.
    delayed: BTreeMap<(Instant, u64), K>,
    due: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    sequence: u64,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K: Eq + Hash + Clone> Default for Queue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Eq + Hash + Clone> Queue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            delayed: BTreeMap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            sequence: 0,
        };
        Self { inner: Arc::new(Inner { state: Mutex::new(state), changed: Notify::new() }) }
    }

    /// Adds a key, unless it waits already. One that is being worked on is handed out again when that is done.
    pub fn add(&self, key: K) {
        self.inner.state.lock().add(key);
        self.inner.changed.notify_one();
    }

    /// Adds a key after a delay. Of several delays for one key the earliest end counts. One longer than years is years.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.inner.state.lock().delay(key, Instant::now() + delay.min(DELAY_MAX));
        self.inner.changed.notify_one();
    }

    /// Adds a key after a delay that doubles with each call until [`Queue::forget`].
    pub fn add_rate_limited(&self, key: K) {
        let mut state = self.inner.state.lock();
        let failures = state.failures.entry(key.clone()).or_default();
        let delay = RETRY_BASE.saturating_mul(1_u32.checked_shl(*failures).unwrap_or(u32::MAX)).min(RETRY_MAX);
        *failures = failures.saturating_add(1);
        state.delay(key, Instant::now() + delay);
        drop(state);
        self.inner.changed.notify_one();
    }

    /// Ends a key's back-off. What already waits is not changed.
    pub fn forget(&self, key: &K) {
        self.inner.state.lock().failures.remove(key);
    }

    /// How often a key was added rate limited since it was forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.inner.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// The next key, once there is one. The caller owns it until [`Queue::done`]. Cancel safe.
    pub async fn next(&self) -> K {
        loop {
            let changed = self.inner.changed.notified();
            let (taken, due, more) = self.inner.state.lock().take(Instant::now());
            if more {
                self.inner.changed.notify_one();
            }
            if let Some(key) = taken {
                return key;
            }
            match due {
                None => changed.await,
                Some(due) => drop(tokio::time::timeout_at(due, changed).await),
            }
        }
    }

    /// Gives a key back. If it was added meanwhile it is handed out again.
    pub fn done(&self, key: &K) {
        let mut state = self.inner.state.lock();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.inner.changed.notify_one();
        }
    }

    /// How many keys are ready to be worked on.
    pub fn len(&self) -> usize {
        self.inner.state.lock().ready.len()
    }

    /// No key is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Eq + Hash + Clone> State<K> {
    fn add(&mut self, key: K) {
        if self.dirty.contains(&key) {
            return;
        }
        self.dirty.insert(key.clone());
        if !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn delay(&mut self, key: K, due: Instant) {
        if let Some(present) = self.due.get(&key) {
            if present.0 <= due {
                return;
            }
            self.delayed.remove(present);
        }
        self.sequence += 1;
        self.due.insert(key.clone(), (due, self.sequence));
        self.delayed.insert((due, self.sequence), key);
    }

    /// A ready key if there is one, when the next delay ends, and whether more keys are ready.
    fn take(&mut self, now: Instant) -> (Option<K>, Option<Instant>, bool) {
        while let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= now) {
            let key = entry.remove();
            self.due.remove(&key);
            self.add(key);
        }
        let taken = self.ready.pop_front();
        if let Some(key) = &taken {
            self.dirty.remove(key);
            self.working.insert(key.clone());
        }
        let due = self.delayed.first_key_value().map(|((due, _), _)| *due);
        // Another waiter has to take over the watch of the next delay too.
        let more = taken.is_some() && (!self.ready.is_empty() || due.is_some());
        (taken, due, more)
    }
}

#[cfg(test)]
mod tests;
