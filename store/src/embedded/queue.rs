//! Writes on their way to the committer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::mvcc::Decide;
use crate::contract::{Deleted, Error, Expect};
use crate::key::Key;

/// One write and where its answer goes.
pub(super) struct Write {
    pub(super) action: Action,
    /// Held until the answer is sent, so that the queue is bounded even when callers go away.
    pub(super) _permit: OwnedSemaphorePermit,
}

pub(super) enum Action {
    Put { key: Key, value: Bytes, expect: Expect, ttl: Option<Duration>, reply: oneshot::Sender<Result<u64, Error>> },
    Delete { key: Key, expect: Expect, reply: oneshot::Sender<Result<Deleted, Error>> },
    Transact(Decide),
}

/// What the committer found when it looked.
pub(super) enum Work {
    /// Writes to commit, none when only the time had come.
    Commit(Vec<Write>),
    /// Nothing is left and nothing will come.
    Closed,
}

/// A queue with any number of producers and one consumer, which sleeps while there is nothing to do.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    writes: Vec<Write>,
    closed: bool,
    /// Whether the committer sleeps; a wake-up costs a system call that a busy committer does not need.
    asleep: bool,
}

impl Queue {
    /// Lets the committer finish what is queued and then end.
    pub(super) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        self.arrived.notify_one();
    }

    /// Closes the queue and drops what is in it, which answers every caller with [`Error::Closed`].
    pub(super) fn abandon(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.writes.clear();
    }

    /// Adds a write, unless the queue is closed.
    pub(super) fn push(&self, write: Write) -> Result<(), Error> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(Error::Closed);
        }
        waiting.writes.push(write);
        if std::mem::take(&mut waiting.asleep) {
            drop(waiting);
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Takes everything queued; sleeps until there is something, at most until `deadline`.
    pub(super) fn take(&self, deadline: Option<Instant>) -> Work {
        let mut waiting = self.waiting.lock();
        loop {
            if !waiting.writes.is_empty() {
                return Work::Commit(std::mem::take(&mut waiting.writes));
            }
            if waiting.closed {
                return Work::Closed;
            }
            waiting.asleep = true;
            let timed_out = match deadline {
                None => {
                    self.arrived.wait(&mut waiting);
                    false
                }
                Some(deadline) => self.arrived.wait_until(&mut waiting, deadline).timed_out(),
            };
            waiting.asleep = false;
            if timed_out {
                return Work::Commit(Vec::new());
            }
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}
