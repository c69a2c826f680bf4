//! Which engine lies under the embedded store: what one durable commit costs with each.
//!
//! Every case commits batches of 1 KB values to keys that exist already, one batch after the other, and
//! waits for the disk each time, as the store's committer does. `cargo bench -p store --bench engines`.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use fjall::{KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use store::{EmbeddedStore, Expect, KeyPrefix, Options, RangeRequest, Store};

const KEYS: u64 = 20_000;
const VALUE_BYTES: usize = 1024;
const SECONDS: u64 = 2;
const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("data");

trait Engine {
    fn commit(&mut self, keys: &[String], value: &[u8]);
}

struct Fjall(fjall::Database, fjall::Keyspace);
struct Redb(redb::Database);
struct Log(File, u64);

impl Engine for Fjall {
    fn commit(&mut self, keys: &[String], value: &[u8]) {
        let mut batch = self.0.batch().durability(Some(PersistMode::SyncData));
        keys.iter().for_each(|key| batch.insert(&self.1, key.as_str(), value));
        batch.commit().expect("fjall commits");
    }
}

impl Engine for Redb {
    fn commit(&mut self, keys: &[String], value: &[u8]) {
        let transaction = self.0.begin_write().expect("redb begins");
        {
            let mut table = transaction.open_table(TABLE).expect("redb opens a table");
            for key in keys {
                table.insert(key.as_str(), value).expect("redb inserts");
            }
        }
        transaction.commit().expect("redb commits");
    }
}

impl Engine for Log {
    fn commit(&mut self, keys: &[String], value: &[u8]) {
        let mut batch = Vec::new();
        for key in keys {
            batch.extend_from_slice(key.as_bytes());
            batch.extend_from_slice(value);
        }
        batch.extend_from_slice(&crc32c::crc32c(&batch).to_le_bytes());
        self.0.write_all_at(&batch, self.1).expect("log writes");
        self.0.sync_data().expect("log syncs");
        self.1 += batch.len() as u64;
    }
}

fn fjall(dir: &Path) -> Fjall {
    let database = fjall::Database::builder(dir).open().expect("fjall opens");
    let keyspace = database.keyspace("data", KeyspaceCreateOptions::default).expect("fjall makes a keyspace");
    Fjall(database, keyspace)
}

fn redb(dir: &Path) -> Redb {
    Redb(redb::Database::create(dir.join("data.redb")).expect("redb opens"))
}

fn log(dir: &Path, prepare: impl Fn(&File)) -> Log {
    let file = OpenOptions::new().create_new(true).write(true).read(true).open(dir.join("log")).expect("log opens");
    prepare(&file);
    file.sync_all().expect("log syncs");
    Log(file, 0)
}

const LOG_BYTES: u64 = 1 << 30;

fn allocate(file: &File) {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, LOG_BYTES).expect("fallocate");
}

fn fill_with_zeros(file: &File) {
    let zeros = vec![0; 1 << 20];
    (0..LOG_BYTES >> 20).for_each(|n| file.write_all_at(&zeros, n << 20).expect("zeros"));
}

fn key(n: u64) -> String {
    format!("/registry/pods/default/web-{n:06}")
}

fn main() {
    // A damaged file may well make an engine panic; that counts as refusing it.
    std::panic::set_hook(Box::new(|_| {}));
    speed();
    println!("\n{:<22} {:>9} {:>9} {:>9}", "one byte flipped", "refused", "harmless", "lost data");
    damage("fjall", make_fjall, count_fjall);
    damage("redb", make_redb, count_redb);
    damage("store", make_store, count_store);
    println!("\n{:<22} {:>9} {:>9} {:>9}", "last write torn", "refused", "cut off", "lost data");
    torn("fjall", make_fjall, count_fjall);
    torn("store", make_store, count_store);
}

fn speed() {
    println!("{:<22} {:>6} {:>10} {:>9} {:>9} {:>12}", "engine", "batch", "commits/s", "p50 us", "p99 us", "puts/s");
    let root = std::env::temp_dir();
    for batch in [1, 100, 1000] {
        let dir = || tempfile::Builder::new().prefix("engines").tempdir_in(&root).expect("a directory");
        let at = dir();
        run("fjall", batch, &mut fjall(at.path()));
        let at = dir();
        run("redb", batch, &mut redb(at.path()));
        for (name, prepare) in [
            ("log, growing", (|_| {}) as fn(&File)),
            ("log, allocated", allocate),
            ("log, zero-filled", fill_with_zeros),
        ] {
            let at = dir();
            run(name, batch, &mut log(at.path(), prepare));
        }
    }
    load();
}

fn run(name: &str, batch: usize, engine: &mut dyn Engine) {
    // Not compressible, as a real object is only in part.
    let value: Vec<u8> = (0..VALUE_BYTES).map(|n| ((n * n * 31) >> 3) as u8 | 1).collect();
    for chunk in (0..KEYS).map(key).collect::<Vec<_>>().chunks(1000) {
        engine.commit(chunk, &value);
    }
    let mut times = Vec::new();
    let started = Instant::now();
    let mut n = 0;
    while started.elapsed() < Duration::from_secs(SECONDS) {
        let keys: Vec<_> = (0..batch as u64).map(|i| key((n + i) * 7919 % KEYS)).collect();
        n += batch as u64;
        let commit = Instant::now();
        engine.commit(&keys, &value);
        times.push(commit.elapsed());
    }
    let seconds = started.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_micros();
    let commits = times.len() as f64 / seconds;
    println!("{name:<22} {batch:>6} {commits:>10.0} {:>9} {:>9} {:>12.0}", at(0.5), at(0.99), commits * batch as f64);
}

/// How long it takes to open a store of 100,000 objects and read all of it.
fn load() {
    const OBJECTS: u64 = 100_000;
    let value = vec![7; 3600];
    let keys: Vec<_> = (0..OBJECTS).map(key).collect();
    let dir = tempfile::tempdir().expect("a directory");
    let mut engine = fjall(dir.path());
    keys.chunks(1000).for_each(|chunk| engine.commit(chunk, &value));
    drop(engine);
    let started = Instant::now();
    let engine = fjall(dir.path());
    let bytes: usize = engine.1.iter().map(|guard| guard.value().expect("fjall reads").len()).sum();
    println!("fjall: open and read {OBJECTS} objects, {} MB: {:?}", black_box(bytes) >> 20, started.elapsed());
    let dir = tempfile::tempdir().expect("a directory");
    let mut engine = redb(dir.path());
    keys.chunks(1000).for_each(|chunk| engine.commit(chunk, &value));
    drop(engine);
    let started = Instant::now();
    let engine = redb(dir.path());
    let table = engine.0.begin_read().expect("redb begins").open_table(TABLE).expect("redb opens a table");
    let bytes: usize = table.iter().expect("redb iterates").map(|row| row.expect("redb reads").1.value().len()).sum();
    println!("redb: open and read {OBJECTS} objects, {} MB: {:?}", black_box(bytes) >> 20, started.elapsed());
}

const FLIPS: usize = 300;
const SAFE_KEYS: usize = 500;
const LAST_BATCH: usize = 20;
const SAFE_BEFORE_LAST: usize = SAFE_KEYS - LAST_BATCH;
/// A little less than the last batch takes in a log.
const BATCH_BYTES: u64 = LAST_BATCH as u64 * 150;

/// Writes synced data, flips one byte of the files it is in, and counts what reopening says: the data
/// was acknowledged, so an engine must either refuse or have all of it.
fn damage(name: &str, make: fn(&Path), count: fn(&Path) -> Option<usize>) {
    let made = tempfile::tempdir().expect("a directory");
    make(made.path());
    let places = places(made.path());
    let (mut refused, mut harmless, mut lost) = (0, 0, 0);
    for flip in 0..FLIPS {
        let copy = copy(made.path());
        let (path, at) = &places[flip * places.len() / FLIPS];
        let file = OpenOptions::new().read(true).write(true).open(copy.path().join(path)).expect("a file");
        let mut byte = [0];
        file.read_exact_at(&mut byte, *at).expect("a byte");
        file.write_all_at(&[byte[0] ^ 0x10], *at).expect("a byte");
        match std::panic::catch_unwind(|| count(copy.path())) {
            Ok(Some(SAFE_KEYS)) => harmless += 1,
            Ok(Some(_)) => lost += 1,
            Ok(None) | Err(_) => refused += 1,
        }
    }
    println!("{name:<22} {refused:>9} {harmless:>9} {lost:>9}");
}

fn copy(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    let status = std::process::Command::new("cp").arg("-a").arg(dir.join(".")).arg(copy.path()).status();
    assert!(status.expect("cp runs").success());
    copy
}

/// Takes one sector out of the last batch, as a power cut before its sync does, and counts what reopening
/// says: everything but that batch has to be there.
fn torn(name: &str, make: fn(&Path), count: fn(&Path) -> Option<usize>) {
    const SECTOR: u64 = 512;
    let made = tempfile::tempdir().expect("a directory");
    make(made.path());
    let (path, end) = places(made.path()).into_iter().max_by_key(|(path, at)| (is_log(path), *at)).expect("a log");
    let (mut refused, mut cut, mut lost) = (0, 0, 0);
    for sector in (end - BATCH_BYTES) / SECTOR + 1..=end / SECTOR {
        let copy = copy(made.path());
        let file = OpenOptions::new().write(true).open(copy.path().join(&path)).expect("a file");
        let length = file.metadata().expect("a length").len();
        let zeros = vec![0; SECTOR.min(length - sector * SECTOR) as usize];
        file.write_all_at(&zeros, sector * SECTOR).expect("zeros");
        match std::panic::catch_unwind(|| count(copy.path())) {
            Ok(Some(SAFE_BEFORE_LAST..SAFE_KEYS)) => cut += 1,
            Ok(Some(_)) => lost += 1,
            Ok(None) | Err(_) => refused += 1,
        }
    }
    println!("{name:<22} {refused:>9} {cut:>9} {lost:>9}");
}

fn is_log(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with(".jnl") || name.starts_with("log-")
}

/// Every 16th non-zero byte of every file.
fn places(dir: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut places = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for file in std::fs::read_dir(next).expect("a directory") {
            let path = file.expect("a file").path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).expect("a file");
            let relative = path.strip_prefix(dir).expect("a path below").to_owned();
            let at = (0..bytes.len()).filter(|at| bytes[*at] != 0).step_by(16);
            places.extend(at.map(|at| (relative.clone(), at as u64)));
        }
    }
    places
}

fn fill(engine: &mut dyn Engine) {
    let keys: Vec<_> = (0..SAFE_KEYS as u64).map(key).collect();
    keys.chunks(LAST_BATCH).for_each(|keys| engine.commit(keys, &[b'v'; 200]));
}

fn make_fjall(dir: &Path) {
    fill(&mut fjall(dir));
}

fn count_fjall(dir: &Path) -> Option<usize> {
    let database = fjall::Database::builder(dir).open().ok()?;
    let keyspace = database.keyspace("data", KeyspaceCreateOptions::default).ok()?;
    let values: Result<Vec<_>, _> = keyspace.iter().map(fjall::Guard::value).collect();
    Some(values.ok()?.iter().filter(|value| value.iter().all(|byte| *byte == b'v')).count())
}

fn make_redb(dir: &Path) {
    fill(&mut redb(dir));
}

fn count_redb(dir: &Path) -> Option<usize> {
    let database = redb::Database::create(dir.join("data.redb")).ok()?;
    let table = database.begin_read().ok()?.open_table(TABLE).ok()?;
    let rows: Result<Vec<_>, _> = table.iter().ok()?.collect();
    Some(rows.ok()?.iter().filter(|row| row.1.value().iter().all(|byte| *byte == b'v')).count())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

fn open_store(dir: &Path) -> Option<EmbeddedStore> {
    EmbeddedStore::open(dir, Options { segment_bytes: 1 << 20, ..Options::new(UNIX_EPOCH) }).ok()
}

fn make_store(dir: &Path) {
    let store = open_store(dir).expect("the store opens");
    let store = std::sync::Arc::new(store);
    runtime().block_on(async {
        for n in 0..SAFE_BEFORE_LAST as u64 {
            put(&store, n).await;
        }
        // At once, so that most of them are one batch with sectors to lose.
        let last = (SAFE_BEFORE_LAST as u64..SAFE_KEYS as u64).map(|n| put(&store, n));
        futures::future::join_all(last).await;
    });
}

async fn put(store: &EmbeddedStore, n: u64) {
    let key = store::Key::parse(&key(n)).expect("a key");
    store.put(key, vec![b'v'; 200].into(), Expect::Any, None).await.expect("the store writes");
}

fn count_store(dir: &Path) -> Option<usize> {
    let store = open_store(dir)?;
    let page = runtime().block_on(store.range(RangeRequest::all(KeyPrefix::root()))).ok()?;
    Some(page.entries.iter().filter(|entry| entry.value.iter().all(|byte| *byte == b'v')).count())
}
