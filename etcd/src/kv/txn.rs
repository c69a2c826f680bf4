//! Transactions: compares over the state before, then checks, then writes.
//!
//! As in etcd, every compare, of nested transactions too, sees the state before the first write; what would fail
//! fails before the first write. The committing thread decides and writes, and no more: what is to be read it leaves as
//! states to read it from.

mod reads;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use store::{Entry, KeyRange, Txn, View};
use tonic::Status;

pub(super) use self::reads::{ANSWER_BYTES_MAX, Past, is_long, is_read, read};

use self::reads::{Done, Outcome};
use super::range::{self, key_value, signed};
use super::{failed, found, key, lease_exists};
use crate::cluster::header;
use crate::errors::{DUPLICATE_KEY, EMPTY_KEY, KEY_NOT_FOUND, LEASE_PROVIDED, TOO_MANY_OPS, VALUE_PROVIDED};
use crate::proto::{
    COMPARE_EQUAL, COMPARE_GREATER, COMPARE_LESS, COMPARE_NOT_EQUAL, Compare, DeleteRangeRequest, DeleteRangeResponse,
    PutRequest, PutResponse, RangeRequest, Request, RequestOp, TARGET_CREATE, TARGET_LEASE, TARGET_MOD, TARGET_VALUE,
    TARGET_VERSION, Target, TxnRequest,
};

/// Etcd's limit of operations: of the longest list and those of what is nested in it, on each way down.
const OPS_MAX: usize = 128;

/// The most compares and operations in all, a little more than transactions have within a transaction that keeps the limit
/// and nests no deeper. Etcd has no such limit, so that one request of a megabyte, nested deeper, holds it for minutes.
const OPS_IN_ALL_MAX: usize = 25_000;

/// A transaction whose branch is known.
struct Chosen {
    succeeded: bool,
    ops: Vec<Op>,
}

enum Op {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(Chosen),
    Nothing,
}

/// What can be refused without looking at the store.
pub(super) fn check(call: &TxnRequest) -> Result<(), Status> {
    check_ops(call, OPS_MAX)?;
    if ops_in_all(call) > OPS_IN_ALL_MAX {
        return Err(TOO_MANY_OPS.into());
    }
    overlaps(&call.success)?;
    overlaps(&call.failure)?;
    Ok(())
}

fn check_ops(call: &TxnRequest, max: usize) -> Result<(), Status> {
    let most = call.compare.len().max(call.success.len()).max(call.failure.len());
    if most > max {
        return Err(TOO_MANY_OPS.into());
    }
    if call.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(EMPTY_KEY.into());
    }
    call.success.iter().chain(&call.failure).try_for_each(|op| check_op(op, max - most))
}

fn ops_in_all(call: &TxnRequest) -> usize {
    let one = |op: &RequestOp| match &op.request {
        Some(Request::Txn(call)) => 1 + ops_in_all(call),
        _ => 1,
    };
    call.compare.len() + call.success.iter().chain(&call.failure).map(one).sum::<usize>()
}

fn check_op(op: &RequestOp, max: usize) -> Result<(), Status> {
    match &op.request {
        Some(Request::Range(call)) => range::check(call),
        Some(Request::Put(call)) => check_put(call),
        Some(Request::DeleteRange(call)) if call.key.is_empty() => Err(EMPTY_KEY.into()),
        Some(Request::Txn(call)) => check_ops(call, max),
        Some(Request::DeleteRange(_)) => Ok(()),
        None => Err(KEY_NOT_FOUND.into()),
    }
}

fn check_put(call: &PutRequest) -> Result<(), Status> {
    key(&call.key)?;
    if call.ignore_value && !call.value.is_empty() {
        return Err(VALUE_PROVIDED.into());
    }
    if call.ignore_lease && call.lease != 0 {
        return Err(LEASE_PROVIDED.into());
    }
    Ok(())
}

/// What a list of operations puts and deletes.
#[derive(Default)]
struct Touched {
    puts: BTreeSet<Bytes>,
    deletes: Ranges,
}

/// Disjoint ranges of keys by their first one, each with what it ends before, if it ends.
#[derive(Default)]
struct Ranges(BTreeMap<Bytes, Option<Bytes>>);

impl Ranges {
    fn contains(&self, key: &Bytes) -> bool {
        let last = self.0.range::<Bytes, _>(..=key).next_back();
        last.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < end))
    }

    /// Adds one, and makes those that it touches one with it.
    fn add(&mut self, mut from: Bytes, mut end: Option<Bytes>) {
        if end.as_ref().is_some_and(|end| *end <= from) {
            return;
        }
        let before = |a: &Option<Bytes>, b: &Bytes| a.as_ref().is_some_and(|a| a < b);
        while let Some((first, last)) = match &end {
            Some(end) => self.0.range::<Bytes, _>(..=end).next_back(),
            None => self.0.last_key_value(),
        } {
            if before(last, &from) {
                break;
            }
            let first = first.clone();
            let last = self.0.remove(&first).flatten();
            end = end.zip(last).map(|(a, b)| a.max(b));
            from = from.min(first);
        }
        self.0.insert(from, end);
    }

    fn of(call: &DeleteRangeRequest) -> (Bytes, Option<Bytes>) {
        let end = match &call.range_end[..] {
            // One key: it is followed by itself with a zero byte.
            [] => Some([&call.key[..], &[0]].concat().into()),
            [0] => None,
            _ => Some(call.range_end.clone()),
        };
        (call.key.clone(), end)
    }
}

impl Touched {
    fn put(&mut self, key: Bytes) -> Result<(), Status> {
        if self.deletes.contains(&key) || !self.puts.insert(key) {
            return Err(DUPLICATE_KEY.into());
        }
        Ok(())
    }
}

/// No key is written twice by what can happen together.
fn overlaps(ops: &[RequestOp]) -> Result<Touched, Status> {
    let mut touched = Touched::default();
    for op in ops {
        if let Some(Request::DeleteRange(call)) = &op.request {
            let (from, end) = Ranges::of(call);
            touched.deletes.add(from, end);
        }
    }
    for op in ops {
        let Some(Request::Txn(call)) = &op.request else { continue };
        let (then, otherwise) = (overlaps(&call.success)?, overlaps(&call.failure)?);
        // Only one of the two happens, so they may share keys.
        for key in then.puts.union(&otherwise.puts) {
            touched.put(key.clone())?;
        }
        for (from, end) in then.deletes.0.into_iter().chain(otherwise.deletes.0) {
            touched.deletes.add(from, end);
        }
    }
    for op in ops {
        if let Some(Request::Put(call)) = &op.request {
            touched.put(call.key.clone())?;
        }
    }
    Ok(touched)
}

/// Runs on the committing thread.
pub(super) fn decide(txn: &mut Txn<'_>, call: TxnRequest, past: &Past) -> Result<Outcome, Status> {
    let before = txn.view();
    let chosen = choose(&before, call);
    permit(txn, &before, &chosen)?;
    apply(txn, &before, past, chosen)
}

fn choose(view: &View, call: TxnRequest) -> Chosen {
    let succeeded = call.compare.iter().all(|compare| holds(view, compare));
    let ops = if succeeded { call.success } else { call.failure };
    let op = |op: RequestOp| match op.request {
        Some(Request::Range(call)) => Op::Range(call),
        Some(Request::Put(call)) => Op::Put(call),
        Some(Request::DeleteRange(call)) => Op::Delete(call),
        Some(Request::Txn(call)) => Op::Txn(choose(view, call)),
        None => Op::Nothing,
    };
    Chosen { succeeded, ops: ops.into_iter().map(op).collect() }
}

fn holds(view: &View, compare: &Compare) -> bool {
    let range = KeyRange::new(compare.key.clone(), compare.range_end.clone());
    let mut entries = view.range(&range).peekable();
    if entries.peek().is_none() {
        // A missing value is not an empty one.
        return compare.target != TARGET_VALUE && compares(compare, None);
    }
    entries.all(|entry| compares(compare, Some(entry)))
}

fn compares(compare: &Compare, entry: Option<&std::sync::Arc<Entry>>) -> bool {
    let number = |of: fn(&Entry) -> i64| entry.map_or(0, |entry| of(entry));
    let ordering = match (compare.target, &compare.target_union) {
        (TARGET_VALUE, wanted) => {
            let wanted = if let Some(Target::Value(value)) = wanted { &value[..] } else { &[] };
            entry.map_or(&[][..], |entry| &entry.value).cmp(wanted)
        }
        (TARGET_VERSION, wanted) => {
            let wanted = if let Some(Target::Version(version)) = wanted { *version } else { 0 };
            number(|entry| signed(entry.version)).cmp(&wanted)
        }
        (TARGET_CREATE, wanted) => {
            let wanted = if let Some(Target::CreateRevision(revision)) = wanted { *revision } else { 0 };
            number(|entry| signed(entry.create_revision)).cmp(&wanted)
        }
        (TARGET_MOD, wanted) => {
            let wanted = if let Some(Target::ModRevision(revision)) = wanted { *revision } else { 0 };
            number(|entry| signed(entry.mod_revision)).cmp(&wanted)
        }
        (TARGET_LEASE, wanted) => {
            let wanted = if let Some(Target::Lease(lease)) = wanted { *lease } else { 0 };
            number(|entry| entry.lease).cmp(&wanted)
        }
        _ => Ordering::Equal,
    };
    match compare.result {
        COMPARE_EQUAL => ordering.is_eq(),
        COMPARE_GREATER => ordering.is_gt(),
        COMPARE_LESS => ordering.is_lt(),
        COMPARE_NOT_EQUAL => ordering.is_ne(),
        _ => true,
    }
}

/// What would fail, before anything is written.
fn permit(txn: &Txn<'_>, before: &View, chosen: &Chosen) -> Result<(), Status> {
    chosen.ops.iter().try_for_each(|op| match op {
        Op::Range(call) => range::revision(call).map_or(Ok(()), |revision| txn.reaches(revision).map_err(failed)),
        Op::Put(call) => {
            lease_exists(before, call.lease)?;
            let needs_previous = call.ignore_value || call.ignore_lease;
            if needs_previous && found(before, &call.key).is_none() {
                return Err(KEY_NOT_FOUND.into());
            }
            Ok(())
        }
        Op::Txn(nested) => permit(txn, before, nested),
        Op::Delete(_) | Op::Nothing => Ok(()),
    })
}

fn apply(txn: &mut Txn<'_>, before: &View, past: &Past, chosen: Chosen) -> Result<Outcome, Status> {
    let mut done = Vec::with_capacity(chosen.ops.len());
    for op in chosen.ops {
        done.push(match op {
            Op::Range(call) => Done::Range { view: view_of(txn, before, past, &call)?, revision: txn.revision(), call },
            Op::Put(call) => Done::Put(put(txn, call)?),
            Op::Delete(call) => Done::Delete(delete(txn, &call)),
            Op::Txn(nested) => Done::Txn(apply(txn, before, past, nested)?),
            Op::Nothing => Done::Nothing,
        });
    }
    Ok(Outcome { revision: txn.revision(), succeeded: chosen.succeeded, done })
}

fn view_of(txn: &Txn<'_>, before: &View, past: &Past, call: &RangeRequest) -> Result<View, Status> {
    let Some(revision) = range::revision(call) else { return Ok(txn.view()) };
    if revision == before.revision() {
        return Ok(before.clone());
    }
    match past.get(revision) {
        Some(view) => view.cloned(),
        // It was the future when the request came, so there is little to undo.
        None => txn.view_at(&range::keys(call), revision).map_err(failed),
    }
}

fn put(txn: &mut Txn<'_>, call: PutRequest) -> Result<PutResponse, Status> {
    let previous =
        if call.prev_kv || call.ignore_value || call.ignore_lease { found(&txn.view(), &call.key) } else { None };
    let kept = previous.as_ref().filter(|_| call.ignore_value).map(|previous| previous.value.clone());
    let value = kept.unwrap_or(call.value);
    let lease = previous.as_ref().filter(|_| call.ignore_lease).map_or(call.lease, |previous| previous.lease);
    let revision = txn.put(key(&call.key)?, value, lease).map_err(failed)?;
    Ok(PutResponse { header: header(revision), prev_kv: previous.filter(|_| call.prev_kv) })
}

fn delete(txn: &mut Txn<'_>, call: &DeleteRangeRequest) -> DeleteRangeResponse {
    let range = KeyRange::new(call.key.clone(), call.range_end.clone());
    let view = txn.view();
    let (mut deleted, mut prev_kvs) = (0, Vec::new());
    for entry in view.range(&range) {
        deleted += i64::from(txn.delete(entry.key.clone()));
        if call.prev_kv {
            prev_kvs.push(key_value(entry));
        }
    }
    DeleteRangeResponse { header: header(txn.revision()), deleted, prev_kvs }
}

#[cfg(test)]
mod tests;
