//! What a secret lacks, and when a token goes.

use serde::de::DeserializeOwned;

use super::*;

const DAY: Duration = Duration::from_hours(24);

fn made<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn account() -> ServiceAccount {
    made(json!({"metadata": {"name": "robot", "namespace": "ns", "uid": "u1"}, "secrets": [{"name": "old"}]}))
}

fn asked(data: Value) -> Secret {
    let annotations = json!({ACCOUNT_NAME: "robot"});
    made(json!({"metadata": {"name": "s", "namespace": "ns", "annotations": annotations}, "type": TYPE, "data": data}))
}

fn sign(claims: &Value) -> Result<String, String> {
    Ok(claims.to_string())
}

#[test]
fn a_secret_gets_what_it_lacks() {
    let filled = filled(&asked(json!({})), &account(), Some("PEM"), sign).unwrap().unwrap();
    let data = filled.data.as_ref().unwrap();
    let entry = |name: &str| String::from_utf8(data[name].0.clone()).unwrap();
    assert_eq!((entry("ca.crt").as_str(), entry("namespace").as_str()), ("PEM", "ns"));
    let claims: Value = serde_json::from_str(&entry("token")).unwrap();
    let expected = json!({
        "iss": "kubernetes/serviceaccount",
        "sub": "system:serviceaccount:ns:robot",
        "kubernetes.io/serviceaccount/namespace": "ns",
        "kubernetes.io/serviceaccount/secret.name": "s",
        "kubernetes.io/serviceaccount/service-account.name": "robot",
        "kubernetes.io/serviceaccount/service-account.uid": "u1",
    });
    assert_eq!(claims, expected);
    assert_eq!(account_of(&filled), ("robot", "u1"));
    assert_eq!(super::filled(&filled, &account(), Some("PEM"), sign), Ok(None));

    // Another authority is written, and the token stays.
    let changed = super::filled(&filled, &account(), Some("NEW"), sign).unwrap().unwrap();
    assert_eq!(changed.data.as_ref().unwrap()["token"], data["token"]);
    assert_eq!(changed.data.as_ref().unwrap()["ca.crt"].0, b"NEW");
    assert_eq!(super::filled(&filled, &account(), None, sign), Ok(None));
}

#[test]
fn a_failure_to_sign_fills_nothing() {
    let failed = filled(&asked(json!({})), &account(), None, |_| Err("no"));
    assert_eq!(failed, Err("no"));
}

#[test]
fn a_secret_belongs_to_an_account_of_its_uid() {
    let named = asked(json!({}));
    assert!(belongs(&named, "robot", "u1") && !belongs(&named, "other", "u1"));
    let filled = filled(&named, &account(), None, sign).unwrap().unwrap();
    assert!(belongs(&filled, "robot", "u1") && !belongs(&filled, "robot", "u2"));
}

fn old(labels: Value) -> Secret {
    made(json!({"type": TYPE, "metadata": {
        "name": "old", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels,
        "annotations": {ACCOUNT_NAME: "robot", ACCOUNT_UID: "u1"},
    }}))
}

fn times(since: &str, now: &str, days: u32) -> Option<Times> {
    Times::new(&made(json!({"data": {"since": since}})), now.parse().unwrap(), DAY * days)
}

#[test]
fn nothing_is_long_ago_before_use_has_been_noted_for_long() {
    assert!(times("2026-01-01", "2026-01-11T23:59:59Z", 10).is_none());
    assert!(times("2026-01-01", "2026-01-12T00:00:00Z", 10).is_some());
    assert!(times("yesterday", "2026-01-12T00:00:00Z", 1).is_none());
    assert!(Times::new(&ConfigMap::default(), "2026-01-12T00:00:00Z".parse().unwrap(), DAY).is_none());
}

#[test]
fn only_what_nobody_asked_for_and_nobody_uses_goes() {
    let times = times("2026-01-01", "2026-03-01T10:00:00Z", 10).unwrap();
    let verdict = |secret: &Secret| times.verdict(secret, Some(&account()), || false);
    let mark = Verdict::Mark { date: "2026-03-01".to_owned() };
    for (labels, expected) in [
        (json!({}), mark.clone()),
        (json!({LAST_USED: "2026-02-18"}), mark.clone()),
        (json!({LAST_USED: "2026-02-19"}), Verdict::Keep),
        (json!({LAST_USED: "some day"}), Verdict::Keep),
        (json!({INVALID_SINCE: "some day"}), mark.clone()),
        (json!({INVALID_SINCE: "2026-02-19"}), Verdict::Keep),
        (json!({INVALID_SINCE: "2026-02-18"}), Verdict::Delete),
        (json!({INVALID_SINCE: "2026-02-18", LAST_USED: "2026-02-27"}), Verdict::Keep),
    ] {
        assert_eq!(verdict(&old(labels.clone())), expected, "{labels}");
    }
    assert_eq!(times.verdict(&old(json!({})), Some(&account()), || true), Verdict::Keep, "a pod uses it");
    assert_eq!(times.verdict(&old(json!({})), None, || false), Verdict::Keep, "whose it is nobody knows");
    let mut young = old(json!({}));
    young.metadata.creation_timestamp = Some(made(json!("2026-02-27T00:00:00Z")));
    assert_eq!(verdict(&young), Verdict::Keep);
    let mut unlisted = account();
    unlisted.secrets = None;
    assert_eq!(times.verdict(&old(json!({})), Some(&unlisted), || false), Verdict::Keep, "somebody has asked for it");
    let mut another = account();
    another.metadata.uid = Some("u2".to_owned());
    assert_eq!(times.verdict(&old(json!({})), Some(&another), || false), Verdict::Keep);
}

#[test]
fn a_pod_uses_a_secret_wherever_it_names_it() {
    let container = json!({"name": "c", "image": "i"});
    let with = |field: &str, value: Value| {
        let mut container = container.clone();
        container[field] = value;
        container
    };
    for spec in [
        json!({"imagePullSecrets": [{"name": "s"}], "containers": [container]}),
        json!({"containers": [with("envFrom", json!([{"secretRef": {"name": "s"}}]))]}),
        json!({
            "containers": [],
            "initContainers": [with("env", json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]))],
        }),
        json!({"containers": [], "ephemeralContainers": [with("envFrom", json!([{"secretRef": {"name": "s"}}]))]}),
        json!({"containers": [], "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}),
        json!({"containers": [], "volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]}),
        json!({"containers": [], "volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}}]}),
    ] {
        let pod: Pod = made(json!({"spec": spec}));
        assert!(uses(&pod, "s"), "{spec}");
        assert!(!uses(&pod, "t"), "{spec}");
    }
    let map = json!({"name": "v", "configMap": {"name": "s"}});
    assert!(!uses(&made(json!({"spec": {"containers": [], "volumes": [map]}})), "s"));
}
