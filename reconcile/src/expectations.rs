//! Expectations: what a controller asked for and has not yet seen come back through its informer.
//!
//! A controller that counts objects in its cache right after it created some would create them again. It notes what
//! it asked for, handlers strike out what arrives, and no new decision is made until nothing is left or the
//! expectation is so old that an event must have been lost.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// After this long an expectation counts as met: something was lost, and the cache is the better truth.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Expectations per controlling object. Clones share them.
pub struct Expectations<K> {
    entries: Arc<Mutex<HashMap<K, Expected>>>,
}

struct Expected {
    creations: i64,
    /// Deletions by uid, so that a deletion is struck out once although it is seen as an update and as a deletion.
    deletions: HashSet<String>,
    since: Instant,
}

impl<K> Clone for Expectations<K> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone() }
    }
}

impl<K> Default for Expectations<K> {
    fn default() -> Self {
        Self { entries: Arc::default() }
    }
}

impl<K: Eq + Hash> Expectations<K> {
    /// Nothing is expected.
    pub fn new() -> Self {
        Self::default()
    }

    /// Expects this many creations and these deletions, instead of what was expected before.
    pub fn expect(&self, key: K, creations: usize, deletions: impl IntoIterator<Item = String>) {
        let creations = i64::try_from(creations).unwrap_or(i64::MAX);
        let deletions = deletions.into_iter().collect();
        let since = daemon::clock::monotonic();
        self.entries.lock().insert(key, Expected { creations, deletions, since });
    }

    /// A creation was seen, or failed.
    pub fn created(&self, key: &K) {
        self.lower(key, 1);
    }

    /// Creations that will not be tried.
    pub fn lower(&self, key: &K, by: usize) {
        if let Some(expected) = self.entries.lock().get_mut(key) {
            expected.creations -= i64::try_from(by).unwrap_or(i64::MAX);
        }
    }

    /// A deletion was seen, or failed.
    pub fn deleted(&self, key: &K, uid: &str) {
        if let Some(expected) = self.entries.lock().get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    /// Nothing is left to be seen, or it has been too long.
    pub fn satisfied(&self, key: &K) -> bool {
        let entries = self.entries.lock();
        entries.get(key).is_none_or(|expected| {
            let met = expected.creations <= 0 && expected.deletions.is_empty();
            met || daemon::clock::monotonic().saturating_duration_since(expected.since) > TIMEOUT
        })
    }

    /// The controlling object is gone.
    pub fn forget(&self, key: &K) {
        self.entries.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn met_by_what_is_seen_or_by_time() {
        let expectations = Expectations::new();
        assert!(expectations.satisfied(&"rs"));
        expectations.expect("rs", 2, ["uid".to_owned()]);
        expectations.created(&"rs");
        expectations.created(&"rs");
        assert!(!expectations.satisfied(&"rs"));
        expectations.deleted(&"rs", "uid");
        assert!(expectations.satisfied(&"rs"));
        expectations.expect("rs", 1, []);
        assert!(!expectations.satisfied(&"rs"));
        tokio::time::advance(TIMEOUT + Duration::from_secs(1)).await;
        assert!(expectations.satisfied(&"rs"));
    }
}
