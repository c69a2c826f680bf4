//! What clients and watchers of a store saw, as one list, and the check that a correct store explains it.
//!
//! Records stand in an order that respects time: a call is recorded before it is made, its answer after it
//! came. So an answer that stands before a call really was there before that call. What was under way when
//! the process died has no answer: it happened or it did not.

mod check;
mod facts;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub(crate) use self::check::{Summary, check};

/// The number of the call that wrote a value; the value says it.
pub(crate) type CallId = u64;

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// The store was opened and held this.
    Opened { revision: u64, oldest: u64, entries: Vec<Held> },
    /// A client is about to call.
    Invoked { id: CallId, call: Call },
    /// A call was answered.
    Returned { id: CallId, answer: Answer },
    /// A watcher starts after this revision.
    Watching { watcher: usize, prefix: String, after: u64 },
    /// A watcher got an event; `write` is `None` for a deletion, `previous` 0 for a creation.
    Event { watcher: usize, revision: u64, key: String, write: Option<CallId>, previous: u64 },
    /// A watcher was told that nothing up to here will follow.
    Complete { watcher: usize, revision: u64 },
    /// A watcher was told that what follows `after` is forgotten.
    Compacted { watcher: usize, after: u64, oldest: u64 },
}

/// One entry as read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) key: String,
    pub(crate) write: CallId,
    pub(crate) created: u64,
    pub(crate) modified: u64,
}

/// What is expected of a key before it is written: nothing, its absence (0), or a revision.
pub(crate) type Expected = Option<u64>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Call {
    Put { key: String, expected: Expected, expires: bool },
    Delete { key: String, expected: Expected },
    Get { key: String },
    List { prefix: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Written {
        revision: u64,
    },
    Deleted {
        revision: u64,
        previous: u64,
    },
    /// Nothing was written: the key is at this revision, 0 for not there.
    Conflict {
        found: u64,
    },
    NotFound {
        revision: u64,
    },
    Read {
        revision: u64,
        entries: Vec<Held>,
    },
    /// Nothing was written, for lack of space.
    Refused,
    /// It may have been written or not.
    Unknown,
}
