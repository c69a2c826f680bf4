//! What a range request selects of a state.

use std::sync::Arc;

use bytes::Bytes;
use store::{Entry, KeyRange, View};
use tonic::Status;

use crate::cluster::header;
use crate::errors::{EMPTY_KEY, INVALID_SORT};
use crate::proto::{
    KeyValue, RangeRequest, RangeResponse, SORT_CREATE, SORT_DESCEND, SORT_KEY, SORT_MOD, SORT_NONE, SORT_VALUE,
    SORT_VERSION,
};

pub(super) fn check(call: &RangeRequest) -> Result<(), Status> {
    if call.key.is_empty() {
        return Err(EMPTY_KEY.into());
    }
    let known = (SORT_NONE..=SORT_DESCEND).contains(&call.sort_order);
    if !known || !(SORT_KEY..=SORT_VALUE).contains(&call.sort_target) {
        return Err(INVALID_SORT.into());
    }
    Ok(())
}

/// Which keys are read.
pub(super) fn keys(call: &RangeRequest) -> KeyRange {
    KeyRange::new(call.key.clone(), call.range_end.clone())
}

/// At which revision, if not at the newest.
pub(super) fn revision(call: &RangeRequest) -> Option<u64> {
    u64::try_from(call.revision).ok().filter(|revision| *revision > 0)
}

/// Whether it may take long: it looks at more than one key, or at the past.
pub(super) fn is_long(call: &RangeRequest) -> bool {
    revision(call).is_some() || !keys(call).is_one()
}

/// The count is of the whole range, whatever else is asked for.
pub(super) fn answer(view: &View, keys: &KeyRange, call: &RangeRequest) -> RangeResponse {
    let header = header(view.revision());
    let limit = usize::try_from(call.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    if call.count_only {
        return RangeResponse { header, count: signed(view.range(keys).count() as u64), ..RangeResponse::default() };
    }
    let mut count = 0;
    let in_order = is_key_order(call);
    let mut entries: Vec<&Arc<Entry>> = Vec::new();
    let mut passed = 0usize;
    for entry in view.range(keys) {
        count += 1;
        if passes(entry, call) {
            passed += 1;
            // One more than asked for need not be kept to know that it is there.
            if !in_order || entries.len() < limit {
                entries.push(entry);
            }
        }
    }
    sort(&mut entries, call);
    entries.truncate(limit);
    let kvs = entries.into_iter().map(|entry| shown(entry, call.keys_only)).collect();
    RangeResponse { header, kvs, more: passed > limit, count }
}

fn is_key_order(call: &RangeRequest) -> bool {
    call.sort_target == SORT_KEY && call.sort_order != SORT_DESCEND
}

fn passes(entry: &Entry, call: &RangeRequest) -> bool {
    let within = |revision: u64, min: i64, max: i64| {
        (min == 0 || signed(revision) >= min) && (max == 0 || signed(revision) <= max)
    };
    within(entry.mod_revision, call.min_mod_revision, call.max_mod_revision)
        && within(entry.create_revision, call.min_create_revision, call.max_create_revision)
}

fn sort(entries: &mut [&Arc<Entry>], call: &RangeRequest) {
    match call.sort_target {
        SORT_VERSION => entries.sort_by_key(|entry| entry.version),
        SORT_CREATE => entries.sort_by_key(|entry| entry.create_revision),
        SORT_MOD => entries.sort_by_key(|entry| entry.mod_revision),
        SORT_VALUE => entries.sort_by(|a, b| a.value.cmp(&b.value)),
        _ => {}
    }
    if call.sort_order == SORT_DESCEND {
        entries.reverse();
    }
}

fn shown(entry: &Entry, keys_only: bool) -> KeyValue {
    let kv = key_value(entry);
    if keys_only { KeyValue { value: Bytes::new(), ..kv } } else { kv }
}

/// An entry in etcd's form; the value is shared.
pub(crate) fn key_value(entry: &Entry) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(entry.key.as_str().as_bytes()),
        create_revision: signed(entry.create_revision),
        mod_revision: signed(entry.mod_revision),
        version: signed(entry.version),
        value: entry.value.clone(),
        lease: entry.lease,
    }
}

pub(super) fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}
