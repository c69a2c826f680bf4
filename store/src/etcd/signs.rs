//! Signs that an answer will not come: another leader, or a member that is silent while others answer.
//!
//! A follower hands a write on to the leader that it knows. When that one is gone the write is lost, which the follower
//! finds out only when its own patience of seven seconds is over, while an election takes one or two. So whoever waits
//! for longer than usual has all members asked something small. An answer in a newer term than the request was sent in
//! says that there was an election meanwhile; and whoever says nothing while another member answers is not the one to
//! ask.
//!
//! A sign says nothing of what came of a request, only that its answer need not be waited for.

use std::time::Duration;

use etcd_client::{CompactionResponse, GetResponse, LeaseGrantResponse, ResponseHeader, TxnResponse};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// How long an answer usually takes at most.
const USUAL: Duration = Duration::from_millis(500);
/// How often those who wait for longer have all members asked.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(100);
/// What survived an election is answered right after it. What did not is waited for this much longer.
pub(super) const GRACE: Duration = Duration::from_millis(300);

/// An answer of etcd's, which tells of the cluster as well.
pub(super) trait Answer {
    fn told(&self) -> Option<&ResponseHeader>;
}

impl Answer for GetResponse {
    fn told(&self) -> Option<&ResponseHeader> {
        self.header()
    }
}

impl Answer for TxnResponse {
    fn told(&self) -> Option<&ResponseHeader> {
        self.header()
    }
}

impl Answer for CompactionResponse {
    fn told(&self) -> Option<&ResponseHeader> {
        self.header()
    }
}

impl Answer for LeaseGrantResponse {
    fn told(&self) -> Option<&ResponseHeader> {
        self.header()
    }
}

/// What all answers have told.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    /// The newest term.
    term: u64,
    /// How often all members were asked.
    rounds: u64,
    /// The member that was silent then, while another one answered.
    silent: Option<usize>,
}

/// When and to whom a request was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) to: usize,
    /// 0 when it was not known yet.
    term: u64,
    rounds: u64,
}

impl Sent {
    fn is_overtaken(&self, seen: &Seen) -> bool {
        let elected = self.term > 0 && seen.term > self.term;
        elected || (seen.rounds > self.rounds && seen.silent == Some(self.to))
    }
}

/// How the waiting for an answer ended.
pub(super) enum Waited<T> {
    Answered(Result<T, etcd_client::Error>),
    /// It has taken too long.
    Silent,
    /// There is a sign that no answer will come.
    Overtaken,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Signs {
    seen: watch::Sender<Seen>,
    /// Somebody waits for longer than usual.
    pub(super) wanted: Notify,
}

impl Signs {
    /// Now, to this member.
    pub(super) fn sent(&self, to: usize) -> Sent {
        let Seen { term, rounds, .. } = *self.seen.borrow();
        Sent { to, term, rounds }
    }

    /// Notes the term of an answer.
    pub(super) fn note(&self, answer: &impl Answer) {
        let term = answer.told().map_or(0, ResponseHeader::raft_term);
        if self.seen.borrow().term >= term {
            return;
        }
        self.seen.send_if_modified(|seen| {
            let is_newer = term > seen.term;
            seen.term = term.max(seen.term);
            is_newer
        });
    }

    /// Notes who was silent when all members were asked and another one answered.
    pub(super) fn note_round(&self, silent: Option<usize>) {
        self.seen.send_modify(|seen| *seen = Seen { rounds: seen.rounds + 1, silent, ..*seen });
    }

    /// Notes that a member has answered.
    pub(super) fn heard(&self, member: usize) {
        self.seen.send_if_modified(|seen| seen.silent.take_if(|silent| *silent == member).is_some());
    }

    pub(super) fn is_silent(&self, member: usize) -> bool {
        self.seen.borrow().silent == Some(member)
    }

    /// Waits until a member is silent while another one answers.
    pub(super) async fn silenced(&self, member: usize) {
        let mut seen = self.seen.subscribe();
        // The sender lives in self, so waiting cannot fail.
        let _ = seen.wait_for(|seen| seen.silent == Some(member)).await;
    }

    /// Waits for the answer of a call, for as long as one is to be expected.
    pub(super) async fn wait<T, F>(&self, sent: Sent, until: Instant, call: F) -> Waited<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut call = std::pin::pin!(call);
        if let Ok(outcome) = timeout_at(until.min(Instant::now() + USUAL), &mut call).await {
            return Waited::Answered(outcome);
        }
        let mut seen = self.seen.subscribe();
        loop {
            self.wanted.notify_one();
            tokio::select! {
                outcome = &mut call => return Waited::Answered(outcome),
                _ = seen.wait_for(|seen| sent.is_overtaken(seen)) => break,
                () = sleep_until(until) => return Waited::Silent,
                () = sleep(ASK_EVERY) => {}
            }
        }
        match timeout(GRACE, call).await {
            Ok(outcome) => Waited::Answered(outcome),
            Err(_) => Waited::Overtaken,
        }
    }
}

#[cfg(test)]
mod tests;
