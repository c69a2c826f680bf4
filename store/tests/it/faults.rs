//! A disk that loses what was not synced, tears it, fails and fills up.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use proptest::prelude::*;
use store::{
    Clock, Disk, EmbeddedStore, Error, Expect, KeyPrefix, LogFile, OpenError, Options, RangeRequest, Store, Txn,
};
use tokio::task::JoinSet;

use crate::embedded::{key, options, put};

const SECTOR: usize = 512;

/// Keeps writes in memory until they are synced. What is left there when the store is gone is lost, but
/// for the sectors that `keep` picks, as a disk without power may have written some of them.
#[derive(Debug, Default)]
struct Faults {
    /// Sectors of unsynced writes that reach the disk, as bits, used over and over.
    keep: AtomicU64,
    sync_fails: AtomicBool,
    full: AtomicBool,
    syncs: AtomicU64,
}

#[derive(Debug, Clone, Default)]
struct FaultyDisk(Arc<Faults>);

#[derive(Debug)]
struct FaultyFile {
    file: File,
    pending: Vec<(Vec<u8>, u64)>,
    faults: Arc<Faults>,
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Box::new(FaultyFile { file, pending: Vec::new(), faults: self.0.clone() }))
    }
}

impl LogFile for FaultyFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.faults.full.load(Ordering::Relaxed) {
            // Half of it got through.
            self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(ErrorKind::StorageFull.into());
        }
        self.pending.push((bytes.to_vec(), offset));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.faults.syncs.fetch_add(1, Ordering::Relaxed);
        if self.faults.sync_fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk is gone"));
        }
        for (bytes, offset) in self.pending.drain(..) {
            self.file.write_all_at(&bytes, offset)?;
        }
        Ok(())
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        let mut bits = self.faults.keep.load(Ordering::Relaxed);
        for (bytes, mut offset) in self.pending.drain(..) {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let part = (SECTOR - offset as usize % SECTOR).min(rest.len());
                if bits & 1 == 1 {
                    self.file.write_all_at(&rest[..part], offset).unwrap();
                }
                bits = bits.rotate_right(1);
                offset += part as u64;
                rest = &rest[part..];
            }
        }
    }
}

fn faulty(disk: &FaultyDisk) -> Options {
    // Small segments, so that power also goes while the log goes over to the next one.
    Options { disk: Arc::new(disk.clone()), segment_bytes: 32 << 10, snapshot_after_bytes: 200 << 10, ..options() }
}

/// Writes from several clients, with power lost in the middle of it. Returns what was answered.
async fn write_until_power_fails(
    dir: &Path,
    options: Options,
    disk: &FaultyDisk,
    round: usize,
) -> HashMap<usize, (u64, usize)> {
    let store = Arc::new(EmbeddedStore::open(dir, options).unwrap());
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let store = store.clone();
        writers.spawn(async move {
            let mut answered = None;
            for n in 0.. {
                let value = (round * 1000 + n).to_string().repeat(1 + n * 37 % 300);
                match put(&store, writer, value.as_bytes()).await {
                    Ok(revision) => answered = Some((writer, (revision, value.len()))),
                    Err(_) => break,
                }
            }
            answered
        });
    }
    while store.counters().commits.get() < 60 {
        tokio::task::yield_now().await;
    }
    disk.0.sync_fails.store(true, Ordering::Relaxed);
    if !store_syncs(&store) {
        store.close();
    }
    let answered = writers.join_all().await.into_iter().flatten().collect();
    disk.0.sync_fails.store(false, Ordering::Relaxed);
    answered
}

fn store_syncs(store: &EmbeddedStore) -> bool {
    store.counters().sync_nanos.get() > 0
}

/// How many of the answered writes are gone.
async fn lost(store: &EmbeddedStore, answered: &HashMap<usize, (u64, usize)>) -> usize {
    let mut lost = 0;
    for (writer, (revision, bytes)) in answered {
        let entry = store.get(&key(*writer)).await.unwrap().0;
        let there = entry.is_some_and(|entry| {
            entry.mod_revision > *revision || entry.mod_revision == *revision && entry.value.len() == *bytes
        });
        lost += usize::from(!there);
    }
    lost
}

async fn power_cycles(sync: bool, keep: u64) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let mut all_lost = 0;
    for round in 0..5 {
        disk.0.keep.store(keep.rotate_left(round as u32), Ordering::Relaxed);
        let options = Options { sync, ..faulty(&disk) };
        let answered = write_until_power_fails(dir.path(), options.clone(), &disk, round).await;
        let store = EmbeddedStore::open(dir.path(), options).unwrap();
        all_lost += lost(&store, &answered).await;
        // The log goes on where it was cut off.
        put(&store, 99, b"after").await.unwrap();
    }
    all_lost
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_losing_power() {
    for keep in [0, u64::MAX, 0xdead_beef_0123_4567, 0x8000_0000_0000_0001, 0x7fff_ffff_ffff_fffe] {
        assert_eq!(power_cycles(true, keep).await, 0, "keeping sectors {keep:x}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_notices_a_store_that_does_not_sync() {
    assert!(power_cycles(false, 0).await > 0);
}

#[tokio::test]
async fn a_failed_sync_is_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let store = EmbeddedStore::open(dir.path(), faulty(&disk)).unwrap();
    let safe = put(&store, 1, b"safe").await.unwrap();
    disk.0.sync_fails.store(true, Ordering::Relaxed);
    let error = put(&store, 1, b"unknown").await.unwrap_err();
    assert!(matches!(&error, Error::ReadOnly { reason } if reason.contains("the disk is gone")), "{error:?}");
    disk.0.sync_fails.store(false, Ordering::Relaxed);
    let syncs = disk.0.syncs.load(Ordering::Relaxed);
    assert!(matches!(put(&store, 1, b"more").await, Err(Error::ReadOnly { .. })));
    assert!(matches!(store.delete(key(1), Expect::Any).await, Err(Error::ReadOnly { .. })));
    assert!(matches!(store.health().await, Err(Error::ReadOnly { .. })));
    assert_eq!(disk.0.syncs.load(Ordering::Relaxed), syncs);
    assert_eq!(store.counters().read_only.get(), 1);
    let (entry, revision) = store.get(&key(1)).await.unwrap();
    assert_eq!((entry.unwrap().value, revision), (Bytes::from_static(b"safe"), safe), "what is not safe is not shown");
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let store = EmbeddedStore::open(dir.path(), faulty(&disk)).unwrap();
    put(&store, 1, b"1").await.unwrap();
    disk.0.full.store(true, Ordering::Relaxed);
    assert!(matches!(put(&store, 2, b"2").await, Err(Error::Full)));
    assert!(matches!(store.health().await, Err(Error::Full)));
    disk.0.full.store(false, Ordering::Relaxed);
    let last = put(&store, 3, b"3").await.unwrap();
    assert!(store.health().await.is_ok());
    drop(store);
    let store = EmbeddedStore::open(dir.path(), faulty(&disk)).unwrap();
    assert_eq!(store.revision().await.unwrap(), last);
    let page = store.range(RangeRequest::all(KeyPrefix::root())).await.unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.key.name()).collect::<Vec<_>>(), ["web-0001", "web-0003"]);
}

#[tokio::test]
async fn without_room_for_a_segment_only_deletions_are_accepted() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let now = Arc::new(AtomicU64::new(0));
    let clock = Clock::custom({
        let now = now.clone();
        move || now.load(Ordering::Relaxed)
    });
    let store = EmbeddedStore::open(&dir, Options { clock, segment_bytes: 256 << 10, ..options() }).unwrap();
    put(&store, 0, b"to be deleted").await.unwrap();
    // Without its directory, the store can fill the segments it has and make no further one.
    std::fs::rename(&dir, parent.path().join("gone")).unwrap();
    let mut written = 0;
    let full = loop {
        now.fetch_add(2000, Ordering::Relaxed);
        match put(&store, written, &[b'x'; 10_000]).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "the store never noticed");
    };
    assert!(matches!(full, Error::Full), "{full:?}");
    assert!(store.health().await.is_err() && store.counters().full.get() == 1);
    store.delete(key(0), Expect::Any).await.unwrap();
    std::fs::rename(parent.path().join("gone"), &dir).unwrap();
    let deadline = std::time::Instant::now() + crate::contract::SOON;
    while put(&store, 0, b"room again").await.is_err() {
        now.fetch_add(2000, Ordering::Relaxed);
        assert!(std::time::Instant::now() < deadline, "the store never noticed that there is room");
        tokio::task::yield_now().await;
    }
    assert!(store.health().await.is_ok());
}

/// Nobody writes while the store says that it is full, so it has to find out by itself that it is not any more.
#[tokio::test]
async fn room_is_noticed_without_a_write() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let store = EmbeddedStore::open(&dir, Options { segment_bytes: 256 << 10, ..options() }).unwrap();
    put(&store, 0, b"first").await.unwrap();
    std::fs::rename(&dir, parent.path().join("gone")).unwrap();
    let deadline = std::time::Instant::now() + crate::contract::SOON;
    while put(&store, 0, &[b'x'; 10_000]).await.is_ok() {
        assert!(std::time::Instant::now() < deadline, "the store never noticed");
    }
    assert!(matches!(store.health().await, Err(Error::Full)));
    std::fs::rename(parent.path().join("gone"), &dir).unwrap();
    while store.health().await.is_err() {
        assert!(std::time::Instant::now() < deadline, "the store never noticed that there is room");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    put(&store, 0, b"room again").await.unwrap();
}

/// Makes so many files and no more.
#[derive(Debug)]
struct RoomFor(AtomicU64);

impl Disk for RoomFor {
    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        store::FileSystem.open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.map_err(|_| io::Error::from(ErrorKind::StorageFull))?;
        store::FileSystem.create(path)
    }
}

#[tokio::test]
async fn a_disk_that_is_full_from_the_start_is_noticed_without_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(RoomFor(AtomicU64::new(1)));
    let store = EmbeddedStore::open(dir.path(), Options { disk: disk.clone(), ..options() }).unwrap();
    let deadline = std::time::Instant::now() + crate::contract::SOON;
    for room in [0, 100] {
        disk.0.store(room, Ordering::Relaxed);
        while store.health().await.is_ok() != (room > 0) {
            assert!(std::time::Instant::now() < deadline, "with room for {room} files: {:?}", store.health().await);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    put(&store, 0, b"room").await.unwrap();
}

#[tokio::test]
async fn what_is_due_on_a_full_disk_takes_nothing_else_along() {
    const LEASE: i64 = 7;
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let now = Arc::new(AtomicU64::new(1_000));
    let clock = Clock::custom({
        let now = now.clone();
        move || now.load(Ordering::Relaxed)
    });
    let store = EmbeddedStore::open(dir.path(), Options { clock, ..faulty(&disk) }).unwrap();
    let grant = |txn: &mut Txn<'_>| {
        txn.grant(LEASE, 60_000);
        Ok::<_, Error>(())
    };
    store.transact(grant).await.unwrap().unwrap();
    let ttl = Some(std::time::Duration::from_secs(1));
    store.put(key(1), Bytes::from_static(b"x"), Expect::Any, ttl).await.unwrap();
    disk.0.full.store(true, Ordering::Relaxed);
    assert!(matches!(put(&store, 2, b"x").await, Err(Error::Full)));
    // A key is due, whose deletion finds no room.
    now.store(30_000, Ordering::Relaxed);
    assert_eq!(store.transact(|txn| Ok::<_, Error>(txn.renew(LEASE))).await.unwrap().unwrap(), Some(60_000));
    assert_eq!(store.backup().await.unwrap().len(), 1);
    assert_eq!(store.counters().expired.get(), 0);
    disk.0.full.store(false, Ordering::Relaxed);
    put(&store, 3, b"x").await.unwrap();
    assert!(store.get(&key(1)).await.unwrap().0.is_none() && store.counters().expired.get() == 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    /// One write is under way when the power goes: it is there whole or not at all.
    #[test]
    fn an_unanswered_write_is_whole_or_absent(keep in any::<u64>(), size in 1usize..20_000) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::default();
        runtime.block_on(async {
            let store = EmbeddedStore::open(dir.path(), faulty(&disk)).unwrap();
            put(&store, 1, b"before").await.unwrap();
            disk.0.keep.store(keep, Ordering::Relaxed);
            disk.0.sync_fails.store(true, Ordering::Relaxed);
            put(&store, 2, &vec![b'x'; size]).await.unwrap_err();
            drop(store);
            disk.0.sync_fails.store(false, Ordering::Relaxed);
            let store = match EmbeddedStore::open(dir.path(), faulty(&disk)) {
                Ok(store) => store,
                Err(error @ OpenError::Damaged { .. }) => panic!("keeping {keep:x} of {size}: {error}"),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(store.get(&key(1)).await.unwrap().0.unwrap().value, Bytes::from_static(b"before"));
            let unanswered = store.get(&key(2)).await.unwrap().0;
            assert!(unanswered.is_none_or(|entry| entry.value.len() == size));
            put(&store, 3, b"after").await.unwrap();
        });
    }
}

#[tokio::test]
async fn what_needs_no_disk_goes_on_when_writes_are_refused() {
    const LEASE: i64 = 7;
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let now = Arc::new(AtomicU64::new(1_000));
    let clock = Clock::custom({
        let now = now.clone();
        move || now.load(Ordering::Relaxed)
    });
    let store = EmbeddedStore::open(dir.path(), Options { clock, ..faulty(&disk) }).unwrap();
    let grant = |txn: &mut Txn<'_>| {
        txn.grant(LEASE, 60_000);
        Ok::<_, Error>(())
    };
    store.transact(grant).await.unwrap().unwrap();
    let ttl = Some(std::time::Duration::from_secs(1));
    store.put(key(1), Bytes::from_static(b"x"), Expect::Any, ttl).await.unwrap();
    disk.0.sync_fails.store(true, Ordering::Relaxed);
    assert!(matches!(put(&store, 2, b"x").await, Err(Error::ReadOnly { .. })));
    // A key is due, which cannot be written down: that is no reason either.
    now.store(30_000, Ordering::Relaxed);
    let write = |txn: &mut Txn<'_>| txn.put(key(2), Bytes::from_static(b"x"), store::NO_LEASE);
    let (written, read, renewed, backup) = tokio::join!(
        store.transact(write),
        store.transact(|txn| Ok::<_, Error>(txn.view().get(key(1).as_str()).is_some())),
        store.transact(|txn| Ok::<_, Error>(txn.renew(LEASE))),
        store.backup(),
    );
    assert!(matches!(written, Err(Error::ReadOnly { .. })), "{written:?}");
    assert!(read.unwrap().unwrap());
    assert_eq!(renewed.unwrap().unwrap(), Some(60_000));
    assert_eq!(store.latest().leases().get(LEASE).unwrap().deadline_millis, 90_000);
    assert_eq!(backup.unwrap().len(), 1);
    assert!(matches!(put(&store, 2, b"x").await, Err(Error::ReadOnly { .. })));
    assert!(matches!(store.delete(key(1), Expect::Any).await, Err(Error::ReadOnly { .. })));
}
