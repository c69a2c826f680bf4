//! A disk that forgets what was not synced when the process is killed, and fails on order.
//!
//! Written bytes stay in the process's memory until they are synced, so that kill -9 loses them as a power
//! cut would. Renames and removals are made at once and noted in a file; after the kill, [`undo`] takes
//! back some of those that were not synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use store::{Disk, LogFile};

use super::plan::Fault;

const SECTOR: usize = 512;

/// Counts operations, and does what the plan says at its place.
#[derive(Debug, Clone)]
pub(super) struct LossyDisk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    fault: Fault,
    operations: AtomicU64,
    random: Mutex<StdRng>,
    notes: Mutex<File>,
    graves: PathBuf,
}

/// What was done to names since they were synced.
#[derive(Debug, Serialize, Deserialize)]
enum Note {
    Moved { from: PathBuf, to: PathBuf },
    Synced,
}

/// What the plan has for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Works,
    /// The process is killed, with part of the operation done.
    Killed,
    /// It fails, with part of it done.
    Fails,
    Full,
}

impl LossyDisk {
    /// `dir` holds the notes and what was removed; it lies beside the store's.
    pub(super) fn new(dir: &Path, seed: u64, fault: Fault) -> Self {
        let notes = OpenOptions::new().create(true).append(true).open(dir.join("notes")).unwrap();
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let graves = dir.join("graves");
        fs::create_dir_all(&graves).unwrap();
        Self(Arc::new(Shared { fault, operations: AtomicU64::new(0), random, notes: Mutex::new(notes), graves }))
    }
}

impl Shared {
    fn fate(&self, is_sync: bool) -> Fate {
        let operation = self.operations.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::KillAtOperation(at) if operation == at => Fate::Killed,
            Fault::SyncFails { from } if is_sync && operation >= from => Fate::Fails,
            Fault::Full { from, until } if !is_sync && (from..until).contains(&operation) => Fate::Full,
            _ => Fate::Works,
        }
    }

    /// Before or after an operation that is whole or not at all.
    fn kill_around(&self, operation: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.random.lock().random() {
            operation()?;
        }
        super::child::die()
    }

    fn note(&self, note: &Note) {
        let mut line = serde_json::to_vec(note).unwrap();
        line.push(b'\n');
        self.notes.lock().write_all(&line).unwrap();
    }

    fn move_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note(&Note::Moved { from: from.to_owned(), to: to.to_owned() });
        fs::rename(from, to)
    }
}

impl Disk for LossyDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Box::new(LossyFile { file, pending: Vec::new(), disk: self.0.clone() }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        match self.0.fate(false) {
            Fate::Killed => self.0.kill_around(|| File::create(path).map(drop))?,
            Fate::Full => return Err(ErrorKind::StorageFull.into()),
            Fate::Works | Fate::Fails => {}
        }
        let file = File::create(path)?;
        Ok(Box::new(LossyFile { file, pending: Vec::new(), disk: self.0.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.0.fate(false) == Fate::Killed {
            self.0.kill_around(|| self.0.move_file(from, to))?;
        }
        self.0.move_file(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap().to_str().unwrap();
        let grave = self.0.graves.join(format!("{name}.{}", self.0.operations.load(Ordering::SeqCst)));
        if self.0.fate(false) == Fate::Killed {
            self.0.kill_around(|| self.0.move_file(path, &grave))?;
        }
        self.0.move_file(path, &grave)
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        match self.0.fate(true) {
            Fate::Killed => self.0.kill_around(|| {
                self.0.note(&Note::Synced);
                Ok(())
            })?,
            Fate::Fails => return Err(io::Error::other("the disk is gone")),
            Fate::Works | Fate::Full => {}
        }
        self.0.note(&Note::Synced);
        Ok(())
    }
}

#[derive(Debug)]
enum Pending {
    Write(Vec<u8>, u64),
    SetLen(u64),
}

#[derive(Debug)]
struct LossyFile {
    file: File,
    pending: Vec<Pending>,
    disk: Arc<Shared>,
}

impl LogFile for LossyFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.disk.fate(false) {
            Fate::Killed => {
                self.pending.push(Pending::Write(bytes.to_vec(), offset));
                self.some_reaches_the_disk();
                super::child::die()
            }
            Fate::Full => {
                let parts = sectors(bytes, offset);
                parts[..parts.len() / 2].iter().try_for_each(|(part, at)| self.file.write_all_at(part, *at))?;
                Err(ErrorKind::StorageFull.into())
            }
            Fate::Works | Fate::Fails => {
                self.pending.push(Pending::Write(bytes.to_vec(), offset));
                Ok(())
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.disk.fate(true) {
            Fate::Killed => {
                self.some_reaches_the_disk();
                super::child::die()
            }
            Fate::Fails => {
                self.some_reaches_the_disk();
                Err(io::Error::other("the disk is gone"))
            }
            Fate::Works | Fate::Full => self.pending.drain(..).try_for_each(|pending| match pending {
                Pending::Write(bytes, offset) => self.file.write_all_at(&bytes, offset),
                Pending::SetLen(bytes) => self.file.set_len(bytes),
            }),
        }
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        if self.disk.fate(false) == Fate::Killed {
            super::child::die();
        }
        self.pending.push(Pending::SetLen(bytes));
        Ok(())
    }
}

impl LossyFile {
    /// Some sectors of what is pending, in any order.
    fn some_reaches_the_disk(&mut self) {
        let mut random = self.disk.random.lock();
        // All and none are the likely outcomes of a single short write.
        let share = *[0.0, 0.1, 0.5, 0.9, 1.0].choose(&mut *random).unwrap();
        for pending in self.pending.drain(..) {
            match pending {
                Pending::SetLen(bytes) if random.random_bool(share) => self.file.set_len(bytes).unwrap(),
                Pending::SetLen(_) => {}
                Pending::Write(bytes, offset) => {
                    let mut parts = sectors(&bytes, offset);
                    parts.shuffle(&mut *random);
                    parts.retain(|_| random.random_bool(share));
                    parts.iter().for_each(|(part, at)| self.file.write_all_at(part, *at).unwrap());
                }
            }
        }
    }
}

fn sectors(bytes: &[u8], mut offset: u64) -> Vec<(&[u8], u64)> {
    let (mut parts, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (part, more) = rest.split_at((SECTOR - offset as usize % SECTOR).min(rest.len()));
        parts.push((part, offset));
        offset += part.len() as u64;
        rest = more;
    }
    parts
}

/// Takes back some of the renames and removals that were not synced when the process died: any number of
/// the last ones, as a file system keeps their order.
pub(super) fn undo(dir: &Path, random: &mut StdRng) -> usize {
    let notes = fs::read_to_string(dir.join("notes")).unwrap_or_default();
    let notes: Vec<Note> = notes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let synced = notes.iter().rposition(|note| matches!(note, Note::Synced)).map_or(0, |at| at + 1);
    let unsynced = &notes[synced..];
    let undone = random.random_range(0..=unsynced.len());
    for note in unsynced.iter().rev().take(undone) {
        let Note::Moved { from, to } = note else { continue };
        // It may have died before it made the change.
        if to.exists() && !from.exists() {
            fs::rename(to, from).unwrap();
        }
    }
    fs::write(dir.join("notes"), "").unwrap();
    let _ = fs::remove_dir_all(dir.join("graves"));
    undone
}
