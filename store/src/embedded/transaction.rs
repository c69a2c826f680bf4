//! A batch of writes being decided: pure, on a private copy of the state.

use std::sync::Arc;

use bytes::Bytes;

use super::shared::{Map, State};
use crate::contract::{Deleted, Entry, Error, Event, Expect};
use crate::key::Key;

/// One decided change, as it goes to the log.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) event: Arc<Event>,
    /// When the key's time to live runs out.
    pub(super) deadline_millis: Option<u64>,
}

/// Writes decided one after the other, each seeing those before it. Dropping it forgets them.
#[derive(Debug)]
pub(super) struct Transaction {
    revision: u64,
    map: Map,
    changes: Vec<Change>,
}

impl Transaction {
    pub(super) fn new(state: &State) -> Self {
        Self { revision: state.revision, map: state.map.clone(), changes: Vec::new() }
    }

    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub(super) fn into_state(self) -> State {
        State { revision: self.revision, map: self.map }
    }

    pub(super) fn put(
        &mut self,
        key: Key,
        value: Bytes,
        expect: Expect,
        deadline_millis: Option<u64>,
    ) -> Result<u64, Error> {
        let previous = self.map.get(&key);
        if !meets(expect, previous) {
            return Err(conflict(key, previous));
        }
        let revision = self.revision + 1;
        let create_revision = previous.map_or(revision, |entry| entry.create_revision);
        // The key that is stored already is shared, so that an update does not keep a second copy of it.
        let key = previous.map_or(key, |entry| entry.key.clone());
        let entry = Arc::new(Entry { key: key.clone(), value, create_revision, mod_revision: revision });
        let previous = self.map.insert(key.clone(), entry.clone());
        self.push(Event { revision, key, current: Some(entry), previous }, deadline_millis);
        Ok(revision)
    }

    pub(super) fn delete(&mut self, key: Key, expect: Expect) -> Result<Deleted, Error> {
        let Some(previous) = self.map.get(&key).cloned() else {
            return Err(Error::NotFound { key, revision: self.revision });
        };
        if !meets(expect, Some(&previous)) {
            return Err(conflict(key, Some(&previous)));
        }
        self.map.remove(&key);
        let revision = self.revision + 1;
        let deleted = Deleted { revision, previous: Entry::clone(&previous) };
        self.push(Event { revision, key, current: None, previous: Some(previous) }, None);
        Ok(deleted)
    }

    fn push(&mut self, event: Event, deadline_millis: Option<u64>) {
        self.revision = event.revision;
        self.changes.push(Change { event: Arc::new(event), deadline_millis });
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
