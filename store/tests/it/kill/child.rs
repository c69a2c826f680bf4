//! The process that gets killed: writers, readers and watchers over one store, every step of them recorded.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::{Signal, getpid, kill_process};
use store::{Clock, EmbeddedStore, Entry, Error, Expect, Key, KeyPrefix, Options, RangeRequest, Store, WatchStream};
use tokio::task::JoinSet;

use super::disk::LossyDisk;
use super::plan::{Fault, Plan, WATCHED};
use crate::embedded::options;
use crate::history::{Answer, Call, CallId, Expected, Held, Record};

/// Where the process finds its plan and leaves its records.
pub(super) const DIRECTORY: &str = "STORE_KILL_DIRECTORY";

const WRITERS: u64 = 6;
const PREFIXES: [&str; 3] = ["a", "b", "c"];
const KEYS: usize = 8;

/// How far a clock jumps.
const JUMP_MILLIS: u64 = 10 * 60 * 1000;

pub(super) fn store_options(disk: LossyDisk, plan: &Plan, clock: Clock) -> Options {
    Options {
        clock,
        sync: plan.sync,
        disk: Arc::new(disk),
        segment_bytes: 64 << 10,
        snapshot_after_bytes: plan.snapshot_after_bytes,
        ..options()
    }
}

/// Ends the process as nothing else does.
pub(super) fn die() -> ! {
    kill_process(getpid(), Signal::KILL).unwrap();
    loop {
        std::thread::park();
    }
}

/// Not a test of its own: does nothing unless it was started by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process() {
    let Some(dir) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let plan: Plan = serde_json::from_slice(&std::fs::read(dir.join("plan")).unwrap()).unwrap();
    let ahead = Arc::new(AtomicU64::new(plan.clock_millis));
    let recorder = Arc::new(Recorder::new(&dir, &plan, ahead.clone()));
    let started = Instant::now();
    let clock =
        Clock::custom(move || ahead.load(Ordering::Relaxed) + u64::try_from(started.elapsed().as_millis()).unwrap());
    let disk = LossyDisk::new(&dir, plan.seed, plan.fault);
    let store = match EmbeddedStore::open(&dir.join("store"), store_options(disk, &plan, clock)) {
        Ok(store) => Arc::new(store),
        // The plan has failures for the opening as well.
        Err(store::OpenError::Io { .. }) => die(),
        Err(error) => panic!("{error}"),
    };
    let page = store.range(RangeRequest::all(KeyPrefix::root())).await.unwrap();
    recorder.record(&Record::Opened {
        revision: page.revision,
        oldest: store.oldest().await.unwrap(),
        entries: page.entries.iter().map(held).collect(),
    });
    let mut tasks = JoinSet::new();
    for (watcher, prefix) in WATCHED.iter().enumerate() {
        tasks.spawn(watch(store.clone(), recorder.clone(), watcher, prefix, plan.after[watcher]));
    }
    let next = Arc::new(AtomicU64::new(plan.first_call));
    for writer in 0..WRITERS {
        let random = StdRng::seed_from_u64(plan.seed ^ writer);
        let client = Client { store: store.clone(), recorder: recorder.clone(), next: next.clone(), random };
        tasks.spawn(client.run());
    }
    tasks.join_all().await;
}

struct Recorder {
    file: File,
    count: AtomicU64,
    records: u64,
    fault: Fault,
    ahead: Arc<AtomicU64>,
}

impl Recorder {
    fn new(dir: &Path, plan: &Plan, ahead: Arc<AtomicU64>) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(dir.join("history")).unwrap();
        Self { file, count: AtomicU64::new(0), records: plan.records, fault: plan.fault, ahead }
    }

    /// Appends one line in one piece, and does what the plan has for its number.
    fn record(&self, record: &Record) {
        let mut line = serde_json::to_vec(record).unwrap();
        line.push(b'\n');
        assert_eq!((&self.file).write(&line).unwrap(), line.len());
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        match self.fault {
            _ if count >= self.records => die(),
            Fault::Stop { at_record } if count == at_record => kill_process(getpid(), Signal::STOP).unwrap(),
            Fault::ClockJumps { at_record } if count == at_record => {
                self.ahead.fetch_add(JUMP_MILLIS, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

fn written_by(value: &[u8]) -> CallId {
    let digits = value.split(|byte| *byte == b':').next().unwrap();
    std::str::from_utf8(digits).unwrap().parse().unwrap()
}

fn held(entry: &Entry) -> Held {
    Held {
        key: entry.key.to_string(),
        write: written_by(&entry.value),
        created: entry.create_revision,
        modified: entry.mod_revision,
    }
}

async fn watch(store: Arc<EmbeddedStore>, recorder: Arc<Recorder>, watcher: usize, prefix: &str, mut after: u64) {
    let below = match prefix.trim_start_matches(store::ROOT).trim_matches('/') {
        "" => KeyPrefix::root(),
        segment => KeyPrefix::new([segment]).unwrap(),
    };
    loop {
        recorder.record(&Record::Watching { watcher, prefix: prefix.to_owned(), after });
        let ended = match store.watch(below.clone(), after).await {
            Err(error) => error,
            Ok(stream) => follow(stream, &recorder, watcher, &mut after).await,
        };
        let Error::Compacted { oldest, .. } = ended else { return };
        recorder.record(&Record::Compacted { watcher, after, oldest });
        after = store.revision().await.unwrap();
    }
}

/// Records what comes until the stream ends, and why it did.
async fn follow(mut stream: WatchStream, recorder: &Recorder, watcher: usize, after: &mut u64) -> Error {
    loop {
        let batch = match stream.next().await {
            Ok(batch) => batch,
            Err(error) => return error,
        };
        for event in batch.events {
            recorder.record(&Record::Event {
                watcher,
                revision: event.revision,
                key: event.key.to_string(),
                write: event.current.as_ref().map(|entry| written_by(&entry.value)),
                previous: event.previous.as_ref().map_or(0, |entry| entry.mod_revision),
            });
            *after = event.revision;
        }
        if batch.revision > *after {
            recorder.record(&Record::Complete { watcher, revision: batch.revision });
            *after = batch.revision;
        }
    }
}

struct Client {
    store: Arc<EmbeddedStore>,
    recorder: Arc<Recorder>,
    next: Arc<AtomicU64>,
    random: StdRng,
}

impl Client {
    async fn run(mut self) {
        loop {
            let key = self.key();
            match self.random.random_range(0..20) {
                0..8 => self.put(key, None, None).await,
                8..10 => {
                    let ttl = Duration::from_millis(self.random.random_range(1..300));
                    self.put(key, None, Some(ttl)).await;
                }
                10..12 => self.put(key, Some(0), None).await,
                12..15 => {
                    let modified = self.get(&key).await.unwrap_or(0);
                    self.put(key, Some(modified), None).await;
                }
                15..17 => self.delete(key, None).await,
                17 => {
                    let modified = self.get(&key).await;
                    self.delete(key, modified).await;
                }
                18 => drop(self.get(&key).await),
                _ => self.list().await,
            }
            // A store that refuses answers at once; others want to run as well.
            tokio::task::yield_now().await;
        }
    }

    fn key(&mut self) -> Key {
        let prefix = PREFIXES[self.random.random_range(0..PREFIXES.len())];
        Key::new([prefix, &format!("k{}", self.random.random_range(0..KEYS))]).unwrap()
    }

    fn invoke(&self, call: Call) -> CallId {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        self.recorder.record(&Record::Invoked { id, call });
        id
    }

    fn answered(&self, id: CallId, answer: Answer) {
        self.recorder.record(&Record::Returned { id, answer });
    }

    async fn put(&mut self, key: Key, expected: Expected, ttl: Option<Duration>) {
        let id = self.invoke(Call::Put { key: key.to_string(), expected, expires: ttl.is_some() });
        let size = if self.random.random_ratio(1, 10) { 9000 } else { 900 };
        let padding = self.random.random_range(0..size);
        let value = Bytes::from(format!("{id}:{}", "v".repeat(padding)));
        let answer = match self.store.put(key, value, expect(expected), ttl).await {
            Ok(revision) => Answer::Written { revision },
            Err(error) => failed(&error),
        };
        self.answered(id, answer);
    }

    async fn delete(&self, key: Key, expected: Expected) {
        let id = self.invoke(Call::Delete { key: key.to_string(), expected });
        let answer = match self.store.delete(key, expect(expected)).await {
            Ok(deleted) => Answer::Deleted { revision: deleted.revision, previous: deleted.previous.mod_revision },
            Err(error) => failed(&error),
        };
        self.answered(id, answer);
    }

    async fn get(&self, key: &Key) -> Option<u64> {
        let id = self.invoke(Call::Get { key: key.to_string() });
        let (entry, revision) = self.store.get(key).await.unwrap();
        let modified = entry.as_ref().map(|entry| entry.mod_revision);
        self.answered(id, Answer::Read { revision, entries: entry.iter().map(held).collect() });
        modified
    }

    async fn list(&mut self) {
        let prefix = KeyPrefix::new([PREFIXES[self.random.random_range(0..PREFIXES.len())]]).unwrap();
        let id = self.invoke(Call::List { prefix: prefix.to_string() });
        let page = self.store.range(RangeRequest::all(prefix)).await.unwrap();
        self.answered(id, Answer::Read { revision: page.revision, entries: page.entries.iter().map(held).collect() });
    }
}

fn expect(expected: Expected) -> Expect {
    match expected {
        None => Expect::Any,
        Some(0) => Expect::Absent,
        Some(revision) => Expect::Revision(revision),
    }
}

fn failed(error: &Error) -> Answer {
    match error {
        Error::Conflict { current, .. } => {
            Answer::Conflict { found: current.as_ref().map_or(0, |entry| entry.mod_revision) }
        }
        Error::NotFound { revision, .. } => Answer::NotFound { revision: *revision },
        Error::Full => Answer::Refused,
        _ => Answer::Unknown,
    }
}
