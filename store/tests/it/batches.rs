//! How much the embedded store writes down at once: batches end, and what does not fit is refused alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use store::{Clock, EmbeddedStore, Error, Key, KeyRange, Options, Store, Txn};
use tokio::sync::oneshot;

use crate::embedded::{options, put};

const LEASE: i64 = 7;

/// Holds the committer until `queued` waits, so that it finds everything that `queued` writes when it is first polled.
pub(crate) async fn at_once<T>(store: &EmbeddedStore, queued: impl Future<Output = T>) -> T {
    let (started, is_held) = oneshot::channel();
    let (release, held) = mpsc::channel::<()>();
    let holding = store.transact(move |_| {
        started.send(()).unwrap();
        held.recv().unwrap();
        Ok::<_, Error>(())
    });
    let queued = async {
        is_held.await.unwrap();
        let (outcome, ()) = tokio::join!(queued, async { release.send(()).unwrap() });
        outcome
    };
    let (held, outcome) = tokio::join!(holding, queued);
    held.unwrap().unwrap();
    outcome
}

fn everything() -> KeyRange {
    KeyRange::new(Bytes::from_static(b"\0"), Bytes::from_static(b"\0"))
}

/// Keys with long names: what a deletion writes down of each is more than 4,000 bytes.
fn long(n: usize) -> Key {
    Key::foreign(&format!("{n:04000}")).unwrap()
}

/// Puts one value at each of these keys.
async fn write(store: &EmbeddedStore, keys: Vec<Key>, value: Bytes, lease: i64) -> Result<(), Error> {
    let decide = move |txn: &mut Txn<'_>| {
        for key in keys {
            txn.put(key, value.clone(), lease)?;
        }
        Ok(())
    };
    store.transact(decide).await?
}

async fn delete(store: &EmbeddedStore, keys: Vec<Key>) -> Result<(), Error> {
    let decide = move |txn: &mut Txn<'_>| {
        for key in keys {
            txn.delete(key);
        }
        Ok::<_, Error>(())
    };
    store.transact(decide).await?
}

#[tokio::test]
async fn a_batch_ends_when_it_is_large() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    let value = Bytes::from(vec![b'x'; 1 << 20]);
    let before = store.counters().batches.get();
    let writes = (0..32).map(|n| write(&store, vec![Key::foreign(&n.to_string()).unwrap()], value.clone(), 0));
    let written = at_once(&store, futures::future::join_all(writes)).await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    assert_eq!(store.counters().batches.get() - before, 8, "of four mebibytes each");
    drop(store);
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    assert!(store.latest().len() == 32 && store.latest().range(&everything()).all(|entry| entry.value == value));
}

#[tokio::test]
async fn a_transaction_that_writes_too_much_is_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    let limited = || Options { transaction_bytes_max: 100 << 10, ..options() };
    let store = EmbeddedStore::open(dir.path(), limited()).unwrap();
    let value = Bytes::from(vec![b'x'; 40 << 10]);
    let (one, all) = (vec![long(0)], (0..3).map(long).collect());
    let queued = async {
        let writes = (write(&store, one, value.clone(), 0), write(&store, all, value.clone(), 0), put(&store, 1, b"x"));
        tokio::join!(writes.0, writes.1, writes.2)
    };
    let (before, refused, after) = at_once(&store, queued).await;
    before.unwrap();
    assert!(matches!(refused, Err(Error::TransactionTooLarge { bytes: 120_000.., limit: 102_400 })), "{refused:?}");
    assert_eq!(after.unwrap(), 3, "what was refused took no revision");
    store.health().await.unwrap();
    let large = put(&store, 1, &[b'x'; 100 << 10]).await;
    assert!(matches!(large, Err(Error::TooLarge { .. })), "{large:?}");
    drop(store);
    assert_eq!(EmbeddedStore::open(dir.path(), limited()).unwrap().latest().len(), 2);
}

#[tokio::test]
async fn deletions_count_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), Options { transaction_bytes_max: 100 << 10, ..options() }).unwrap();
    for n in 0..40 {
        write(&store, vec![long(n)], Bytes::new(), 0).await.unwrap();
    }
    let refused = delete(&store, (0..40).map(long).collect()).await;
    assert!(matches!(refused, Err(Error::TransactionTooLarge { .. })), "{refused:?}");
    assert_eq!(store.latest().len(), 40);
    delete(&store, (0..20).map(long).collect()).await.unwrap();
    assert_eq!(store.latest().len(), 20);
}

#[tokio::test]
async fn a_lease_with_too_many_keys_ends_piece_by_piece() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(1_000_000));
    let clock = Clock::custom({
        let now = now.clone();
        move || now.load(Ordering::Relaxed)
    });
    let limited = || Options { transaction_bytes_max: 100 << 10, clock: clock.clone(), ..options() };
    let store = EmbeddedStore::open(dir.path(), limited()).unwrap();
    let grant = |txn: &mut Txn<'_>| {
        txn.grant(LEASE, 60_000);
        Ok::<_, Error>(())
    };
    store.transact(grant).await.unwrap().unwrap();
    for n in 0..60 {
        write(&store, vec![long(n)], Bytes::new(), LEASE).await.unwrap();
    }
    let asked = store.transact(|txn| if txn.revoke(LEASE) { Ok(()) } else { Err(()) }).await;
    assert!(matches!(asked, Err(Error::TransactionTooLarge { .. })), "{asked:?}");
    let before = store.revision().await.unwrap();
    now.fetch_add(61_000, Ordering::Relaxed);
    put(&store, 1, b"x").await.unwrap();
    assert!(store.latest().leases().is_empty() && store.latest().len() == 1);
    let mut pieces = BTreeMap::<u64, usize>::new();
    for event in store.watch_range(&everything(), before).unwrap().next().await.unwrap().events {
        *pieces.entry(event.revision).or_default() += usize::from(event.current.is_none());
    }
    assert_eq!(pieces.into_values().collect::<Vec<_>>(), [25, 25, 10, 0]);
    drop(store);
    let store = EmbeddedStore::open(dir.path(), limited()).unwrap();
    assert!(store.latest().leases().is_empty() && store.latest().len() == 1);
}
