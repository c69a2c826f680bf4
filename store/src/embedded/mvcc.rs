//! The store as etcd's protocol sees it: any keys, several of them in one revision, leases, ranges at a revision.
//!
//! What [`crate::Store`] promises is a part of this. Here the caller decides on the committing thread, in a
//! function over the newest state, and everything that it changes becomes one revision.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::EmbeddedStore;
use super::expiry::Deadlines;
use super::lease::{LeaseId, Leases};
use super::queue::Action;
use super::shared::{Map, Shared, State};
use super::transaction::Transaction;
use super::undo::Undo;
use super::watcher::Watcher;
use crate::contract::{Entry, Error, Expect};
use crate::key::{Key, KeyPrefix};
use crate::watch::WatchStream;

/// With more ranges than this, every change is taken back to get to an old revision, not those alone that lie in them.
const RANGES_COMPARED_MAX: usize = 16;

/// Some keys in bytewise order: one, or from here to before there. Bounds may be any bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyRange {
    from: Bytes,
    end: End,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum End {
    /// Only the first key.
    Same,
    Before(Bytes),
    Unbounded,
}

impl KeyRange {
    /// As etcd's requests say it: no end is one key, an end of one zero byte is everything from there on.
    #[must_use]
    pub fn new(from: Bytes, end: Bytes) -> Self {
        let end = match &end[..] {
            [] => End::Same,
            [0] => End::Unbounded,
            _ => End::Before(end),
        };
        Self { from, end }
    }

    /// Whether it is one key.
    #[must_use]
    pub fn is_one(&self) -> bool {
        self.end == End::Same
    }

    /// Whether no key can lie in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if self.from >= end)
    }

    /// Whether `key` lies in it.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        self.contains_str(key.as_str())
    }

    /// Whether a key of this text lies in it.
    #[must_use]
    pub fn contains_str(&self, key: &str) -> bool {
        let key = key.as_bytes();
        match &self.end {
            End::Same => key == &self.from[..],
            End::Before(end) => key >= &self.from[..] && key < &end[..],
            End::Unbounded => key >= &self.from[..],
        }
    }

    fn is_before_end(&self, key: &Key) -> bool {
        let key = key.as_str().as_bytes();
        match &self.end {
            End::Same => key <= &self.from[..],
            End::Before(end) => key < &end[..],
            End::Unbounded => true,
        }
    }

    /// The longest text that no key of the range comes before.
    fn lower_bound(&self) -> &str {
        match std::str::from_utf8(&self.from) {
            Ok(from) => from,
            Err(error) => std::str::from_utf8(&self.from[..error.valid_up_to()]).unwrap_or_default(),
        }
    }

    /// A prefix that all of its keys have, if its bounds say one.
    fn prefix(&self) -> KeyPrefix {
        let end = match &self.end {
            End::Before(end) => end,
            End::Same | End::Unbounded => return KeyPrefix::everything(),
        };
        let covers = match (self.from.split_last(), end.split_last()) {
            (Some((b'/', from)), Some((b'0', end))) => from == end,
            _ => false,
        };
        std::str::from_utf8(&self.from).ok().filter(|_| covers).map_or_else(KeyPrefix::everything, KeyPrefix::foreign)
    }
}

/// An immutable state. Cheap to clone.
#[derive(Debug, Clone)]
pub struct View {
    revision: u64,
    compacted: u64,
    map: Map,
    leases: Leases,
}

impl View {
    fn new(state: &State) -> Self {
        let State { revision, map, leases, compacted } = state.clone();
        Self { revision, compacted, map, leases }
    }

    /// The store's newest revision when this was read.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The revision given to the last compaction, 0 before the first.
    #[must_use]
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// How many keys there are in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The leases now, whatever the revision.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// One entry.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        self.map.get(key)
    }

    /// The entries of a range, in order.
    pub fn range<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = &'a Arc<Entry>> {
        entries(&self.map, range)
    }
}

fn entries<'a>(map: &'a Map, range: &'a KeyRange) -> impl Iterator<Item = &'a Arc<Entry>> {
    map.range::<_, str>((Bound::Included(range.lower_bound()), Bound::Unbounded))
        .map(|(_, entry)| entry)
        .take_while(|entry| range.is_before_end(&entry.key))
        .filter(|entry| range.contains(&entry.key))
}

/// What is being decided: reads see what was written before in it.
pub struct Txn<'a> {
    pub(super) transaction: &'a mut Transaction,
    pub(super) shared: &'a Shared,
    pub(super) deadlines: &'a Deadlines,
    pub(super) now_millis: u64,
    /// Whether there is no room for more than deletions.
    pub(super) full: bool,
}

impl Txn<'_> {
    /// The newest revision, with what was written here.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.transaction.state().revision
    }

    /// What is stored now, with what was written here.
    #[must_use]
    pub fn view(&self) -> View {
        View::new(self.transaction.state())
    }

    /// What was stored at `revision`, below or at the last published one. Exact in `range`.
    pub fn view_at(&self, range: &KeyRange, revision: u64) -> Result<View, Error> {
        if revision == self.revision() {
            return Ok(self.view());
        }
        view_at(self.shared, View::new(&self.shared.state()), range, revision)
    }

    /// Whether [`Self::view_at`] finds `revision`, without undoing what came after it.
    pub fn reaches(&self, revision: u64) -> Result<(), Error> {
        let state = self.transaction.state();
        if revision == state.revision {
            return Ok(());
        }
        if revision > self.shared.state().revision {
            return Err(Error::Future { requested: revision, current: state.revision });
        }
        let oldest = state.compacted.max(self.shared.oldest());
        if revision < oldest {
            return Err(Error::Compacted { requested: revision, oldest });
        }
        Ok(())
    }

    /// Writes one key. [`Error::Full`] when there is no room, [`Error::TooLarge`] for a value too large.
    pub fn put(&mut self, key: Key, value: Bytes, lease: LeaseId) -> Result<u64, Error> {
        if self.full {
            return Err(Error::Full);
        }
        let (bytes, limit) = (value.len(), self.shared.options.value_bytes_max);
        if bytes > limit {
            return Err(Error::TooLarge { key, bytes, limit });
        }
        Ok(self.transaction.write(key, value, lease, None))
    }

    /// Deletes one key. Returns whether it was there.
    pub fn delete(&mut self, key: Key) -> bool {
        self.transaction.delete(key, Expect::Any).is_ok()
    }

    /// Grants a lease, or changes that of the same number.
    pub fn grant(&mut self, id: LeaseId, ttl_millis: u64) {
        self.transaction.grant(id, ttl_millis, self.now_millis);
    }

    /// Lets a lease live on from now. Returns its time to live, if there is such a lease.
    pub fn renew(&mut self, id: LeaseId) -> Option<u64> {
        self.transaction.renew(id, self.now_millis)
    }

    /// Ends a lease and deletes its keys. Returns whether there was one.
    pub fn revoke(&mut self, id: LeaseId) -> bool {
        self.transaction.revoke(id)
    }

    /// Forgets the history before `revision`, for good: a restart does not bring it back.
    pub fn compact(&mut self, revision: u64) {
        self.transaction.compact(revision);
    }
}

/// Decides, and returns who is to be told whether it was made durable.
pub(super) type Decide = Box<dyn FnOnce(&mut Txn<'_>) -> Result<Finish, Finish> + Send>;

/// Tells the caller.
pub(super) type Finish = Box<dyn FnOnce(Result<(), Error>) + Send>;

impl EmbeddedStore {
    /// Runs `decide` over the newest state. What it changes becomes one revision, visible when it is durable;
    /// when it fails nothing of it happens. It must be quick: all writers wait for it.
    pub async fn transact<T, E>(
        &self,
        decide: impl FnOnce(&mut Txn<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<Result<T, E>, Error>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        self.submit(|reply: oneshot::Sender<Result<Result<T, E>, Error>>| {
            let decide: Decide = Box::new(move |txn| {
                let outcome = decide(txn);
                let decided = outcome.is_ok();
                // A caller that has gone away does not want its answer.
                let finish: Finish = Box::new(move |durable| drop(reply.send(durable.map(|()| outcome))));
                if decided { Ok(finish) } else { Err(finish) }
            });
            Action::Transact(decide)
        })
        .await
    }

    /// What was stored at `revision`, or now. Exact in `range`.
    pub fn view(&self, range: &KeyRange, revision: Option<u64>) -> Result<View, Error> {
        let now = self.latest();
        match revision {
            None => Ok(now),
            Some(revision) => view_at(&self.shared, now, range, revision),
        }
    }

    /// What was stored at each of `revisions`, as far as it had come in `now`. Exact in `ranges`. All of it costs one way
    /// back through the history, however many there are of them.
    pub fn earlier_each(
        &self,
        now: &View,
        ranges: &[KeyRange],
        revisions: &BTreeSet<u64>,
    ) -> BTreeMap<u64, Result<View, Error>> {
        let mut undo = Undo::new(&self.shared);
        // To compare with many ranges would take longer than to take back what lies in none of them.
        let all = ranges.len() > RANGES_COMPARED_MAX;
        let wanted = |key: &Key| all || ranges.iter().any(|range| range.contains(key));
        let one = |revision: &u64| {
            let map = match *revision {
                requested if requested > now.revision => Err(Error::Future { requested, current: now.revision }),
                revision => undo.to(revision, wanted),
            };
            (*revision, map.map(|map| View { map, ..now.clone() }))
        };
        revisions.iter().rev().map(one).collect()
    }

    /// Everything, now.
    #[must_use]
    pub fn latest(&self) -> View {
        View::new(&self.shared.state())
    }

    /// The oldest revision from which on history can be watched.
    #[must_use]
    pub fn oldest_watchable(&self) -> u64 {
        self.shared.oldest() + 1
    }

    /// Every change of keys in `range` after a revision; others may be among them. What one transaction
    /// changed comes in one batch.
    pub fn watch_range(&self, range: &KeyRange, after: u64) -> Result<WatchStream, Error> {
        let subscription = self.shared.subscribe(range.prefix(), after)?;
        Ok(WatchStream::new(Box::new(Watcher::new(self.shared.clone(), subscription, after))))
    }

    /// The time on the store's clock, in milliseconds.
    #[must_use]
    pub fn now_millis(&self) -> u64 {
        self.shared.options.clock.now_millis()
    }
}

fn view_at(shared: &Shared, now: View, range: &KeyRange, revision: u64) -> Result<View, Error> {
    if revision == now.revision {
        return Ok(now);
    }
    if revision > now.revision {
        return Err(Error::Future { requested: revision, current: now.revision });
    }
    let map = shared.map_at(|key| range.contains(key), revision)?;
    Ok(View { map, ..now })
}

#[cfg(test)]
mod tests;
