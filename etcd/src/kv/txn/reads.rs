//! What transactions read, apart from the thread that commits: the whole of one that writes nothing, the past, and the
//! answers made of what was read.

use std::collections::HashMap;

use store::{EmbeddedStore, KeyRange, View};
use tonic::Status;

use super::super::{failed, range};
use super::{Chosen, Op, choose};
use crate::cluster::header;
use crate::proto::{
    DeleteRangeResponse, PutResponse, RangeRequest, RangeResponse, Request, RequestOp, Response, ResponseOp,
    TxnRequest, TxnResponse,
};

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
    /// Reads what is left to be read.
    pub(crate) fn answer(self) -> TxnResponse {
        let responses = self.done.into_iter().map(|done| ResponseOp { response: done.answer() }).collect();
        TxnResponse { header: header(self.revision), succeeded: self.succeeded, responses }
    }
}

impl Done {
    fn answer(self) -> Option<Response> {
        Some(match self {
            Self::Range { view, revision, call } => {
                let answer = range::answer(&view, &range::keys(&call), &call);
                Response::Range(RangeResponse { header: header(revision), ..answer })
            }
            Self::Put(answer) => Response::Put(answer),
            Self::Delete(answer) => Response::DeleteRange(answer),
            Self::Txn(outcome) => Response::Txn(outcome.answer()),
            Self::Nothing => return None,
        })
    }
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

/// Answers a transaction that only reads, from the newest state: whatever was acknowledged before is in it.
pub(crate) fn read(store: &EmbeddedStore, call: TxnRequest) -> Result<TxnResponse, Status> {
    let now = store.latest();
    let chosen = choose(&now, call);
    Ok(look(store, &now, chosen)?.answer())
}

fn look(store: &EmbeddedStore, now: &View, chosen: Chosen) -> Result<Outcome, Status> {
    let one = |op| match op {
        Op::Range(call) => {
            let view = match range::revision(&call) {
                None => now.clone(),
                Some(revision) => store.earlier(now.clone(), &range::keys(&call), revision).map_err(failed)?,
            };
            Ok(Done::Range { view, revision: now.revision(), call })
        }
        Op::Txn(nested) => look(store, now, nested).map(Done::Txn),
        // It writes nothing.
        Op::Put(_) | Op::Delete(_) | Op::Nothing => Ok(Done::Nothing),
    };
    let done: Result<_, Status> = chosen.ops.into_iter().map(one).collect();
    Ok(Outcome { revision: now.revision(), succeeded: chosen.succeeded, done: done? })
}

/// What a transaction that also writes may read of the past. It does not change any more, so it is looked up before the
/// transaction is decided; then it has only to be checked that nobody has compacted it meanwhile.
pub(crate) struct Past(HashMap<(KeyRange, u64), View>);

impl Past {
    pub(crate) fn of(store: &EmbeddedStore, call: &TxnRequest) -> Self {
        let mut past = Self(HashMap::new());
        past.add(store, &store.latest(), call);
        past
    }

    fn add(&mut self, store: &EmbeddedStore, now: &View, call: &TxnRequest) {
        for op in call.success.iter().chain(&call.failure) {
            match &op.request {
                Some(Request::Range(call)) => self.look(store, now, call),
                Some(Request::Txn(call)) => self.add(store, now, call),
                Some(Request::Put(_) | Request::DeleteRange(_)) | None => {}
            }
        }
    }

    fn look(&mut self, store: &EmbeddedStore, now: &View, call: &RangeRequest) {
        let Some(revision) = range::revision(call) else { return };
        let place = (range::keys(call), revision);
        if self.0.contains_key(&place) {
            return;
        }
        // Whether a failure is one shows when the transaction is decided: it may not get here.
        if let Ok(view) = store.earlier(now.clone(), &place.0, revision) {
            self.0.insert(place, view);
        }
    }

    pub(super) fn get(&self, keys: &KeyRange, revision: u64) -> Option<&View> {
        self.0.get(&(keys.clone(), revision))
    }
}
