//! An immutable state of a cache.

use std::sync::Arc;

use super::Map;
use crate::key::{Key, KeyPrefix};

/// Everything below a cache's prefix as of one revision. Cheap to clone; never changes.
pub struct Snapshot<V> {
    revision: u64,
    map: Map<V>,
}

impl<V> Clone for Snapshot<V> {
    fn clone(&self) -> Self {
        Self { revision: self.revision, map: self.map.clone() }
    }
}

impl<V> Snapshot<V> {
    pub(super) fn new(revision: u64, map: Map<V>) -> Self {
        Self { revision, map }
    }

    /// The revision of the store whose state this is.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many objects there are in all.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.map.len() == 0
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Arc<V>> {
        self.map.get(key).map(|held| &held.view)
    }

    /// The objects below `prefix` in key order, from the first key whose suffix is `start` or greater.
    /// To go on after a key, pass its suffix followed by `"\0"`.
    pub fn range<'a>(
        &'a self,
        prefix: &KeyPrefix,
        start: Option<&str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<V>)> + use<'a, V> {
        self.map.range(prefix, &format!("{prefix}{}", start.unwrap_or_default()))
    }

    /// Those of [`Self::range`] whose index has this value; the others are not looked at.
    pub fn indexed<'a>(
        &'a self,
        value: &str,
        prefix: &KeyPrefix,
        start: Option<&str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<V>)> + use<'a, V> {
        self.map.indexed(value, prefix, &format!("{prefix}{}", start.unwrap_or_default()))
    }
}

impl<V> std::fmt::Debug for Snapshot<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("revision", &self.revision).field("len", &self.len()).finish()
    }
}
