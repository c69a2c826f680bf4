//! Decisions by table: nodes and pods in, a node or upstream's message out.

use serde_json::{Value, json};

use super::*;
use crate::cache::Cache;

fn node(name: &str, change: Value) -> Value {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": name}},
        "spec": {}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
    });
    merge(&mut node, change);
    node
}

fn pod(name: &str, node: &str, spec: Value) -> Value {
    let container = json!({"name": "c", "image": "web", "resources": {"requests": {"cpu": "1"}}});
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}},
        "spec": {"containers": [container]},
    });
    if !node.is_empty() {
        pod["spec"]["nodeName"] = json!(node);
    }
    merge(&mut pod["spec"], spec);
    pod
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            change.into_iter().for_each(|(k, v)| merge(into.entry(k).or_insert(Value::Null), v));
        }
        (into, change) => *into = change,
    }
}

fn info(pod: Value) -> Arc<PodInfo> {
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap())))
}

fn snapshot(nodes: Vec<Value>, pods: Vec<Value>) -> Snapshot {
    let cache = Cache::default();
    cache.set_namespace("default", Some(Default::default()));
    nodes.into_iter().for_each(|n| cache.set_node(&serde_json::from_value(n).unwrap()));
    pods.into_iter().for_each(|p| cache.set_pod(info(p)));
    cache.snapshot()
}

/// The node, or the message with what preemption found.
fn outcome(nodes: Vec<Value>, pods: Vec<Value>, new: Value) -> String {
    let (profile, snapshot, pod) = (Profile::standard("x"), snapshot(nodes, pods), info(new));
    match decide(&profile, &pod, &snapshot, &Nominated::new(), &mut Cursor::default()) {
        Ok(node) => node,
        Err(unfit) => match preempt(&profile, &pod, &snapshot, &unfit, &Nominated::new(), &[]) {
            Preemption::Useless(why) | Preemption::NotEligible(why) => unfit.message(&why),
            Preemption::Victims { node, pods } => {
                let names: Vec<&str> = pods.iter().map(|p| p.key.name.as_str()).collect();
                format!("{node} without {}", names.join(", "))
            }
        },
    }
}

#[test]
fn a_pod_goes_where_it_fits_and_where_it_is_wanted() {
    let both = || vec![node("a", json!({})), node("b", json!({}))];
    let affinity = |kind: &str, required: Value| json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": required}}});
    let together = json!([{"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}]);
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]});
    let soft_taint = json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}});
    let image = json!({"status": {"images": [{"names": ["web:latest"], "sizeBytes": 900 * 1024 * 1024}]}});
    let cases = [
        ("the emptier node", both(), vec![pod("p", "a", json!({}))], json!({}), "b"),
        ("the node selector", both(), vec![pod("p", "b", json!({}))], json!({"nodeSelector": {"zone": "b"}}), "b"),
        (
            "the named node",
            both(),
            vec![],
            affinity(
                "nodeAffinity",
                json!({"nodeSelectorTerms": [{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": ["b"]}]}]}),
            ),
            "b",
        ),
        ("the affinity", both(), vec![pod("p", "a", json!({}))], affinity("podAffinity", together.clone()), "a"),
        (
            "the anti-affinity",
            both(),
            vec![pod("p", "a", json!({}))],
            affinity("podAntiAffinity", together.clone()),
            "b",
        ),
        ("others' anti-affinity", both(), vec![pod("p", "b", affinity("podAntiAffinity", together))], json!({}), "a"),
        ("the spread", both(), vec![pod("p", "a", json!({})), pod("q", "a", json!({}))], spread, "b"),
        ("no soft taint", vec![node("a", soft_taint), node("b", json!({}))], vec![], json!({}), "b"),
        ("the image", vec![node("a", json!({})), node("b", image)], vec![], json!({}), "b"),
    ];
    for (why, nodes, pods, spec, expected) in cases {
        assert_eq!(outcome(nodes, pods, pod("new", "", spec)), expected, "{why}");
    }
}

#[test]
fn a_pod_that_fits_nowhere_says_why() {
    let big = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "3500m"}}}]});
    let host_port = || json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    let helpless = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    let no_victims = "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    let tainted = node("a", json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}));
    let cordoned = node("a", json!({"spec": {"unschedulable": true}}));
    let cases = [
        (vec![], vec![], json!({}), "no nodes available to schedule pods".to_owned()),
        (
            vec![node("a", json!({}))],
            vec![pod("p", "a", json!({}))],
            big,
            format!("0/1 nodes are available: 1 Insufficient cpu. {no_victims}"),
        ),
        (
            vec![tainted],
            vec![],
            json!({}),
            format!("0/1 nodes are available: 1 node(s) had untolerated taint(s). {helpless}"),
        ),
        (
            vec![cordoned],
            vec![],
            json!({}),
            format!("0/1 nodes are available: 1 node(s) were unschedulable. {helpless}"),
        ),
        (
            vec![node("a", json!({}))],
            vec![],
            json!({"nodeSelector": {"zone": "x"}}),
            format!("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. {helpless}"),
        ),
        (
            vec![node("a", json!({}))],
            vec![pod("p", "a", host_port())],
            host_port(),
            format!(
                "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. {no_victims}"
            ),
        ),
    ];
    for (nodes, pods, spec, expected) in cases {
        assert_eq!(outcome(nodes, pods, pod("new", "", spec)), expected);
    }
}

#[test]
fn less_important_pods_make_room() {
    let cpu = |cpu: &str, priority: i32| json!({"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
    let nodes = || vec![node("a", json!({})), node("b", json!({}))];
    let pods = || vec![pod("low", "a", cpu("2", 1)), pod("lower", "a", cpu("2", 0)), pod("high", "b", cpu("4", 10))];
    assert_eq!(outcome(nodes(), pods(), pod("new", "", cpu("2", 5))), "a without lower");
    assert_eq!(outcome(nodes(), pods(), pod("new", "", cpu("4", 5))), "a without low, lower");
    let never = json!({"preemptionPolicy": "Never", "priority": 5});
    let text = outcome(nodes(), pods(), pod("new", "", never));
    assert!(text.ends_with("preemption: not eligible due to preemptionPolicy=Never."), "{text}");
}

#[test]
fn a_pod_without_its_devices_does_not_run() {
    let claims = json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}]});
    let text = outcome(vec![node("a", json!({}))], vec![], pod("new", "", claims));
    let why =
        "0/1 nodes are available: the resource claim \"gpu\" cannot be allocated: this scheduler knows no devices.";
    assert!(text.starts_with(why), "{text}");
}

#[test]
fn room_is_looked_for_until_some_is_found() {
    let full = |priority: i32| json!({"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": "4"}}}]});
    let name = |number: usize| format!("n{number:03}");
    let nodes = (0..130).map(|number| node(&name(number), json!({}))).collect();
    let priority = |number: usize| if number == 120 { 0 } else { 10 };
    let pods = (0..130).map(|number| pod(&format!("p{number}"), &name(number), full(priority(number)))).collect();
    assert_eq!(outcome(nodes, pods, pod("new", "", full(5))), "n120 without p120");
}

#[test]
fn victims_that_end_are_waited_for() {
    let full = |priority: i32| json!({"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": "4"}}}]});
    let ending = |conditions: Value| {
        let mut pod = pod("low", "a", full(0));
        pod["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
        pod["status"] = json!({"conditions": conditions});
        pod
    };
    let preempted = json!([{"type": "DisruptionTarget", "status": "True", "reason": PREEMPTION}]);
    let mut waiting = pod("new", "", full(5));
    waiting["status"] = json!({"nominatedNodeName": "a"});
    let nodes = || vec![node("a", json!({}))];
    let text = outcome(nodes(), vec![ending(preempted.clone())], waiting.clone());
    assert!(text.ends_with("preemption: not eligible due to a terminating pod on the nominated node."), "{text}");
    assert_eq!(
        outcome(nodes(), vec![ending(json!([]))], waiting.clone()),
        "a without low",
        "it ends for another reason"
    );
    let cordoned = vec![node("a", json!({"spec": {"unschedulable": true}})), node("b", json!({}))];
    let pods = vec![ending(preempted), pod("other", "b", full(0))];
    assert_eq!(outcome(cordoned, pods, waiting), "b without other", "there it will never be right");
}

#[test]
fn large_clusters_are_sampled() {
    let cases = [(50, 0, 50), (100, 0, 100), (1000, 0, 420), (5000, 0, 500), (10_000, 0, 500), (1000, 80, 800)];
    for (all, percentage, expected) in cases {
        assert_eq!(nodes_to_find(all, percentage), expected, "{all} {percentage}");
    }
}

/// The node for a pod whose volume is still to be made, or why there is none; nodes have so much left for it.
fn with_room(rooms: &[(&str, &str)]) -> String {
    let cache = Cache::default();
    cache.set_namespace("default", Some(Default::default()));
    rooms.iter().for_each(|(name, _)| cache.set_node(&serde_json::from_value(node(name, json!({}))).unwrap()));
    cache.change_storage(|storage| {
        let class =
            json!({"metadata": {"name": "fast"}, "provisioner": "d", "volumeBindingMode": "WaitForFirstConsumer"});
        storage.classes.insert("fast".into(), Arc::new(serde_json::from_value(class).unwrap()));
        let driver = json!({"metadata": {"name": "d"}, "spec": {"storageCapacity": true}});
        storage.drivers.insert("d".into(), Arc::new(serde_json::from_value(driver).unwrap()));
        let claim = json!({"metadata": {"name": "c", "namespace": "default"},
            "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "5Gi"}}}});
        storage.claims.insert(reconcile::Key::new("default", "c"), Arc::new(serde_json::from_value(claim).unwrap()));
        for (name, left) in rooms {
            let room = json!({"metadata": {"name": name, "namespace": "d"}, "storageClassName": "fast",
                "capacity": left, "nodeTopology": {"matchLabels": {"zone": name}}});
            let key = reconcile::Key::new("d", *name);
            storage.capacities.insert(key, Arc::new(serde_json::from_value(room).unwrap()));
        }
    });
    let volumes = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]});
    let (profile, snapshot, pod) = (Profile::standard("x"), cache.snapshot(), info(pod("new", "", volumes)));
    let decided = decide(&profile, &pod, &snapshot, &Nominated::new(), &mut Cursor::default());
    decided.unwrap_or_else(|unfit| unfit.message(""))
}

#[test]
fn a_volume_is_made_where_most_is_left() {
    for _ in 0..20 {
        assert_eq!(with_room(&[("a", "10Gi"), ("b", "100Gi")]), "b");
        assert_eq!(with_room(&[("a", "5Gi"), ("b", "4Gi")]), "a");
    }
    let why = "0/2 nodes are available: 2 node(s) did not have enough free storage.";
    assert_eq!(with_room(&[("a", "1Gi"), ("b", "4Gi")]), why);
}
