//! What clients of the protocol rely on beyond what etcdctl shows.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, EventType, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse,
    WatchOptions, WatchResponse, WatchStream,
};
use testkit::etcd::{Cluster, Release};
use tokio::task::block_in_place;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

async fn start() -> (Cluster, Client) {
    let cluster = block_in_place(|| Cluster::start(Release::Ironclad, 1)).unwrap();
    let client = Client::connect(cluster.endpoints(), None).await.unwrap();
    (cluster, client)
}

async fn next(stream: &mut WatchStream) -> WatchResponse {
    timeout(SOON, stream.message()).await.expect("an answer in time").unwrap().expect("the stream goes on")
}

/// `kind key@revision` of a watch's events.
fn shown(answer: &WatchResponse) -> Vec<String> {
    let kind = |kind| if kind == EventType::Put { '+' } else { '-' };
    let show = |event: &etcd_client::Event| {
        let kv = event.kv().unwrap();
        format!("{}{}@{}", kind(event.event_type()), kv.key_str().unwrap(), kv.mod_revision())
    };
    answer.events().iter().map(show).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_share_a_stream_and_neither_skip_nor_repeat() {
    let (_cluster, mut client) = start().await;
    client.put("a/1", "", None).await.unwrap();
    let from_start = WatchOptions::new().with_prefix().with_start_revision(2).with_prev_key();
    let mut stream = client.watch("a/", Some(from_start)).await.unwrap();
    let first = next(&mut stream).await;
    assert!(first.created() && first.watch_id() == 0, "{first:?}");
    assert_eq!(shown(&next(&mut stream).await), ["+a/1@2"]);
    stream.watch("b", Some(WatchOptions::new())).await.unwrap();
    assert!(next(&mut stream).await.created());
    // What one transaction changes comes in one answer for each watch.
    let ops = [TxnOp::put("a/1", "x", None), TxnOp::put("a/2", "", None), TxnOp::put("b", "", None)];
    client.txn(Txn::new().and_then(ops)).await.unwrap();
    let mut told = [next(&mut stream).await, next(&mut stream).await];
    told.sort_by_key(WatchResponse::watch_id);
    assert_eq!((shown(&told[0]), shown(&told[1])), (vec!["+a/1@3".into(), "+a/2@3".into()], vec!["+b@3".to_owned()]));
    assert_eq!(told[0].events()[0].prev_kv().unwrap().mod_revision(), 2);
    stream.cancel(1).await.unwrap();
    assert!(next(&mut stream).await.canceled());
    client.put("b", "unseen", None).await.unwrap();
    client.delete("a/", Some(DeleteOptions::new().with_prefix())).await.unwrap();
    assert_eq!(shown(&next(&mut stream).await), ["-a/1@5", "-a/2@5"]);
    stream.request_progress().await.unwrap();
    let progress = next(&mut stream).await;
    assert!(progress.events().is_empty() && progress.header().unwrap().revision() == 5, "{progress:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_what_was_compacted_says_from_where_to_go_on() {
    let (_cluster, mut client) = start().await;
    for value in ["1", "2", "3"] {
        client.put("a", value, None).await.unwrap();
    }
    client.compact(3, None).await.unwrap();
    let mut stream = client.watch("a", Some(WatchOptions::new().with_start_revision(2))).await.unwrap();
    let mut answer = next(&mut stream).await;
    if !answer.canceled() {
        answer = next(&mut stream).await;
    }
    assert!(answer.canceled() && answer.compact_revision() == 3, "{answer:?}");
    let mut stream = client.watch("a", Some(WatchOptions::new().with_start_revision(3))).await.unwrap();
    assert!(next(&mut stream).await.created());
    assert_eq!(shown(&next(&mut stream).await), ["+a@3", "+a@4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_compares_what_was_before_it() {
    let (_cluster, mut client) = start().await;
    let nested = Txn::new()
        .when([Compare::version("a", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("b", "absent", None)])
        .or_else([TxnOp::put("b", "present", None)]);
    let outer = Txn::new().and_then([TxnOp::put("a", "1", None), TxnOp::txn(nested), TxnOp::get("b", None)]);
    let answer = client.txn(outer).await.unwrap();
    let Some(TxnOpResponse::Get(read)) = answer.op_responses().pop() else { panic!("{answer:?}") };
    assert_eq!(read.kvs()[0].value_str().unwrap(), "absent", "the put of a comes after the compare");
    assert_eq!((read.kvs()[0].mod_revision(), answer.header().unwrap().revision()), (2, 2));
    let twice = Txn::new().and_then([TxnOp::put("a", "1", None), TxnOp::put("a", "2", None)]);
    let refused = client.txn(twice).await.unwrap_err();
    assert!(refused.to_string().contains("duplicate key given in txn request"), "{refused}");
    let half =
        Txn::new().and_then([TxnOp::put("c", "1", None), TxnOp::put("d", "1", Some(PutOptions::new().with_lease(77)))]);
    let refused = client.txn(half).await.unwrap_err();
    assert!(refused.to_string().contains("requested lease not found"), "{refused}");
    assert!(client.get("c", None).await.unwrap().kvs().is_empty(), "all or nothing");
    assert_eq!(client.get("a", None).await.unwrap().header().unwrap().revision(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_at_a_revision_are_of_one_moment() {
    let (_cluster, mut client) = start().await;
    for n in 0..10 {
        client.put(format!("k/{n}"), "", None).await.unwrap();
    }
    let page = |from: &str, revision| {
        let options = GetOptions::new().with_range("k0").with_limit(4).with_revision(revision);
        (from.to_owned(), options)
    };
    let (mut from, mut revision, mut names, mut counts) = ("k/".to_owned(), 0, Vec::new(), Vec::new());
    loop {
        let (key, options) = page(&from, revision);
        let answer = client.get(key, Some(options)).await.unwrap();
        names.extend(answer.kvs().iter().map(|kv| kv.key_str().unwrap().to_owned()));
        counts.push(answer.count());
        revision = if revision == 0 { answer.header().unwrap().revision() } else { revision };
        client.put("k/0-late", "", None).await.unwrap();
        client.delete("k/9", None).await.unwrap();
        if !answer.more() {
            break;
        }
        from = format!("{}\0", names.last().unwrap());
    }
    assert_eq!(names, (0..10).map(|n| format!("k/{n}")).collect::<Vec<_>>());
    assert_eq!(counts, [10, 6, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_no_text_are_refused_and_values_may_be_anything() {
    let (_cluster, mut client) = start().await;
    let refused = client.put(vec![0xff, 0xfe], "", None).await.unwrap_err();
    assert!(refused.to_string().contains("UTF-8"), "{refused}");
    client.put("a", vec![0, 0xff], None).await.unwrap();
    assert_eq!(client.get("a", None).await.unwrap().kvs()[0].value(), [0, 0xff]);
    let large = client.put("a", vec![0; 7 << 18], None).await.unwrap_err();
    assert!(large.to_string().contains("request is too large"), "{large}");
}
