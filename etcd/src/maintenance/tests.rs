//! Who may read what is being sent.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn only_the_owner_reads_a_snapshot_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let file = nameless(dir.path()).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "it has no name");
}

#[tokio::test(flavor = "multi_thread")]
async fn few_snapshots_are_sent_at_one_time() {
    let dir = tempfile::tempdir().unwrap();
    let server = Arc::new(Server::empty(dir.path()));
    let first = snapshot(server.clone()).await.unwrap();
    let second = snapshot(server.clone()).await.unwrap();
    let refused = snapshot(server.clone()).await.err().unwrap();
    assert_eq!(refused.message(), "etcdserver: too many requests");
    drop(first);
    let third = snapshot(server).await.unwrap();
    drop((second, third));
}
