//! Watchers that want the same of every event share the making of it.
//!
//! What is made of an event (whether a selector wants it, and its encoded form) depends on the event and on the class
//! alone, so the first watcher of a class makes it and the others copy the reference. Only the newest events are kept:
//! a watcher that has fallen behind them makes its own, and costs the others nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use super::Event;

/// What a class keeps at hand for its watchers.
const KEPT_BYTES_MAX: usize = 512 << 10;
/// The same for events that make nothing, as most do under a narrow selector.
const KEPT_MAX: usize = 4096;

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// The class does not want it.
    Nothing,
    /// Its encoded form.
    Frame(Bytes),
    /// It cannot be encoded; the watch is over.
    End,
}

impl Made {
    fn bytes(&self) -> usize {
        if let Self::Frame(bytes) = self { bytes.len() } else { 0 }
    }
}

/// Makes what a class wants of an event. Depends on nothing else.
pub type Make<V> = Box<dyn Fn(&Event<V>) -> Made + Send + Sync>;

/// Watchers with equal selectors and the same encoding. It ends with the last of them.
pub struct Class<V> {
    make: Make<V>,
    kept: Mutex<Kept>,
}

/// What was made of events that follow one another in the log.
#[derive(Default)]
struct Kept {
    /// The position of the first.
    first: u64,
    made: VecDeque<Made>,
    bytes: usize,
}

impl<V> Class<V> {
    /// What the class makes of an event.
    pub fn of(self: &Arc<Self>, event: &Event<V>) -> Made {
        // A watcher on its own would keep for nobody.
        if Arc::strong_count(self) == 1 {
            return (self.make)(event);
        }
        let mut kept = self.kept.lock();
        if let Some(made) = kept.get(event.position) {
            return made.clone();
        }
        if event.position < kept.first {
            drop(kept);
            return (self.make)(event);
        }
        // Under the lock: the others of this class wait for the same.
        let made = (self.make)(event);
        kept.push(event.position, made.clone());
        made
    }

    /// How much is kept at hand, in bytes.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept.lock().bytes
    }
}

impl Kept {
    fn get(&self, position: u64) -> Option<&Made> {
        self.made.get(usize::try_from(position.checked_sub(self.first)?).ok()?)
    }

    fn push(&mut self, position: u64, made: Made) {
        if position != self.first + self.made.len() as u64 {
            *self = Self { first: position, ..Self::default() };
        }
        self.bytes += made.bytes();
        self.made.push_back(made);
        while self.made.len() > 1 && (self.bytes > KEPT_BYTES_MAX || self.made.len() > KEPT_MAX) {
            let gone = self.made.pop_front().map_or(0, |made| made.bytes());
            self.bytes -= gone;
            self.first += 1;
        }
    }
}

impl<V> std::fmt::Debug for Class<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Class")
    }
}

/// The classes of a cache, by names that say all that distinguishes them.
pub(super) struct Classes<V> {
    by_name: HashMap<String, Weak<Class<V>>>,
    /// At this number, those that have ended are taken out.
    sweep_at: usize,
}

impl<V> Default for Classes<V> {
    fn default() -> Self {
        Self { by_name: HashMap::new(), sweep_at: 64 }
    }
}

impl<V> Classes<V> {
    /// The class of this name; made when there is none.
    pub(super) fn join(&mut self, name: String, make: impl FnOnce() -> Make<V>) -> Arc<Class<V>> {
        if let Some(class) = self.by_name.get(&name).and_then(Weak::upgrade) {
            return class;
        }
        let class = Arc::new(Class { make: make(), kept: Mutex::default() });
        self.by_name.insert(name, Arc::downgrade(&class));
        if self.by_name.len() >= self.sweep_at {
            self.by_name.retain(|_, class| class.strong_count() > 0);
            self.sweep_at = (self.by_name.len() * 2).max(64);
        }
        class
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }
}
