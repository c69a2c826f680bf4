//! The contract on the embedded store, and what only it promises.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use store::{Clock, EmbeddedStore, Error, Expect, Key, KeyPrefix, OpenError, Options, RangeRequest, Store};
use tokio::task::JoinSet;

use crate::contract;

pub(crate) fn options() -> Options {
    Options { segment_bytes: 1 << 20, ..Options::new(UNIX_EPOCH) }
}

pub(crate) fn key(n: usize) -> Key {
    Key::new(["pods", "default", &format!("web-{n:04}")]).unwrap()
}

pub(crate) async fn put(store: &EmbeddedStore, n: usize, value: &[u8]) -> Result<u64, Error> {
    store.put(key(n), Bytes::copy_from_slice(value), Expect::Any, None).await
}

async fn names(store: &EmbeddedStore) -> Vec<String> {
    let page = store.range(RangeRequest::all(KeyPrefix::root())).await.unwrap();
    page.entries.iter().map(|entry| entry.key.name().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    let dirs = tempfile::tempdir().unwrap();
    let made = AtomicU64::new(0);
    contract::run(async || {
        let dir = dirs.path().join(made.fetch_add(1, Ordering::Relaxed).to_string());
        Arc::new(EmbeddedStore::open(&dir, options()).unwrap()) as Arc<dyn Store>
    })
    .await;
}

#[tokio::test]
async fn a_new_store_is_at_revision_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    assert_eq!(store.revision().await.unwrap(), 1);
    assert_eq!(put(&store, 1, b"x").await.unwrap(), 2);
}

#[tokio::test]
async fn two_processes_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    assert!(matches!(EmbeddedStore::open(dir.path(), options()), Err(OpenError::Locked { .. })));
    store.close();
    EmbeddedStore::open(dir.path(), options()).unwrap();
}

/// Files and directories of `dir` that others than their owner may use, `dir` included.
pub(crate) fn open_to_others(dir: &Path) -> Vec<PathBuf> {
    let within = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode();
    within.chain([dir.to_owned()]).filter(|path| mode(path) & 0o077 != 0).collect()
}

#[tokio::test]
async fn only_the_owner_reads_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("above/store");
    // Small enough for segments and snapshots to come while it is open.
    let busy = Options { segment_bytes: 16 << 10, snapshot_after_bytes: 16 << 10, ..options() };
    let store = EmbeddedStore::open(&dir, busy).unwrap();
    while store.counters().checkpoints.get() < 2 {
        put(&store, 1, &[b'x'; 4096]).await.unwrap();
    }
    store.close();
    assert_eq!(open_to_others(&dir), [""; 0].map(PathBuf::from));
}

#[tokio::test]
async fn a_closed_store_ends_watches_and_refuses_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    put(&store, 1, b"x").await.unwrap();
    let mut stream = store.watch(KeyPrefix::root(), 1).await.unwrap();
    store.close();
    assert_eq!(stream.next().await.unwrap().events.len(), 1, "what had happened is still delivered");
    assert!(matches!(stream.next().await, Err(Error::Closed)));
    assert!(matches!(put(&store, 1, b"x").await, Err(Error::Closed)));
    assert!(matches!(store.health().await, Err(Error::Closed)));
    assert!(store.get(&key(1)).await.unwrap().0.is_some());
}

#[tokio::test]
async fn large_values_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), Options { value_bytes_max: 10, ..options() }).unwrap();
    put(&store, 1, &[1; 10]).await.unwrap();
    let error = put(&store, 1, &[1; 11]).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { bytes: 11, limit: 10, .. }));
}

#[tokio::test]
async fn waiting_writes_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open(dir.path(), options()).unwrap());
    let mut writers = JoinSet::new();
    for writer in 0..50 {
        let store = store.clone();
        writers.spawn(async move {
            for _ in 0..20 {
                put(&store, writer, b"x").await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let counters = store.counters();
    assert_eq!((counters.commits.get(), counters.keys.get()), (1000, 50));
    assert!(counters.batches.get() < 500, "{} batches", counters.batches.get());
}

#[tokio::test]
async fn time_to_live_and_history_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(1_000_000));
    let clock = Clock::custom({
        let now = now.clone();
        move || now.load(Ordering::Relaxed)
    });
    let options = || Options { clock: clock.clone(), ..options() };
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    let ttl = Some(Duration::from_secs(60));
    store.put(key(1), Bytes::from_static(b"1"), Expect::Any, ttl).await.unwrap();
    put(&store, 2, b"2").await.unwrap();
    drop(store);
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    let events = store.watch(KeyPrefix::root(), 1).await.unwrap().next().await.unwrap().events;
    assert_eq!(events.len(), 2, "history is there");
    now.fetch_add(59_000, Ordering::Relaxed);
    put(&store, 3, b"3").await.unwrap();
    assert_eq!(names(&store).await, ["web-0001", "web-0002", "web-0003"]);
    now.fetch_add(2_000, Ordering::Relaxed);
    put(&store, 3, b"3").await.unwrap();
    assert_eq!(names(&store).await, ["web-0002", "web-0003"]);
    assert_eq!(store.counters().expired.get(), 1);
    now.fetch_add(301_000, Ordering::Relaxed);
    put(&store, 3, b"3").await.unwrap();
    let error = store.watch(KeyPrefix::root(), 1).await.unwrap_err();
    assert!(matches!(error, Error::Compacted { .. }), "five minutes have passed");
}

fn files(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix));
    files.sort();
    files
}

/// Writes until a snapshot has been taken, and returns the number of keys.
async fn fill(dir: &Path) -> usize {
    let small = Options { segment_bytes: 64 << 10, snapshot_after_bytes: 200 << 10, ..options() };
    let store = EmbeddedStore::open(dir, small).unwrap();
    let deadline = std::time::Instant::now() + contract::SOON;
    let mut n = 0;
    while store.counters().checkpoints.get() == 0 || n % 100 != 0 {
        put(&store, n % 100, &[b'a' + u8::try_from(n % 7).unwrap(); 1000]).await.unwrap();
        n += 1;
        assert!(std::time::Instant::now() < deadline, "no snapshot was taken");
    }
    n
}

#[tokio::test]
async fn snapshots_replace_the_log_before_them() {
    let dir = tempfile::tempdir().unwrap();
    let written = fill(dir.path()).await;
    assert_eq!(files(dir.path(), "snapshot-").len(), 1);
    let bytes: u64 = files(dir.path(), "log-").iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(bytes < written as u64 * 1000, "{bytes} bytes of log are left of {written} writes");
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    assert_eq!(store.revision().await.unwrap(), written as u64 + 1);
    assert_eq!(names(&store).await.len(), 100);
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let store = EmbeddedStore::open(dir.path(), options()).unwrap();
    let entries = store.range(RangeRequest::all(KeyPrefix::root())).await.unwrap().entries;
    let revision = store.revision().await.unwrap();
    drop(store);
    let mut refused = 0;
    for path in files(dir.path(), "log-").into_iter().chain(files(dir.path(), "snapshot-")) {
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(977) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            match EmbeddedStore::open(dir.path(), options()) {
                Err(OpenError::Damaged { .. } | OpenError::Version { .. }) => refused += 1,
                Err(error) => panic!("{}, byte {at}: {error}", path.display()),
                Ok(store) => {
                    // Padding, frames older than the snapshot's segment needs, or zeros not yet written.
                    assert_eq!(store.revision().await.unwrap(), revision, "{}, byte {at}", path.display());
                    let page = store.range(RangeRequest::all(KeyPrefix::root())).await.unwrap();
                    assert_eq!(page.entries, entries, "{}, byte {at}", path.display());
                }
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    assert!(refused > 100, "only {refused} flips were refused");
    EmbeddedStore::open(dir.path(), options()).unwrap();
}

#[tokio::test]
async fn a_missing_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    for path in [files(dir.path(), "log-").remove(0), files(dir.path(), "snapshot-").remove(0)] {
        let aside = dir.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        assert!(EmbeddedStore::open(dir.path(), options()).is_err(), "without {}", path.display());
        fs::rename(&aside, &path).unwrap();
    }
    EmbeddedStore::open(dir.path(), options()).unwrap();
}
