//! The one sequence of writes that a history tells of.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Answer, Call, CallId, Held, Record};

/// A put or deletion that was asked for.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) call: Call,
    /// The highest revision anybody had seen when it was asked for.
    floor: u64,
    answer: Option<Answer>,
    /// Where its value was seen.
    revision: Option<u64>,
}

impl Write {
    fn happened_surely_not(&self) -> bool {
        !matches!(self.answer, None | Some(Answer::Written { .. } | Answer::Deleted { .. } | Answer::Unknown))
    }
}

/// The states of one key: revision to the call that wrote the value, `None` where it was deleted.
pub(super) type Versions = BTreeMap<u64, Option<CallId>>;

/// Everything that any record proves about what was written.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) writes: HashMap<CallId, Write>,
    pub(super) keys: BTreeMap<String, Versions>,
    by_revision: BTreeMap<u64, String>,
    /// Revisions of which nothing is known.
    unknown: BTreeSet<u64>,
}

impl Facts {
    pub(super) fn collect(records: &[Record]) -> Result<Self, String> {
        let mut facts = Self::default();
        facts.calls(records);
        for record in records {
            facts.record(record)?;
        }
        let last = facts.by_revision.keys().next_back().copied().unwrap_or(1);
        facts.unknown = (2..=last).filter(|revision| !facts.by_revision.contains_key(revision)).collect();
        facts.deletions_are_explained(records)?;
        Ok(facts)
    }

    fn calls(&mut self, records: &[Record]) {
        let mut floor = 1;
        for record in records {
            floor = floor.max(seen(record));
            match record {
                Record::Invoked { id, call } => {
                    let write = Write { call: call.clone(), floor, answer: None, revision: None };
                    self.writes.insert(*id, write);
                }
                Record::Returned { id, answer } => {
                    if let Some(write) = self.writes.get_mut(id) {
                        write.answer = Some(answer.clone());
                    }
                }
                _ => {}
            }
        }
    }

    fn record(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Opened { entries, .. } | Record::Returned { answer: Answer::Read { entries, .. }, .. } => {
                entries.iter().try_for_each(|entry| self.held(entry))
            }
            Record::Returned { id, answer: Answer::Written { revision } } => {
                let key = self.key_of(*id)?;
                self.fact(*revision, &key, Some(*id))
            }
            Record::Returned { id, answer: Answer::Deleted { revision, .. } } => {
                let key = self.key_of(*id)?;
                self.fact(*revision, &key, None)
            }
            Record::Event { revision, key, write, .. } => self.fact(*revision, key, *write),
            _ => Ok(()),
        }
    }

    fn held(&mut self, entry: &Held) -> Result<(), String> {
        self.fact(entry.modified, &entry.key, Some(entry.write))
    }

    fn key_of(&self, id: CallId) -> Result<String, String> {
        match self.writes.get(&id).map(|write| &write.call) {
            Some(Call::Put { key, .. } | Call::Delete { key, .. }) => Ok(key.clone()),
            other => Err(format!("call {id} was answered as a write, but was {other:?}")),
        }
    }

    /// Notes that `key` was written at `revision`, which nothing else may contradict.
    fn fact(&mut self, revision: u64, key: &str, write: Option<CallId>) -> Result<(), String> {
        let told = self.by_revision.entry(revision).or_insert_with(|| key.to_owned());
        if told != key {
            return Err(format!("revision {revision} is a write of {told} and of {key}"));
        }
        let known = *self.keys.entry(key.to_owned()).or_default().entry(revision).or_insert(write);
        if known != write {
            return Err(format!("revision {revision} of {key} is by {known:?} and by {write:?}"));
        }
        write.map_or(Ok(()), |id| self.written(id, key, revision))
    }

    fn written(&mut self, id: CallId, key: &str, revision: u64) -> Result<(), String> {
        let Some(write) = self.writes.get_mut(&id) else {
            return Err(format!("{key} has a value of call {id} at {revision}, which was never made"));
        };
        if !matches!(&write.call, Call::Put { key: asked, .. } if asked == key) {
            return Err(format!("{key} has a value of call {id} at {revision}, which was {:?}", write.call));
        }
        if write.happened_surely_not() {
            return Err(format!("call {id} was answered {:?}, but wrote {key} at {revision}", write.answer));
        }
        if revision <= write.floor {
            return Err(format!("call {id} wrote {key} at {revision}, though {} had been seen before", write.floor));
        }
        if *write.revision.get_or_insert(revision) != revision {
            return Err(format!("call {id} wrote {key} twice, at {:?} and at {revision}", write.revision));
        }
        Ok(())
    }

    /// Every deletion was asked for, or the key's time to live ran out.
    fn deletions_are_explained(&self, records: &[Record]) -> Result<(), String> {
        let answered: BTreeSet<u64> = records.iter().filter_map(deleted_at).collect();
        for (key, versions) in &self.keys {
            let mut unanswered = self.writes.values().filter(|write| {
                matches!(&write.call, Call::Delete { key: asked, .. } if asked == key)
                    && matches!(write.answer, None | Some(Answer::Unknown))
            });
            for (revision, _) in versions.iter().filter(|(_, write)| write.is_none()) {
                let explained = answered.contains(revision)
                    || self.before(key, *revision).is_none_or(|(_, id)| self.expires(id))
                    || unanswered.next().is_some();
                if !explained {
                    return Err(format!("nobody deleted {key} at {revision}"));
                }
            }
        }
        Ok(())
    }

    fn expires(&self, id: CallId) -> bool {
        matches!(self.writes.get(&id), Some(Write { call: Call::Put { expires: true, .. }, .. }))
    }

    /// The version of `key` that stood just before `revision`.
    fn before(&self, key: &str, revision: u64) -> Option<(u64, CallId)> {
        let (modified, write) = self.keys.get(key)?.range(..revision).next_back()?;
        write.map(|id| (*modified, id))
    }

    /// The key's state at a revision; `Err` when revisions are unknown that may have changed it.
    pub(super) fn state(&self, key: &str, revision: u64) -> Result<Option<(u64, CallId)>, Unknown> {
        let version = self.keys.get(key).and_then(|versions| versions.range(..=revision).next_back());
        let since = version.map_or(1, |(modified, _)| *modified);
        if self.is_unknown_within(since, revision) {
            return Err(Unknown);
        }
        Ok(version.and_then(|(modified, write)| write.map(|id| (*modified, id))))
    }

    /// When the value that stood at `revision` was created; `None` when that is not known.
    pub(super) fn created(&self, key: &str, modified: u64) -> Option<u64> {
        let mut created = modified;
        for (revision, write) in self.keys.get(key)?.range(..modified).rev() {
            if self.is_unknown_within(*revision, created) {
                return None;
            }
            if write.is_none() {
                return Some(created);
            }
            created = *revision;
        }
        (!self.is_unknown_within(1, created)).then_some(created)
    }

    /// Whether nothing is known of some revision after `from`, up to `to`.
    pub(super) fn is_unknown_within(&self, from: u64, to: u64) -> bool {
        from < to && self.unknown.range(from + 1..=to).next().is_some()
    }

    /// The revisions after `from`, up to `to`, that changed something below `prefix`.
    pub(super) fn below<'a>(&'a self, prefix: &'a str, from: u64, to: u64) -> impl Iterator<Item = u64> + 'a {
        let range = (from < to).then(|| self.by_revision.range(from + 1..=to));
        range.into_iter().flatten().filter(move |(_, key)| key.starts_with(prefix)).map(|(revision, _)| *revision)
    }
}

/// What is asked of a state that cannot be known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown;

fn deleted_at(record: &Record) -> Option<u64> {
    match record {
        Record::Returned { answer: Answer::Deleted { revision, .. }, .. } => Some(*revision),
        _ => None,
    }
}

/// The revision that whoever got this record knows to have happened.
pub(super) fn seen(record: &Record) -> u64 {
    match record {
        Record::Opened { revision, .. } | Record::Event { revision, .. } => *revision,
        Record::Returned { answer, .. } => match answer {
            Answer::Written { revision }
            | Answer::Deleted { revision, .. }
            | Answer::NotFound { revision }
            | Answer::Read { revision, .. } => *revision,
            Answer::Conflict { found } => *found,
            Answer::Refused | Answer::Unknown => 0,
        },
        _ => 0,
    }
}
