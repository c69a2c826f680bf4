//! Which engine lies under the embedded store: what one durable commit costs with each.
//!
//! Every case commits batches of 1 KB values to keys that exist already, one batch after the other, and
//! waits for the disk each time, as the store's committer does. `cargo bench -p store --bench engines`.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use fjall::{KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

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
    let value: Vec<u8> = (0..VALUE_BYTES).map(|n| (n * n * 31 >> 3) as u8 | 1).collect();
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
