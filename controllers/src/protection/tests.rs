//! When an object may go, as table tests.

use std::sync::Arc;

use serde_json::json;

use super::*;

fn pod(node: &str, extra: &serde_json::Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"nodeName": node, "containers": [], "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
            {"name": "other", "emptyDir": {}}]},
    });
    json_patch::merge(&mut pod, extra);
    serde_json::from_value(pod).unwrap()
}

fn claim(name: &str, owner: &str) -> PersistentVolumeClaim {
    let owners = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner, "controller": true}]);
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n", "ownerReferences": owners}})).unwrap()
}

#[test]
fn finalizers_are_given_and_taken() {
    let meta = |value| serde_json::from_value(value).unwrap();
    let cases = [
        (json!({}), Step::Give),
        (json!({"finalizers": [plan::VOLUME]}), Step::Nothing),
        (
            json!({"finalizers": ["other", plan::VOLUME], "deletionTimestamp": "2026-01-01T00:00:00Z"}),
            Step::TakeWhenFree,
        ),
        (json!({"finalizers": ["other"], "deletionTimestamp": "2026-01-01T00:00:00Z"}), Step::Nothing),
    ];
    for (value, expected) in cases {
        assert_eq!(plan::step(&meta(value.clone()), plan::VOLUME), expected, "{value}");
    }
}

#[test]
fn a_pod_with_a_node_uses_its_claims() {
    let none = json!({});
    let ended = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}});
    let cases = [
        (pod("", &none), claim("c", "u"), false),
        (pod("node", &none), claim("c", "u"), true),
        (pod("node", &none), claim("d", "u"), false),
        (pod("node", &none), claim("p-scratch", "u"), true),
        (pod("node", &none), claim("p-scratch", "stranger"), false),
        (pod("node", &ended), claim("p-scratch", "u"), false),
        (pod("node", &ended), claim("c", "u"), true),
    ];
    for (pod, claim, expected) in cases {
        assert_eq!(plan::uses(&pod, &claim), expected, "{:?} {:?}", pod.metadata, claim.metadata);
    }
}

#[test]
fn claims_are_looked_at_when_a_pod_may_have_freed_them() {
    let names = |keys: Vec<Key>| keys.into_iter().map(|key| key.to_string()).collect::<Vec<_>>();
    let running = Arc::new(pod("node", &json!({})));
    let done = Arc::new(pod("node", &json!({"status": {"phase": "Succeeded"}})));
    let both = ["n/c", "n/p-scratch"];
    assert!(plan::freed_by(&Change::Added(running.clone())).is_empty());
    assert!(plan::freed_by(&Change::Updated { old: running.clone(), new: running.clone() }).is_empty());
    assert_eq!(names(plan::freed_by(&Change::Updated { old: running.clone(), new: done })), both);
    assert_eq!(names(plan::freed_by(&Change::Deleted(running.clone()))), both);
    let other = Arc::new(pod("node", &json!({"metadata": {"uid": "v"}, "spec": {"volumes": null}})));
    assert_eq!(names(plan::freed_by(&Change::Updated { old: running, new: other })), both);
}

#[test]
fn classes_are_named_in_four_places() {
    let volume = json!({"spec": {"volumeAttributesClassName": "a"}});
    assert_eq!(plan::classes_of_volume(&serde_json::from_value(volume).unwrap()), ["a"]);
    let claim = json!({"spec": {"volumeAttributesClassName": "b"}, "status": {
        "currentVolumeAttributesClassName": "a",
        "modifyVolumeStatus": {"status": "Pending", "targetVolumeAttributesClassName": "b"}}});
    assert_eq!(plan::classes_of_claim(&serde_json::from_value(claim).unwrap()), ["a", "b"]);
}
