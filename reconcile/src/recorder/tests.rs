//! Tests of what is written for which events.

use jiff::SignedDuration;

use super::*;

fn event(recorder: &Recorder, object: &str, message: &str, now: Timestamp) -> Event {
    let about = ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: Some("ns".to_owned()),
        name: Some(object.to_owned()),
        ..ObjectReference::default()
    };
    recorder.make(about, EventType::Warning, "Failed", message.to_owned(), now)
}

fn start() -> (Recorder, Correlator, Timestamp) {
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    (Recorder::detached("test").0, Correlator::default(), now)
}

#[test]
fn a_repeated_event_is_counted_by_a_patch() {
    let (recorder, mut correlator, now) = start();
    let first = correlator.correlate(event(&recorder, "a", "m", now), now).unwrap();
    assert!(first.patch.is_none());
    let later = now + SignedDuration::from_secs(5);
    let second = correlator.correlate(event(&recorder, "a", "m", later), later).unwrap();
    assert_eq!(second.event.metadata.name, first.event.metadata.name);
    assert_eq!(second.event.first_timestamp, first.event.first_timestamp);
    let expected = serde_json::json!({"count": 2, "lastTimestamp": "2023-11-14T22:13:25Z", "message": "m"});
    assert_eq!(second.patch.unwrap(), expected);
}

#[test]
fn many_similar_events_are_combined() {
    let (recorder, mut correlator, now) = start();
    let writes: Vec<Write> = (0..12)
        .filter_map(|number| correlator.correlate(event(&recorder, "a", &format!("m{number}"), now), now))
        .collect();
    assert_eq!(writes[8].event.message.as_deref(), Some("m8"));
    assert_eq!(writes[9].event.message.as_deref(), Some("(combined from similar events): m9"));
    assert!(writes[9].patch.is_none());
    assert_eq!(writes[10].patch.as_ref().unwrap()["count"], 2);
}

#[test]
fn a_source_is_silenced_and_recovers() {
    let (recorder, mut correlator, now) = start();
    let mut written = |object: &str, times: usize, now: Timestamp| {
        (0..times).filter(|_| correlator.correlate(event(&recorder, object, "m", now), now).is_some()).count()
    };
    assert_eq!(written("a", 40, now), 25);
    assert_eq!(written("b", 1, now), 1, "another object is not affected");
    assert_eq!(written("a", 5, now + SignedDuration::from_secs(301)), 1);
}

#[test]
fn names_fit() {
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    assert_eq!(name("pod", now), "pod.17979cfe362a0000");
    assert!(name(&"x".repeat(253), now).len() <= 253);
}
