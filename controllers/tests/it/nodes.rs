//! Nodes: ranges, labels, taints, silence, eviction, and pods of nodes that are gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::cluster::{Cluster, eventually};

async fn create_node(api: &Api<Node>, name: &str, ready: &str) {
    let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}},
        "status": {"conditions": [{"type": "Ready", "status": ready, "reason": "KubeletReady",
            "lastHeartbeatTime": "2024-01-01T00:00:00Z", "lastTransitionTime": "2024-01-01T00:00:00Z"}]}});
    api.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
}

async fn beat(api: &Api<Node>, name: &str) {
    let now = daemon::clock::now().to_string();
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": now}]}});
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await.unwrap();
}

/// Ready pods on the silent node, one of which does not tolerate that for long.
async fn create_pods(pods: &Api<Pod>) {
    for (name, seconds) in [("quick", 1), ("patient", 600)] {
        let toleration =
            |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let pod = json!({"metadata": {"name": name, "finalizers": ["example.com/watch"]}, "spec": {"nodeName": "silent",
            "tolerations": [toleration("node.kubernetes.io/unreachable"), toleration("node.kubernetes.io/not-ready")],
            "containers": [{"name": "c", "image": "i"}]}});
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        let ready = json!({"status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z"}]}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(ready)).await.unwrap();
    }
}

fn taints(node: &Node) -> Vec<String> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    taints.iter().map(|it| format!("{}:{}", it.key.trim_start_matches("node.kubernetes.io/"), it.effect)).collect()
}

const NODES: [&str; 5] = ["nodelifecycle", "nodeipam", "taint-eviction-controller", "podgc", "ttl"];

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_marked_and_its_pods_move() {
    let config = controllers::Config {
        controllers: NODES.map(str::to_owned).to_vec(),
        node_monitor_period: Duration::from_millis(200),
        node_monitor_grace_period: Duration::from_secs(3),
        node_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        ..controllers::Config::default()
    };
    let Some(cluster) = Cluster::start_with(config).await else { return };
    let nodes = Api::<Node>::all(cluster.client.clone());
    create_node(&nodes, "steady", "True").await;
    create_node(&nodes, "silent", "True").await;
    let (beating, drain) = (nodes.clone(), cluster.tasks().drain().clone());
    let silent = Arc::new(AtomicBool::new(false));
    let is_silent = silent.clone();
    cluster.tasks().spawn("heartbeat", async move {
        while drain.run(tokio::time::sleep(Duration::from_millis(500))).await.is_some() {
            beat(&beating, "steady").await;
            if !is_silent.load(Ordering::Relaxed) {
                beat(&beating, "silent").await;
            }
        }
    });
    eventually("the nodes have ranges and labels", || async {
        let mut ranges = Vec::new();
        for name in ["steady", "silent"] {
            let node = nodes.get(name).await.unwrap();
            let told = node.annotations().get("node.alpha.kubernetes.io/ttl").is_some_and(|seconds| seconds == "0");
            if !told || !node.labels().contains_key("beta.kubernetes.io/os") {
                return false;
            }
            ranges.extend(node.spec.and_then(|spec| spec.pod_cidr));
        }
        ranges.sort_unstable();
        ranges == ["10.244.0.0/24", "10.244.1.0/24"]
    })
    .await;

    let pods: Api<Pod> = cluster.api();
    create_pods(&pods).await;
    silent.store(true, Ordering::Relaxed);
    eventually("the silent node is unknown and tainted", || async {
        let node = nodes.get("silent").await.unwrap();
        let conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let ready = conditions.iter().find(|it| it.type_ == "Ready").unwrap();
        let mut taints = taints(&node);
        taints.sort_unstable();
        ready.reason.as_deref() == Some("NodeStatusUnknown")
            && taints == ["unreachable:NoExecute", "unreachable:NoSchedule"]
    })
    .await;
    assert_eq!(taints(&nodes.get("steady").await.unwrap()), [""; 0]);
    eventually("pods there are not ready", || async {
        let pod = pods.get("patient").await.unwrap();
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions.iter().any(|it| it.type_ == "Ready" && it.status == "False")
    })
    .await;
    eventually("the impatient one is evicted", || async {
        let pod = pods.get("quick").await.unwrap();
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        pod.metadata.deletion_timestamp.is_some()
            && conditions.iter().any(|it| it.reason.as_deref() == Some("DeletionByTaintManager"))
    })
    .await;
    assert!(pods.get("patient").await.unwrap().metadata.deletion_timestamp.is_none());

    beat(&nodes, "silent").await;
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    nodes.patch_status("silent", &PatchParams::default(), &Patch::Strategic(status)).await.unwrap();
    eventually("the taints go when it is back", || async { taints(&nodes.get("silent").await.unwrap()).is_empty() })
        .await;
    cluster.stop().await;
}
