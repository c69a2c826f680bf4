//! A pod's certificate over its life, step by step.

use serde_json::{Value, json};

use super::*;

const NO_JITTER: SignedDuration = SignedDuration::ZERO;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn request(status: Value) -> PodCertificateRequest {
    serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": "req-1"},
        "spec": {"signerName": "s", "podName": "p", "podUID": "u", "serviceAccountName": "a", "serviceAccountUID": "b",
            "nodeName": "n", "nodeUID": "m", "stubPKCS10Request": ""},
        "status": status,
    }))
    .unwrap()
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "Why", "message": "because",
        "lastTransitionTime": "1970-01-01T00:00:00Z"})
}

fn issued(refresh_at: i64, not_after: i64) -> PodCertificateRequest {
    let chain = format!("noise\n{}", certificate_pem(b"leaf".to_vec()));
    request(json!({"conditions": [condition("Issued")], "certificateChain": chain,
        "notBefore": at(0).to_string(), "beginRefreshAt": at(refresh_at).to_string(), "notAfter": at(not_after).to_string()}))
}

fn asked(key: &str, seconds: i64) -> Asked {
    Asked::new(key.into(), "req-1".into(), at(seconds), NO_JITTER)
}

fn key_of(state: &State) -> String {
    state.bundle().unwrap().private_key.to_string()
}

#[test]
fn from_nothing_to_a_certificate_and_its_next() {
    let step = State::default().advance(None, at(0), NO_JITTER);
    assert!(step.asks);
    let waiting = step.next.asked(asked("one", 0));
    assert_eq!(waiting.bundle(), Err("credential bundle is not issued yet".into()));
    assert_eq!(waiting.request_name(), Some("req-1"));

    let still = waiting.advance(Some(&request(json!({}))), at(5), NO_JITTER);
    assert!(!still.asks && still.events.is_empty());
    let fresh = still.next.advance(Some(&issued(100, 200)), at(6), SignedDuration::from_secs(10)).next;
    let bundle = fresh.bundle().unwrap();
    assert_eq!((&*bundle.private_key, &*bundle.chain), ("one", certificate_pem(b"leaf".to_vec()).as_str()));

    assert!(!fresh.clone().advance(None, at(109), NO_JITTER).asks, "the jitter delays it");
    let due = fresh.advance(None, at(110), NO_JITTER);
    assert!(due.asks);
    let refreshing = due.next.asked(asked("two", 110));
    assert_eq!(key_of(&refreshing), "one", "the old one serves until there is a new one");
    let pending = refreshing.advance(Some(&request(json!({}))), at(111), NO_JITTER).next;
    let renewed = pending.advance(Some(&issued(300, 400)), at(112), NO_JITTER).next;
    assert_eq!(key_of(&renewed), "two");
}

#[test]
fn a_request_that_was_deleted_is_made_again() {
    let lost = LOST_AFTER.as_secs();
    let waiting = State::Initial.asked(asked("one", 0));
    let still = waiting.advance(None, at(lost), NO_JITTER);
    assert!(!still.asks, "it may only be late");
    let again = still.next.advance(None, at(lost + 1), NO_JITTER);
    assert_eq!((again.asks, again.next), (true, State::Initial));
    let fresh = State::Initial.asked(asked("one", 0)).advance(Some(&issued(0, 9_000)), at(1), NO_JITTER).next;
    let refreshing = fresh.asked(asked("two", 0));
    let again = refreshing.advance(None, at(lost + 1), NO_JITTER);
    assert!(again.asks);
    assert_eq!(key_of(&again.next), "one");
}

#[test]
fn a_refusal_is_for_good_and_told_once() {
    for (kind, was) in [("Denied", "denied"), ("Failed", "failed")] {
        let refused = request(json!({"conditions": [condition(kind)]}));
        let step = State::Initial.asked(asked("one", 0)).advance(Some(&refused), at(1), NO_JITTER);
        assert_eq!(step.events.len(), 1);
        assert_eq!(step.events[0].reason, kind);
        let message = format!("PodCertificateRequest was permanently {was}: reason=\"Why\" message=\"because\"");
        assert_eq!(step.next.bundle(), Err(message));
        let after = step.next.advance(Some(&issued(1, 2)), at(2), NO_JITTER);
        assert!(!after.asks && after.events.is_empty());
        assert!(matches!(after.next, State::Refused(_)));
    }
}

#[test]
fn complains_once_each() {
    let fresh = State::Initial.asked(asked("one", 0)).advance(Some(&issued(10, 2_000)), at(1), NO_JITTER).next;
    let mut state = fresh.asked(asked("two", 10_000));
    let mut told = Vec::new();
    for seconds in [11, 609, 611, 1_000, 2_001, 3_000] {
        let step = state.advance(Some(&request(json!({}))), at(seconds), NO_JITTER);
        told.extend(step.events.into_iter().map(|event| (seconds, event.reason)));
        state = step.next;
    }
    assert_eq!(told, [(611, "CertificateOverdueForRefresh".to_owned()), (2_001, "CertificateExpired".to_owned())]);
    assert_eq!(key_of(&state), "one");
}
