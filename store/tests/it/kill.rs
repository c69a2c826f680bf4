//! Kill -9 at random points, again and again, on a disk that keeps only what was synced: nothing that anybody
//! saw is lost, no revision goes back, no watcher misses anything or gets it twice.

mod child;
mod disk;
mod plan;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use store::{EmbeddedStore, KeyPrefix, OpenError, RangeRequest, Store};

use self::child::DIRECTORY;
use self::plan::{Fault, Plan, WATCHED};
use crate::embedded::options;
use crate::history::{Record, Summary, check};

/// Cycles in all, unless [`CYCLES_VARIABLE`] says otherwise.
const CYCLES: u64 = 200;
const CYCLES_VARIABLE: &str = "STORE_KILL_CYCLES";

/// Cycles on one directory, checked together.
const RUN_CYCLES: u64 = 25;

/// Runs at one time.
const LANES: u64 = 2;

/// A damaged copy is opened after every so many cycles.
const FLIP_EVERY: u64 = 5;

/// How long a stopped process stays stopped.
const STOPPED: Duration = Duration::from_millis(30);

/// One directory and what happened to it.
struct Run {
    dir: tempfile::TempDir,
    random: StdRng,
    sync: bool,
    flips_refused: u64,
    undone: usize,
}

impl Run {
    fn new(seed: u64, sync: bool) -> Self {
        let dir = tempfile::Builder::new().prefix(&format!("store-kill-{seed}-")).tempdir().unwrap();
        Self { dir, random: StdRng::seed_from_u64(seed), sync, flips_refused: 0, undone: 0 }
    }

    /// Starts and kills `cycles` processes and checks what they recorded. What is on the disk stays there
    /// when something was wrong.
    fn cycles(mut self, cycles: u64) -> Result<(Summary, Self), String> {
        for cycle in 0..cycles {
            let after = positions(&self.records());
            let mut plan = Plan::draw(&mut self.random, cycle, self.sync, after);
            if !self.sync {
                // Only the missing sync is to be noticed here.
                plan.fault = Fault::Nothing;
            }
            if let Err(wrong) = self.cycle(&plan) {
                return Err(self.keep(&format!("cycle {cycle}, {plan:?}: {wrong}")));
            }
            if cycle % FLIP_EVERY == 0 && self.sync {
                self.flip();
            }
        }
        match check(&self.records()) {
            Ok(summary) => Ok((summary, self)),
            Err(wrong) => Err(self.keep(&wrong)),
        }
    }

    fn keep(self, wrong: &str) -> String {
        if !self.sync {
            return wrong.to_owned();
        }
        format!("{}: {wrong}", self.dir.keep().display())
    }

    #[expect(clippy::zombie_processes, reason = "it is waited for by id, to see it stopped as well")]
    fn cycle(&mut self, plan: &Plan) -> Result<(), String> {
        fs::write(self.dir.path().join("plan"), serde_json::to_vec(plan).unwrap()).unwrap();
        let errors = fs::File::create(self.dir.path().join("errors")).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child::process", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, self.dir.path())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        loop {
            let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
            if status.stopped() {
                std::thread::sleep(STOPPED);
                kill_process(pid, Signal::CONT).unwrap();
                continue;
            }
            if status.terminating_signal() != Some(Signal::KILL.as_raw()) {
                let errors = fs::read_to_string(self.dir.path().join("errors")).unwrap_or_default();
                return Err(format!("the process was not killed but ended with {status:?}: {errors}"));
            }
            self.undone += disk::undo(self.dir.path(), &mut self.random);
            return Ok(());
        }
    }

    fn records(&self) -> Vec<Record> {
        match fs::read_to_string(self.dir.path().join("history")) {
            Ok(lines) => lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => panic!("{error}"),
        }
    }

    /// A store with one bit of one file changed is refused, or the bit did not matter.
    fn flip(&mut self) {
        let files: Vec<_> = fs::read_dir(self.dir.path().join("store")).unwrap().map(|f| f.unwrap().path()).collect();
        let (whole, flipped) = (self.dir.path().join("whole"), self.dir.path().join("flipped"));
        for copy in [&whole, &flipped] {
            fs::create_dir_all(copy).unwrap();
            for file in &files {
                fs::copy(file, copy.join(file.file_name().unwrap())).unwrap();
            }
        }
        let files: Vec<_> = files.iter().filter(|file| fs::metadata(file).unwrap().len() > 0).collect();
        let target = flipped.join(files[self.random.random_range(0..files.len())].file_name().unwrap());
        let mut bytes = fs::read(&target).unwrap();
        let at = self.random.random_range(0..bytes.len());
        bytes[at] ^= 1 << self.random.random_range(0..8);
        fs::write(&target, bytes).unwrap();
        match contents(&flipped) {
            Err(OpenError::Damaged { .. } | OpenError::Version { .. }) => self.flips_refused += 1,
            Err(error) => panic!("{}, byte {at}: {error}", target.display()),
            Ok(found) => assert_eq!(found, contents(&whole).unwrap(), "{}, byte {at}", target.display()),
        }
        fs::remove_dir_all(whole).unwrap();
        fs::remove_dir_all(flipped).unwrap();
    }
}

fn contents(dir: &Path) -> Result<(u64, Vec<store::Entry>), OpenError> {
    let store = EmbeddedStore::open(dir, options())?;
    let page = futures::executor::block_on(store.range(RangeRequest::all(KeyPrefix::root()))).unwrap();
    Ok((page.revision, page.entries))
}

/// Where each watcher goes on: after the last that it was told.
fn positions(records: &[Record]) -> [u64; WATCHED.len()] {
    let mut positions = [1; WATCHED.len()];
    for record in records {
        match record {
            Record::Watching { watcher, after, .. } => positions[*watcher] = *after,
            Record::Event { watcher, revision, .. } | Record::Complete { watcher, revision } => {
                positions[*watcher] = *revision;
            }
            _ => {}
        }
    }
    positions
}

fn cycles() -> u64 {
    let wanted = std::env::var(CYCLES_VARIABLE).ok();
    wanted.map_or(CYCLES, |wanted| wanted.parse().expect("a number of cycles"))
}

#[test]
fn nothing_seen_is_lost_when_killed() {
    let runs = cycles().div_ceil(RUN_CYCLES);
    let next = Arc::new(AtomicU64::new(0));
    let lane = || {
        let next = next.clone();
        std::thread::spawn(move || {
            let (mut all, mut flips, mut undone) = (Summary::default(), 0, 0);
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= runs {
                    return (all, flips, undone);
                }
                let (summary, run) = Run::new(seed, true).cycles(RUN_CYCLES).unwrap_or_else(|wrong| panic!("{wrong}"));
                all += summary;
                flips += run.flips_refused;
                undone += run.undone;
            }
        })
    };
    let lanes: Vec<_> = (0..LANES).map(|_| lane()).collect();
    let (mut all, mut flips, mut undone) = (Summary::default(), 0, 0);
    for lane in lanes {
        let (summary, refused, names) = lane.join().unwrap();
        all += summary;
        flips += refused;
        undone += names;
    }
    println!("{} cycles: {all:?}, {flips} flipped copies refused, {undone} renames undone", runs * RUN_CYCLES);
    let cycles = usize::try_from(runs * RUN_CYCLES).unwrap();
    assert!(all.opened > cycles / 2 && all.writes > cycles * 10 && all.reads > cycles * 5, "{all:?}");
    assert!(all.events > all.writes && all.resumed > all.compacted, "{all:?}");
    assert!(all.unknown * 10 < all.reads + all.writes + all.events, "too little was checked: {all:?}");
    assert!(flips > 0 && undone > 0);
}

#[test]
fn the_check_notices_a_store_that_does_not_sync() {
    let Err(wrong) = Run::new(1, false).cycles(5) else { panic!("nothing was noticed without sync") };
    assert!(wrong.contains("had been seen"), "{wrong}");
}
