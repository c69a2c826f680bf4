//! How large requests may be, and how far a watch may say that it is.

use std::net::TcpListener;
use std::time::Duration;

use clap::Parser;
use etcd_client::{Client, Error, Txn, TxnOp, WatchOptions};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: etcd::Args,
}

/// Serves with these flags while `used` runs.
async fn serving(flags: &str, used: impl AsyncFnOnce(Client)) {
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let line = format!("etcd --listen-client-urls {url} {flags} --data-dir");
    let words = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned);
    let words = words.chain([dir.path().to_str().unwrap().to_owned()]);
    let config = Line::try_parse_from(words).unwrap().args.config().unwrap();
    let (trigger, drain) = daemon::Drain::new();
    let server = etcd::run(config, drain);
    let client = async {
        let connected = async {
            loop {
                if let Ok(mut client) = Client::connect([&url], None).await
                    && client.get("a", None).await.is_ok()
                {
                    return client;
                }
                tokio::task::yield_now().await;
            }
        };
        used(tokio::time::timeout(Duration::from_secs(20), connected).await.unwrap()).await;
        trigger.start();
    };
    let (served, ()) = tokio::join!(server, client);
    served.unwrap();
}

fn is_too_large(answer: Result<impl Sized, Error>) -> bool {
    matches!(answer, Err(Error::GRpcStatus(status)) if status.message() == "etcdserver: request is too large")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_bounded_as_a_whole() {
    serving("", async |mut client| {
        let puts = ["a", "b"].map(|key| TxnOp::put(key, vec![b'x'; 900 << 10], None));
        assert!(is_too_large(client.txn(Txn::new().and_then(puts)).await));
        let puts = ["a", "b"].map(|key| TxnOp::put(key, vec![b'x'; 700 << 10], None));
        client.txn(Txn::new().and_then(puts)).await.unwrap();
        assert!(is_too_large(client.put("a", vec![b'x'; 3 << 19], None).await), "a value with its key");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_may_be_above_what_grpc_takes_by_itself() {
    serving("--max-request-bytes 8388608", async |mut client| {
        client.put("a", vec![b'x'; 6 << 20], None).await.unwrap();
        assert!(is_too_large(client.put("a", vec![b'x'; 8 << 20], None).await));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_of_a_watch_of_the_future_is_not_ahead_of_the_store() {
    serving("", async |mut client| {
        client.put("a", "", None).await.unwrap();
        let future = WatchOptions::new().with_start_revision(100);
        let mut stream = client.watch("a", Some(future)).await.unwrap();
        assert!(stream.message().await.unwrap().unwrap().created());
        stream.request_progress().await.unwrap();
        assert_eq!(stream.message().await.unwrap().unwrap().header().unwrap().revision(), 2);
    })
    .await;
}
