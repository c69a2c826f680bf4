//! The past: the present state with what came after taken back.

use std::sync::Arc;

use super::shared::{Map, Shared, State, compacted};
use crate::contract::{Error, Event};
use crate::key::Key;

/// On the way back through the history. However many revisions are visited, the newest first, each change is taken back
/// once.
pub(super) struct Undo<'a> {
    shared: &'a Shared,
    state: Arc<State>,
    map: Map,
    /// The position in the log before which nothing is taken back yet.
    end: u64,
}

impl<'a> Undo<'a> {
    /// Begins at the newest state.
    pub(super) fn new(shared: &'a Shared) -> Self {
        let (state, end) = shared.newest();
        Self { shared, map: state.map.clone(), state, end }
    }

    /// The map as it was at `revision`, not after one that was visited before; exact where `wanted`.
    pub(super) fn to(&mut self, revision: u64, wanted: impl Fn(&Key) -> bool) -> Result<Map, Error> {
        let (current, oldest) = (self.state.revision, self.state.compacted);
        if revision > current {
            return Err(Error::Future { requested: revision, current });
        }
        if revision < oldest {
            return Err(Error::Compacted { requested: revision, oldest });
        }
        loop {
            let newer = self.shared.newer(revision, self.end);
            let (start, events) = newer.map_err(|overtaken| compacted(revision, overtaken))?;
            if events.is_empty() {
                return Ok(self.map.clone());
            }
            self.shared.counters.undone.add(events.len() as u64);
            events.iter().rev().filter(|event| wanted(&event.key)).for_each(|event| self.take_back(event));
            self.end = start;
        }
    }

    fn take_back(&mut self, event: &Event) {
        match &event.previous {
            Some(entry) => self.map.insert(event.key.clone(), entry.clone()),
            None => self.map.remove(&event.key),
        };
    }
}
