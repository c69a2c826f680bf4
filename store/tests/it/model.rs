//! Any sequence of writes gives the states and events that a plain list of them predicts, before and
//! after reopening.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use proptest::prelude::*;
use store::{EmbeddedStore, Error, Expect, KeyPrefix, Options, RangeRequest, Store};

#[derive(Debug, Clone)]
enum Op {
    Put { name: u8, value: u8, expect: Wish },
    Delete { name: u8, expect: Wish },
    Reopen,
}

/// What to expect, relative to what is true.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Any,
    Absent,
    Right,
    Wrong,
}

fn op() -> impl Strategy<Value = Op> {
    let wish = || prop_oneof![Just(Wish::Any), Just(Wish::Absent), Just(Wish::Right), Just(Wish::Wrong)];
    prop_oneof![
        6 => (0..6u8, any::<u8>(), wish()).prop_map(|(name, value, expect)| Op::Put { name, value, expect }),
        3 => (0..6u8, wish()).prop_map(|(name, expect)| Op::Delete { name, expect }),
        1 => Just(Op::Reopen),
    ]
}

/// Name to value, created and modified revision.
type State = BTreeMap<String, (u8, u64, u64)>;

struct Model {
    /// The state at every revision from 1 on.
    states: Vec<State>,
}

impl Model {
    fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    fn expect(&self, name: &str, wish: Wish) -> (Expect, bool) {
        let modified = self.now().get(name).map(|(_, _, modified)| *modified);
        match wish {
            Wish::Any => (Expect::Any, true),
            Wish::Absent => (Expect::Absent, modified.is_none()),
            Wish::Right => (Expect::Revision(modified.unwrap_or(1)), modified.is_some()),
            Wish::Wrong => (Expect::Revision(modified.unwrap_or(1) + 1), false),
        }
    }
}

fn open(dir: &Path) -> EmbeddedStore {
    // Small files, so that every few writes fill a segment and every few more take a snapshot.
    let options = Options { segment_bytes: 4096, snapshot_after_bytes: 3000, ..Options::new(UNIX_EPOCH) };
    EmbeddedStore::open(dir, options).unwrap()
}

fn prefix() -> KeyPrefix {
    KeyPrefix::new(["model"]).unwrap()
}

async fn apply(store: &EmbeddedStore, model: &mut Model, op: &Op) {
    let mut next = model.now().clone();
    let revision = model.states.len() as u64 + 1;
    match op {
        Op::Reopen => return,
        Op::Put { name, value, expect } => {
            let name = format!("k{name}");
            let (expect, met) = model.expect(&name, *expect);
            let put = store.put(prefix().key([&*name]).unwrap(), Bytes::from(vec![*value; 40]), expect, None).await;
            if !met {
                assert!(matches!(put, Err(Error::Conflict { .. })), "{put:?}");
                return;
            }
            assert_eq!(put.unwrap(), revision);
            let created = next.get(&name).map_or(revision, |(_, created, _)| *created);
            next.insert(name, (*value, created, revision));
        }
        Op::Delete { name, expect } => {
            let name = format!("k{name}");
            let (expect, met) = model.expect(&name, *expect);
            let deleted = store.delete(prefix().key([&*name]).unwrap(), expect).await;
            let Some((value, _, _)) = next.get(&name).filter(|_| met) else {
                assert!(matches!(deleted, Err(Error::Conflict { .. } | Error::NotFound { .. })), "{deleted:?}");
                return;
            };
            let deleted = deleted.unwrap();
            assert_eq!((deleted.revision, deleted.previous.value[0]), (revision, *value));
            next.remove(&name);
        }
    }
    model.states.push(next);
}

async fn check(store: &EmbeddedStore, model: &Model) {
    let current = model.states.len() as u64;
    assert_eq!(store.revision().await.unwrap(), current);
    let mut readable = 0;
    for revision in 1..=current {
        let request = RangeRequest { revision: Some(revision), ..RangeRequest::all(prefix()) };
        let page = match store.range(request).await {
            Ok(page) => page,
            Err(Error::Compacted { oldest, .. }) if oldest > revision && readable == 0 => continue,
            Err(error) => panic!("{error}"),
        };
        readable += 1;
        let state: State = page
            .entries
            .iter()
            .map(|entry| (entry.key.name().to_owned(), (entry.value[0], entry.create_revision, entry.mod_revision)))
            .collect();
        assert_eq!(&state, &model.states[revision as usize - 1], "at {revision}");
        check_watch(store, model, revision).await;
    }
    assert!(readable > 0);
}

async fn check_watch(store: &EmbeddedStore, model: &Model, after: u64) {
    let current = model.states.len() as u64;
    let mut stream = store.watch(prefix(), after).await.unwrap();
    let mut complete = after;
    while complete < current {
        let batch = stream.next().await.unwrap();
        for event in batch.events {
            complete += 1;
            assert_eq!(event.revision, complete);
            let value = |state: &State| state.get(event.key.name()).map(|(value, _, _)| *value);
            assert_eq!(event.current.as_ref().map(|entry| entry.value[0]), value(&model.states[complete as usize - 1]));
            assert_eq!(
                event.previous.as_ref().map(|entry| entry.value[0]),
                value(&model.states[complete as usize - 2])
            );
        }
        assert_eq!(batch.revision, complete);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn writes_give_the_predicted_history(ops in prop::collection::vec(op(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let mut model = Model { states: vec![State::new()] };
            let mut store = open(dir.path());
            for op in &ops {
                apply(&store, &mut model, op).await;
                if matches!(op, Op::Reopen) {
                    drop(store);
                    store = open(dir.path());
                    check(&store, &model).await;
                }
            }
            check(&store, &model).await;
        });
    }
}
