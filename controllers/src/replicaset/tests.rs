//! Tables of actions, ranks and statuses.

use serde_json::{Value, json};

use super::*;

fn set(replicas: i32, min_ready: i32) -> ReplicaSet {
    let value = json!({"metadata": {"name": "web", "generation": 3}, "spec": {
        "replicas": replicas, "minReadySeconds": min_ready, "selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a", "tier": "t"}}},
    }});
    serde_json::from_value(value).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(name: &str, more: Value) -> Arc<Pod> {
    let mut value = json!({"metadata": {"name": name, "uid": name, "labels": {"app": "a"},
        "creationTimestamp": "1970-01-01T00:00:00Z"}, "spec": {"containers": [], "nodeName": "n"},
        "status": {"phase": "Running"}});
    json_patch::merge(&mut value, &more);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn ready(name: &str, second: i64) -> Arc<Pod> {
    let since = at(second).to_string();
    pod(name, json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}]}}))
}

#[test]
fn counts_decide() {
    let pods: Vec<_> = (0..3).map(|number| ready(&number.to_string(), 0)).collect();
    for (replicas, expected) in [(5, "create 2"), (3, "nothing"), (1, "delete 2"), (0, "delete 3"), (900, "create 500")]
    {
        let said = match action(&set(replicas, 0), &pods, Vec::new, at(10)) {
            None => "nothing".to_owned(),
            Some(Action::Create(count)) => format!("create {count}"),
            Some(Action::Delete(pods)) => format!("delete {}", pods.len()),
        };
        assert_eq!(said, expected, "{replicas} replicas");
    }
}

#[test]
fn the_least_missed_pods_go_first() {
    let cost =
        |value: &str| json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": value}}});
    let restarted = |count: i32| {
        json!({"status": {"containerStatuses": [
        {"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": count}]}})
    };
    let young = json!({"metadata": {"creationTimestamp": at(9000).to_string()}});
    let pairs = [
        (pod("unbound", json!({"spec": {"nodeName": null}})), pod("bound", json!({"status": {"phase": "Pending"}}))),
        (pod("pending", json!({"status": {"phase": "Pending"}})), pod("running", json!({}))),
        (pod("unready", json!({})), ready("ready", 0)),
        (pod("cheap", cost("-1")), pod("dear", json!({}))),
        (pod("crowded", json!({"spec": {"nodeName": "full"}})), pod("alone", json!({}))),
        (ready("ready-late", 9000), ready("ready-early", 10)),
        (pod("restarted", restarted(3)), pod("steady", restarted(0))),
        (pod("young", young), pod("old", json!({}))),
        (ready("a", 10), ready("b", 11)),
    ];
    let related = [pod("x", json!({"spec": {"nodeName": "full"}}))];
    for (first, last) in pairs {
        let mut pods = [last.clone(), first.clone()];
        rank::sort(&mut pods, &related, at(10_000));
        assert_eq!(pods[0].metadata.name, first.metadata.name);
        pods.reverse();
        rank::sort(&mut pods, &related, at(10_000));
        assert_eq!(pods[0].metadata.name, first.metadata.name);
    }
}

#[test]
fn the_status_counts_and_complains() {
    let labeled = json!({"metadata": {"labels": {"tier": "t"}}});
    let pods = [pod("a", labeled), ready("b", 0), ready("c", 95)];
    let mut set = set(5, 10);
    let status = status(&set, &pods, Some(2), Some("quota"), at(100));
    let counts = [
        Some(status.replicas),
        status.fully_labeled_replicas,
        status.ready_replicas,
        status.available_replicas,
        status.terminating_replicas,
    ];
    assert_eq!(counts, [3, 1, 2, 1, 2].map(Some));
    let failure = status.conditions.as_ref().unwrap()[0].clone();
    assert_eq!((failure.reason.as_deref(), failure.message.as_deref()), (Some("FailedCreate"), Some("quota")));
    assert_eq!(next_check(&set, &status, &pods, at(100)), Some(Duration::from_secs(5)));
    set.status = Some(status.clone());
    let again = super::status(&set, &pods, Some(2), Some("other"), at(101));
    assert!(same(&status, &again), "a failure that stays is not told again");
    let over = super::status(&set, &pods, Some(2), None, at(101));
    assert!(over.conditions.is_none() && !same(&status, &over));
}
