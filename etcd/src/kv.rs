//! Ranges, puts, deletions, transactions, compaction.

mod range;
mod txn;

use bytes::Bytes;
use prost::Message;
use store::{EmbeddedStore, Error, Key, Txn, View};
use tonic::Status;

use crate::Server;
use crate::cluster::header;
use crate::errors::{COMPACTED, EMPTY_KEY, FUTURE, KEY_NOT_TEXT, LEASE_NOT_FOUND, TOO_LARGE, status};
use crate::proto::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, KeyValue, PutRequest, PutResponse,
    RangeRequest, RangeResponse, Request, RequestOp, Response, TxnRequest, TxnResponse,
};

pub(crate) use self::range::key_value;

/// Reads a range, now or at a revision.
pub(crate) async fn range(server: &Server, call: RangeRequest) -> Result<RangeResponse, Status> {
    range::check(&call)?;
    let is_long = range::is_long(&call);
    let read = move |store: &EmbeddedStore| {
        let keys = range::keys(&call);
        let view = store.view(&keys, range::revision(&call)).map_err(|error| status(&error))?;
        Ok(range::answer(&view, &keys, &call))
    };
    if is_long { server.apart(read).await? } else { read(&server.store) }
}

/// Writes one key.
pub(crate) async fn put(server: &Server, call: PutRequest) -> Result<PutResponse, Status> {
    bounded(server, &call)?;
    match one(server, Request::Put(call)).await? {
        Some(Response::Put(answer)) => Ok(answer),
        _ => Err(Status::internal("a put was not answered as one")),
    }
}

/// Deletes a range.
pub(crate) async fn delete(server: &Server, call: DeleteRangeRequest) -> Result<DeleteRangeResponse, Status> {
    bounded(server, &call)?;
    match one(server, Request::DeleteRange(call)).await? {
        Some(Response::DeleteRange(answer)) => Ok(answer),
        _ => Err(Status::internal("a deletion was not answered as one")),
    }
}

/// A single operation is a transaction that compares nothing; that its answer is alone shows in the header.
async fn one(server: &Server, request: Request) -> Result<Option<Response>, Status> {
    let call = TxnRequest { success: vec![RequestOp { request: Some(request) }], ..TxnRequest::default() };
    let TxnResponse { header, mut responses, .. } = decided(server, call).await?;
    let mut response = responses.pop().and_then(|op| op.response);
    match &mut response {
        Some(Response::Put(answer)) => answer.header = header,
        Some(Response::DeleteRange(answer)) => answer.header = header,
        _ => {}
    }
    Ok(response)
}

/// Compares, then does one of two lists of operations; all of it is one revision.
pub(crate) async fn txn(server: &Server, call: TxnRequest) -> Result<TxnResponse, Status> {
    bounded(server, &call)?;
    decided(server, call).await
}

/// Whatever is written is bounded as a whole, however many values it has.
fn bounded(server: &Server, call: &impl Message) -> Result<(), Status> {
    if call.encoded_len() > server.request_bytes_max {
        return Err(TOO_LARGE.into());
    }
    Ok(())
}

async fn decided(server: &Server, call: TxnRequest) -> Result<TxnResponse, Status> {
    txn::check(&call)?;
    let is_long = txn::is_long(&call);
    if txn::is_read(&call) {
        let read = move |store: &EmbeddedStore| txn::read(store, call);
        return if is_long { server.apart(read).await? } else { read(&server.store) };
    }
    let (call, past) = match is_long {
        true => server.apart(move |store| with_past(store, call)).await?,
        false => (call, txn::Past::default()),
    };
    let decided = server.store.transact(move |txn| txn::decide(txn, call, &past)).await;
    let outcome = decided.map_err(|error| status(&error))??;
    let answer = move |_: &EmbeddedStore| outcome.answer(&mut { txn::ANSWER_BYTES_MAX });
    if is_long { server.apart(answer).await? } else { answer(&server.store) }
}

fn with_past(store: &EmbeddedStore, call: TxnRequest) -> (TxnRequest, txn::Past) {
    let past = txn::Past::of(store, &store.latest(), &call);
    (call, past)
}

/// Forgets the history before a revision.
pub(crate) async fn compact(server: &Server, call: CompactionRequest) -> Result<CompactionResponse, Status> {
    let revision = u64::try_from(call.revision).unwrap_or(0);
    let decide = move |txn: &mut Txn<'_>| {
        let view = txn.view();
        if revision <= view.compacted() {
            return Err(Status::from(COMPACTED));
        }
        if revision > view.revision() {
            return Err(Status::from(FUTURE));
        }
        txn.compact(revision);
        Ok(view.revision())
    };
    let revision = server.store.transact(decide).await.map_err(|error| status(&error))??;
    Ok(CompactionResponse { header: header(revision) })
}

fn key(bytes: &Bytes) -> Result<Key, Status> {
    if bytes.is_empty() {
        return Err(EMPTY_KEY.into());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Status::from(KEY_NOT_TEXT))?;
    Key::foreign(text).map_err(|_| KEY_NOT_TEXT.into())
}

fn lease_exists(view: &View, lease: i64) -> Result<(), Status> {
    if lease != store::NO_LEASE && view.leases().get(lease).is_none() {
        return Err(LEASE_NOT_FOUND.into());
    }
    Ok(())
}

fn found(view: &View, key: &Bytes) -> Option<KeyValue> {
    let entry = view.get(std::str::from_utf8(key).ok()?)?;
    Some(key_value(entry))
}

fn failed(error: Error) -> Status {
    status(&error)
}

#[cfg(test)]
mod tests;
