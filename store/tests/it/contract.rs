//! What every backend promises, as cases that know nothing of the backend.
//!
//! A backend's test calls [`run`] with a way to make stores. The stores may be shared between cases: each
//! case works below a prefix of its own and compares revisions only with those it was given.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::{Batch, Change, Error, Event, EventKind, Expect, Key, KeyPrefix, RangeRequest, Store, Updated, update};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long something may take that has to happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

type Case = fn(Bench) -> Pin<Box<dyn Future<Output = ()> + Send>>;

const CASES: &[(&str, Case)] = &[
    ("revisions", |bench| Box::pin(revisions(bench))),
    ("expectations", |bench| Box::pin(expectations(bench))),
    ("deletions", |bench| Box::pin(deletions(bench))),
    ("ranges", |bench| Box::pin(ranges(bench))),
    ("old_ranges", |bench| Box::pin(old_ranges(bench))),
    ("unreachable_revisions", |bench| Box::pin(unreachable_revisions(bench))),
    ("watch_the_past", |bench| Box::pin(watch_the_past(bench))),
    ("watch_the_future", |bench| Box::pin(watch_the_future(bench))),
    ("watch_one_prefix", |bench| Box::pin(watch_one_prefix(bench))),
    ("watch_while_writing", |bench| Box::pin(watch_while_writing(bench))),
    ("one_winner", |bench| Box::pin(one_winner(bench))),
    ("guaranteed_update", |bench| Box::pin(guaranteed_update(bench))),
    ("stale_update", |bench| Box::pin(stale_update(bench))),
    ("time_to_live", |bench| Box::pin(time_to_live(bench))),
    ("compaction", |bench| Box::pin(compaction(bench))),
];

/// Runs every case and names the one that fails.
pub(crate) async fn run(store: impl AsyncFn() -> Arc<dyn Store>) {
    for (name, case) in CASES {
        println!("contract: {name}");
        let prefix = KeyPrefix::new(["contract", name]).unwrap();
        case(Bench { store: store().await, prefix }).await;
    }
}

/// A store and a prefix of one's own.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) prefix: KeyPrefix,
}

impl Bench {
    fn key(&self, name: &str) -> Key {
        self.prefix.key([name]).unwrap()
    }

    async fn try_put(&self, name: &str, value: &str, expect: Expect) -> Result<u64, Error> {
        self.store.put(self.key(name), Bytes::copy_from_slice(value.as_bytes()), expect, None).await
    }

    async fn put(&self, name: &str, value: &str) -> u64 {
        self.try_put(name, value, Expect::Any).await.unwrap()
    }

    async fn delete(&self, name: &str) -> u64 {
        self.store.delete(self.key(name), Expect::Any).await.unwrap().revision
    }

    /// `name=value` of everything at a revision.
    async fn list(&self, revision: Option<u64>) -> Vec<String> {
        let request = RangeRequest { revision, ..RangeRequest::all(self.prefix.clone()) };
        let page = self.store.range(request).await.unwrap();
        if let Some(revision) = revision {
            assert_eq!(page.revision, revision);
        }
        page.entries.iter().map(|entry| format!("{}={}", entry.key.name(), text(&entry.value))).collect()
    }

    /// The first `count` events after a revision, checked for order and completeness.
    async fn watch(&self, after: u64, count: usize) -> Vec<Arc<Event>> {
        let mut stream = self.store.watch(self.prefix.clone(), after).await.unwrap();
        let (mut events, mut complete) = (Vec::<Arc<Event>>::new(), after);
        while events.len() < count {
            let batch = timeout(SOON, stream.next()).await.expect("an event in time").unwrap();
            check(&batch, complete);
            complete = batch.revision;
            events.extend(batch.events);
        }
        events
    }
}

fn check(batch: &Batch, complete: u64) {
    let mut last = complete;
    for event in &batch.events {
        assert!(event.revision > last, "revision {} after {last}", event.revision);
        last = event.revision;
        let current = event.current.as_ref().map(|entry| (&entry.key, entry.mod_revision));
        assert!(current.is_none_or(|current| current == (&event.key, event.revision)));
        assert!(
            event.previous.as_ref().is_none_or(|entry| entry.key == event.key && entry.mod_revision < event.revision)
        );
    }
    assert!(batch.revision >= last);
}

pub(crate) fn text(value: &Bytes) -> &str {
    std::str::from_utf8(value).unwrap()
}

/// `+name=value` for what was created, `~` changed (with the value before), `-` deleted.
fn shown(events: &[Arc<Event>]) -> Vec<String> {
    let value = |entry: &Option<Arc<store::Entry>>| entry.as_ref().map(|entry| text(&entry.value).to_owned());
    let show = |event: &Arc<Event>| {
        let name = event.key.name();
        match (value(&event.previous), value(&event.current)) {
            (None, Some(new)) => format!("+{name}={new}"),
            (Some(old), Some(new)) => format!("~{name}={old}>{new}"),
            (Some(old), None) => format!("-{name}={old}"),
            (None, None) => format!("?{name}"),
        }
    };
    events.iter().map(show).collect()
}

async fn revisions(bench: Bench) {
    let before = bench.store.revision().await.unwrap();
    assert!(before >= 1);
    let first = bench.put("a", "1").await;
    let second = bench.put("a", "2").await;
    let other = bench.put("b", "1").await;
    assert!(before < first && first < second && second < other);
    let (entry, revision) = bench.store.get(&bench.key("a")).await.unwrap();
    let entry = entry.unwrap();
    assert!(revision >= other && bench.store.revision().await.unwrap() >= other);
    assert_eq!((entry.create_revision, entry.mod_revision, text(&entry.value)), (first, second, "2"));
    bench.delete("a").await;
    let again = bench.put("a", "3").await;
    let entry = bench.store.get(&bench.key("a")).await.unwrap().0.unwrap();
    assert_eq!((entry.create_revision, entry.mod_revision), (again, again));
}

async fn expectations(bench: Bench) {
    let conflict = |result: Result<u64, Error>, found: Option<&str>| match result {
        Err(Error::Conflict { current, .. }) => {
            assert_eq!(current.as_ref().map(|entry| text(&entry.value)), found);
        }
        other => panic!("{other:?}"),
    };
    conflict(bench.try_put("a", "x", Expect::Revision(1)).await, None);
    conflict(bench.try_put("a", "x", Expect::Revision(0)).await, None);
    let first = bench.try_put("a", "1", Expect::Absent).await.unwrap();
    conflict(bench.try_put("a", "x", Expect::Absent).await, Some("1"));
    conflict(bench.try_put("a", "x", Expect::Revision(first - 1)).await, Some("1"));
    let second = bench.try_put("a", "2", Expect::Revision(first)).await.unwrap();
    conflict(bench.try_put("a", "x", Expect::Revision(first)).await, Some("2"));
    let third = bench.try_put("a", "3", Expect::Any).await.unwrap();
    let stale = bench.store.delete(bench.key("a"), Expect::Revision(second)).await.unwrap_err();
    conflict(Err(stale), Some("3"));
    let stale = bench.store.delete(bench.key("a"), Expect::Absent).await.unwrap_err();
    conflict(Err(stale), Some("3"));
    bench.store.delete(bench.key("a"), Expect::Revision(third)).await.unwrap();
    bench.try_put("a", "4", Expect::Absent).await.unwrap();
}

async fn deletions(bench: Bench) {
    let written = bench.put("a", "1").await;
    let deleted = bench.store.delete(bench.key("a"), Expect::Any).await.unwrap();
    assert!(deleted.revision > written);
    assert_eq!((text(&deleted.previous.value), deleted.previous.mod_revision), ("1", written));
    assert!(bench.store.get(&bench.key("a")).await.unwrap().0.is_none());
    for expect in [Expect::Any, Expect::Absent, Expect::Revision(written)] {
        let error = bench.store.delete(bench.key("a"), expect).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    }
    assert_eq!(bench.store.revision().await.unwrap(), deleted.revision, "a refused write takes no revision");
}

async fn ranges(bench: Bench) {
    for name in ["b", "a.b", "a", "a-b", "c"] {
        bench.put(name, "1").await;
    }
    assert_eq!(bench.list(None).await, ["a=1", "a-b=1", "a.b=1", "b=1", "c=1"]);
    let first = RangeRequest { limit: 2, ..RangeRequest::all(bench.prefix.clone()) };
    let page = bench.store.range(first.clone()).await.unwrap();
    assert_eq!((page.entries.len(), page.more, page.remaining), (2, true, 3));
    bench.put("a-c", "late").await;
    let start = format!("{}\0", page.entries[1].key.suffix(&bench.prefix).unwrap());
    let rest = RangeRequest { start: Some(start), revision: Some(page.revision), limit: 3, ..first.clone() };
    let page = bench.store.range(rest).await.unwrap();
    let names: Vec<_> = page.entries.iter().map(|entry| entry.key.name().to_owned()).collect();
    assert_eq!((names, page.more, page.remaining), (["a.b", "b", "c"].map(str::to_owned).to_vec(), false, 0));
    let nothing = RangeRequest::all(bench.prefix.child("a").unwrap());
    assert!(bench.store.range(nothing).await.unwrap().entries.is_empty());
}

async fn old_ranges(bench: Bench) {
    let mut states = Vec::new();
    let mut revisions = vec![bench.put("a", "1").await, bench.put("b", "1").await, bench.put("a", "2").await];
    states.extend([vec!["a=1"], vec!["a=1", "b=1"], vec!["a=2", "b=1"]]);
    revisions.extend([bench.delete("b").await, bench.put("b", "3").await, bench.delete("a").await]);
    states.extend([vec!["a=2"], vec!["a=2", "b=3"], vec!["b=3"]]);
    for (revision, state) in revisions.iter().zip(&states) {
        assert_eq!(&bench.list(Some(*revision)).await, state, "at {revision}");
    }
    let request = RangeRequest { revision: Some(revisions[4]), ..RangeRequest::all(bench.prefix.clone()) };
    let page = bench.store.range(request).await.unwrap();
    assert_eq!((page.entries[1].create_revision, page.entries[0].create_revision), (revisions[4], revisions[0]));
}

async fn unreachable_revisions(bench: Bench) {
    let current = bench.put("a", "1").await;
    let request = RangeRequest { revision: Some(current + 1000), ..RangeRequest::all(bench.prefix.clone()) };
    let error = bench.store.range(request).await.unwrap_err();
    assert!(matches!(error, Error::Future { requested, .. } if requested == current + 1000), "{error:?}");
    let error = bench.store.compact(current + 1000).await.unwrap_err();
    assert!(matches!(error, Error::Future { .. }), "{error:?}");
}

async fn watch_the_past(bench: Bench) {
    let start = bench.put("a", "1").await;
    bench.put("a", "2").await;
    let deleted = bench.delete("a").await;
    bench.put("b", "1").await;
    let events = bench.watch(start, 3).await;
    assert_eq!(shown(&events), ["~a=1>2", "-a=2", "+b=1"]);
    assert_eq!((events[1].revision, events[1].kind()), (deleted, EventKind::Delete));
    assert_eq!(shown(&bench.watch(deleted, 1).await), ["+b=1"]);
}

async fn watch_the_future(bench: Bench) {
    let current = bench.put("a", "1").await;
    let mut stream = bench.store.watch(bench.prefix.clone(), current + 2).await.unwrap();
    for value in ["2", "3", "4"] {
        bench.put("a", value).await;
    }
    let mut events = Vec::new();
    while events.is_empty() {
        events = timeout(SOON, stream.next()).await.expect("an event in time").unwrap().events;
    }
    // A shared store has other writers, so that two revisions may have passed earlier.
    assert!(events.iter().all(|event| event.revision > current + 2));
    assert!(shown(&events).iter().all(|event| event == "~a=3>4" || event == "~a=2>3"), "{:?}", shown(&events));
}

async fn watch_one_prefix(bench: Bench) {
    let start = bench.store.revision().await.unwrap();
    let inner = Bench { prefix: bench.prefix.child("pods").unwrap(), ..bench.clone() };
    let neighbour = Bench { prefix: bench.prefix.child("pods-more").unwrap(), ..bench.clone() };
    bench.put("pods", "not below itself").await;
    neighbour.put("a", "1").await;
    inner.put("a", "1").await;
    neighbour.put("a", "2").await;
    inner.put("a", "2").await;
    assert_eq!(shown(&inner.watch(start, 2).await), ["+a=1", "~a=1>2"]);
    assert_eq!(bench.watch(start, 5).await.len(), 5);
}

async fn watch_while_writing(bench: Bench) {
    const WRITERS: usize = 8;
    const WRITES: usize = 50;
    let start = bench.store.revision().await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let bench = bench.clone();
        writers.spawn(async move {
            let mut revisions = Vec::new();
            for n in 0..WRITES {
                revisions.push(bench.put(&format!("w{writer}"), &n.to_string()).await);
            }
            revisions
        });
    }
    let (seen, written) = tokio::join!(bench.watch(start, WRITERS * WRITES), writers.join_all());
    let mut written: Vec<_> = written.into_iter().flatten().collect();
    written.sort_unstable();
    assert_eq!(seen.iter().map(|event| event.revision).collect::<Vec<_>>(), written);
}

async fn one_winner(bench: Bench) {
    for round in 0..20 {
        let mut racers = JoinSet::new();
        for racer in 0..10 {
            let bench = bench.clone();
            racers.spawn(async move {
                bench.try_put(&format!("r{round}"), &racer.to_string(), Expect::Absent).await.is_ok()
            });
        }
        assert_eq!(racers.join_all().await.into_iter().filter(|won| *won).count(), 1);
    }
}

async fn guaranteed_update(bench: Bench) {
    let mut updates = JoinSet::new();
    for _ in 0..20 {
        let bench = bench.clone();
        updates.spawn(async move {
            let increment = |entry: Option<store::Entry>| async move {
                let old: u64 = entry.map_or(0, |entry| text(&entry.value).parse().unwrap());
                Ok::<_, ()>(Change::Put(Bytes::from((old + 1).to_string()), None))
            };
            let updated = update(&*bench.store, &bench.key("n"), None, increment).await.unwrap();
            assert!(matches!(updated, Updated::Put { .. }));
        });
    }
    updates.join_all().await;
    assert_eq!(bench.list(None).await, ["n=20"]);
}

async fn stale_update(bench: Bench) {
    bench.put("a", "old").await;
    let stale = bench.store.get(&bench.key("a")).await.unwrap().0;
    bench.put("a", "new").await;
    let mut asked = Vec::new();
    let refuse_old = |entry: Option<store::Entry>| {
        let value = text(&entry.unwrap().value).to_owned();
        asked.push(value.clone());
        async move { if value == "old" { Err("refused") } else { Ok(Change::Delete) } }
    };
    let updated = update(&*bench.store, &bench.key("a"), stale, refuse_old).await.unwrap();
    assert!(matches!(updated, Updated::Deleted(deleted) if text(&deleted.previous.value) == "new"));
    assert_eq!(asked, ["old", "new"]);
    let keep = |entry: Option<store::Entry>| async move {
        Ok::<_, ()>(if entry.is_none() { Change::Delete } else { Change::Keep })
    };
    assert!(matches!(update(&*bench.store, &bench.key("a"), None, keep).await, Ok(Updated::Kept(None))));
}

async fn time_to_live(bench: Bench) {
    let start = bench.store.revision().await.unwrap();
    let ttl = Some(Duration::from_secs(1));
    for name in ["kept", "gone"] {
        bench.store.put(bench.key(name), Bytes::from_static(b"1"), Expect::Any, ttl).await.unwrap();
    }
    bench.put("kept", "2").await;
    let events = bench.watch(start, 4).await;
    assert_eq!(shown(&events), ["+kept=1", "+gone=1", "~kept=1>2", "-gone=1"]);
    assert_eq!(bench.list(None).await, ["kept=2"]);
}

async fn compaction(bench: Bench) {
    let first = bench.put("a", "1").await;
    let second = bench.put("a", "2").await;
    let third = bench.put("a", "3").await;
    bench.store.compact(second).await.unwrap();
    bench.store.compact(first).await.unwrap();
    assert_eq!(bench.list(Some(second)).await, ["a=2"]);
    assert_eq!(bench.list(Some(third)).await, ["a=3"]);
    assert_eq!(shown(&bench.watch(second, 1).await), ["~a=2>3"]);
    let request = RangeRequest { revision: Some(first), ..RangeRequest::all(bench.prefix.clone()) };
    let error = bench.store.range(request).await.unwrap_err();
    assert!(
        matches!(error, Error::Compacted { requested, oldest } if requested == first && oldest >= second),
        "{error:?}"
    );
    let stream = bench.store.watch(bench.prefix.clone(), first).await;
    let error = match stream {
        Err(error) => error,
        Ok(mut stream) => timeout(SOON, stream.next()).await.expect("an answer in time").unwrap_err(),
    };
    assert!(matches!(error, Error::Compacted { .. }), "{error:?}");
}
