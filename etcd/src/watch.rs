//! One gRPC stream with any number of watches.
//!
//! The session is one stream of answers: it waits for requests, for events and for the time to report progress, and
//! handles one at a time. While the client does not read, nothing is waited for, and the watches stay where they are
//! in the store's history.

mod events;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{AbortHandle, Abortable, Aborted, BoxFuture, FutureExt as _};
use futures::stream::{self, FuturesUnordered, StreamExt as _};
use store::{Batch, Error, KeyRange, Progress, WatchStream};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tonic::{Status, Streaming};

use self::events::Selection;
use crate::Server;
use crate::cluster::header;
use crate::errors::COMPACTED;
use crate::proto::{WatchAction, WatchCreateRequest, WatchRequest, WatchResponse};
use crate::route::Answers;

/// In place of a watch's number, when an answer is about none or about all.
const NO_WATCH: i64 = -1;

/// The most watches of one stream.
const WATCHES_MAX: usize = 1 << 16;

/// Serves one stream.
pub(crate) fn session(server: Arc<Server>, calls: Streaming<WatchRequest>) -> Answers<WatchResponse> {
    let start = Instant::now() + server.progress_interval;
    let mut ticks = interval_at(start, server.progress_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let session = Session {
        server,
        calls,
        ticks,
        watches: HashMap::new(),
        waiting: FuturesUnordered::new(),
        answers: VecDeque::new(),
        progress_wanted: None,
        told: 0,
        next_id: 0,
    };
    Box::pin(stream::unfold(Some(session), |session| async move {
        let mut session = session?;
        match session.next().await? {
            Ok(answer) => Some((Ok(answer), Some(session))),
            Err(status) => Some((Err(status), None)),
        }
    }))
}

type Outcome = Result<(i64, WatchStream, Result<Batch, Error>), Aborted>;

struct Session {
    server: Arc<Server>,
    calls: Streaming<WatchRequest>,
    ticks: Interval,
    watches: HashMap<i64, Watch>,
    /// Each watch that waits for its next batch.
    waiting: FuturesUnordered<BoxFuture<'static, Outcome>>,
    /// What is to be sent.
    answers: VecDeque<WatchResponse>,
    /// The revision that every watch has to be complete up to before the client is told.
    progress_wanted: Option<u64>,
    /// The newest revision that an answer has told, which one about all watches must not go back behind.
    told: u64,
    next_id: i64,
}

struct Watch {
    selection: Selection,
    progress: Arc<dyn Progress>,
    /// Everything up to here has been handed out.
    seen: u64,
    /// Whether the client wants to hear how far it is, and whether it has heard since the last tick.
    notify: bool,
    heard: bool,
    abort: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// What a session wakes up for.
enum Wake {
    Call(Option<Result<WatchRequest, Status>>),
    Batch(Outcome),
    Tick,
    Drain,
}

impl Session {
    /// The next answer; `None` when the client has gone or the server goes.
    async fn next(&mut self) -> Option<Result<WatchResponse, Status>> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Some(Ok(answer));
            }
            let wake = tokio::select! {
                call = self.calls.next() => Wake::Call(call),
                Some(outcome) = self.waiting.next() => Wake::Batch(outcome),
                _ = self.ticks.tick() => Wake::Tick,
                () = self.server.drain.cancelled() => Wake::Drain,
            };
            match wake {
                Wake::Call(Some(Ok(call))) => self.call(call),
                Wake::Call(Some(Err(status))) => return Some(Err(status)),
                Wake::Call(None) | Wake::Drain => return None,
                Wake::Batch(Ok((id, stream, batch))) => self.batch(id, stream, batch),
                // It was cancelled meanwhile.
                Wake::Batch(Err(Aborted)) => {}
                Wake::Tick => self.tick(),
            }
            self.report_wanted();
        }
    }

    fn revision(&self) -> u64 {
        self.server.store.latest().revision()
    }

    fn call(&mut self, call: WatchRequest) {
        match call.request {
            Some(WatchAction::Create(call)) => self.create(call),
            Some(WatchAction::Cancel(call)) => self.cancel_as_asked(call.watch_id),
            Some(WatchAction::Progress(_)) => self.progress_wanted = Some(self.revision()),
            // Etcd ignores what it does not know.
            None => {}
        }
    }

    fn cancel_as_asked(&mut self, watch_id: i64) {
        if self.watches.remove(&watch_id).is_some() {
            let header = header(self.revision());
            self.answers.push_back(WatchResponse { header, watch_id, canceled: true, ..Default::default() });
        }
    }

    fn refuse(&mut self, reason: &str) {
        self.answers.push_back(WatchResponse {
            header: header(self.revision()),
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..WatchResponse::default()
        });
    }

    fn create(&mut self, call: WatchCreateRequest) {
        let from = if call.key.is_empty() { Bytes::from_static(b"\0") } else { call.key.clone() };
        let range = KeyRange::new(from, call.range_end.clone());
        if call.start_revision < 0 {
            return self.refuse(COMPACTED.text());
        }
        if range.is_empty() {
            return self.refuse("mvcc: watcher range is empty");
        }
        if self.watches.len() >= WATCHES_MAX {
            return self.refuse("etcdserver: too many watches on one stream");
        }
        let Some(id) = self.id(call.watch_id) else {
            return self.refuse("mvcc: duplicate watch ID provided on the WatchStream");
        };
        let revision = self.revision();
        let after = match call.start_revision.unsigned_abs() {
            0 => revision,
            start => start - 1,
        };
        let created = WatchResponse { header: header(revision), watch_id: id, created: true, ..Default::default() };
        self.answers.push_back(created);
        let stream = match self.server.store.watch_range(&range, after) {
            Ok(stream) => stream,
            Err(error) => return self.cancel(id, &error),
        };
        let (abort, _) = AbortHandle::new_pair();
        let watch = Watch {
            selection: Selection::new(range, &call, self.server.request_bytes_max),
            progress: stream.progress(),
            seen: after,
            notify: call.progress_notify,
            heard: false,
            abort,
        };
        self.watches.insert(id, watch);
        self.wait(id, stream);
    }

    fn id(&mut self, wanted: i64) -> Option<i64> {
        if wanted != 0 {
            return (!self.watches.contains_key(&wanted)).then_some(wanted);
        }
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Some(self.next_id - 1)
    }

    fn wait(&mut self, id: i64, mut stream: WatchStream) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let (abort, registration) = AbortHandle::new_pair();
        watch.abort = abort;
        let next = async move {
            let batch = stream.next().await;
            (id, stream, batch)
        };
        self.waiting.push(Abortable::new(next, registration).boxed());
    }

    fn batch(&mut self, id: i64, stream: WatchStream, batch: Result<Batch, Error>) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return self.cancel(id, &error),
        };
        watch.seen = watch.seen.max(batch.revision);
        let answers = watch.selection.answers(id, &batch);
        if !answers.is_empty() {
            watch.heard = true;
            self.told = self.told.max(batch.revision);
        }
        self.answers.extend(answers);
        self.wait(id, stream);
    }

    /// Ends a watch whose history has gone, or with the store.
    fn cancel(&mut self, id: i64, error: &Error) {
        self.watches.remove(&id);
        let mut answer =
            WatchResponse { header: header(self.revision()), watch_id: id, canceled: true, ..Default::default() };
        match error {
            Error::Compacted { .. } => {
                // The oldest revision that a new watch may start at.
                let oldest = self.server.store.oldest_watchable().max(self.server.store.latest().compacted());
                answer.compact_revision = i64::try_from(oldest).unwrap_or(i64::MAX);
            }
            error => answer.cancel_reason = format!("etcdserver: {error}"),
        }
        self.answers.push_back(answer);
    }

    /// Tells those watches that asked for it how far they are, unless they have heard anyway, have something left to
    /// send or begin in the future.
    fn tick(&mut self) {
        let revision = self.revision();
        for (id, watch) in &mut self.watches {
            if !watch.notify || std::mem::take(&mut watch.heard) {
                continue;
            }
            let Some(told) = told(watch.progress.complete(watch.seen), watch.seen, revision) else { continue };
            watch.seen = told;
            self.told = self.told.max(told);
            self.answers.push_back(WatchResponse { header: header(told), watch_id: *id, ..Default::default() });
        }
    }

    /// Answers a request for progress once no watch has anything left to send up to that revision.
    fn report_wanted(&mut self) {
        let Some(wanted) = self.progress_wanted else { return };
        let revision = self.revision();
        let complete = self.watches.values().map(|watch| watch.progress.complete(watch.seen)).min();
        // A watch that begins in the future is complete up to a revision that is not there yet.
        let complete = complete.unwrap_or(revision).min(revision);
        if complete >= wanted.max(self.told) {
            self.progress_wanted = None;
            self.told = complete;
            self.watches.values_mut().for_each(|watch| watch.seen = watch.seen.max(complete));
            let header = header(complete);
            self.answers.push_back(WatchResponse { header, watch_id: NO_WATCH, ..Default::default() });
        }
    }
}

/// What to tell of a watch that has handed out everything up to `seen` and is complete up to `complete`, in a store that
/// was at `revision` before: nothing, unless it has nothing left to send up to there and has begun.
fn told(complete: u64, seen: u64, revision: u64) -> Option<u64> {
    (seen <= revision && complete >= revision).then_some(complete)
}

#[cfg(test)]
mod tests;
