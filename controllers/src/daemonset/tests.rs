//! Tables of nodes and pods.

use serde_json::{Value, json};

use super::*;

fn set(more: Value) -> DaemonSet {
    let mut value = json!({"metadata": {"name": "agent", "uid": "d", "generation": 2}, "spec": {
        "selector": {"matchLabels": {"app": "a"}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": []}}}});
    json_patch::merge(&mut value, &more);
    serde_json::from_value(value).unwrap()
}

fn node(name: &str, taints: &[(&str, &str)]) -> Arc<Node> {
    let taints: Vec<_> = taints.iter().map(|(key, effect)| json!({"key": key, "effect": effect})).collect();
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"taints": taints}})).unwrap())
}

fn pod(name: &str, node: &str, hash: &str, phase: &str) -> Arc<Pod> {
    let ready = if phase == "Ready" { "True" } else { "False" };
    let phase = if phase == "Ready" { "Running" } else { phase };
    let value = json!({"metadata": {"name": name, "uid": name, "labels": {"app": "a", HASH_LABEL: hash}},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:00Z"}]}});
    Arc::new(serde_json::from_value(value).unwrap())
}

fn told(plan: &Plan) -> (Vec<String>, Vec<String>) {
    let names = plan.delete.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
    (plan.create.clone(), names)
}

fn observe<'a>(set: &'a DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Observed<'a> {
    Observed::new(set, nodes, pods.to_vec(), "new", Timestamp::from_second(1000).unwrap())
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|it| (*it).to_owned()).collect()
}

#[test]
fn one_pod_on_every_node_that_fits() {
    let nodes = [
        node("empty", &[]),
        node("has", &[]),
        node("twice", &[]),
        node("failed", &[]),
        node("cordoned", &[("node.kubernetes.io/unschedulable", "NoSchedule")]),
        node("closed", &[("own", "NoSchedule")]),
        node("evicting", &[("own", "NoExecute")]),
    ];
    let pods = [
        pod("a", "has", "new", "Ready"),
        pod("b", "twice", "new", "Ready"),
        pod("c", "twice", "new", "Ready"),
        pod("d", "failed", "new", "Failed"),
        pod("e", "closed", "new", "Ready"),
        pod("f", "evicting", "new", "Ready"),
    ];
    let set = set(json!({}));
    let observed = observe(&set, &nodes, &pods);
    let plan = observed.manage(&mut |_| Duration::ZERO);
    assert_eq!(told(&plan), (strings(&["empty", "cordoned"]), strings(&["c", "d", "f"])));
    assert_eq!(plan.retired.len(), 1);
    let waiting = observed.manage(&mut |_| Duration::from_secs(4));
    assert_eq!((told(&waiting).1, waiting.again), (strings(&["c", "f"]), Some(Duration::from_secs(4))));
    let status = observed.status(true);
    let counts = [
        status.desired_number_scheduled,
        status.current_number_scheduled,
        status.number_misscheduled,
        status.number_ready,
    ];
    assert_eq!((counts, status.number_unavailable), ([5, 3, 2, 2], Some(3)));
}

#[test]
fn a_failed_pod_that_has_to_stay_is_looked_at_again() {
    let set = set(json!({}));
    let (nodes, pods) = ([node("a", &[])], [pod("d", "a", "new", "Failed")]);
    let plan = observe(&set, &nodes, &pods).plan(&mut |_| Duration::from_secs(4));
    assert_eq!((told(&plan), plan.again), ((vec![], vec![]), Some(Duration::from_secs(4))));
}

#[test]
fn old_pods_are_replaced_within_bounds() {
    let nodes: Vec<_> = ["a", "b", "c", "d"].map(|name| node(name, &[])).into();
    let old = |name: &str, phase: &str| pod(name, name, "old", phase);
    let two = json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": "50%"}}}});
    for (set_more, pods, expected) in [
        (json!({}), ["a", "b", "c", "d"].map(|it| old(it, "Ready")), vec!["a"]),
        (two.clone(), ["a", "b", "c", "d"].map(|it| old(it, "Ready")), vec!["a", "b"]),
        (json!({}), [pod("n", "a", "new", "Running"), old("b", "Ready"), old("c", "Ready"), old("d", "Ready")], vec![]),
        (json!({}), [old("a", "Running"), old("b", "Running"), old("c", "Ready"), old("d", "Ready")], vec!["a", "b"]),
        (
            json!({"spec": {"updateStrategy": {"type": "OnDelete"}}}),
            ["a", "b", "c", "d"].map(|it| old(it, "Ready")),
            vec![],
        ),
    ] {
        let set = set(set_more);
        assert_eq!(told(&rollout::plan(&observe(&set, &nodes, &pods))), (vec![], strings(&expected)));
    }
}

#[test]
fn surging_starts_new_pods_beside_old_ones() {
    let surge = set(json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}}));
    let nodes: Vec<_> = ["a", "b"].map(|name| node(name, &[])).into();
    let (a, b) = (pod("a", "a", "old", "Ready"), pod("b", "b", "old", "Ready"));
    assert_eq!(told(&rollout::plan(&observe(&surge, &nodes, &[a.clone(), b.clone()]))), (strings(&["a"]), vec![]));
    let starting = [a.clone(), b.clone(), pod("n", "a", "new", "Running")];
    assert!(rollout::plan(&observe(&surge, &nodes, &starting)).is_empty());
    let started = [a, b, pod("n", "a", "new", "Ready")];
    let plan = observe(&surge, &nodes, &started).manage(&mut |_| Duration::ZERO);
    assert_eq!(told(&plan), (vec![], strings(&["a"])));
}

#[test]
fn pods_are_made_for_their_node() {
    let made = pod::make(&set(json!({})), "n1", "new");
    assert_eq!(pod::wanted_node(&made).as_deref(), Some("n1"));
    assert_eq!(made.metadata.labels.as_ref().unwrap()[HASH_LABEL], "new");
    assert_eq!(made.spec.unwrap().tolerations.unwrap().len(), 6);
    let lost: Arc<Pod> = Arc::new(pod::make(&set(json!({})), "gone", "new"));
    let set = set(json!({}));
    assert_eq!(observe(&set, &[], &[lost]).manage(&mut |_| Duration::ZERO).delete.len(), 1);
}
