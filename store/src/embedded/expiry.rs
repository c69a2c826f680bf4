//! When which key's time to live runs out.

use std::collections::BTreeSet;

use imbl::OrdMap;

use crate::key::Key;

/// Deadlines by key; cheap to clone for a snapshot.
pub(super) type Deadlines = OrdMap<Key, u64>;

/// Deadlines in order, and by key. Lives in the committer alone.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    by_time: BTreeSet<(u64, Key)>,
    by_key: Deadlines,
}

impl Expiry {
    pub(super) fn new(deadlines: Deadlines) -> Self {
        Self { by_time: deadlines.iter().map(|(key, deadline)| (*deadline, key.clone())).collect(), by_key: deadlines }
    }

    pub(super) fn deadlines(&self) -> &Deadlines {
        &self.by_key
    }

    /// Sets or, with `None`, removes the deadline of `key`.
    pub(super) fn set(&mut self, key: &Key, deadline_millis: Option<u64>) {
        let old = match deadline_millis {
            Some(deadline) => self.by_key.insert(key.clone(), deadline),
            None if self.by_key.is_empty() => None,
            None => self.by_key.remove(key),
        };
        if let Some(old) = old {
            self.by_time.remove(&(old, key.clone()));
        }
        if let Some(deadline) = deadline_millis {
            self.by_time.insert((deadline, key.clone()));
        }
    }

    /// The next deadline.
    pub(super) fn next_millis(&self) -> Option<u64> {
        self.by_time.first().map(|(deadline, _)| *deadline)
    }

    /// Up to `limit` keys whose deadline has come, the earliest first. They stay until [`Self::set`]
    /// removes them.
    pub(super) fn due(&self, now_millis: u64, limit: usize) -> Vec<Key> {
        self.by_time
            .iter()
            .take_while(|(deadline, _)| *deadline <= now_millis)
            .take(limit)
            .map(|(_, key)| key.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests;
