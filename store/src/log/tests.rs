//! The log keeps order, positions and bounds.

use super::*;

struct Item(u64);

impl Recorded for Item {
    fn revision(&self) -> u64 {
        self.0
    }
    fn retained_bytes(&self) -> usize {
        10
    }
}

fn log(revisions: impl IntoIterator<Item = u64>) -> Log<Item> {
    let mut log = Log::starting_after(1);
    for revision in revisions {
        log.push(Arc::new(Item(revision)), revision * 100);
    }
    log
}

fn revisions<'a>(items: impl Iterator<Item = &'a Arc<Item>>) -> Vec<u64> {
    items.map(|item| item.0).collect()
}

/// What comes after a revision, the newest first.
fn newer(log: &Log<Item>, revision: u64) -> Vec<u64> {
    let (mut end, mut all) = (log.end(), Vec::new());
    loop {
        let (start, items) = log.newer(revision, end).unwrap();
        if items.is_empty() {
            return all;
        }
        all.extend(revisions(items.iter().rev()));
        end = start;
    }
}

#[test]
fn what_has_to_be_undone_comes_in_pieces() {
    let last = 2 * UNDO_MAX + 10;
    let log = log(2..=last);
    assert_eq!(newer(&log, 5), (6..=last).rev().collect::<Vec<_>>());
    let (start, newest) = log.newer(5, log.end()).unwrap();
    assert_eq!((newest.len() as u64, newest.last().unwrap().0), (UNDO_MAX, last));
    assert_eq!(start, log.end() - UNDO_MAX);
    assert_eq!(log.newer(0, log.end()).map(|_| ()), Err(Overtaken { oldest: 1 }));
}

#[test]
fn what_is_forgotten_ends_with_whoever_asked_for_that() {
    let mut log = log([3, 5, 5, 9]);
    let first = Arc::downgrade(&log.read(0).unwrap().next().unwrap().clone());
    let forgotten = log.compact(5);
    assert_eq!(revisions(forgotten.iter()), [3, 5, 5]);
    assert!(first.upgrade().is_some());
    drop(forgotten);
    assert!(first.upgrade().is_none() && log.len() == 1);
}

#[test]
fn readers_start_after_a_revision() {
    let log = log([3, 5, 9]);
    for (after, want) in [(1, vec![3, 5, 9]), (3, vec![5, 9]), (4, vec![5, 9]), (9, vec![]), (70, vec![])] {
        let position = log.position_after(after).unwrap();
        assert_eq!(revisions(log.read(position).unwrap()), want, "after {after}");
    }
    assert_eq!(log.position_after(0), Err(Overtaken { oldest: 1 }));
    assert_eq!(newer(&log, 3), [9, 5]);
}

#[test]
fn trimming_moves_the_oldest_revision_and_keeps_positions() {
    let mut log = log([3, 5, 9]);
    let position = log.position_after(5).unwrap();
    drop(log.trim(Retention { age_millis: 200, bytes_max: 1000 }, 701));
    assert_eq!((log.oldest(), log.len(), log.bytes()), (5, 1, 10));
    assert_eq!(revisions(log.read(position).unwrap()), [9]);
    assert!(log.read(position - 1).is_err());
    assert_eq!(log.position_after(4), Err(Overtaken { oldest: 5 }));
}

#[test]
fn bytes_bound_the_log_before_age_does() {
    let mut log = log(2..=100);
    drop(log.trim(Retention { age_millis: u64::MAX, bytes_max: 50 }, 0));
    assert_eq!((log.len(), log.oldest()), (5, 95));
}

#[test]
fn compaction_may_pass_the_last_element() {
    let mut log = log([3, 5]);
    drop(log.compact(4));
    assert_eq!((log.len(), log.oldest()), (1, 4));
    drop(log.compact(7));
    assert_eq!((log.len(), log.oldest()), (0, 7));
    assert!(log.position_after(6).is_err());
    assert_eq!(log.position_after(7).unwrap(), log.end());
}

#[test]
fn what_one_write_changed_stays_together() {
    let mut log = log([3, 5, 5, 5, 9]);
    assert_eq!(revisions(log.read(log.position_after(3).unwrap()).unwrap()), [5, 5, 5, 9]);
    assert_eq!(newer(&log, 3), [9, 5, 5, 5]);
    drop(log.trim(Retention { age_millis: u64::MAX, bytes_max: 30 }, 0));
    assert_eq!((log.len(), log.oldest(), log.bytes()), (1, 5, 10));
}
