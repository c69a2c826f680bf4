//! What transactions read, apart from the thread that commits: the whole of one that writes nothing, the past, and the
//! answers made of what was read.

use std::collections::{BTreeMap, BTreeSet};

use store::{EmbeddedStore, Error, KeyRange, View};
use tonic::Status;

use super::super::{failed, range};
use super::{Chosen, Op, choose};
use crate::cluster::header;
use crate::errors::{ANSWER_TOO_LARGE, FUTURE};
use crate::proto::{
    DeleteRangeResponse, KeyValue, PutResponse, RangeRequest, RangeResponse, Request, RequestOp, Response, ResponseOp,
    TxnRequest, TxnResponse,
};

/// The most memory that an answer may take: what etcd sends at most. One request may ask for everything thousands of
/// times.
pub(crate) const ANSWER_BYTES_MAX: usize = i32::MAX as usize;

/// What was done.
pub(crate) struct Outcome {
    pub(super) revision: u64,
    pub(super) succeeded: bool,
    pub(super) done: Vec<Done>,
}

/// One operation that was done, or for one that reads what it reads from.
pub(super) enum Done {
    Range {
        view: View,
        /// The newest revision then.
        revision: u64,
        call: RangeRequest,
    },
    Put(PutResponse),
    Delete(DeleteRangeResponse),
    Txn(Outcome),
    Nothing,
}

impl Outcome {
    /// Reads what is left to be read, as long as it fits into `left` bytes.
    pub(crate) fn answer(self, left: &mut usize) -> Result<TxnResponse, Status> {
        let one = |done: Done| Ok(ResponseOp { response: done.answer(left)? });
        let responses = self.done.into_iter().map(one).collect::<Result<_, Status>>()?;
        Ok(TxnResponse { header: header(self.revision), succeeded: self.succeeded, responses })
    }
}

impl Done {
    fn answer(self, left: &mut usize) -> Result<Option<Response>, Status> {
        Ok(Some(match self {
            Self::Range { view, revision, call } => {
                let answer = range::answer(&view, &range::keys(&call), &call);
                take(left, &answer.kvs)?;
                Response::Range(RangeResponse { header: header(revision), ..answer })
            }
            Self::Put(answer) => Response::Put(answer),
            Self::Delete(answer) => Response::DeleteRange(answer),
            Self::Txn(outcome) => Response::Txn(outcome.answer(left)?),
            Self::Nothing => return Ok(None),
        }))
    }
}

fn take(left: &mut usize, kvs: &[KeyValue]) -> Result<(), Status> {
    let bytes = |kv: &KeyValue| size_of::<KeyValue>() + kv.key.len() + kv.value.len();
    *left = left.checked_sub(kvs.iter().map(bytes).sum()).ok_or_else(|| Status::from(ANSWER_TOO_LARGE))?;
    Ok(())
}

/// Whether a transaction only reads, whatever its compares say.
pub(crate) fn is_read(call: &TxnRequest) -> bool {
    let reads = |op: &RequestOp| match &op.request {
        Some(Request::Range(_)) | None => true,
        Some(Request::Txn(call)) => is_read(call),
        Some(Request::Put(_) | Request::DeleteRange(_)) => false,
    };
    call.success.iter().chain(&call.failure).all(reads)
}

/// Whether any of its reads may take long.
pub(crate) fn is_long(call: &TxnRequest) -> bool {
    let one = |op: &RequestOp| match &op.request {
        Some(Request::Range(call)) => range::is_long(call),
        Some(Request::Txn(call)) => is_long(call),
        Some(Request::Put(_) | Request::DeleteRange(_)) | None => false,
    };
    call.success.iter().chain(&call.failure).any(one)
}

/// Answers a transaction that only reads, from the newest state: whatever was acknowledged before is in it.
pub(crate) fn read(store: &EmbeddedStore, call: TxnRequest) -> Result<TxnResponse, Status> {
    let now = store.latest();
    let past = Past::of(store, &now, &call);
    let chosen = choose(&now, call);
    look(&now, &past, chosen)?.answer(&mut { ANSWER_BYTES_MAX })
}

fn look(now: &View, past: &Past, chosen: Chosen) -> Result<Outcome, Status> {
    let one = |op| match op {
        Op::Range(call) => {
            let view = match range::revision(&call) {
                None => now.clone(),
                Some(revision) if revision == now.revision() => now.clone(),
                Some(revision) => past.get(revision).unwrap_or_else(|| Err(FUTURE.into()))?.clone(),
            };
            Ok(Done::Range { view, revision: now.revision(), call })
        }
        Op::Txn(nested) => look(now, past, nested).map(Done::Txn),
        // It writes nothing.
        Op::Put(_) | Op::Delete(_) | Op::Nothing => Ok(Done::Nothing),
    };
    let done: Result<_, Status> = chosen.ops.into_iter().map(one).collect();
    Ok(Outcome { revision: now.revision(), succeeded: chosen.succeeded, done: done? })
}

/// What a transaction may read of the past, in either of its branches. It does not change any more, so it is looked up
/// before the transaction is decided; then it has only to be checked that nobody has compacted it meanwhile. All of it is
/// looked up on one way back through the history: a request has room for thousands of revisions.
#[derive(Default)]
pub(crate) struct Past(BTreeMap<u64, Result<View, Error>>);

impl Past {
    /// What is older than `now`.
    pub(crate) fn of(store: &EmbeddedStore, now: &View, call: &TxnRequest) -> Self {
        let (mut ranges, mut revisions) = (Vec::new(), BTreeSet::new());
        wanted(now, call, &mut ranges, &mut revisions);
        if revisions.is_empty() {
            return Self::default();
        }
        Self(store.earlier_each(now, &ranges, &revisions))
    }

    /// None when it was no past then.
    pub(super) fn get(&self, revision: u64) -> Option<Result<&View, Status>> {
        self.0.get(&revision).map(|view| view.as_ref().map_err(|error| failed(error.clone())))
    }
}

/// Which ranges are read at old revisions, and at which.
fn wanted(now: &View, call: &TxnRequest, ranges: &mut Vec<KeyRange>, revisions: &mut BTreeSet<u64>) {
    for op in call.success.iter().chain(&call.failure) {
        match &op.request {
            Some(Request::Range(call)) => {
                let Some(revision) = range::revision(call).filter(|revision| *revision < now.revision()) else {
                    continue;
                };
                ranges.push(range::keys(call));
                revisions.insert(revision);
            }
            Some(Request::Txn(call)) => wanted(now, call, ranges, revisions),
            Some(Request::Put(_) | Request::DeleteRange(_)) | None => {}
        }
    }
}
