//! The checker accepts a right history and refuses each way of being wrong.

use super::*;

const A: &str = "/registry/a/1";
const B: &str = "/registry/b/1";

fn put(id: CallId, key: &str, expected: Expected) -> Record {
    Record::Invoked { id, call: Call::Put { key: key.into(), expected, expires: false } }
}

fn written(id: CallId, revision: u64) -> Record {
    Record::Returned { id, answer: Answer::Written { revision } }
}

fn held(key: &str, write: CallId, created: u64, modified: u64) -> Held {
    Held { key: key.into(), write, created, modified }
}

fn opened(revision: u64, entries: Vec<Held>) -> Record {
    Record::Opened { revision, oldest: 1, entries }
}

fn event(revision: u64, key: &str, write: Option<CallId>, previous: u64) -> Record {
    Record::Event { watcher: 0, revision, key: key.into(), write, previous }
}

fn watching(after: u64) -> Record {
    Record::Watching { watcher: 0, prefix: String::new(), after }
}

fn read(id: CallId, revision: u64, entries: Vec<Held>) -> [Record; 2] {
    let call = Record::Invoked { id, call: Call::Get { key: A.into() } };
    [call, Record::Returned { id, answer: Answer::Read { revision, entries } }]
}

/// Two writes, a watcher, a kill with a third under way, which had happened.
fn right() -> Vec<Record> {
    vec![
        opened(1, vec![]),
        watching(1),
        put(1, A, Some(0)),
        written(1, 2),
        event(2, A, Some(1), 0),
        put(2, B, None),
        put(3, A, Some(2)),
        written(2, 3),
        event(3, B, Some(2), 0),
        Record::Complete { watcher: 0, revision: 3 },
        opened(4, vec![held(A, 3, 2, 4), held(B, 2, 3, 3)]),
        watching(3),
        event(4, A, Some(3), 2),
    ]
}

#[test]
fn a_right_history_is_accepted() {
    let summary = check(&right()).unwrap();
    assert_eq!((summary.opened, summary.writes, summary.events, summary.resumed), (2, 2, 3, 1));
    assert_eq!(summary.unknown, 0);
}

/// The right history, spoilt at one place.
fn refused(because: &str, spoil: impl FnOnce(&mut Vec<Record>)) {
    let mut records = right();
    spoil(&mut records);
    let wrong = check(&records).expect_err(because);
    assert!(wrong.contains(because), "{wrong}");
}

#[test]
fn writes_are_neither_lost_nor_moved() {
    refused("opened at 2, but 3 had been seen", |r| r[10] = opened(2, vec![held(A, 1, 2, 2)]));
    refused("was read", |r| r[10] = opened(4, vec![held(A, 3, 2, 4)]));
    refused("was read", |r| r[10] = opened(4, vec![held(A, 3, 4, 4), held(B, 2, 3, 3)]));
    refused("call 1 wrote", |r| r[10] = opened(4, vec![held(A, 1, 2, 4), held(B, 2, 3, 3)]));
    refused("by Some(2) and by None", |r| r[8] = event(3, B, None, 0));
    refused("never made", |r| r[10] = opened(4, vec![held(A, 9, 2, 4), held(B, 2, 3, 3)]));
    refused("is a write of", |r| r[7] = written(2, 2));
    refused("twice", |r| r.extend([event(5, A, Some(3), 4)]));
    refused("had been seen before", |r| r.extend([put(4, B, None), written(4, 1)]));
    refused("was answered Some(Refused), but wrote", |r| {
        r.insert(9, Record::Returned { id: 3, answer: Answer::Refused });
    });
    refused("nobody deleted", |r| r.extend([event(5, A, None, 4)]));
}

#[test]
fn expectations_are_kept() {
    refused("which was not expected", |r| r[2] = put(1, A, Some(1)));
    let conflict = |found| [put(5, A, Some(2)), Record::Returned { id: 5, answer: Answer::Conflict { found } }];
    refused("which was expected", |r| r.extend(conflict(2)));
    let mut records = right();
    records.extend(conflict(4));
    check(&records).unwrap();
    refused("was over by", |r| r.extend(conflict(0)));
}

#[test]
fn reads_are_of_their_revision_and_not_stale() {
    let mut records = right();
    records.extend(read(7, 4, vec![held(A, 3, 2, 4)]));
    check(&records).unwrap();
    refused("had been seen before", |r| r.extend(read(7, 3, vec![held(A, 1, 2, 2)])));
    refused("was read", |r| r.extend(read(7, 4, vec![])));
    refused("was read", |r| r.extend(read(7, 4, vec![held(A, 1, 2, 2)])));
}

#[test]
fn watchers_miss_nothing_and_get_nothing_twice() {
    refused("missed [3]", |r| drop(r.remove(8)));
    refused("got 3 after 3", |r| r.insert(9, event(3, B, Some(2), 0)));
    refused("but the event says 3", |r| r[12] = event(4, A, Some(3), 3));
    refused("goes on after 4, but was at 3", |r| r[11] = watching(4));
    refused("is complete up to 2 after 3", |r| r[9] = Record::Complete { watcher: 0, revision: 2 });
    refused("is there", |r| r.extend([Record::Compacted { watcher: 0, after: 4, oldest: 3 }]));
}

#[test]
fn what_nobody_told_is_counted_and_not_guessed() {
    let records = [opened(1, vec![]), put(1, A, None), written(1, 2), put(2, A, Some(7)), written(2, 8)];
    assert_eq!(check(&records).unwrap().unknown, 1);
}
