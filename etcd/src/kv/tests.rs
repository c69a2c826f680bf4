//! What is read while the committing thread is busy, and at revisions of the past.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use store::{EmbeddedStore, Options};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::proto::{COMPARE_EQUAL, Compare, TARGET_MOD, Target};

const SOON: Duration = Duration::from_secs(20);

/// Runs `used` while nothing can be committed, until what it is given is dropped.
async fn holding<T>(server: &Server, used: impl AsyncFnOnce(mpsc::Sender<()>) -> T) -> T {
    let (started, is_held) = oneshot::channel();
    let (release, held) = mpsc::channel::<()>();
    let holding = server.store.transact(move |_| {
        started.send(()).unwrap();
        // It ends as well when nobody is there any more.
        let _ = held.recv();
        Ok::<_, ()>(())
    });
    let used = async {
        is_held.await.unwrap();
        used(release).await
    };
    let (held, outcome) = tokio::join!(holding, used);
    held.unwrap().unwrap();
    outcome
}

/// Has everything that `queued` writes when it is first polled wait before the first of it is decided.
async fn at_once<T>(server: &Server, queued: impl Future<Output = T>) -> T {
    holding(server, async |release| tokio::join!(queued, async { drop(release) }).0).await
}

fn refused(answer: Result<TxnResponse, Status>, why: crate::errors::Known) {
    assert_eq!(answer.unwrap_err().message(), why.text());
}

fn read(key: &'static str, revision: i64) -> RequestOp {
    let call = RangeRequest { key: Bytes::from_static(key.as_bytes()), revision, ..RangeRequest::default() };
    RequestOp { request: Some(Request::Range(call)) }
}

fn write(key: &'static str, value: &'static str) -> RequestOp {
    RequestOp { request: Some(Request::Put(put_of(key, value))) }
}

fn put_of(key: &'static str, value: &'static str) -> PutRequest {
    let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
    PutRequest { key, value, ..PutRequest::default() }
}

fn all(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..TxnRequest::default() }
}

/// That `key` was last changed at this revision.
fn unchanged(key: &'static str, revision: i64) -> Compare {
    Compare {
        key: Bytes::from_static(key.as_bytes()),
        target: TARGET_MOD,
        result: COMPARE_EQUAL,
        target_union: Some(Target::ModRevision(revision)),
        ..Compare::default()
    }
}

/// The values that were read with the revisions in their headers, of nested transactions too.
fn values(answer: &TxnResponse) -> Vec<(String, i64)> {
    let of = |op: &crate::proto::ResponseOp| match &op.response {
        Some(Response::Range(read)) => {
            let text = |kv: &KeyValue| String::from_utf8(kv.value.to_vec()).unwrap();
            vec![(read.kvs.iter().map(text).collect(), read.header.as_ref().unwrap().revision)]
        }
        Some(Response::Txn(nested)) => values(nested),
        _ => Vec::new(),
    };
    answer.responses.iter().flat_map(of).collect()
}

fn pairs(list: &[(&str, i64)]) -> Vec<(String, i64)> {
    list.iter().map(|(value, revision)| ((*value).to_owned(), *revision)).collect()
}

/// `a` is 1 at 2, 2 at 3 and 3 at 4.
async fn filled() -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::empty(dir.path());
    for value in ["1", "2", "3"] {
        put(&server, put_of("a", value)).await.unwrap();
    }
    (server, dir)
}

async fn compacted(server: &Server, revision: i64) {
    compact(server, CompactionRequest { revision, physical: false }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_reads_does_not_wait_for_writers() {
    let (server, _dir) = filled().await;
    let nested = RequestOp { request: Some(Request::Txn(all(vec![read("a", 3), read("b", 0)]))) };
    let call = TxnRequest {
        compare: vec![unchanged("a", 4)],
        success: vec![read("a", 0), read("a", 2), nested],
        failure: vec![read("a", 99)],
    };
    let answer = holding(&server, async |_release| timeout(SOON, txn(&server, call.clone())).await).await;
    let answer = answer.expect("it does not wait").unwrap();
    assert!(answer.succeeded && answer.header.as_ref().unwrap().revision == 4);
    assert_eq!(values(&answer), pairs(&[("3", 4), ("1", 4), ("2", 4), ("", 4)]));
    let other = TxnRequest { compare: vec![unchanged("a", 3)], ..call };
    refused(txn(&server, other).await, FUTURE);
    compacted(&server, 3).await;
    refused(txn(&server, all(vec![read("a", 2)])).await, COMPACTED);
    assert_eq!(values(&txn(&server, all(vec![read("a", 3)])).await.unwrap()), pairs(&[("2", 4)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::empty(dir.path());
    let rounds = ["a", "b", "c", "d"].map(async |key| {
        for value in ["1", "2", "3", "4", "5", "6", "7", "8"] {
            put(&server, put_of(key, value)).await.unwrap();
            assert_eq!(values(&txn(&server, all(vec![read(key, 0)])).await.unwrap())[0].0, value);
        }
    });
    futures::future::join_all(rounds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_writes_reads_the_past_and_what_it_wrote() {
    let (server, _dir) = filled().await;
    let call = all(vec![read("a", 2), write("a", "4"), read("a", 0), read("a", 3), read("a", 4)]);
    assert_eq!(values(&txn(&server, call).await.unwrap()), pairs(&[("1", 4), ("4", 5), ("2", 5), ("3", 5)]));
    for revision in [6, 99] {
        refused(txn(&server, all(vec![write("a", "x"), read("a", revision)])).await, FUTURE);
    }
    compacted(&server, 4).await;
    refused(txn(&server, all(vec![write("a", "x"), read("a", 3)])).await, COMPACTED);
    let chosen = TxnRequest { failure: vec![read("a", 3)], ..all(vec![write("b", "5"), read("a", 4)]) };
    assert_eq!(values(&txn(&server, chosen).await.unwrap()), pairs(&[("3", 6)]), "the other branch is not asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_between_a_request_and_its_decision_counts() {
    let (server, _dir) = filled().await;
    let reached = all(vec![write("b", "1"), read("a", 5)]);
    let gone = all(vec![write("b", "2"), read("a", 2)]);
    // All of it waits when the first is decided.
    let (written, reached, compacted, gone) = at_once(&server, async {
        tokio::join!(
            put(&server, put_of("a", "4")),
            txn(&server, reached),
            compact(&server, CompactionRequest { revision: 4, physical: false }),
            txn(&server, gone)
        )
    })
    .await;
    assert_eq!(written.unwrap().header.unwrap().revision, 5);
    assert_eq!(values(&reached.unwrap()), pairs(&[("4", 6)]));
    compacted.unwrap();
    refused(gone, COMPACTED);
    assert_eq!(server.store.latest().get("b").unwrap().value, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_to_write_down_is_refused() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let limited = Options { transaction_bytes_max: 64 << 10, ..Options::new(std::time::UNIX_EPOCH) };
    let store = Arc::new(EmbeddedStore::open(dirs[0].path(), limited).unwrap());
    let server = Server { store, ..Server::empty(dirs[1].path()) };
    let keys = ["a", "b", "c"];
    for key in keys {
        put(&server, PutRequest { value: vec![b'x'; 30 << 10].into(), ..put_of(key, "") }).await.unwrap();
    }
    // A small request.
    let again = |key| PutRequest { ignore_value: true, ..put_of(key, "") };
    let calls = keys.map(|key| RequestOp { request: Some(Request::Put(again(key))) });
    refused(txn(&server, all(calls.to_vec())).await, TOO_LARGE);
    assert_eq!(server.store.latest().revision(), 4);
    let two = txn(&server, all(calls[..2].to_vec())).await.unwrap();
    assert_eq!(two.header.unwrap().revision, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_request_reads_of_the_past_costs_one_way_back() {
    let (server, _dir) = filled().await;
    for n in 4..=100 {
        put(&server, PutRequest { value: n.to_string().into(), ..put_of("a", "") }).await.unwrap();
    }
    // The value of each is one less than its revision.
    let reads: Vec<_> = (2..=101).map(|revision| read("a", revision)).collect();
    let nested = RequestOp { request: Some(Request::Txn(all(reads[..20].to_vec()))) };
    let wanted: Vec<_> = (1..=100).chain(1..=20).map(|n| n.to_string()).collect();
    for writes in [false, true] {
        let mut ops = reads.clone();
        ops.push(nested.clone());
        ops.extend(writes.then(|| write("b", "1")));
        let before = server.store.counters().undone.get();
        let answer = txn(&server, all(ops)).await.unwrap();
        let read: Vec<_> = values(&answer).into_iter().map(|(value, _)| value).collect();
        assert_eq!(read, wanted);
        let undone = server.store.counters().undone.get() - before;
        assert!((99..=100).contains(&undone), "{undone} changes were looked at");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_nested_deeper_has_no_more_operations() {
    let (server, _dir) = filled().await;
    let many = |count: usize, op: &RequestOp| all(vec![op.clone(); count]);
    let nest = |call| RequestOp { request: Some(Request::Txn(call)) };
    let two = many(64, &nest(many(64, &read("a", 2))));
    assert_eq!(values(&txn(&server, two).await.unwrap()).len(), 64 * 64);
    let three = many(40, &nest(many(40, &nest(many(40, &read("a", 2))))));
    refused(txn(&server, three).await, crate::errors::TOO_MANY_OPS);
    let too_long = many(65, &nest(many(64, &read("a", 2))));
    refused(txn(&server, too_long).await, crate::errors::TOO_MANY_OPS);
}
