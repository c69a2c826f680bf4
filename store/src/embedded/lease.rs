//! Leases as etcd has them: keys that go together when nobody renews them.
//!
//! Persistent maps, so that a batch being decided works on a copy of its own. Renewals are not written down:
//! after a restart every lease begins anew, as in etcd after a change of leader.

use imbl::{OrdMap, OrdSet};

use crate::key::Key;

/// A lease's number, as its client knows it; never 0.
pub type LeaseId = i64;

/// No lease.
pub const NO_LEASE: LeaseId = 0;

/// One lease.
#[derive(Debug, Clone)]
pub struct Lease {
    /// How long it lives after it was granted or renewed.
    pub ttl_millis: u64,
    /// When it ends.
    pub deadline_millis: u64,
    /// What goes with it.
    pub keys: OrdSet<Key>,
}

/// All leases. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Leases {
    by_id: OrdMap<LeaseId, Lease>,
    by_deadline: OrdSet<(u64, LeaseId)>,
}

impl Leases {
    /// One lease.
    #[must_use]
    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    /// Every lease, by number.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.by_id.iter().map(|(id, lease)| (*id, lease))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn grant(&mut self, id: LeaseId, ttl_millis: u64, now_millis: u64) {
        let deadline_millis = now_millis.saturating_add(ttl_millis);
        let keys = self.by_id.get(&id).map(|lease| lease.keys.clone()).unwrap_or_default();
        self.remove(id);
        self.by_deadline.insert((deadline_millis, id));
        self.by_id.insert(id, Lease { ttl_millis, deadline_millis, keys });
    }

    /// Lets a lease live on from now. Returns its time to live, or nothing when there is no such lease.
    pub(super) fn renew(&mut self, id: LeaseId, now_millis: u64) -> Option<u64> {
        let ttl_millis = self.by_id.get(&id)?.ttl_millis;
        self.grant(id, ttl_millis, now_millis);
        Some(ttl_millis)
    }

    /// Lets every lease live on from now.
    pub(super) fn renew_all(&mut self, now_millis: u64) {
        let ids: Vec<_> = self.by_id.keys().copied().collect();
        for id in ids {
            self.renew(id, now_millis);
        }
    }

    /// Takes every lease's keys from `entries`, each a key with its lease.
    pub(super) fn hold<'a>(&mut self, entries: impl Iterator<Item = (&'a Key, LeaseId)>) {
        if self.by_id.is_empty() {
            return;
        }
        let ids: Vec<_> = self.by_id.keys().copied().collect();
        for id in ids {
            if let Some(lease) = self.by_id.get_mut(&id) {
                lease.keys = OrdSet::new();
            }
        }
        entries.for_each(|(key, lease)| self.moved(key, NO_LEASE, lease));
    }

    pub(super) fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.by_id.remove(&id)?;
        self.by_deadline.remove(&(lease.deadline_millis, id));
        Some(lease)
    }

    /// Notes that `key` has gone over from one lease to another.
    pub(super) fn moved(&mut self, key: &Key, from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        if let Some(lease) = self.by_id.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.by_id.get_mut(&to) {
            lease.keys.insert(key.clone());
        }
    }

    /// When the next lease ends.
    pub(super) fn next_millis(&self) -> Option<u64> {
        self.by_deadline.get_min().map(|(deadline, _)| *deadline)
    }

    /// The lease that has ended longest ago, if one has.
    pub(super) fn ended(&self, now_millis: u64) -> Option<LeaseId> {
        self.by_deadline.get_min().filter(|(deadline, _)| *deadline <= now_millis).map(|(_, id)| *id)
    }
}
