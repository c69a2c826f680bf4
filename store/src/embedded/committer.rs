//! The one thread that writes: it decides a batch, makes it durable, publishes it, and answers.
//!
//! While it waits for the disk, the next writes gather in the queue and become the next batch. So a lone
//! client pays one sync, and a hundred clients share one.

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec;

use tokio::sync::oneshot;

use super::expiry::Expiry;
use super::frame::PAYLOAD_BYTES_MAX;
use super::journal::{AppendError, Journal};
use super::mvcc::{Finish, Txn};
use super::options::{TRANSACTION_BYTES_LIMIT, millis};
use super::queue::{Action, Queue, Work, Write};
use super::shared::Shared;
use super::transaction::{Change, Mark, Transaction};
use crate::contract::{Deleted, Error, Expect};

/// The most expired keys deleted in one batch; the rest follow in the next.
const EXPIRE_MAX: usize = 512;

/// A batch that has this many bytes gets no further write: it is what a disk writes in a moment.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// So much is in a batch at most: what is due, be it until the keys of a lease pass the limit, and writes until one does.
const BATCH_BYTES_LIMIT: usize = BATCH_BYTES_MAX + 2 * TRANSACTION_BYTES_LIMIT;
const _: () = assert!(BATCH_BYTES_LIMIT < PAYLOAD_BYTES_MAX, "a batch is one frame");

/// Housekeeping that is due is done together, at most this often.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Committer {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    journal: Journal,
    expiry: Expiry,
    /// When the oldest history is to be forgotten.
    forget_at_millis: Option<u64>,
}

/// A decided write and who waits for it.
enum Answer {
    Put(oneshot::Sender<Result<u64, Error>>, Result<u64, Error>),
    Delete(oneshot::Sender<Result<Deleted, Error>>, Result<Deleted, Error>),
    Transaction(Finish, Result<(), Error>),
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, queue: Arc<Queue>, journal: Journal, expiry: Expiry) -> Self {
        Self { shared, queue, journal, expiry, forget_at_millis: None }
    }

    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let _closer = Closer { shared: self.shared.clone(), queue: self.queue.clone() };
        self.housekeeping();
        while let Work::Commit(writes) = self.queue.take(self.housekeeping_deadline()) {
            let mut writes = writes.into_iter();
            self.commit(&mut writes);
            while writes.len() > 0 {
                self.commit(&mut writes);
            }
            self.housekeeping();
        }
    }

    /// Commits what is due and as many of `writes` as make a batch, at least one.
    fn commit(&mut self, writes: &mut vec::IntoIter<Write>) {
        let now_millis = self.shared.options.clock.now_millis();
        let mut transaction = Transaction::new(&self.shared.state());
        // What cannot be written down would fail the reads and renewals that come with it.
        if self.shared.writable().is_ok() {
            self.end_what_is_due(&mut transaction, now_millis);
            if self.journal.is_full() {
                let expired = written(&transaction);
                self.finish(transaction, Vec::new(), expired, now_millis);
                transaction = Transaction::new(&self.shared.state());
            }
        }
        let expired = written(&transaction);
        let mut answers = Vec::with_capacity(writes.len());
        for write in writes {
            answers.push(self.decide(&mut transaction, write, now_millis));
            if transaction.bytes() >= BATCH_BYTES_MAX {
                break;
            }
        }
        self.finish(transaction, answers, expired, now_millis);
    }

    /// Makes what was decided durable, shows it, and answers. The first `expired` of its writes nobody waits for.
    fn finish(&mut self, transaction: Transaction, answers: Vec<Answer>, expired: u64, now_millis: u64) {
        let durable = self.make_durable(&transaction, now_millis);
        self.shared.set_full(self.journal.is_full());
        match durable {
            Ok(()) => {
                self.publish(transaction, now_millis);
                self.shared.counters.expired.add(expired);
                answers.into_iter().for_each(|answer| self.send(answer));
            }
            Err(error) => answers.into_iter().for_each(|answer| answer.fail(&error)),
        }
    }

    fn end_what_is_due(&mut self, transaction: &mut Transaction, now_millis: u64) {
        for key in self.expiry.due(now_millis, EXPIRE_MAX) {
            // A missing key would mean that the index is behind; then there is nothing to delete either.
            if transaction.delete(key.clone(), Expect::Any).is_err() {
                self.expiry.set(&key, None);
            }
        }
        end_leases(transaction, now_millis, self.shared.options.transaction_bytes_max);
    }

    fn make_durable(&mut self, transaction: &Transaction, now_millis: u64) -> Result<(), AppendError> {
        let changes = transaction.changes();
        if changes.is_empty() {
            return Ok(());
        }
        if let Err(Error::ReadOnly { reason }) = self.shared.writable() {
            return Err(AppendError::Failed { reason: reason.to_string() });
        }
        let appended = self.journal.append(changes, now_millis, &self.shared);
        if let Err(AppendError::Failed { reason }) = &appended {
            self.shared.refuse_writes(reason.clone());
        }
        appended
    }

    fn publish(&mut self, transaction: Transaction, now_millis: u64) {
        if transaction.is_empty() {
            return;
        }
        let written = || transaction.changes().iter().filter_map(Change::written);
        written().for_each(|write| self.expiry.set(&write.event.key, write.deadline_millis));
        let events: Vec<_> = written().map(|write| write.event.clone()).collect();
        let counters = &self.shared.counters;
        counters.batches.add(u64::from(!transaction.changes().is_empty()));
        counters.commits.add(events.len() as u64);
        let state = transaction.into_state();
        counters.keys.set(state.map.len() as u64);
        self.shared.publish(state, &events, now_millis);
    }

    fn send(&self, answer: Answer) {
        if answer.is_conflict() {
            self.shared.counters.conflicts.add(1);
        }
        // A caller that has gone away does not want its answer.
        match answer {
            Answer::Put(reply, result) => drop(reply.send(result)),
            Answer::Delete(reply, result) => drop(reply.send(result)),
            Answer::Transaction(finish, result) => finish(result),
        }
    }

    fn decide(&self, transaction: &mut Transaction, write: Write, now_millis: u64) -> Answer {
        let full = self.journal.is_for_deletions();
        match write.action {
            Action::Put { reply, .. } if full => Answer::Put(reply, Err(Error::Full)),
            Action::Put { key, value, expect, ttl, reply } => {
                let deadline = ttl.map(|ttl| now_millis.saturating_add(millis(ttl)));
                Answer::Put(reply, transaction.put(key, value, expect, deadline))
            }
            Action::Delete { key, expect, reply } => Answer::Delete(reply, transaction.delete(key, expect)),
            Action::Transact(decide) => {
                let mark = transaction.begin();
                let mut txn = Txn {
                    transaction: &mut *transaction,
                    shared: &self.shared,
                    deadlines: self.expiry.deadlines(),
                    now_millis,
                    full,
                };
                match decide(&mut txn) {
                    Ok(finish) => {
                        // Alone, so that the reads and renewals of the batch do not fail with it.
                        let writable = self.writable(transaction, &mark);
                        match writable {
                            Ok(()) => transaction.end(),
                            Err(_) => transaction.back_to(mark),
                        }
                        Answer::Transaction(finish, writable)
                    }
                    Err(finish) => {
                        transaction.back_to(mark);
                        Answer::Transaction(finish, Ok(()))
                    }
                }
            }
        }
    }

    /// Whether what was decided since `mark` can be written down.
    fn writable(&self, transaction: &Transaction, mark: &Mark) -> Result<(), Error> {
        if !transaction.changed_since(mark) {
            return Ok(());
        }
        let (bytes, limit) = (transaction.bytes_since(mark), self.shared.options.transaction_bytes_max);
        if bytes > limit {
            return Err(Error::TransactionTooLarge { bytes, limit });
        }
        self.shared.writable()
    }

    fn housekeeping(&mut self) {
        let now_millis = self.shared.options.clock.now_millis();
        if self.forget_at_millis.is_none_or(|at| at <= now_millis) {
            self.forget_at_millis = self.shared.forget(None, now_millis);
        }
        let shared = &self.shared;
        shared.set_full(self.journal.is_full());
        self.journal.housekeeping(|| Arc::clone(&shared.state()), self.expiry.deadlines(), shared);
    }

    fn housekeeping_deadline(&self) -> Option<Instant> {
        let leases = self.shared.state().leases.next_millis();
        let next = [self.expiry.next_millis(), leases, self.forget_at_millis].into_iter().flatten().min();
        let wait = |at: u64| Duration::from_millis(at.saturating_sub(self.shared.options.clock.now_millis()) + 1);
        // Whoever stays away because the disk is full is to hear that there is room again, and whoever looks that it is.
        let tries_again = self.journal.expects_room() || self.shared.is_full() != self.journal.is_full();
        let wait = if tries_again { HOUSEKEEPING_INTERVAL } else { wait(next?) };
        Some(Instant::now() + wait.max(HOUSEKEEPING_INTERVAL))
    }
}

fn written(transaction: &Transaction) -> u64 {
    transaction.changes().iter().filter_map(Change::written).count() as u64
}

/// Ends the leases that nobody renewed, each with all of its keys at one revision, if they are not more than a
/// transaction may delete.
fn end_leases(transaction: &mut Transaction, now_millis: u64, bytes_max: usize) {
    while let Some(id) = transaction.state().leases.ended(now_millis) {
        transaction.begin();
        transaction.end_lease(id, bytes_max);
        transaction.end();
        if transaction.changes().len() > EXPIRE_MAX || transaction.bytes() >= BATCH_BYTES_MAX {
            return;
        }
    }
}

impl Answer {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Put(_, Err(Error::Conflict { .. })) | Self::Delete(_, Err(Error::Conflict { .. })))
    }

    /// Nothing of the batch happened, so whatever was decided on top of it is void too.
    fn fail(self, error: &AppendError) {
        match self {
            Self::Put(reply, _) => drop(reply.send(Err(error.into()))),
            Self::Delete(reply, _) => drop(reply.send(Err(error.into()))),
            Self::Transaction(finish, _) => finish(Err(error.into())),
        }
    }
}

impl From<&AppendError> for Error {
    fn from(error: &AppendError) -> Self {
        match error {
            AppendError::Full => Self::Full,
            AppendError::Failed { reason } => Self::ReadOnly { reason: reason.as_str().into() },
        }
    }
}

/// Lets nobody wait for a committer that has ended, even if it panicked.
struct Closer {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.queue.abandon();
        self.shared.close();
    }
}
