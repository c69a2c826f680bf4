//! The cache over an embedded store.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::*;
use crate::contract::Expect;
use crate::embedded::{EmbeddedStore, Options};

struct Fixture {
    store: Arc<EmbeddedStore>,
    cache: Arc<Cache<String>>,
    _driver: JoinSet<()>,
    _dir: tempfile::TempDir,
}

async fn fixture(history_bytes_max: usize) -> Fixture {
    fixture_in(tempfile::tempdir().unwrap(), history_bytes_max).await
}

async fn fixture_in(dir: tempfile::TempDir, history_bytes_max: usize) -> Fixture {
    let options = Options::new(UNIX_EPOCH);
    let clock = options.clock.clone();
    let store = Arc::new(EmbeddedStore::open(dir.path(), options).unwrap());
    let decode: Decode<String> = Arc::new(|entry: &Entry| {
        let view = std::str::from_utf8(&entry.value).map_err(|error| error.to_string())?.to_owned();
        let index = view.split_once('@').map(|(_, place)| place.into());
        Ok(Decoded { bytes: view.len(), view, index })
    });
    let options = CacheOptions { history_bytes_max, ..CacheOptions::new(clock) };
    let (cache, driver) = Cache::new(store.clone(), prefix(), decode, options);
    let driver = JoinSet::from_iter([driver]);
    cache.ready().await;
    Fixture { store, cache, _driver: driver, _dir: dir }
}

fn prefix() -> KeyPrefix {
    KeyPrefix::new(["pods"]).unwrap()
}

fn key(name: &str) -> Key {
    prefix().key(["default", name]).unwrap()
}

const SOON: Duration = Duration::from_secs(10);

impl Fixture {
    async fn put(&self, name: &str, value: &str) -> u64 {
        let value = Bytes::copy_from_slice(value.as_bytes());
        self.store.put(key(name), value, Expect::Any, None).await.unwrap()
    }

    async fn put_elsewhere(&self) -> u64 {
        let key = Key::new(["leases", "a"]).unwrap();
        self.store.put(key, Bytes::new(), Expect::Any, None).await.unwrap()
    }

    async fn delete(&self, name: &str) -> u64 {
        self.store.delete(key(name), Expect::Any).await.unwrap().revision
    }
}

fn listed(snapshot: &Snapshot<String>) -> Vec<(String, String)> {
    let range = snapshot.range(&prefix(), None);
    range.map(|(key, view)| (key.name().to_owned(), view.to_string())).collect()
}

fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    wanted.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn snapshots_follow_the_store_even_when_others_write() {
    let f = fixture(1 << 20).await;
    let first = f.put("a", "1").await;
    let seen = f.cache.wait_for(first, SOON).await.unwrap();
    let last = f.put_elsewhere().await;
    let later = f.cache.wait_for(last, SOON).await.unwrap();
    assert_eq!((seen.revision(), later.revision()), (first, last));
    assert_eq!(listed(&later), pairs(&[("a", "1")]));
    assert_eq!(f.cache.snapshot().revision(), last);
}

#[tokio::test]
async fn a_revision_of_the_future_is_waited_for() {
    let f = fixture(1 << 20).await;
    let current = f.cache.snapshot().revision();
    assert_eq!(f.cache.wait_for(current + 1, Duration::ZERO).await.unwrap_err(), TooLarge { current });
    let (snapshot, written) = tokio::join!(f.cache.wait_for(current + 1, SOON), f.put_elsewhere());
    assert_eq!(snapshot.unwrap().revision(), written);
}

#[tokio::test]
async fn watchers_get_every_change_once_with_what_was_before() {
    let f = fixture(1 << 20).await;
    let start = f.cache.snapshot().revision();
    let mut watcher = f.cache.watch(start).unwrap();
    f.put("a", "1").await;
    f.put_elsewhere().await;
    f.put("a", "2").await;
    let deleted = f.delete("a").await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let event = watcher.next().await.unwrap();
        seen.push((event.current.as_deref().cloned(), event.previous.as_deref().cloned()));
    }
    let some = |value: &str| Some(value.to_owned());
    assert_eq!(seen, [(some("1"), None), (some("2"), some("1")), (None, some("2"))]);
    assert_eq!(watcher.revision(), deleted);
    let quiet = f.put_elsewhere().await;
    assert_eq!(watcher.revision(), quiet, "complete although nothing happened here");
    assert!(watcher.try_next().unwrap().is_none());
}

#[tokio::test]
async fn old_snapshots_are_exact() {
    let f = fixture(1 << 20).await;
    let one = f.put("a", "1").await;
    let two = f.put("b", "1").await;
    f.put("a", "2").await;
    f.delete("b").await;
    let last = f.put("c", "1").await;
    f.cache.wait_for(last, SOON).await.unwrap();
    assert_eq!(listed(&f.cache.snapshot_at(one).unwrap()), pairs(&[("a", "1")]));
    assert_eq!(listed(&f.cache.snapshot_at(two).unwrap()), pairs(&[("a", "1"), ("b", "1")]));
    assert_eq!(listed(&f.cache.snapshot_at(last).unwrap()), pairs(&[("a", "2"), ("c", "1")]));
    assert!(matches!(f.cache.snapshot_at(last + 1), Err(Error::Future { .. })));
    f.store.compact(last).await.unwrap();
    assert!(matches!(f.cache.snapshot_at(two), Err(Error::Compacted { .. })));
}

#[tokio::test]
async fn snapshots_from_before_a_long_history_are_exact() {
    const CHANGES: usize = 9000;
    let f = fixture(64 << 20).await;
    let first = f.put("a", "first").await;
    let puts = (0..CHANGES).map(|n| f.put(if n % 3 == 0 { "a" } else { "b" }, "later"));
    let last = futures::future::join_all(puts).await.into_iter().max().unwrap();
    f.cache.wait_for(last, SOON).await.unwrap();
    assert_eq!(listed(&f.cache.snapshot_at(first).unwrap()), pairs(&[("a", "first")]));
    let middle = f.cache.snapshot_at(last - 1).unwrap();
    assert_eq!(listed(&middle), pairs(&[("a", "later"), ("b", "later")]));
}

#[tokio::test]
async fn a_watcher_that_reads_a_long_history_leaves_others_time() {
    const CHANGES: usize = 2000;
    let f = fixture(64 << 20).await;
    let from = f.put("a", "first").await;
    let last = futures::future::join_all((0..CHANGES).map(|_| f.put("a", "later"))).await.into_iter().max().unwrap();
    f.cache.wait_for(last, SOON).await.unwrap();
    let mut watcher = f.cache.watch(from).unwrap();
    let turns = Arc::new(AtomicU64::new(0));
    let _other = JoinSet::from_iter([{
        let turns = turns.clone();
        async move {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    }]);
    for _ in 0..CHANGES {
        watcher.next().await.unwrap();
    }
    assert!(turns.load(Ordering::Relaxed) > 5, "on a thread of their own");
}

#[tokio::test]
async fn watchers_go_on_after_a_restart() {
    let f = fixture(1 << 20).await;
    f.put("a", "1").await;
    let seen = f.put("b", "1").await;
    f.put("a", "2").await;
    let last = f.delete("b").await;
    let Fixture { store, cache, _driver: mut driver, _dir: dir } = f;
    driver.shutdown().await;
    store.close();
    drop((store, cache));
    let f = fixture_in(dir, 1 << 20).await;
    assert_eq!(f.cache.snapshot().revision(), last);
    assert_eq!(listed(&f.cache.snapshot_at(seen).unwrap()), pairs(&[("a", "1"), ("b", "1")]));
    let mut watcher = f.cache.watch(seen).unwrap();
    let changed = watcher.next().await.unwrap();
    assert_eq!((changed.key.name(), changed.previous.as_deref().map(String::as_str)), ("a", Some("1")));
    assert_eq!(watcher.next().await.unwrap().kind, EventKind::Delete);
    assert_eq!(watcher.revision(), last);
}

#[tokio::test]
async fn a_slow_watcher_is_told_when_history_has_gone() {
    let f = fixture(20 * EVENT_OVERHEAD_BYTES).await;
    let start = f.cache.snapshot().revision();
    let mut slow = f.cache.watch(start).unwrap();
    let mut last = 0;
    for n in 0..30 {
        last = f.put("a", &n.to_string()).await;
    }
    f.cache.wait_for(last, SOON).await.unwrap();
    let compacted = slow.next().await.unwrap_err();
    assert_eq!(compacted.requested, start);
    assert!(f.cache.watch(start).is_err());
    let mut resumed = f.cache.watch(compacted.oldest).unwrap();
    let mut revisions = Vec::new();
    while let Some(event) = resumed.try_next().unwrap() {
        revisions.push(event.revision);
    }
    assert_eq!(revisions, (compacted.oldest + 1..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_value_that_cannot_be_decoded_is_left_out() {
    let f = fixture(1 << 20).await;
    f.put("a", "1").await;
    let mut watcher = f.cache.watch(f.cache.snapshot().revision()).unwrap();
    let bad = f.store.put(key("a"), Bytes::from_static(&[0xff]), Expect::Any, None).await.unwrap();
    let snapshot = f.cache.wait_for(bad, SOON).await.unwrap();
    assert!(snapshot.is_empty());
    let mut event = watcher.next().await.unwrap();
    if event.revision < bad {
        event = watcher.next().await.unwrap();
    }
    assert_eq!((event.kind, event.previous.as_deref().map(String::as_str)), (EventKind::Delete, Some("1")));
    assert_eq!(f.cache.counters().undecodable.get(), 1);
}

#[tokio::test]
async fn pages_start_after_a_suffix() {
    let f = fixture(1 << 20).await;
    let mut last = 0;
    for name in ["a", "b", "c"] {
        last = f.put(name, "x").await;
    }
    let snapshot = f.cache.wait_for(last, SOON).await.unwrap();
    let rest: Vec<_> = snapshot.range(&prefix(), Some("default/a\0")).map(|(key, _)| key.name()).collect();
    assert_eq!(rest, ["b", "c"]);
    assert_eq!(snapshot.range(&prefix().child("other").unwrap(), None).count(), 0);
    assert_eq!((snapshot.len(), snapshot.get(&key("b")).map(|view| view.as_str())), (3, Some("x")));
}

/// Counts how often something is made, of events whose key begins with "a".
fn counting(made: &Arc<AtomicU64>, bytes: usize) -> Make<String> {
    let made = made.clone();
    Box::new(move |event| {
        made.fetch_add(1, Ordering::Relaxed);
        if !event.key.name().starts_with('a') {
            return Made::Nothing;
        }
        let mut frame = format!("{}:{}", event.key.name(), event.revision).into_bytes();
        frame.resize(frame.len().max(bytes), b' ');
        Made::Frame(frame.into())
    })
}

async fn read(watcher: &mut Watcher<String>, class: &Arc<Class<String>>, count: usize) -> Vec<Made> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.push(class.of(&*watcher.next().await.unwrap()));
    }
    seen
}

#[tokio::test]
async fn watchers_of_a_class_share_what_is_made() {
    const EVENTS: usize = 30;
    let f = fixture(1 << 20).await;
    let start = f.cache.snapshot().revision();
    let made = Arc::new(AtomicU64::new(0));
    let join = |name: &str| f.cache.class(name.to_owned(), || counting(&made, 0));
    let mut watchers: Vec<_> = (0..10).map(|_| (f.cache.watch(start).unwrap(), join("same"))).collect();
    for n in 0..EVENTS {
        f.put(if n % 3 == 0 { "a" } else { "b" }, &n.to_string()).await;
    }
    let mut all = Vec::new();
    for (watcher, class) in &mut watchers {
        all.push(read(watcher, class, EVENTS).await);
    }
    assert!(all.iter().all(|seen| *seen == all[0]), "{all:?}");
    assert_eq!(all[0].iter().filter(|made| **made != Made::Nothing).count(), EVENTS / 3);
    assert_eq!(made.load(Ordering::Relaxed), EVENTS as u64, "made once for all");
    // One that begins where the others have long been sees the same.
    let mut late = f.cache.watch(start).unwrap();
    assert_eq!(read(&mut late, &join("same"), EVENTS).await, all[0]);
    let other = join("other");
    let mut alone = f.cache.watch(start).unwrap();
    assert_eq!(read(&mut alone, &other, EVENTS).await, all[0]);
    assert_eq!((made.load(Ordering::Relaxed), other.kept_bytes()), (2 * EVENTS as u64, 0), "one alone keeps nothing");
}

#[tokio::test]
async fn a_class_is_bounded_and_whoever_is_slow_makes_its_own() {
    const EVENTS: usize = 40;
    const FRAME_BYTES: usize = 64 << 10;
    let f = fixture(1 << 20).await;
    let start = f.cache.snapshot().revision();
    let made = Arc::new(AtomicU64::new(0));
    let class = f.cache.class("c".to_owned(), || counting(&made, FRAME_BYTES));
    let same = f.cache.class("c".to_owned(), || counting(&made, FRAME_BYTES));
    for n in 0..EVENTS {
        f.put("a", &n.to_string()).await;
    }
    let (mut fast, mut slow) = (f.cache.watch(start).unwrap(), f.cache.watch(start).unwrap());
    let first = read(&mut fast, &class, EVENTS).await;
    assert!(class.kept_bytes() <= 512 << 10, "{}", class.kept_bytes());
    assert_eq!(read(&mut slow, &same, EVENTS).await, first);
    let again = made.load(Ordering::Relaxed) - EVENTS as u64;
    assert!((1..EVENTS as u64).contains(&again), "{again} were made again");
}

#[tokio::test]
async fn classes_end_with_their_last_watcher() {
    let f = fixture(1 << 20).await;
    let made = Arc::new(AtomicU64::new(0));
    for n in 0..1_000 {
        drop(f.cache.class(n.to_string(), || counting(&made, 0)));
    }
    assert!(f.cache.classes.lock().len() <= 64);
}

#[tokio::test]
async fn what_has_a_value_is_found_by_it() {
    let f = fixture(1 << 20).await;
    for (name, value) in [("a", "1@x"), ("b", "2@y"), ("c", "3@x"), ("d", "4")] {
        f.put(name, value).await;
    }
    let before = f.put("e", "5@x").await;
    let found = |snapshot: &Snapshot<String>, value: &str, start: Option<&str>| -> Vec<String> {
        snapshot.indexed(value, &prefix(), start).map(|(key, view)| format!("{}={view}", key.name())).collect()
    };
    let old = f.cache.wait_for(before, SOON).await.unwrap();
    assert_eq!(found(&old, "x", None), ["a=1@x", "c=3@x", "e=5@x"]);
    assert_eq!(found(&old, "x", Some("default/a\0")), ["c=3@x", "e=5@x"]);
    assert_eq!(old.indexed("x", &prefix().child("other").unwrap(), None).count(), 0);
    // Moved, changed in place, lost the value, gone.
    f.put("a", "6@y").await;
    f.put("c", "7@x").await;
    f.put("b", "8").await;
    let last = f.delete("e").await;
    let new = f.cache.wait_for(last, SOON).await.unwrap();
    assert_eq!((found(&new, "x", None), found(&new, "y", None)), (vec!["c=7@x".to_owned()], vec!["a=6@y".to_owned()]));
    assert_eq!(found(&new, "z", None), [""; 0]);
    // What is undone is found as it was.
    let recalled = f.cache.snapshot_at(before).unwrap();
    assert_eq!(found(&recalled, "x", None), found(&old, "x", None));
    assert_eq!(found(&recalled, "y", None), ["b=2@y"]);
}
