//! What a cache holds, by key and by the value of an index. Persistent: a clone costs nothing and shares all.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;

use super::Held;
use crate::key::{Key, KeyPrefix};

pub(super) struct Map<V> {
    by_key: OrdMap<Key, Held<V>>,
    /// Under each value of the index, what has it. Small beside the rest: keys and references.
    by_index: OrdMap<Arc<str>, OrdMap<Key, Arc<V>>>,
}

impl<V> Clone for Map<V> {
    fn clone(&self) -> Self {
        Self { by_key: self.by_key.clone(), by_index: self.by_index.clone() }
    }
}

impl<V> Default for Map<V> {
    fn default() -> Self {
        Self { by_key: OrdMap::new(), by_index: OrdMap::new() }
    }
}

impl<V> Map<V> {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Held<V>> {
        self.by_key.get(key)
    }

    /// What was there before.
    pub(super) fn insert(&mut self, key: &Key, mut held: Held<V>) -> Option<Held<V>> {
        if let Some(value) = &mut held.index {
            // One copy of the value for all that have it.
            if let Some((known, _)) = self.by_index.get_key_value(value) {
                *value = known.clone();
            }
            self.by_index.entry(value.clone()).or_default().insert(key.clone(), held.view.clone());
        }
        let index = held.index.clone();
        let previous = self.by_key.insert(key.clone(), held);
        if let Some(before) = previous.as_ref().and_then(|held| held.index.as_ref())
            && index.as_ref() != Some(before)
        {
            self.forget(before, key);
        }
        previous
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Held<V>> {
        let removed = self.by_key.remove(key)?;
        if let Some(value) = &removed.index {
            self.forget(value, key);
        }
        Some(removed)
    }

    fn forget(&mut self, value: &Arc<str>, key: &Key) {
        let Some(all) = self.by_index.get_mut(value) else { return };
        all.remove(key);
        if all.is_empty() {
            self.by_index.remove(value);
        }
    }

    /// In key order, from `from` on.
    pub(super) fn range<'a>(
        &'a self,
        prefix: &KeyPrefix,
        from: &str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<V>)> + use<'a, V> {
        let prefix = prefix.clone();
        let range = self.by_key.range::<_, str>((Bound::Included(from), Bound::Unbounded));
        range.take_while(move |(key, _)| prefix.contains(key)).map(|(key, held)| (key, &held.view))
    }

    /// The same of what has this value in the index.
    pub(super) fn indexed<'a>(
        &'a self,
        value: &str,
        prefix: &KeyPrefix,
        from: &str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<V>)> + use<'a, V> {
        let prefix = prefix.clone();
        let all = self.by_index.get(value);
        let range = all.map(|all| all.range::<_, str>((Bound::Included(from), Bound::Unbounded)));
        range.into_iter().flatten().take_while(move |(key, _)| prefix.contains(key))
    }
}
