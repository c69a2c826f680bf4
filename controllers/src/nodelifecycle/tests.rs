//! Tables of silence, taints and zones.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::nodelifecycle::{labels, taints, zones::Zones};

fn node(name: &str, ready: &str, more: Value) -> Arc<Node> {
    let mut value = json!({"metadata": {"name": name, "uid": name, "creationTimestamp": "2024-01-01T00:00:00Z"},
        "status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": "2024-01-01T00:00:00Z"}]}});
    json_patch::merge(&mut value, &more);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn lease(second: u8) -> Lease {
    let renewed = format!("2024-01-01T00:00:{second:02}.000000Z");
    serde_json::from_value(json!({"spec": {"renewTime": renewed}})).unwrap()
}

#[test]
fn silence_counts_from_what_was_last_heard() {
    let (config, start) = (Config::default(), Instant::now());
    let after = |seconds| start + Duration::from_secs(seconds);
    let quiet = node("n", "True", json!({}));
    let mut health = Health::default();
    assert_eq!(health.judge(&quiet, None, &config, start), Judged::Alive);
    assert_eq!(health.judge(&quiet, None, &config, after(50)), Judged::Alive);
    assert_eq!(health.judge(&quiet, None, &config, after(51)), Judged::Silent);
    assert_eq!(health.judge(&quiet, Some(&lease(1)), &config, after(52)), Judged::Alive, "the lease was renewed");
    assert_eq!(health.judge(&quiet, Some(&lease(1)), &config, after(103)), Judged::Silent);
    let beat = json!({"status": {"conditions": [
        {"type": "Ready", "status": "True", "lastHeartbeatTime": "2024-01-01T00:00:30Z"}]}});
    assert_eq!(health.judge(&node("n", "True", beat), Some(&lease(1)), &config, after(104)), Judged::Alive);
    health.restart(after(200));
    assert_eq!(health.judge(&quiet, Some(&lease(1)), &config, after(201)), Judged::Alive);
    let fresh = node("fresh", "", json!({"status": null}));
    health.judge(&fresh, None, &config, start);
    assert_eq!(health.judge(&fresh, None, &config, after(60)), Judged::Alive, "a new node has a minute");
    assert_eq!(health.judge(&fresh, None, &config, after(61)), Judged::Silent);
}

#[test]
fn readiness_is_lost_once() {
    let mut health = Health::default();
    health.judge(&node("n", "True", json!({})), None, &Config::default(), Instant::now());
    assert!(!health.note_ready("n", Some("True")));
    assert!(health.note_ready("n", Some("Unknown")));
    assert!(!health.note_ready("n", Some("Unknown")));
    let (new, gone) = health.census(&[node("other", "True", json!({}))]);
    assert_eq!((new.len(), gone), (1, vec![("n".to_owned(), Some("n".to_owned()))]));
}

#[test]
fn silent_nodes_have_unknown_conditions() {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let conditions = silenced(&node("n", "True", json!({})), now).unwrap();
    let told: Vec<_> = conditions.iter().map(|it| (it.type_.as_str(), it.reason.as_deref().unwrap())).collect();
    let never = "NodeStatusNeverUpdated";
    let expected =
        [("Ready", "NodeStatusUnknown"), ("MemoryPressure", never), ("DiskPressure", never), ("PIDPressure", never)];
    assert_eq!(told, expected);
    let mut marked = (*node("n", "True", json!({}))).clone();
    marked.status.as_mut().unwrap().conditions = Some(conditions);
    assert!(silenced(&marked, now).is_none());
}

#[test]
fn taints_follow_conditions() {
    let now = Timestamp::from_second(0).unwrap();
    let keys = |taints: Option<Vec<k8s_openapi::api::core::v1::Taint>>| {
        taints.map(|list| {
            list.iter()
                .map(|it| format!("{}:{}", it.key.trim_start_matches("node.kubernetes.io/"), it.effect))
                .collect::<Vec<_>>()
        })
    };
    let tainted = |key: &str, effect: &str| json!({"spec": {"taints": [{"key": format!("node.kubernetes.io/{key}"), "effect": effect}]}});
    for (ready, more, expected) in [
        ("True", json!({}), None),
        ("False", json!({}), Some(vec!["not-ready:NoSchedule"])),
        ("Unknown", tainted("not-ready", "NoSchedule"), Some(vec!["unreachable:NoSchedule"])),
        ("True", tainted("not-ready", "NoSchedule"), Some(vec![])),
        ("True", json!({"spec": {"unschedulable": true}}), Some(vec!["unschedulable:NoSchedule"])),
        ("True", tainted("my-own", "NoSchedule"), None),
    ] {
        let it = node("n", ready, more);
        let expected = expected.map(|list| list.into_iter().map(str::to_owned).collect());
        assert_eq!(keys(taints::no_schedule(&it).apply(&it, now)), expected, "{ready}");
    }
    for (ready, more, all_down, expected) in [
        ("True", json!({}), false, None),
        ("Unknown", json!({}), false, Some((vec!["unreachable:NoExecute"], true))),
        ("Unknown", json!({}), true, None),
        ("Unknown", tainted("unreachable", "NoExecute"), true, Some((vec![], false))),
        ("False", tainted("unreachable", "NoExecute"), false, Some((vec!["not-ready:NoExecute"], false))),
        ("True", tainted("unreachable", "NoExecute"), false, Some((vec![], false))),
    ] {
        let it = node("n", ready, more);
        let planned = taints::no_execute(&it, None, all_down)
            .map(|it2| (keys(it2.taints.apply(&it, now)).unwrap(), it2.is_limited));
        let expected = expected.map(|(list, limited)| (list.into_iter().map(str::to_owned).collect(), limited));
        assert_eq!(planned, expected, "{ready} {all_down}");
    }
}

#[test]
fn zones_limit_how_fast_nodes_are_tainted() {
    let config = Config::default();
    let nodes = |up: usize, down: usize| -> Vec<(Arc<Node>, Option<String>)> {
        let make = |number: usize| {
            let status = if number < up { "True" } else { "Unknown" };
            (node(&number.to_string(), status, json!({})), Some(status.to_owned()))
        };
        (0..up + down).map(make).collect()
    };
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut zones = Zones::default();
    let one_down = nodes(1, 1);
    let state = zones.observe(&one_down, &config);
    assert!(!state.all_down && !state.recovered);
    let silent = &one_down[1].0;
    assert!(zones.may_taint(silent, start), "the first at once");
    assert!(!zones.may_taint(silent, after(9)));
    assert!(zones.may_taint(silent, after(20)), "then one every ten seconds");
    zones.observe(&nodes(2, 3), &config);
    assert!(!zones.may_taint(silent, after(100)), "a small zone that is mostly down is left alone");
    assert!(zones.observe(&nodes(0, 3), &config).all_down);
    assert!(zones.observe(&nodes(1, 2), &config).recovered);
}

#[test]
fn former_labels_are_kept() {
    let it = node(
        "n",
        "True",
        json!({"metadata": {"labels": {
        "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "beta.kubernetes.io/arch": "amd64"}}}),
    );
    assert_eq!(labels::missing(&it).into_iter().collect::<Vec<_>>(), [("beta.kubernetes.io/os", "linux".to_owned())]);
}
