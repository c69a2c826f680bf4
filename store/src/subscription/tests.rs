//! How much one reading takes from a log, and how far it says that it goes.

use bytes::Bytes;

use super::*;
use crate::contract::Entry;
use crate::key::Key;

fn event(revision: u64, kind: &str, value_bytes: usize) -> Arc<Event> {
    let key = Key::new([kind, &revision.to_string()]).unwrap();
    let (value, version, lease) = (Bytes::from(vec![b'x'; value_bytes]), 1, 0);
    let entry = Entry { key: key.clone(), value, create_revision: revision, mod_revision: revision, version, lease };
    Arc::new(Event { revision, key, current: Some(Arc::new(entry)), previous: None })
}

/// A log of these events, and a reader of the kind `wanted` from its beginning.
fn log_of(events: impl IntoIterator<Item = Arc<Event>>) -> (Log<Event>, Arc<Subscription>) {
    let mut log = Log::starting_after(1);
    events.into_iter().for_each(|event| log.push(event, 0));
    let prefix = KeyPrefix::new(["wanted"]).unwrap();
    let subscription = Subscriptions::default().add(&log, u64::MAX, prefix, 1).unwrap();
    (log, subscription)
}

/// Reads everything: of each batch its events' revisions and its own.
fn batches(log: &Log<Event>, subscription: &Subscription, revision: u64) -> Vec<(Vec<u64>, u64)> {
    let read = || subscription.read(log, revision, 512).unwrap();
    std::iter::from_fn(read).map(|batch| (batch.events.iter().map(|e| e.revision).collect(), batch.revision)).collect()
}

#[test]
fn a_reading_looks_at_so_many_events_and_goes_on_there() {
    let newest = 3 * SCAN_MAX as u64 + 1;
    let wanted = [5, newest];
    let kind = |revision| if wanted.contains(&revision) { "wanted" } else { "other" };
    let (log, subscription) = log_of((2..=newest).map(|revision| event(revision, kind(revision), 1)));
    let slice = SCAN_MAX as u64;
    let told = batches(&log, &subscription, newest);
    assert_eq!(told, [(vec![5], slice + 1), (vec![], 2 * slice + 1), (vec![newest], newest)]);
}

#[test]
fn a_write_of_many_keys_is_read_whole() {
    let many = SCAN_MAX as u64 * 2;
    let all = (0..many).map(|_| event(3, "wanted", 1)).chain([event(4, "wanted", 1)]);
    let (log, subscription) = log_of([event(2, "wanted", 1)].into_iter().chain(all));
    let told = batches(&log, &subscription, 4);
    assert_eq!(
        told.iter().map(|(events, revision)| (events.len() as u64, *revision)).collect::<Vec<_>>(),
        [(many + 1, 3), (1, 4)]
    );
}

#[test]
fn nothing_of_a_write_counts_as_read_before_all_of_it_is() {
    let others = (0..SCAN_MAX + 5).map(|_| event(3, "other", 1));
    let (log, subscription) = log_of(others.chain([event(3, "wanted", 1), event(4, "other", 1)]));
    assert_eq!(batches(&log, &subscription, 4), [(vec![], 2), (vec![3], 4)]);
}

#[test]
fn large_values_come_in_several_batches() {
    let (log, subscription) = log_of((2..=9).map(|revision| event(revision, "wanted", BATCH_BYTES_MAX / 3 + 1)));
    let told = batches(&log, &subscription, 9);
    assert_eq!(told, [(vec![2, 3, 4], 4), (vec![5, 6, 7], 7), (vec![8, 9], 9)]);
}
