//! Table tests of the record.

use jiff::Timestamp;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn a_lease_is_free_when_released_or_expired() {
    let held = record::fresh("ns", "lease", "one", at(0));
    let released = record::released(held.clone(), at(1));
    for (lease, identity, seconds, free) in [
        (&held, "one", 0, true),
        (&held, "two", 0, false),
        (&held, "two", 15, false),
        (&held, "two", 16, true),
        (&released, "two", 0, true),
    ] {
        let unchanged_for = Duration::from_secs(seconds);
        assert_eq!(record::is_free(lease, identity, unchanged_for), free, "{identity} after {seconds} s");
    }
}

#[test]
fn transitions_count_changes_of_holder() {
    let first = record::fresh("ns", "lease", "one", at(0));
    let renewed = record::taken(first.clone(), "one", at(5)).spec.unwrap();
    assert_eq!((renewed.lease_transitions, renewed.acquire_time), (Some(0), first.spec.clone().unwrap().acquire_time));
    let taken = record::taken(first, "two", at(20)).spec.unwrap();
    assert_eq!((taken.lease_transitions, taken.holder_identity.as_deref()), (Some(1), Some("two")));
}
