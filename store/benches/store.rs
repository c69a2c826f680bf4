//! What the embedded store and the watch cache do per second, and how long one client waits.
//!
//! Values are 1 KB, every put waits for the disk, clients and store share the machine.
//! `cargo bench -p store --bench store`, with the name of a case at the end to run only that one.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use store::cache::Decoded;
use store::{Cache, CacheOptions, EmbeddedStore, Entry, Expect, Key, KeyPrefix, Options, Store};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const VALUE_BYTES: usize = 1024;
const SECONDS: f64 = 2.0;
const KEYS: usize = 20_000;

type BytesCache = Arc<Cache<Bytes>>;

fn main() {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let wanted = |case: &str| wanted.as_ref().is_none_or(|wanted| wanted == case);
    let runtime = Runtime::new().expect("a runtime");
    println!("{:<34} {:>12} {:>9} {:>9} {:>9}", "case", "per second", "p50 us", "p99 us", "per batch");
    if wanted("puts") {
        [1, 100, 1000].into_iter().for_each(|clients| runtime.block_on(puts(clients)));
    }
    if wanted("gets") {
        runtime.block_on(gets());
    }
    if wanted("fan-out") {
        [1, 20, 100, 1000].into_iter().for_each(|watchers| runtime.block_on(fan_out(watchers)));
    }
    if wanted("delay") {
        runtime.block_on(delay());
    }
    if wanted("late") {
        runtime.block_on(late());
    }
    if wanted("restart") {
        runtime.block_on(restart());
    }
}

fn open() -> (tempfile::TempDir, Arc<EmbeddedStore>) {
    let dir = tempfile::Builder::new().prefix("store").tempdir_in(std::env::temp_dir()).expect("a directory");
    let store = EmbeddedStore::open(dir.path(), Options::new(UNIX_EPOCH)).expect("the store opens");
    (dir, Arc::new(store))
}

fn key(n: usize) -> Key {
    Key::new(["pods", "default", &format!("web-{:06}", n % KEYS)]).expect("a key")
}

/// The same bytes for all, as making them is the client's work.
fn value() -> Bytes {
    static VALUE: LazyLock<Bytes> =
        LazyLock::new(|| (0..VALUE_BYTES).map(|n| ((n * n * 31) >> 3) as u8 | 1).collect::<Vec<_>>().into());
    VALUE.clone()
}

async fn put(store: &EmbeddedStore, n: usize) -> u64 {
    store.put(key(n), value(), Expect::Any, None).await.expect("the store writes")
}

fn row(case: &str, per_second: f64, times: &mut [Duration], per_batch: f64) {
    times.sort_unstable();
    let at = |part: f64| {
        times
            .get((times.len().saturating_sub(1) as f64 * part) as usize)
            .map_or(0.0, |time| time.as_nanos() as f64 / 1e3)
    };
    println!("{case:<34} {per_second:>12.0} {:>9.1} {:>9.1} {per_batch:>9.1}", at(0.5), at(0.99));
}

async fn puts(clients: usize) {
    let (_dir, store) = open();
    for n in 0..200 {
        put(&store, n).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (commits, batches) = (store.counters().commits.get(), store.counters().batches.get());
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (store, stop, next) = (store.clone(), stop.clone(), next.clone());
        tasks.spawn(async move {
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let n = next.fetch_add(7919, Ordering::Relaxed) as usize;
                let put_started = Instant::now();
                put(&store, n).await;
                times.push(put_started.elapsed());
            }
            times
        });
    }
    tokio::time::sleep(Duration::from_secs_f64(SECONDS)).await;
    stop.store(true, Ordering::Relaxed);
    let mut times: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let seconds = started.elapsed().as_secs_f64();
    let counters = store.counters();
    let commits = (counters.commits.get() - commits) as f64;
    let per_batch = commits / (counters.batches.get() - batches) as f64;
    row(&format!("durable puts, {clients} clients"), commits / seconds, &mut times, per_batch);
}

async fn gets() {
    let (_dir, store) = open();
    let mut tasks = JoinSet::new();
    for n in 0..KEYS {
        let store = store.clone();
        tasks.spawn(async move { put(&store, n).await });
    }
    tasks.join_all().await;
    let keys: Vec<_> = (0..KEYS).map(key).collect();
    let started = Instant::now();
    let mut n = 0;
    while started.elapsed().as_secs_f64() < SECONDS / 2.0 {
        for _ in 0..100 {
            n += 1;
            black_box(store.get(&keys[n * 7919 % KEYS]).await.expect("the store reads"));
        }
    }
    let each = started.elapsed() / n as u32;
    row("gets, 20,000 keys, 1 client", n as f64 / started.elapsed().as_secs_f64(), &mut [each], 0.0);
}

fn cache(store: &Arc<EmbeddedStore>) -> (BytesCache, JoinSet<()>) {
    let decode =
        Arc::new(|entry: &Entry| Ok(Decoded { view: entry.value.clone(), bytes: entry.value.len(), index: None }));
    let prefix = KeyPrefix::new(["pods"]).expect("a prefix");
    let options = CacheOptions::new(store::Clock::starting_at(UNIX_EPOCH));
    let (cache, driver) = Cache::new(store.clone(), prefix, decode, options);
    (cache, JoinSet::from_iter([driver]))
}

/// 3,000 creates at full speed from 100 clients, seen by every watcher.
async fn fan_out(watchers: usize) {
    const CREATES: usize = 3000;
    let (_dir, store) = open();
    let (cache, _driver) = cache(&store);
    cache.ready().await;
    let mut tasks = JoinSet::new();
    for _ in 0..watchers {
        let mut watcher = cache.watch(cache.snapshot().revision()).expect("a watcher");
        tasks.spawn(async move {
            for _ in 0..CREATES {
                black_box(watcher.next().await.expect("no watcher is cut off"));
            }
        });
    }
    let started = Instant::now();
    let mut writers = JoinSet::new();
    for client in 0..100 {
        let store = store.clone();
        writers.spawn(async move {
            for n in 0..CREATES / 100 {
                put(&store, client * 100 + n).await;
            }
        });
    }
    writers.join_all().await;
    tasks.join_all().await;
    let seconds = started.elapsed().as_secs_f64();
    let case = format!("events to {watchers} watchers");
    row(&case, (watchers * CREATES) as f64 / seconds, &mut [], 0.0);
}

/// From the answer of a put to the event at a watcher, and how long a list then waits for the cache.
async fn delay() {
    let (_dir, store) = open();
    let (cache, _driver) = cache(&store);
    cache.ready().await;
    let mut watcher = cache.watch(cache.snapshot().revision()).expect("a watcher");
    let mut times = Vec::new();
    for n in 0..3000 {
        let started = Instant::now();
        let (answered, ()) = tokio::join!(
            async {
                put(&store, n).await;
                started.elapsed()
            },
            async {
                watcher.next().await.expect("an event");
            }
        );
        times.push(started.elapsed().saturating_sub(answered));
    }
    row("event after the put's answer", 0.0, &mut times, 0.0);
}

/// One client that writes while watchers of something else begin a long way back, again and again, as those of a server
/// that was away do.
async fn late() {
    const HISTORY: usize = 200_000;
    let (_dir, store) = open();
    let first = put(&store, 0).await;
    let mut writers = JoinSet::new();
    for client in 0..100 {
        let store = store.clone();
        writers.spawn(async move {
            for n in 0..HISTORY / 100 {
                store.put(key(client), Bytes::from(n.to_string()), Expect::Any, None).await.expect("the store writes");
            }
        });
    }
    writers.join_all().await;
    let others = KeyPrefix::new(["leases"]).expect("a prefix");
    for watchers in [0, 1, 10] {
        let mut late = JoinSet::new();
        for _ in 0..watchers {
            late.spawn(begin_again(store.clone(), others.clone(), first));
        }
        let (started, mut times) = (Instant::now(), Vec::new());
        while started.elapsed().as_secs_f64() < SECONDS {
            let put_started = Instant::now();
            put(&store, times.len()).await;
            times.push(put_started.elapsed());
        }
        let per_second = times.len() as f64 / SECONDS;
        row(&format!("puts, {watchers} late watchers"), per_second, &mut times, 0.0);
    }
}

/// Watches from `first` on until there is nothing more, over and over.
async fn begin_again(store: Arc<EmbeddedStore>, prefix: KeyPrefix, first: u64) {
    loop {
        let newest = store.revision().await.expect("a revision");
        let mut stream = store.watch(prefix.clone(), first).await.expect("a watch");
        while stream.next().await.expect("the watch goes on").revision < newest {}
    }
}

/// Opening 100,000 objects of 3.6 KB, from a log and from a snapshot.
async fn restart() {
    const OBJECTS: usize = 100_000;
    let dir = tempfile::tempdir().expect("a directory");
    let options = || Options { history_bytes_max: 1 << 20, ..Options::new(UNIX_EPOCH) };
    let store = Arc::new(EmbeddedStore::open(dir.path(), options()).expect("the store opens"));
    let value = Bytes::from(vec![7; 3600]);
    let mut writers = JoinSet::new();
    for client in 0..100 {
        let (store, value) = (store.clone(), value.clone());
        writers.spawn(async move {
            for n in 0..OBJECTS / 100 {
                let key = Key::new(["pods", "default", &format!("web-{:06}", client * 1000 + n)]).expect("a key");
                store.put(key, value.clone(), Expect::Any, None).await.expect("the store writes");
            }
        });
    }
    writers.join_all().await;
    let snapshots = store.counters().checkpoints.get();
    drop(store);
    let started = Instant::now();
    let store = EmbeddedStore::open(dir.path(), options()).expect("the store opens again");
    let elapsed = started.elapsed();
    assert_eq!(store.revision().await.expect("a revision"), OBJECTS as u64 + 1);
    println!("opening {OBJECTS} objects of 3.6 KB after {snapshots} snapshots: {elapsed:?}");
}
