//! Clients that connect and do not go on.

use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::{Instant, timeout};

use super::*;

/// A connection that is served, on which `first` was sent.
async fn begun(first: &[u8]) -> (DuplexStream, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::empty(dir.path());
    let drain = server.drain.clone();
    let (mut client, stream) = duplex(1 << 16);
    client.write_all(first).await.unwrap();
    Tasks::new(drain.clone()).spawn("connection", serve(stream, Arc::new(server), false, drain));
    (client, dir)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_request_is_hung_up_on() {
    for first in [&b""[..], b"PRI * HTTP", b"P", b"GET /health HTTP/1.1\r\nHost: "] {
        let (mut client, _dir) = begun(first).await;
        let start = Instant::now();
        let mut answer = Vec::new();
        let ended = timeout(HANDSHAKE_TIMEOUT * 2, client.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "{}", String::from_utf8_lossy(first));
        assert!(start.elapsed() >= HANDSHAKE_TIMEOUT);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_of_http_2_may_wait_with_its_first_call() {
    // The preface and empty settings.
    let first = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let (mut client, _dir) = begun(&first).await;
    let mut answer = Vec::new();
    let ended = timeout(HANDSHAKE_TIMEOUT * 2, client.read_to_end(&mut answer)).await;
    assert!(ended.is_err(), "it is there still");
    assert!(!answer.is_empty(), "settings came");
}

#[tokio::test(start_paused = true)]
async fn a_short_request_is_answered() {
    let (mut client, _dir) = begun(b"GET /version HTTP/1.0\r\n\r\n").await;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 OK") && answer.contains("etcdserver"), "{answer}");
}
