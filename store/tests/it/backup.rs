//! Backups: what is in them, what is refused, and that one taken under writers is what there was at one moment.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use store::{
    Backup, BackupError, EmbeddedStore, Error, Expect, Key, KeyRange, OpenError, Options, Store, Txn, View, restore,
};
use tokio::task::{JoinSet, spawn_blocking};

use crate::batches::at_once;
use crate::embedded::{key, open_to_others, options, put};

const LEASE: i64 = 7;

fn everything() -> KeyRange {
    KeyRange::new(Bytes::from_static(b"\0"), Bytes::from_static(b"\0"))
}

/// Every key with all that is known of it, and every lease with its keys.
fn shown(view: &View) -> Vec<String> {
    let all = everything();
    let entries = view.range(&all).map(|entry| format!("{entry:?}"));
    let leases = view.leases().iter().map(|(id, lease)| format!("{id}: {} {:?}", lease.ttl_millis, lease.keys));
    entries.chain(leases).collect()
}

async fn grant(store: &EmbeddedStore, id: i64) {
    let decide = move |txn: &mut Txn<'_>| {
        txn.grant(id, 60_000);
        txn.put(Key::foreign("leased").unwrap(), Bytes::from_static(b"x"), id)
    };
    store.transact(decide).await.unwrap().unwrap();
}

/// A store with something of everything.
async fn filled(dir: &Path) -> EmbeddedStore {
    let store = EmbeddedStore::open(dir, options()).unwrap();
    for n in 0..50 {
        put(&store, n % 20, format!("{n}").as_bytes()).await.unwrap();
    }
    store.delete(key(3), Expect::Any).await.unwrap();
    grant(&store, LEASE).await;
    let ttl = Some(Duration::from_secs(600));
    store.put(key(100), Bytes::from_static(b"brief"), Expect::Any, ttl).await.unwrap();
    store
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

#[tokio::test]
async fn what_was_stored_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("from")).await;
    let (open, read) = (dir.path().join("open"), dir.path().join("read"));
    store.backup().await.unwrap().save(&open).unwrap();
    Backup::read(&dir.path().join("from")).unwrap().save(&read).unwrap();
    assert_eq!(fs::read(&open).unwrap(), fs::read(&read).unwrap(), "from inside and from outside");
    let to = dir.path().join("to");
    let revision = store.revision().await.unwrap();
    assert_eq!(restore(&open, &to).unwrap(), revision);
    assert_eq!(open_to_others(&to), [""; 0].map(std::path::PathBuf::from));
    let restored = EmbeddedStore::open(&to, options()).unwrap();
    assert_eq!(shown(&restored.latest()), shown(&store.latest()));
    assert_eq!(put(&restored, 1, b"on").await.unwrap(), revision + 1, "revisions go on");
    let again = Backup::read(&to).unwrap();
    assert_eq!((again.revision(), again.len()), (revision + 1, 21));
}

#[tokio::test]
async fn the_time_to_live_goes_on_after_a_restore() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    filled(&dir.path().join("from")).await.backup().await.unwrap().save(&file).unwrap();
    restore(&file, &dir.path().join("to")).unwrap();
    let late = Options { clock: store::Clock::custom(|| 4_000_000_000_000), ..options() };
    let restored = EmbeddedStore::open(&dir.path().join("to"), late).unwrap();
    put(&restored, 1, b"x").await.unwrap();
    let gone = restored.get(&key(100)).await.unwrap().0;
    assert!(gone.is_none(), "{gone:?}");
    assert!(restored.latest().leases().get(LEASE).is_some(), "leases begin anew");
}

/// Has `first` and then a backup decided in one batch.
async fn backup_in_the_batch_of(store: &EmbeddedStore, first: impl Future<Output = Result<u64, Error>>) -> Backup {
    let (written, backup) = at_once(store, async { tokio::join!(first, store.backup()) }).await;
    written.unwrap();
    backup.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_of_the_batch_that_a_backup_is_in_are_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let late = || Options { clock: store::Clock::custom(|| 4_000_000_000_000), ..options() };
    let ttl = Some(Duration::from_secs(600));
    let store = filled(&dir.path().join("from")).await;
    // The first expires that did not before, the second does not that did.
    for (n, ttl, stays) in [(101, ttl, false), (100, None, true)] {
        let (file, to) = (dir.path().join("file"), dir.path().join(format!("to-{n}")));
        let put_it = store.put(key(n), Bytes::from_static(b"x"), Expect::Any, ttl);
        backup_in_the_batch_of(&store, put_it).await.save(&file).unwrap();
        restore(&file, &to).unwrap();
        let restored = EmbeddedStore::open(&to, late()).unwrap();
        put(&restored, 1, b"x").await.unwrap();
        assert_eq!(restored.get(&key(n)).await.unwrap().0.is_some(), stays, "{n}");
    }
}

#[tokio::test]
async fn a_backup_is_not_written_to_what_lies_in_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let (file, way, other) = (dir.path().join("file"), dir.path().join("file.unfinished"), dir.path().join("other"));
    fs::write(&other, "another's").unwrap();
    std::os::unix::fs::symlink(&other, &way).unwrap();
    let backup = filled(&dir.path().join("from")).await.backup().await.unwrap();
    backup.save(&file).unwrap();
    assert_eq!(fs::read(&other).unwrap(), b"another's");
    // A leftover that anybody may read is not filled either.
    fs::write(&way, "left").unwrap();
    fs::set_permissions(&way, fs::Permissions::from_mode(0o644)).unwrap();
    backup.save(&file).unwrap();
    assert_eq!(fs::symlink_metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!way.exists());
}

#[tokio::test]
async fn a_directory_with_something_in_it_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let store = filled(&dir.path().join("from")).await;
    store.backup().await.unwrap().save(&file).unwrap();
    let before = shown(&store.latest());
    let from = dir.path().join("from");
    let refused = restore(&file, &from);
    assert!(matches!(refused, Err(BackupError::Lock(OpenError::Locked { .. }))), "{refused:?}");
    drop(store);
    let refused = restore(&file, &from);
    assert!(matches!(refused, Err(BackupError::NotEmpty { .. })), "{refused:?}");
    let store = EmbeddedStore::open(&dir.path().join("from"), options()).unwrap();
    assert_eq!(shown(&store.latest()), before);
}

#[tokio::test]
async fn damage_anywhere_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (file, to) = (dir.path().join("file"), dir.path().join("to"));
    filled(&dir.path().join("from")).await.backup().await.unwrap().save(&file).unwrap();
    let whole = fs::read(&file).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&file, bytes).unwrap();
        let outcome = restore(&file, &to);
        assert!(matches!(outcome, Err(BackupError::Damaged { .. })), "{what}: {outcome:?}");
        assert_eq!(files(&to), 0, "{what}");
    };
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        refused(&bytes, &format!("a bit of byte {at}"));
    }
    for length in [0, 31, 32, 544, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..length], &format!("the first {length} bytes"));
    }
    refused(&[whole.clone(), vec![0]].concat(), "one byte more");
    // A hash of its own does not make anything else a backup.
    let other = vec![b'x'; 1024];
    refused(&[&other[..], &Sha256::digest(&other)[..]].concat(), "another program's file");
    fs::write(&file, &whole).unwrap();
    restore(&file, &to).unwrap();
}

/// The file with four bytes of its trailer or its snapshot changed, and checksums that fit.
fn changed(whole: &[u8], at: usize, value: u32, checksums: &[(usize, usize)]) -> Vec<u8> {
    let mut bytes = whole[..whole.len() - 32].to_vec();
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    for (from, to) in checksums {
        let crc = crc32c::crc32c(&bytes[*from..*to - 4]);
        bytes[*to - 4..*to].copy_from_slice(&crc.to_le_bytes());
    }
    let hash = Sha256::digest(&bytes);
    bytes.extend_from_slice(&hash);
    bytes
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (file, to) = (dir.path().join("file"), dir.path().join("to"));
    filled(&dir.path().join("from")).await.backup().await.unwrap().save(&file).unwrap();
    let whole = fs::read(&file).unwrap();
    let trailer = whole.len() - 32 - 512;
    fs::write(&file, changed(&whole, trailer + 8, 2, &[(trailer, trailer + 512)])).unwrap();
    let outcome = restore(&file, &to);
    assert!(matches!(outcome, Err(BackupError::Version { found: 2, .. })), "{outcome:?}");
    fs::write(&file, changed(&whole, 8, 99, &[(0, 64)])).unwrap();
    let outcome = restore(&file, &to);
    assert!(matches!(outcome, Err(BackupError::Open(OpenError::Version { found: 99, .. }))), "{outcome:?}");
    let left: Vec<_> = fs::read_dir(&to).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"], "for whoever waits for it");
    fs::write(&file, &whole).unwrap();
    restore(&file, &to).unwrap();
}

#[test]
fn there_is_nothing_to_back_up_where_there_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Backup::read(&dir.path().join("none")), Err(OpenError::Io { .. })));
    assert!(matches!(Backup::read(dir.path()), Err(OpenError::Missing { .. })));
    assert_eq!(files(dir.path()), 0, "reading makes nothing");
}

#[tokio::test]
async fn one_restores_into_a_directory_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (file, to) = (dir.path().join("file"), dir.path().join("to"));
    filled(&dir.path().join("from")).await.backup().await.unwrap().save(&file).unwrap();
    fs::create_dir(&to).unwrap();
    let other = fs::File::create(to.join("lock")).unwrap();
    other.try_lock().unwrap();
    let refused = restore(&file, &to);
    assert!(matches!(refused, Err(BackupError::Lock(OpenError::Locked { .. }))), "{refused:?}");
    assert_eq!(files(&to), 1);
    other.unlock().unwrap();
    restore(&file, &to).unwrap();
}

/// The keys whose leases are not there.
fn orphans(view: &View) -> Vec<String> {
    let held = |lease| lease == store::NO_LEASE || view.leases().get(lease).is_some();
    view.range(&everything()).filter(|entry| !held(entry.lease)).map(|entry| entry.key.to_string()).collect()
}

/// The keys of each lease, as the leases and as the entries say.
fn held(view: &View) -> [Vec<(i64, String)>; 2] {
    let by_lease = view.leases().iter().flat_map(|(id, lease)| lease.keys.iter().map(move |key| (id, key.to_string())));
    let all = everything();
    let leased = view.range(&all).filter(|entry| entry.lease != store::NO_LEASE);
    let mut by_entry: Vec<_> = leased.map(|entry| (entry.lease, entry.key.to_string())).collect();
    by_entry.sort();
    [by_lease.collect(), by_entry]
}

/// Writes, deletes, grants and revokes until it is told to stop.
async fn write_until(store: Arc<EmbeddedStore>, writer: usize, stop: Arc<AtomicBool>) {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let own = key(writer * 100 + n % 30);
        match n % 5 {
            0 => drop(store.delete(own, Expect::Any).await),
            1 => {
                let id = 1 + i64::try_from(writer * 10 + n % 10).unwrap();
                let change = move |txn: &mut Txn<'_>| {
                    if !txn.revoke(id) {
                        txn.grant(id, 60_000);
                        txn.put(own, Bytes::from_static(b"leased"), id)?;
                    }
                    Ok::<_, store::Error>(())
                };
                store.transact(change).await.unwrap().unwrap();
            }
            _ => drop(store.put(own, Bytes::from(vec![b'a'; 700 + n % 900]), Expect::Any, None).await.unwrap()),
        }
        n += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_under_writers_is_one_revision() {
    const BACKUPS: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    // Segments and snapshots come and go all the time.
    let busy =
        Options { segment_bytes: 64 << 10, snapshot_after_bytes: 100 << 10, history_bytes_max: 1 << 30, ..options() };
    let store = Arc::new(EmbeddedStore::open(&dir.path().join("from"), busy).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        writers.spawn(write_until(store.clone(), writer, stop.clone()));
    }
    let mut last = 0;
    for n in 0..BACKUPS {
        let from = dir.path().join("from");
        let acknowledged = store.revision().await.unwrap();
        let inside = n % 4 == 0;
        let backup = if inside {
            store.backup().await.unwrap()
        } else {
            spawn_blocking(move || Backup::read(&from)).await.unwrap().unwrap()
        };
        let revision = backup.revision();
        assert!(revision >= acknowledged && revision >= last, "{revision} after {acknowledged} was visible");
        last = revision;
        let (file, to) = (dir.path().join("file"), dir.path().join(format!("to-{n}")));
        backup.save(&file).unwrap();
        assert_eq!(restore(&file, &to).unwrap(), revision);
        let restored = EmbeddedStore::open(&to, options()).unwrap();
        // What was read from outside may not have been published yet.
        while store.revision().await.unwrap() < revision {
            tokio::task::yield_now().await;
        }
        let then = store.view(&everything(), Some(revision)).unwrap();
        let entries = |view: &View| view.range(&everything()).cloned().collect::<Vec<_>>();
        assert_eq!(entries(&restored.latest()), entries(&then), "as of {revision}, from inside: {inside}");
        assert_eq!(orphans(&restored.latest()), [""; 0], "their leases are not there");
        let [by_lease, by_entry] = held(&restored.latest());
        assert_eq!(by_lease, by_entry, "as of {revision}, from inside: {inside}");
        drop(restored);
        fs::remove_dir_all(to).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    writers.join_all().await;
    assert!(store.counters().checkpoints.get() > 3, "snapshots were taken meanwhile");
}
