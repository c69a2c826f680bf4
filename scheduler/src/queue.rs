//! Pods that wait: for their turn, for a back-off to end, or for the cluster to change.
//!
//! A pod that no node takes waits until something happens that could change that: each plug-in says what
//! ([`Plugin::events`](crate::framework::Plugin::events)). Then it backs off, a second doubling to ten, and gets its
//! turn; earlier when nobody else waits for one (KEP-5142), unless it backs off because of a failure. What happens while
//! a decision is made counts for it too.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use reconcile::Key;
use tokio::sync::Notify;

use crate::{
    framework::{ClusterEvent, Events},
    model::PodInfo,
};

/// A pod that waited this long for the cluster to change is tried anyway.
const MAX_WAIT: Duration = Duration::from_secs(5 * 60);

/// A pod on its way to a decision.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) pod: Arc<PodInfo>,
    pub(crate) attempts: u32,
    /// Events seen when the decision began.
    seen: u64,
}

impl Waiting {
    /// The same turn, of the pod as it is by now.
    pub(crate) fn of(&self, pod: Arc<PodInfo>) -> Self {
        Self { pod, ..self.clone() }
    }
}

/// More important first, then first come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    priority: Reverse<i64>,
    arrival: u64,
}

#[derive(Debug)]
enum Place {
    Active(Rank),
    BackingOff(Instant),
    /// As [`Self::BackingOff`], to its end even when the scheduler has nothing else to do.
    Failing(Instant),
    Unschedulable {
        since: Instant,
        wakes: Events,
    },
    Gated,
    Deciding,
}

#[derive(Debug)]
struct Slot {
    pod: Arc<PodInfo>,
    attempts: u32,
    arrival: u64,
    place: Place,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<Key, Slot>,
    active: BTreeSet<(Rank, Key)>,
    backing_off: BTreeSet<(Instant, Key)>,
    failing: BTreeSet<(Instant, Key)>,
    /// Unschedulable pods by the time they began to wait.
    unschedulable: BTreeSet<(Instant, Key)>,
    arrivals: u64,
    /// The number of the last event of each kind, and of all.
    last: [u64; 16],
    events: u64,
}

/// Bounds of the back-off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delays {
    pub(crate) initial: Duration,
    pub(crate) max: Duration,
}

impl Delays {
    fn after(self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(20);
        self.initial.saturating_mul(1 << doublings).min(self.max)
    }
}

/// The scheduling queue.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
    delays: Delays,
}

impl Queue {
    pub(crate) fn new(delays: Delays) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), delays }
    }

    /// Takes in a pod without a node, or its new state. A change of the pod itself gives it another turn.
    pub(crate) fn set(&self, pod: Arc<PodInfo>) {
        let mut state = self.state.lock();
        let key = pod.key.clone();
        match state.slots.get_mut(&key) {
            Some(slot) if slot.pod.uid == pod.uid => {
                let was_gated = matches!(slot.place, Place::Gated);
                slot.pod = pod;
                let wakes = matches!(&slot.place, Place::Unschedulable { wakes, .. } if wakes.contains(ClusterEvent::PodUpdate));
                if (was_gated && !slot.pod.gated) || wakes {
                    state.activate(&key);
                }
            }
            _ => {
                state.remove(&key);
                state.insert(pod);
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Takes over a new state that does not give the pod another turn, so that the next decision is about it.
    pub(crate) fn note(&self, pod: Arc<PodInfo>) {
        if let Some(slot) = self.state.lock().slots.get_mut(&pod.key).filter(|slot| slot.pod.uid == pod.uid) {
            slot.pod = pod;
        }
    }

    /// The pod has a node or is gone. Another of its name stays.
    pub(crate) fn remove(&self, key: &Key, uid: &str) {
        let mut state = self.state.lock();
        if state.slots.get(key).is_some_and(|slot| slot.pod.uid == uid) {
            state.remove(key);
        }
    }

    /// What a pod waits for will not happen: it gets another turn, after its delay even when nothing else is waiting.
    pub(crate) fn try_again(&self, pod: &PodInfo) {
        let now = daemon::clock::monotonic();
        let mut state = self.state.lock();
        let slot = state.slots.get(&pod.key).filter(|slot| slot.pod.uid == pod.uid);
        if slot.is_some_and(|slot| matches!(slot.place, Place::Unschedulable { .. })) {
            state.fail(&pod.key, now, self.delays);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Something happened that may help pods that wait for it.
    pub(crate) fn happened(&self, event: ClusterEvent) {
        let now = daemon::clock::monotonic();
        let mut state = self.state.lock();
        state.events += 1;
        let number = state.events;
        state.last[(event as u16).trailing_zeros() as usize] = number;
        let helped = |slot: &Slot| matches!(&slot.place, Place::Unschedulable { wakes, .. } if wakes.contains(event));
        let waiting = state.unschedulable.iter().map(|(_, key)| key);
        let keys: Vec<Key> = waiting.filter(|key| state.slots.get(key).is_some_and(helped)).cloned().collect();
        for key in keys {
            state.back_off(&key, now, self.delays);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// The next pod to decide on.
    pub(crate) async fn next(&self) -> Waiting {
        loop {
            let until = {
                let mut state = self.state.lock();
                let now = daemon::clock::monotonic();
                state.wake(now);
                if let Some(waiting) = state.pop() {
                    return waiting;
                }
                state.next_wake()
            };
            let changed = self.changed.notified();
            match until {
                Some(at) => drop(tokio::time::timeout_at(at.into(), changed).await),
                None => changed.await,
            }
        }
    }

    /// No node took the pod; `wakes` can change that. What happened meanwhile is not missed.
    pub(crate) fn unschedulable(&self, waiting: &Waiting, wakes: Events) {
        let now = daemon::clock::monotonic();
        let mut state = self.state.lock();
        let missed = state.happened_since(waiting.seen, wakes);
        let key = &waiting.pod.key;
        if missed {
            state.back_off(key, now, self.delays);
        } else {
            state.wait(waiting, now, wakes);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// The decision failed for a reason that does not lie in the cluster: try again after a back-off.
    pub(crate) fn failed(&self, waiting: &Waiting) {
        let now = daemon::clock::monotonic();
        let mut state = self.state.lock();
        // The pod may have been taken out when it was assumed on a node.
        if !state.slots.contains_key(&waiting.pod.key) {
            state.insert(waiting.pod.clone());
        }
        if let Some(slot) = state.slots.get_mut(&waiting.pod.key) {
            slot.attempts = slot.attempts.max(waiting.attempts);
        }
        state.fail(&waiting.pod.key, now, self.delays);
        drop(state);
        self.changed.notify_one();
    }
}

impl State {
    fn insert(&mut self, pod: Arc<PodInfo>) {
        self.arrivals += 1;
        let (key, gated, arrival) = (pod.key.clone(), pod.gated, self.arrivals);
        self.slots.insert(key.clone(), Slot { pod, attempts: 0, arrival, place: Place::Gated });
        if !gated {
            self.activate(&key);
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Slot> {
        self.leave(key);
        self.slots.remove(key)
    }

    /// Takes a pod off the ordered sets.
    fn leave(&mut self, key: &Key) {
        match self.slots.get(key).map(|slot| &slot.place) {
            Some(Place::Active(rank)) => drop(self.active.remove(&(*rank, key.clone()))),
            Some(Place::BackingOff(until)) => drop(self.backing_off.remove(&(*until, key.clone()))),
            Some(Place::Failing(until)) => drop(self.failing.remove(&(*until, key.clone()))),
            Some(Place::Unschedulable { since, .. }) => drop(self.unschedulable.remove(&(*since, key.clone()))),
            _ => {}
        }
    }

    fn activate(&mut self, key: &Key) {
        self.leave(key);
        let Some(slot) = self.slots.get_mut(key) else { return };
        let rank = Rank { priority: Reverse(slot.pod.priority), arrival: slot.arrival };
        slot.place = Place::Active(rank);
        self.active.insert((rank, key.clone()));
    }

    fn back_off(&mut self, key: &Key, now: Instant, delays: Delays) {
        self.leave(key);
        let Some(slot) = self.slots.get_mut(key) else { return };
        let until = now + delays.after(slot.attempts);
        slot.place = Place::BackingOff(until);
        self.backing_off.insert((until, key.clone()));
    }

    fn fail(&mut self, key: &Key, now: Instant, delays: Delays) {
        self.leave(key);
        let Some(slot) = self.slots.get_mut(key) else { return };
        let until = now + delays.after(slot.attempts);
        slot.place = Place::Failing(until);
        self.failing.insert((until, key.clone()));
    }

    /// Gives a turn to pods whose time has come.
    fn wake(&mut self, now: Instant) {
        while let Some((_, key)) = self.backing_off.first().filter(|(until, _)| *until <= now).cloned() {
            self.activate(&key);
        }
        while let Some((_, key)) = self.failing.first().filter(|(until, _)| *until <= now).cloned() {
            self.activate(&key);
        }
        while let Some((_, key)) = self.unschedulable.first().filter(|(since, _)| *since + MAX_WAIT <= now).cloned() {
            self.activate(&key);
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        // Who backs off without having failed is popped before there is anything to wait for.
        let failing = self.failing.first().map(|(until, _)| *until);
        let stale = self.unschedulable.first().map(|(since, _)| *since + MAX_WAIT);
        failing.into_iter().chain(stale).min()
    }

    fn wait(&mut self, waiting: &Waiting, now: Instant, wakes: Events) {
        let key = &waiting.pod.key;
        if self.slots.get(key).is_none_or(|slot| slot.pod.uid != waiting.pod.uid) {
            return;
        }
        self.leave(key);
        self.unschedulable.insert((now, key.clone()));
        if let Some(slot) = self.slots.get_mut(key) {
            slot.place = Place::Unschedulable { since: now, wakes };
        }
    }

    fn pop(&mut self) -> Option<Waiting> {
        let key = match self.active.pop_first() {
            Some((_, key)) => Some(key),
            None => self.backing_off.pop_first().map(|(_, key)| key),
        }?;
        let seen = self.events;
        let slot = self.slots.get_mut(&key).expect("an active pod has a slot");
        slot.attempts += 1;
        slot.place = Place::Deciding;
        Some(Waiting { pod: slot.pod.clone(), attempts: slot.attempts, seen })
    }

    fn happened_since(&self, seen: u64, wakes: Events) -> bool {
        let kinds = self.last.iter().enumerate();
        let mut recent = kinds.filter(|(_, number)| **number > seen).map(|(kind, _)| 1_u16 << kind);
        recent.any(|kind| wakes.contains_bits(kind))
    }
}

#[cfg(test)]
mod tests;
