//! What the embedded store does beyond the contract, for etcd's protocol: transactions, leases, lasting compaction;
//! and directories that an earlier version wrote.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use store::{
    Clock, EmbeddedStore, Error, Expect, Key, KeyPrefix, KeyRange, OpenError, Options, RangeRequest, Store, Txn,
};

use crate::embedded::{key, options, put};

fn foreign(name: &str) -> Key {
    Key::foreign(name).unwrap()
}

fn everything() -> KeyRange {
    KeyRange::new(Bytes::from_static(b"\0"), Bytes::from_static(b"\0"))
}

/// Forgets the history before `revision`.
async fn compact(store: &EmbeddedStore, revision: u64) {
    let compact = move |txn: &mut Txn<'_>| {
        txn.compact(revision);
        Ok::<_, ()>(())
    };
    store.transact(compact).await.unwrap().unwrap();
}

/// `key=value@modified.version/lease` of everything.
fn shown(store: &EmbeddedStore) -> Vec<String> {
    let all = everything();
    let show = |entry: &Arc<store::Entry>| {
        let value = crate::contract::text(&entry.value);
        format!("{}={value}@{}.{}/{}", entry.key, entry.mod_revision, entry.version, entry.lease)
    };
    store.latest().range(&all).map(show).collect()
}

async fn transact(store: &EmbeddedStore, writes: &'static [(&str, Option<&str>)]) -> Result<u64, Error> {
    let decide = move |txn: &mut store::Txn<'_>| {
        for (name, value) in writes {
            match value {
                Some(value) => drop(txn.put(foreign(name), Bytes::from_static(value.as_bytes()), 0)?),
                None => drop(txn.delete(foreign(name))),
            }
        }
        Ok(txn.revision())
    };
    store.transact(decide).await?
}

#[tokio::test]
async fn what_a_transaction_changes_is_one_revision() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    assert_eq!(transact(&store, &[("a", Some("1")), ("b", Some("1"))]).await.unwrap(), 2);
    assert_eq!(transact(&store, &[("a", Some("2")), ("b", None), ("b", Some("3")), ("c", None)]).await.unwrap(), 3);
    let want = ["a=2@3.2/0", "b=3@3.1/0"];
    assert_eq!(shown(&store), want);
    let read_only = store.transact(|txn| Ok::<_, ()>(txn.view().get("a").unwrap().version)).await.unwrap();
    assert_eq!((read_only, store.revision().await.unwrap()), (Ok(2), 3), "reading takes no revision");
    let refused = store.transact(|txn| {
        txn.delete(foreign("a"));
        Err::<(), _>("changed its mind")
    });
    assert_eq!(refused.await.unwrap(), Err("changed its mind"));
    drop(store);
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    assert_eq!((shown(&store), store.revision().await.unwrap()), (want.map(str::to_owned).to_vec(), 3));
    let batch = store.watch_range(&everything(), 1).unwrap().next().await.unwrap();
    let events: Vec<_> = batch.events.iter().map(|event| (event.revision, event.key.as_str())).collect();
    assert_eq!(events, [(2, "a"), (2, "b"), (3, "a"), (3, "b"), (3, "b")]);
    let earlier = store.view(&everything(), Some(2)).unwrap();
    assert_eq!(earlier.get("b").unwrap().value, "1");
}

/// Writes every key but some, which are others in the next round.
fn write_round(txn: &mut Txn<'_>, keys: usize, round: usize) -> Result<u64, Error> {
    for n in 0..keys {
        let name = foreign(&format!("{n:03}"));
        match (n + round) % 7 {
            0 => drop(txn.delete(name)),
            _ => drop(txn.put(name, Bytes::from(round.to_string()), 0)?),
        }
    }
    Ok(txn.revision())
}

#[tokio::test]
async fn long_histories_are_undone_exactly() {
    const KEYS: usize = 500;
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    for round in 0..30 {
        let written = store.transact(move |txn| write_round(txn, KEYS, round)).await.unwrap().unwrap();
        assert_eq!(written, round as u64 + 2);
    }
    for round in (0..30).step_by(3) {
        let view = store.view(&everything(), Some(round as u64 + 2)).unwrap();
        let want: Vec<_> = (0..KEYS).filter(|n| (n + round) % 7 != 0).map(|n| format!("{n:03}")).collect();
        let (all, value) = (everything(), round.to_string());
        let found = view.range(&all).filter(|entry| entry.value == value).map(|entry| entry.key.to_string());
        assert!(found.collect::<Vec<_>>() == want && view.len() == want.len(), "round {round}");
    }
}

#[tokio::test]
async fn a_transaction_is_refused_whole_when_the_value_is_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), Options { value_bytes_max: 3, ..options() }).unwrap();
    let error = transact(&store, &[("a", Some("1")), ("b", Some("1234"))]).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    assert_eq!((shown(&store).len(), store.revision().await.unwrap()), (0, 1));
}

#[tokio::test]
async fn keys_go_with_their_lease() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(1_000_000));
    let clock = Clock::custom({
        let now = now.clone();
        move || now.load(Ordering::Relaxed)
    });
    let options = || Options { clock: clock.clone(), ..options() };
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    let leased = |txn: &mut store::Txn<'_>| {
        txn.grant(7, 60_000);
        txn.grant(8, 60_000);
        txn.put(foreign("a"), Bytes::from_static(b"1"), 7)?;
        txn.put(foreign("b"), Bytes::from_static(b"1"), 7)?;
        txn.put(foreign("c"), Bytes::from_static(b"1"), 8)?;
        txn.put(foreign("b"), Bytes::from_static(b"2"), 0)
    };
    store.transact(leased).await.unwrap().unwrap();
    let keys: Vec<_> = store.latest().leases().get(7).unwrap().keys.iter().map(ToString::to_string).collect();
    assert_eq!(keys, ["a"], "a key has one lease");
    now.fetch_add(50_000, Ordering::Relaxed);
    assert_eq!(store.transact(|txn| Ok::<_, ()>(txn.renew(7))).await.unwrap(), Ok(Some(60_000)));
    now.fetch_add(20_000, Ordering::Relaxed);
    put(&store, 1, b"later").await.unwrap();
    assert_eq!(shown(&store), ["/registry/pods/default/web-0001=later@4.1/0", "a=1@2.1/7", "b=2@2.2/0"]);
    drop(store);
    now.fetch_add(100_000, Ordering::Relaxed);
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    put(&store, 1, b"opened").await.unwrap();
    assert!(store.latest().leases().get(8).is_none(), "a lease that ended stays so");
    assert!(shown(&store).contains(&"a=1@2.1/7".to_owned()), "nobody could renew it while it was closed");
    assert_eq!(store.transact(|txn| Ok::<_, ()>((txn.revoke(7), txn.revoke(7)))).await.unwrap(), Ok((true, false)));
    assert!(store.latest().get("a").is_none() && store.latest().leases().is_empty());
}

#[tokio::test]
async fn a_compaction_lasts() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    for value in ["1", "2", "3"] {
        put(&store, 1, value.as_bytes()).await.unwrap();
    }
    compact(&store, 3).await;
    let check = async |store: &EmbeddedStore| {
        assert_eq!(store.view(&everything(), Some(3)).unwrap().get(key(1).as_str()).unwrap().value, "2");
        assert!(matches!(store.view(&everything(), Some(2)), Err(Error::Compacted { oldest: 3, .. })));
        assert!(matches!(store.watch_range(&everything(), 1), Err(Error::Compacted { .. })));
        assert_eq!(store.watch_range(&everything(), 2).unwrap().next().await.unwrap().events.len(), 2);
        assert_eq!(store.latest().compacted(), 3);
    };
    check(&store).await;
    drop(store);
    check(&EmbeddedStore::open(dir.path(), options()).unwrap()).await;
}

#[tokio::test]
async fn leases_and_versions_are_in_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let small = || Options { segment_bytes: 4096, snapshot_after_bytes: 3000, ..options() };
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    let leased = |txn: &mut store::Txn<'_>| {
        txn.grant(7, 3_600_000);
        txn.put(foreign("a"), Bytes::from_static(b"1"), 7)
    };
    store.transact(leased).await.unwrap().unwrap();
    transact(&store, &[("b", Some("1"))]).await.unwrap();
    transact(&store, &[("b", Some("2"))]).await.unwrap();
    compact(&store, 2).await;
    let deadline = std::time::Instant::now() + crate::contract::SOON;
    while store.counters().checkpoints.get() < 2 {
        put(&store, 1, &[b'x'; 500]).await.unwrap();
        assert!(std::time::Instant::now() < deadline, "no snapshot was taken");
    }
    drop(store);
    let store = EmbeddedStore::open(dir.path(), small()).unwrap();
    let shown = shown(&store);
    assert!(shown.contains(&"a=1@2.1/7".to_owned()) && shown.contains(&"b=2@4.2/0".to_owned()), "{shown:?}");
    assert_eq!(store.latest().leases().get(7).unwrap().keys.len(), 1);
    assert_eq!(store.latest().compacted(), 2);
}

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// What version 1 wrote: a snapshot at 17, log behind it, a deletion and a key with a time to live.
async fn check_format_1(dir: &Path, revision: u64, versions: [u64; 2]) {
    let clock = Clock::custom(|| 1_700_000_000_000);
    let store = EmbeddedStore::open(dir, Options { clock, ..options() }).unwrap();
    assert_eq!(store.revision().await.unwrap(), revision);
    let page = store.range(RangeRequest::all(KeyPrefix::root())).await.unwrap();
    let names: Vec<_> = page.entries.iter().map(|entry| entry.key.name().to_owned()).collect();
    let want = ["web-0000", "web-0001", "web-0002", "web-0004", "web-0005", "web-0006", "web-0020"];
    assert_eq!(names, want);
    assert_eq!(page.entries[3].value, "after the snapshot");
    assert_eq!([page.entries[3].version, page.entries[6].version], versions);
    assert_eq!(store.watch(KeyPrefix::root(), 17).await.unwrap().next().await.unwrap().events.len(), 15);
}

#[tokio::test]
async fn what_version_1_wrote_is_read_and_goes_on() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/format-1");
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture, dir.path());
    check_format_1(dir.path(), 32, [4, 1]).await;
    check_format_1(dir.path(), 32, [4, 1]).await;
    let last = dir.path().join("log-0000000000000004");
    assert_eq!(fs::read(&last).unwrap()[8], 2, "programs of version 1 refuse what goes on with version 2");
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    transact(&store, &[("a", Some("1")), ("b", Some("1"))]).await.unwrap();
    drop(store);
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    assert_eq!(store.latest().get("b").unwrap().mod_revision, 33);
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(EmbeddedStore::open(dir.path(), options()).unwrap());
    let path = dir.path().join("log-0000000000000001");
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 3;
    let crc = crc32c::crc32c(&bytes[..508]).to_le_bytes();
    bytes[508..512].copy_from_slice(&crc);
    fs::write(&path, &bytes).unwrap();
    let error = EmbeddedStore::open(dir.path(), options()).unwrap_err();
    assert!(matches!(error, OpenError::Version { found: 3, supported: 2, .. }), "{error}");
    assert!(error.to_string().contains("has format version 3, this program supports 2"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn an_api_servers_writes_and_a_foreign_clients_are_one_history() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    let mine = put(&store, 1, b"1").await.unwrap();
    transact(&store, &[("/registry/pods/default/web-0001", Some("2")), ("elsewhere", Some("x"))]).await.unwrap();
    let stale = store.put(key(1), Bytes::from_static(b"3"), Expect::Revision(mine), None).await.unwrap_err();
    assert!(matches!(stale, Error::Conflict { current: Some(entry), .. } if entry.value == "2"));
    let events = store.watch(KeyPrefix::root(), mine).await.unwrap().next().await.unwrap().events;
    assert_eq!(events.len(), 1, "the API server sees what lies below its root");
}

#[tokio::test]
async fn a_lease_granted_again_before_a_snapshot_keeps_its_keys_after_a_restart() {
    const LEASE: i64 = 7;
    let dir = tempfile::tempdir().unwrap();
    let eager = || Options { snapshot_after_bytes: 1, segment_bytes: 8 << 20, ..options() };
    let store = EmbeddedStore::open(dir.path(), eager()).unwrap();
    let change = async |decide: fn(&mut Txn<'_>)| {
        let decide = move |txn: &mut Txn<'_>| {
            decide(txn);
            Ok::<_, ()>(txn.revision())
        };
        store.transact(decide).await.unwrap().unwrap()
    };
    change(|txn| txn.grant(LEASE, 60_000)).await;
    change(|txn| assert!(txn.revoke(LEASE))).await;
    change(|txn| txn.grant(LEASE, 60_000)).await;
    let leased = change(|txn| drop(txn.put(foreign("k"), Bytes::from_static(b"x"), LEASE))).await;
    // Until there is a snapshot with the key, in the segment where all of it stands.
    let snapshot = || {
        let names = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let revision = |name: String| u64::from_str_radix(name.strip_prefix("snapshot-")?, 16).ok();
        names.filter_map(revision).max()
    };
    for n in 0..5_000 {
        put(&store, n % 2, b"more log").await.unwrap();
        if snapshot().is_some_and(|revision| revision >= leased) {
            break;
        }
    }
    assert!(snapshot().is_some_and(|revision| revision >= leased));
    assert!(dir.path().join("log-0000000000000001").exists());
    drop(store);
    let read = store::Backup::read(dir.path()).unwrap();
    let (file, to) = (dir.path().join("file"), dir.path().join("to"));
    read.save(&file).unwrap();
    store::restore(&file, &to).unwrap();
    for dir in [dir.path(), &to] {
        let store = EmbeddedStore::open(dir, eager()).unwrap();
        let view = store.latest();
        let keys: Vec<_> = view.leases().get(LEASE).unwrap().keys.iter().map(Key::to_string).collect();
        assert_eq!(keys, ["k"]);
    }
}
