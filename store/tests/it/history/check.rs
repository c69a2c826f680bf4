//! Whether a correct store explains a history.
//!
//! Revisions put all writes into one order, so nothing has to be searched for: each answer is compared with
//! the state at its revision, and that revision with what had been seen before the call. That is
//! linearizability, key by key and of the revision itself. Of watchers: ordered, unique, complete, and going on
//! after a restart where they were.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::facts::{Facts, seen};
use super::{Answer, Call, CallId, Expected, Held, Record};

/// How much was checked, so that a test can tell a sound history from an empty one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) opened: usize,
    pub(crate) writes: usize,
    pub(crate) reads: usize,
    pub(crate) conflicts: usize,
    pub(crate) events: usize,
    /// Watchers that went on where they had been.
    pub(crate) resumed: usize,
    /// Watchers that were told that history has gone.
    pub(crate) compacted: usize,
    /// Comparisons with a state that no record tells.
    pub(crate) unknown: usize,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.opened += other.opened;
        self.writes += other.writes;
        self.reads += other.reads;
        self.conflicts += other.conflicts;
        self.events += other.events;
        self.resumed += other.resumed;
        self.compacted += other.compacted;
        self.unknown += other.unknown;
    }
}

/// Says what was wrong first, or how much was right.
pub(crate) fn check(records: &[Record]) -> Result<Summary, String> {
    nothing_goes_back(records)?;
    let facts = Facts::collect(records)?;
    let mut walk = Walk {
        facts: &facts,
        floor: 1,
        calls: HashMap::new(),
        watchers: BTreeMap::new(),
        done: Vec::new(),
        summary: Summary::default(),
    };
    for (line, record) in records.iter().enumerate() {
        walk.step(record).map_err(|wrong| format!("record {}: {wrong}", line + 1))?;
        walk.floor = walk.floor.max(seen(record));
    }
    walk.finish()
}

/// Whatever was seen is still there when the store is opened again.
fn nothing_goes_back(records: &[Record]) -> Result<(), String> {
    let mut floor = 1;
    for record in records {
        match record {
            Record::Opened { revision, .. } if *revision < floor => {
                return Err(format!("opened at {revision}, but {floor} had been seen"));
            }
            _ => floor = floor.max(seen(record)),
        }
    }
    Ok(())
}

/// Goes through the records in their order.
struct Walk<'a> {
    facts: &'a Facts,
    /// The highest revision that anybody has seen.
    floor: u64,
    /// Calls under way, with the floor when they were made.
    calls: HashMap<CallId, (&'a Call, u64)>,
    watchers: BTreeMap<usize, Watch>,
    /// Watches that ended.
    done: Vec<Watch>,
    summary: Summary,
}

#[derive(Debug, Clone)]
struct Watch {
    prefix: String,
    after: u64,
    complete: u64,
    events: BTreeSet<u64>,
}

impl<'a> Walk<'a> {
    fn step(&mut self, record: &'a Record) -> Result<(), String> {
        match record {
            Record::Opened { revision, entries, .. } => self.opened(*revision, entries),
            Record::Invoked { id, call } => {
                self.calls.insert(*id, (call, self.floor));
                Ok(())
            }
            Record::Returned { id, answer } => {
                let (call, floor) = self.calls.remove(id).ok_or("an answer to no call")?;
                self.returned(call, answer, floor).map_err(|wrong| format!("call {id}, {call:?}: {wrong}"))
            }
            Record::Watching { watcher, prefix, after } => self.watching(*watcher, prefix, *after),
            Record::Event { watcher, revision, key, previous, .. } => self.event(*watcher, *revision, key, *previous),
            Record::Complete { watcher, revision } => {
                let watch = self.watchers.get_mut(watcher).ok_or("no such watcher")?;
                if *revision < watch.complete {
                    return Err(format!("watcher {watcher} is complete up to {revision} after {}", watch.complete));
                }
                watch.complete = *revision;
                Ok(())
            }
            Record::Compacted { watcher, after, oldest } => {
                self.summary.compacted += 1;
                self.done.extend(self.watchers.remove(watcher));
                if after >= oldest {
                    return Err(format!("watcher {watcher} may not go on after {after}, but {oldest} is there"));
                }
                Ok(())
            }
        }
    }

    /// The state is the one that its revision says.
    fn opened(&mut self, revision: u64, entries: &[Held]) -> Result<(), String> {
        self.summary.opened += 1;
        self.calls.clear();
        self.read("", revision, entries)
    }

    fn returned(&mut self, call: &Call, answer: &Answer, floor: u64) -> Result<(), String> {
        match (call, answer) {
            (Call::Put { key, expected, .. }, Answer::Written { revision }) => {
                self.wrote(key, *expected, *revision, floor).map(|_| ())
            }
            (Call::Delete { key, expected }, Answer::Deleted { revision, previous }) => {
                match self.wrote(key, *expected, *revision, floor)? {
                    Some(modified) if modified != *previous => {
                        Err(format!("deleted the value of {previous} at {revision}, but {modified} was there"))
                    }
                    _ => Ok(()),
                }
            }
            (Call::Put { key, expected, .. } | Call::Delete { key, expected }, Answer::Conflict { found }) => {
                self.summary.conflicts += 1;
                self.conflict(key, *expected, *found, floor)
            }
            (Call::Delete { key, .. }, Answer::NotFound { revision }) => {
                self.not_before(*revision, floor)?;
                self.read_one(key, *revision, &[])
            }
            (Call::Get { key }, Answer::Read { revision, entries }) => {
                self.not_before(*revision, floor)?;
                self.read_one(key, *revision, entries)
            }
            (Call::List { prefix }, Answer::Read { revision, entries }) => {
                self.not_before(*revision, floor)?;
                self.read(prefix, *revision, entries)
            }
            (_, Answer::Refused | Answer::Unknown) => Ok(()),
            _ => Err(format!("{answer:?} is no answer")),
        }
    }

    fn not_before(&self, revision: u64, floor: u64) -> Result<(), String> {
        if revision < floor {
            return Err(format!("answered from revision {revision}, but {floor} had been seen before the call"));
        }
        Ok(())
    }

    /// Returns the revision of what was there before, if that is known.
    fn wrote(&mut self, key: &str, expected: Expected, revision: u64, floor: u64) -> Result<Option<u64>, String> {
        self.summary.writes += 1;
        if revision <= floor {
            return Err(format!("written at {revision}, but {floor} had been seen before the call"));
        }
        let Ok(before) = self.facts.state(key, revision - 1) else {
            self.summary.unknown += 1;
            return Ok(None);
        };
        let modified = before.map_or(0, |(modified, _)| modified);
        if expected.is_some_and(|expected| expected != modified) {
            return Err(format!("written at {revision} over {modified}, which was not expected"));
        }
        Ok(Some(modified))
    }

    /// A conflict has to be true at some moment of the call.
    fn conflict(&mut self, key: &str, expected: Expected, found: u64, floor: u64) -> Result<(), String> {
        if expected.is_none_or(|expected| expected == found) {
            return Err(format!("conflict with {found}, which was expected"));
        }
        let versions = self.facts.keys.get(key);
        let after_floor = || versions.iter().flat_map(|versions| versions.range(floor + 1..));
        let Ok(at_floor) = self.facts.state(key, floor) else {
            self.summary.unknown += 1;
            return Ok(());
        };
        let at_once = at_floor.map_or(0, |(modified, _)| modified) == found;
        let later = match found {
            0 => after_floor().any(|(_, write)| write.is_none()),
            _ => after_floor().any(|(revision, write)| *revision == found && write.is_some()),
        };
        if at_once || later { Ok(()) } else { Err(format!("conflict with {found}, which was over by {floor}")) }
    }

    fn read_one(&mut self, key: &str, revision: u64, entries: &[Held]) -> Result<(), String> {
        self.summary.reads += 1;
        let read = entries.iter().find(|entry| entry.key == key);
        self.compare(key, revision, read)
    }

    fn read(&mut self, prefix: &str, revision: u64, entries: &[Held]) -> Result<(), String> {
        self.summary.reads += 1;
        let read: BTreeMap<&str, &Held> = entries.iter().map(|entry| (&*entry.key, entry)).collect();
        if read.len() != entries.len() {
            return Err(format!("a key appears twice at {revision}"));
        }
        let below = self.facts.keys.keys().filter(|key| key.starts_with(prefix));
        for key in below {
            self.compare(key, revision, read.get(&**key).copied())?;
        }
        Ok(())
    }

    fn compare(&mut self, key: &str, revision: u64, read: Option<&Held>) -> Result<(), String> {
        let Ok(state) = self.facts.state(key, revision) else {
            self.summary.unknown += 1;
            return Ok(());
        };
        if state != read.map(|entry| (entry.modified, entry.write)) {
            return Err(format!("{key} was {state:?} at {revision}, but {read:?} was read"));
        }
        let Some(read) = read else { return Ok(()) };
        match self.facts.created(key, read.modified) {
            Some(created) if created != read.created => {
                Err(format!("{key} was created at {created}, but {read:?} was read"))
            }
            _ => Ok(()),
        }
    }

    fn watching(&mut self, watcher: usize, prefix: &str, after: u64) -> Result<(), String> {
        let watch = Watch { prefix: prefix.to_owned(), after, complete: after, events: BTreeSet::new() };
        if let Some(before) = self.watchers.insert(watcher, watch) {
            self.summary.resumed += 1;
            if before.complete != after {
                return Err(format!("watcher {watcher} goes on after {after}, but was at {}", before.complete));
            }
            self.done.push(before);
        }
        Ok(())
    }

    fn event(&mut self, watcher: usize, revision: u64, key: &str, previous: u64) -> Result<(), String> {
        self.summary.events += 1;
        let watch = self.watchers.get_mut(&watcher).ok_or("no such watcher")?;
        if revision <= watch.complete {
            return Err(format!("watcher {watcher} got {revision} after {}", watch.complete));
        }
        if !key.starts_with(&watch.prefix) {
            return Err(format!("watcher {watcher} of {} got {key}", watch.prefix));
        }
        watch.events.insert(revision);
        watch.complete = revision;
        match self.facts.state(key, revision - 1) {
            Err(_) => self.summary.unknown += 1,
            Ok(before) if before.map_or(0, |(modified, _)| modified) != previous => {
                return Err(format!("{key} was {before:?} before {revision}, but the event says {previous}"));
            }
            Ok(_) => {}
        }
        Ok(())
    }

    /// Every watcher got everything.
    fn finish(mut self) -> Result<Summary, String> {
        self.done.extend(std::mem::take(&mut self.watchers).into_values());
        for watch in &self.done {
            let Watch { prefix, after, complete, events } = watch;
            let missed: Vec<u64> =
                self.facts.below(prefix, *after, *complete).filter(|revision| !events.contains(revision)).collect();
            if !missed.is_empty() {
                return Err(format!("a watcher of {prefix:?} from {after} to {complete} missed {missed:?}"));
            }
        }
        Ok(self.summary)
    }
}
