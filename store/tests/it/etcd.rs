//! The contract on etcd, and what only a cluster can do: be shared, lose members, lose its quorum.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use store::{Error, EtcdOptions, EtcdStore, EtcdTls, Event, Expect, Key, KeyPrefix, RangeRequest, Store};
use testkit::etcd::{Cluster, Release, Tls};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, sleep, timeout};

use crate::contract::{self, SOON};

fn options(cluster: &Cluster) -> EtcdOptions {
    EtcdOptions { compaction_interval: Duration::ZERO, ..EtcdOptions::new(cluster.endpoints()) }
}

async fn open(cluster: &Cluster) -> Arc<EtcdStore> {
    Arc::new(EtcdStore::new(options(cluster)).await.unwrap())
}

fn prefix() -> KeyPrefix {
    KeyPrefix::new(["things"]).unwrap()
}

fn key(name: &str) -> Key {
    prefix().key([name]).unwrap()
}

async fn put(store: &dyn Store, name: &str, value: &str) -> Result<u64, Error> {
    store.put(key(name), Bytes::copy_from_slice(value.as_bytes()), Expect::Any, None).await
}

/// The events after a revision, until one is on the key `last`.
async fn events(store: &dyn Store, after: u64, last: &str) -> Vec<Arc<Event>> {
    let mut stream = store.watch(prefix(), after).await.unwrap();
    let mut all = Vec::<Arc<Event>>::new();
    while all.last().is_none_or(|event| event.key.name() != last) {
        all.extend(timeout(SOON, stream.next()).await.expect("an event in time").unwrap().events);
    }
    all
}

async fn keeps_the_contract(release: Release) {
    let cluster = block_in_place(|| Cluster::start(release, 1)).unwrap();
    let store: Arc<dyn Store> = open(&cluster).await;
    contract::run(async || store.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_3_4_keeps_the_contract() {
    keeps_the_contract(Release::V3_4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_3_7_keeps_the_contract() {
    keeps_the_contract(Release::V3_7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_etcd_keeps_the_contract() {
    keeps_the_contract(Release::Ironclad).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_both_ways() {
    check_certificates(Release::V3_4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_etcd_checks_certificates_both_ways() {
    check_certificates(Release::Ironclad).await;
}

async fn check_certificates(release: Release) {
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls::create(dir.path()).unwrap();
    let cluster = block_in_place(|| Cluster::start_with(release, 1, Some(tls.clone()))).unwrap();
    assert!(EtcdStore::new(options(&cluster)).await.is_err(), "https without an authority");
    let read = |path| std::fs::read_to_string(path).unwrap();
    let client = Some((read(&tls.client_certificate), read(&tls.client_key)));
    let good = EtcdTls { authority_pem: read(&tls.authority), identity_pem: client };
    let with = |tls| EtcdStore::new(EtcdOptions { tls: Some(tls), ..options(&cluster) });
    let store = with(good.clone()).await.unwrap();
    put(&store, "a", "1").await.unwrap();
    assert_eq!(events(&store, 1, "a").await.len(), 1);
    let other = tempfile::tempdir().unwrap();
    let strange = EtcdTls { authority_pem: read(&Tls::create(other.path()).unwrap().authority), ..good.clone() };
    assert!(with(strange).await.unwrap().health().await.is_err(), "a member that nobody vouches for");
    let nobody = EtcdTls { identity_pem: None, ..good };
    assert!(with(nobody).await.unwrap().health().await.is_err(), "a client without a certificate");
}

async fn is_shared(release: Release) {
    let cluster = block_in_place(|| Cluster::start(release, 1)).unwrap();
    let (ours, theirs) = (open(&cluster).await, open(&cluster).await);
    let start = ours.revision().await.unwrap();
    for n in 0..20 {
        let (writer, other) = if n % 2 == 0 { (&ours, &theirs) } else { (&theirs, &ours) };
        let revision = put(&**writer, "a", &n.to_string()).await.unwrap();
        // A read of the other sees it, and its watch gets there without another write.
        assert_eq!(other.get(&key("a")).await.unwrap().0.unwrap().mod_revision, revision);
        let stream = other.watch(prefix(), start).await.unwrap();
        let reached = stream.progress();
        timeout(SOON, follow(stream, revision)).await.expect("the watch gets there in time");
        timeout(SOON, reached.reached(revision)).await.expect("the store knows that it did");
        let refused = other.put(key("a"), Bytes::new(), Expect::Revision(revision - 1), None).await;
        assert!(matches!(refused, Err(Error::Conflict { current: Some(found), .. }) if found.mod_revision == revision));
    }
    // One that comes later reads what has been, from etcd, and then goes on.
    let late = open(&cluster).await;
    put(&*ours, "last", "1").await.unwrap();
    assert_eq!(events(&*late, start, "last").await.len(), 21);
    // Somebody else's keys are none of ours, and their revisions hold nobody up.
    let mut foreign = etcd_client::Client::connect(cluster.endpoints(), None).await.unwrap();
    foreign.put("elsewhere", "1", None).await.unwrap();
    foreign.put("/registryx/a", "1", None).await.unwrap();
    let revision = ours.revision().await.unwrap();
    let stream = ours.watch(prefix(), start).await.unwrap();
    timeout(SOON, stream.progress().reached(revision)).await.expect("progress without an event");
    assert_eq!(ours.range(RangeRequest::all(KeyPrefix::root())).await.unwrap().entries.len(), 2);
}

async fn follow(mut stream: store::WatchStream, revision: u64) {
    while stream.next().await.unwrap().revision < revision {}
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_3_4_is_shared() {
    is_shared(Release::V3_4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_3_7_is_shared() {
    is_shared(Release::V3_7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_etcd_is_shared() {
    is_shared(Release::Ironclad).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_one_lease_end_together_and_all_of_them_are_seen() {
    leases_end(Release::V3_7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_etcd_ends_leases_as_one() {
    leases_end(Release::Ironclad).await;
}

async fn leases_end(release: Release) {
    let cluster = block_in_place(|| Cluster::start(release, 1)).unwrap();
    let store = open(&cluster).await;
    let start = store.revision().await.unwrap();
    let ttl = Some(Duration::from_secs(40));
    for n in 0..10 {
        store.put(key(&n.to_string()), Bytes::new(), Expect::Absent, ttl).await.unwrap();
    }
    let mut client = etcd_client::Client::connect(cluster.endpoints(), None).await.unwrap();
    let leases = client.leases().await.unwrap();
    assert_eq!(leases.leases().len(), 1, "ten keys share a lease");
    let granted = client.lease_time_to_live(leases.leases()[0].id(), None).await.unwrap().granted_ttl();
    assert_eq!(granted, 42, "a twentieth longer, for keys that come later");
    client.lease_revoke(leases.leases()[0].id()).await.unwrap();
    put(&*store, "last", "1").await.unwrap();
    let seen = events(&*store, start, "last").await;
    let gone: Vec<_> = seen.iter().filter(|event| event.current.is_none()).collect();
    assert_eq!(gone.len(), 10);
    assert!(gone.iter().all(|event| event.revision == gone[0].revision && event.previous.is_some()));
    // The lease that has ended is not given to anybody.
    store.put(key("new"), Bytes::new(), Expect::Absent, ttl).await.unwrap();
    assert!(store.get(&key("new")).await.unwrap().0.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_compact_together() {
    compact_together(Release::V3_7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_compact_our_own_etcd_together() {
    compact_together(Release::Ironclad).await;
}

async fn compact_together(release: Release) {
    let cluster = block_in_place(|| Cluster::start(release, 1)).unwrap();
    let often = || EtcdOptions { compaction_interval: Duration::from_millis(300), ..options(&cluster) };
    let (one, other) = (EtcdStore::new(often()).await.unwrap(), EtcdStore::new(often()).await.unwrap());
    let first = put(&one, "a", "1").await.unwrap();
    let mut client = etcd_client::Client::connect(cluster.endpoints(), None).await.unwrap();
    let deadline = Instant::now() + SOON;
    loop {
        put(&other, "a", "2").await.unwrap();
        let request = RangeRequest { revision: Some(first), ..RangeRequest::all(prefix()) };
        match other.range(request).await {
            Err(Error::Compacted { requested, oldest }) => {
                assert!(requested == first && oldest > first);
                break;
            }
            read => assert!(Instant::now() < deadline, "not compacted: {read:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
    let rounds = client.get("compact_rev_key", None).await.unwrap().kvs()[0].version();
    assert!(rounds >= 2, "{rounds}");
    // What is current stays, for both.
    assert!(one.get(&key("a")).await.unwrap().0.is_some() && other.get(&key("a")).await.unwrap().0.is_some());
}

/// What writers were told.
#[derive(Default)]
struct Told {
    /// Revisions of the writes that were answered.
    written: BTreeMap<String, u64>,
    unknown: u64,
}

/// Creates names of its own until it is told to stop. No name is tried twice, so that a conflict is a wrong answer.
async fn create_until(store: Arc<EtcdStore>, writer: usize, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Told {
    let mut told = Told::default();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return told;
        }
        let name = format!("w{writer}-{n:06}");
        match store.put(key(&name), Bytes::from(name.clone()), Expect::Absent, None).await {
            Ok(revision) => {
                told.written.insert(name, revision);
                done.fetch_add(1, Ordering::Relaxed);
            }
            Err(Error::Unavailable { .. }) => told.unknown += 1,
            Err(error) => panic!("a wrong answer to a creation: {error:?}"),
        }
        sleep(Duration::from_millis(2)).await;
    }
    told
}

/// Waits until writes are answered again.
async fn goes_on(done: &AtomicU64, what: &str) -> Duration {
    let (before, started) = (done.load(Ordering::Relaxed), Instant::now());
    while done.load(Ordering::Relaxed) < before + 20 {
        assert!(started.elapsed() < Duration::from_secs(60), "no writes after {what}");
        sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_made_up_when_members_fail() {
    let cluster = block_in_place(|| Cluster::start(Release::V3_7, 3)).unwrap();
    survives(cluster, async |cluster, _, done| {
        for round in 0..2 {
            let leader = block_in_place(|| cluster.leader()).unwrap();
            block_in_place(|| cluster.kill(leader)).unwrap();
            let pause = goes_on(done, "a leader was killed").await;
            println!("round {round}: writes again {pause:?} after the leader was killed");
            block_in_place(|| cluster.restart(leader)).unwrap();
            let leader = block_in_place(|| cluster.leader()).unwrap();
            cluster.freeze(leader).unwrap();
            let pause = goes_on(done, "a leader was stopped").await;
            println!("round {round}: writes again {pause:?} after the leader was stopped");
            cluster.thaw(leader).unwrap();
            goes_on(done, "the leader went on").await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_made_up_when_the_leader_is_cut_off_or_slow() {
    let cluster = block_in_place(|| Cluster::start_wired(Release::V3_7, 3)).unwrap();
    survives(cluster, async |cluster, store, done| {
        for round in 0..2 {
            let leader = block_in_place(|| cluster.leader()).unwrap();
            cluster.cut(leader);
            let pause = goes_on(done, "a leader was cut off").await;
            println!("round {round}: writes again {pause:?} after the leader was cut off");
            // Who reads and watches is not left with the member that hears of nothing.
            let revision = timeout(CUT_OFF_TIMEOUT, settled(store)).await.expect("reads go on");
            let stream = timeout(CUT_OFF_TIMEOUT, store.watch(prefix(), revision - 1)).await.unwrap().unwrap();
            timeout(CUT_OFF_TIMEOUT, stream.progress().reached(revision)).await.expect("watches go on");
            cluster.mend(leader);
            goes_on(done, "the leader was joined again").await;
            let leader = block_in_place(|| cluster.leader()).unwrap();
            cluster.slow(leader, Duration::from_millis(100));
            let pause = goes_on(done, "the leader was slow").await;
            println!("round {round}: 20 writes took {pause:?} with a slow leader");
            cluster.mend(leader);
        }
    })
    .await;
}

/// How long reads and watches may take to leave a member that is cut off.
const CUT_OFF_TIMEOUT: Duration = Duration::from_secs(30);

/// The revision, once the store can tell it.
async fn settled(store: &EtcdStore) -> u64 {
    loop {
        match store.revision().await {
            Ok(revision) => return revision,
            Err(Error::Unavailable { .. }) => sleep(Duration::from_millis(50)).await,
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Writers create, a watcher watches, and things go wrong: what was answered is there, and what is there was seen.
async fn survives(mut cluster: Cluster, faults: impl AsyncFn(&mut Cluster, &EtcdStore, &AtomicU64)) {
    const WRITERS: usize = 4;
    let store = open(&cluster).await;
    let start = store.revision().await.unwrap();
    let mut watch = store.watch(prefix(), start).await.unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(create_until(store.clone(), writer, stop.clone(), done.clone()));
    }
    goes_on(&done, "the start").await;
    faults(&mut cluster, &store, &done).await;
    stop.store(true, Ordering::Relaxed);
    let told = writers.join_all().await;
    let last = put(&*store, "zz-last", "1").await.unwrap();
    let mut seen = BTreeMap::new();
    let mut complete = start;
    while complete < last {
        let batch = timeout(SOON, watch.next()).await.expect("an event in time").unwrap();
        for event in batch.events {
            assert!(event.revision > complete, "revision {} after {complete}", event.revision);
            complete = event.revision;
            assert!(event.previous.is_none(), "{:?} was created twice", event.key);
            seen.insert(event.key.name().to_owned(), event.revision);
        }
        complete = complete.max(batch.revision);
    }
    let stored = store.range(RangeRequest::all(prefix())).await.unwrap();
    let stored: BTreeMap<_, _> = stored.entries.iter().map(|e| (e.key.name().to_owned(), e.mod_revision)).collect();
    assert_eq!(seen, stored, "the watch has shown what is stored");
    let (written, unknown): (BTreeMap<_, _>, u64) =
        told.into_iter().fold(Default::default(), |(mut all, unknown), told| {
            all.extend(told.written);
            (all, unknown + told.unknown)
        });
    for (name, revision) in &written {
        assert_eq!(stored.get(name), Some(revision), "{name} was answered");
    }
    println!("{} writes answered, {unknown} with unknown outcome, {} stored", written.len(), stored.len());
    assert!(stored.len() as u64 <= written.len() as u64 + unknown + 1);
}

/// Changes one object over and over until it is told to stop, each time from the revision that it knows. Returns how
/// often.
async fn update_until(store: Arc<EtcdStore>, name: String, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> u64 {
    let mut revision = put(&*store, &name, "0").await.unwrap();
    for n in 1.. {
        if stop.load(Ordering::Relaxed) {
            return n - 1;
        }
        let value = Bytes::from(n.to_string());
        let written = store.put(key(&name), value, Expect::Revision(revision), None).await;
        revision = written.unwrap_or_else(|error| panic!("nobody else changes {name}: {error:?}"));
        done.fetch_add(1, Ordering::Relaxed);
    }
    unreachable!("it is told to stop")
}

/// A follower hands writes on to a leader that is gone, and answers seven seconds later that it does not know. What
/// cannot be done twice is asked for again before that.
#[tokio::test(flavor = "multi_thread")]
async fn updates_are_not_lost_with_the_leader() {
    const WRITERS: u64 = 4;
    let mut cluster = block_in_place(|| Cluster::start(Release::V3_7, 3)).unwrap();
    for round in 0..2 {
        let leader = block_in_place(|| cluster.leader()).unwrap();
        let followers = cluster.endpoints().into_iter().enumerate().filter(|(n, _)| *n != leader);
        let endpoints = followers.map(|(_, endpoint)| endpoint).collect();
        let store = Arc::new(EtcdStore::new(EtcdOptions { endpoints, ..options(&cluster) }).await.unwrap());
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let name = format!("r{round}-{writer}");
            writers.spawn(update_until(store.clone(), name, stop.clone(), done.clone()));
        }
        goes_on(&done, "the start").await;
        block_in_place(|| cluster.kill(leader)).unwrap();
        let pause = goes_on(&done, "a leader was killed").await;
        println!("round {round}: updates again {pause:?} after the leader was killed");
        block_in_place(|| cluster.restart(leader)).unwrap();
        stop.store(true, Ordering::Relaxed);
        // All of its writers, one of which was told more often than another.
        let updates: u64 = writers.join_all().await.into_iter().sum();
        assert_eq!(updates, done.load(Ordering::Relaxed));
        let request = RangeRequest::all(prefix());
        let stored = store.range(request).await.unwrap().entries;
        let versions = stored.iter().filter(|entry| entry.key.name().starts_with(&format!("r{round}-")));
        assert_eq!(versions.map(|entry| entry.version).sum::<u64>(), updates + WRITERS, "none was done twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_it_says_so_and_comes_back() {
    let mut cluster = block_in_place(|| Cluster::start(Release::V3_4, 3)).unwrap();
    let store = open(&cluster).await;
    let before = put(&*store, "a", "1").await.unwrap();
    let mut watch = store.watch(prefix(), before).await.unwrap();
    let follower = (block_in_place(|| cluster.leader()).unwrap() + 1) % 3;
    let others = [(follower + 1) % 3, (follower + 2) % 3];
    for n in others {
        block_in_place(|| cluster.kill(n)).unwrap();
    }
    let (written, health) = tokio::join!(put(&*store, "a", "2"), store.health());
    assert!(matches!(written, Err(Error::Unavailable { .. })), "{written:?}");
    assert!(matches!(health, Err(Error::Unavailable { .. })), "{health:?}");
    // Members wait for each other.
    for n in others {
        cluster.respawn(n).unwrap();
    }
    block_in_place(|| others.iter().try_for_each(|n| cluster.wait(*n))).unwrap();
    let deadline = Instant::now() + SOON;
    while store.health().await.is_err() {
        assert!(Instant::now() < deadline, "no health after the quorum came back");
        sleep(Duration::from_millis(50)).await;
    }
    let after = put(&*store, "a", "3").await.unwrap();
    loop {
        // A watch that was lost begins again where it was, as the cache does.
        match timeout(SOON, watch.next()).await.expect("an event in time") {
            Ok(batch) if batch.events.iter().any(|event| event.revision == after) => break,
            Ok(_) => {}
            Err(Error::Unavailable { .. }) => watch = store.watch(prefix(), before).await.unwrap(),
            Err(error) => panic!("{error:?}"),
        }
    }
}
