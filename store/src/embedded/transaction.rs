//! A batch of writes being decided: pure, on a private copy of the state.

use std::sync::Arc;

use bytes::Bytes;

use super::frame;
use super::lease::{LeaseId, NO_LEASE};
use super::shared::State;
use crate::contract::{Deleted, Entry, Error, Event, Expect};
use crate::key::Key;

/// One decided change, as it goes to the log.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write(Written),
    Granted { id: LeaseId, ttl_millis: u64 },
    Revoked { id: LeaseId },
    Compacted { revision: u64 },
}

/// A key was put or deleted.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) event: Arc<Event>,
    /// When the key's own time to live runs out.
    pub(super) deadline_millis: Option<u64>,
    /// Whether it has the revision of the write before it.
    pub(super) follows: bool,
}

impl Change {
    pub(super) fn written(&self) -> Option<&Written> {
        match self {
            Self::Write(written) => Some(written),
            _ => None,
        }
    }
}

/// Writes decided one after the other, each seeing those before it. Dropping it forgets them.
#[derive(Debug)]
pub(super) struct Transaction {
    state: State,
    changes: Vec<Change>,
    /// What the changes come to in the log.
    bytes: usize,
    /// Whether the writes being decided are one revision together, and whether there is one yet.
    together: Option<bool>,
    leases_changed: bool,
}

/// Where a transaction was, to get back to.
pub(super) struct Mark {
    state: State,
    changes: usize,
    bytes: usize,
}

impl Transaction {
    pub(super) fn new(state: &State) -> Self {
        Self { state: state.clone(), changes: Vec::new(), bytes: 0, together: None, leases_changed: false }
    }

    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// What the changes come to in the log.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is anything to publish, be it nothing that has to be written down.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.leases_changed
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn into_state(self) -> State {
        self.state
    }

    /// What follows until [`Self::end`] is one revision, however many keys it changes.
    pub(super) fn begin(&mut self) -> Mark {
        self.together = Some(false);
        Mark { state: self.state.clone(), changes: self.changes.len(), bytes: self.bytes }
    }

    /// Whether anything was decided that has to be written down.
    pub(super) fn changed_since(&self, mark: &Mark) -> bool {
        self.changes.len() > mark.changes
    }

    /// What was decided since, in bytes of the log.
    pub(super) fn bytes_since(&self, mark: &Mark) -> usize {
        self.bytes - mark.bytes
    }

    pub(super) fn end(&mut self) {
        self.together = None;
    }

    pub(super) fn back_to(&mut self, mark: Mark) {
        self.state = mark.state;
        self.changes.truncate(mark.changes);
        self.bytes = mark.bytes;
        self.end();
    }

    pub(super) fn put(
        &mut self,
        key: Key,
        value: Bytes,
        expect: Expect,
        deadline_millis: Option<u64>,
    ) -> Result<u64, Error> {
        let previous = self.state.map.get(&key);
        if !meets(expect, previous) {
            return Err(conflict(key, previous));
        }
        Ok(self.write(key, value, NO_LEASE, deadline_millis))
    }

    /// Puts unconditionally.
    pub(super) fn write(&mut self, key: Key, value: Bytes, lease: LeaseId, deadline_millis: Option<u64>) -> u64 {
        let (revision, follows) = self.next_revision();
        let previous = self.state.map.get(&key).cloned();
        let create_revision = previous.as_ref().map_or(revision, |entry| entry.create_revision);
        let version = previous.as_ref().map_or(0, |entry| entry.version) + 1;
        // The key that is stored already is shared, so that an update does not keep a second copy of it.
        let key = previous.as_ref().map_or(key, |entry| entry.key.clone());
        self.state.leases.moved(&key, previous.as_ref().map_or(NO_LEASE, |entry| entry.lease), lease);
        let entry = Entry { key: key.clone(), value, create_revision, mod_revision: revision, version, lease };
        let entry = Arc::new(entry);
        self.state.map.insert(key.clone(), entry.clone());
        let event = Arc::new(Event { revision, key, current: Some(entry), previous });
        self.push(Written { event, deadline_millis, follows });
        revision
    }

    pub(super) fn delete(&mut self, key: Key, expect: Expect) -> Result<Deleted, Error> {
        let Some(previous) = self.state.map.get(&key).cloned() else {
            return Err(Error::NotFound { key, revision: self.state.revision });
        };
        if !meets(expect, Some(&previous)) {
            return Err(conflict(key, Some(&previous)));
        }
        self.state.map.remove(&key);
        self.state.leases.moved(&key, previous.lease, NO_LEASE);
        let (revision, follows) = self.next_revision();
        let deleted = Deleted { revision, previous: Entry::clone(&previous) };
        let event = Arc::new(Event { revision, key, current: None, previous: Some(previous) });
        self.push(Written { event, deadline_millis: None, follows });
        Ok(deleted)
    }

    pub(super) fn grant(&mut self, id: LeaseId, ttl_millis: u64, now_millis: u64) {
        self.state.leases.grant(id, ttl_millis, now_millis);
        self.record(Change::Granted { id, ttl_millis });
    }

    /// Lets a lease live on; nothing of it has to be written down.
    pub(super) fn renew(&mut self, id: LeaseId, now_millis: u64) -> Option<u64> {
        self.leases_changed = true;
        self.state.leases.renew(id, now_millis)
    }

    /// Ends a lease and deletes its keys. Returns whether there was one.
    pub(super) fn revoke(&mut self, id: LeaseId) -> bool {
        let Some(lease) = self.state.leases.remove(id) else { return false };
        for key in &lease.keys {
            // A key that is not there needs no deletion.
            let _ = self.delete(key.clone(), Expect::Any);
        }
        self.record(Change::Revoked { id });
        true
    }

    /// Ends a lease that nobody renewed. One with more keys than `bytes_max` of the log can say deleted loses as many
    /// as that, and stays.
    pub(super) fn end_lease(&mut self, id: LeaseId, bytes_max: usize) {
        let Some(lease) = self.state.leases.get(id) else { return };
        let mut bytes = 0;
        let fits = |key: &&Key| {
            bytes += frame::deletion_bytes(key);
            bytes <= bytes_max
        };
        let keys: Vec<Key> = lease.keys.iter().take_while(fits).cloned().collect();
        if keys.len() == lease.keys.len() {
            self.revoke(id);
            return;
        }
        for key in keys {
            // A key that is not there needs no deletion.
            let _ = self.delete(key, Expect::Any);
        }
    }

    /// Forgets what was before `revision`.
    pub(super) fn compact(&mut self, revision: u64) {
        self.state.compacted = self.state.compacted.max(revision);
        self.record(Change::Compacted { revision });
    }

    fn next_revision(&self) -> (u64, bool) {
        let follows = self.together == Some(true);
        (self.state.revision + u64::from(!follows), follows)
    }

    fn push(&mut self, written: Written) {
        self.state.revision = written.event.revision;
        if let Some(begun) = &mut self.together {
            *begun = true;
        }
        self.record(Change::Write(written));
    }

    fn record(&mut self, change: Change) {
        self.bytes += frame::record_bytes(&change);
        self.changes.push(change);
    }
}

fn meets(expect: Expect, current: Option<&Arc<Entry>>) -> bool {
    match expect {
        Expect::Any => true,
        Expect::Absent => current.is_none(),
        Expect::Revision(revision) => current.is_some_and(|entry| entry.mod_revision == revision),
    }
}

fn conflict(key: Key, current: Option<&Arc<Entry>>) -> Error {
    Error::Conflict { key, current: current.map(|entry| Box::new(Entry::clone(entry))) }
}
