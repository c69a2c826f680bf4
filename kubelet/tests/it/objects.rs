//! Config maps that volumes are made of.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{Node, phase_is, pod, setup, until};

fn with_map(name: &str) -> Value {
    let mut pod = pod("a", "ua", "Always");
    pod["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": name}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    pod
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_config_map_reaches_its_volume_without_being_asked_for() {
    let (root, api, runtime) = setup();
    let file = root.path().join("kubelet/pods/ua/volumes/kubernetes.io~configmap/v/k");
    let holds = async |text: &str| std::fs::read_to_string(&file).is_ok_and(|held| held == text);
    api.put_map("m", "k", "1");
    let node = Node::start(root.path(), &api, &runtime);
    api.apply(with_map("m"));
    phase_is(&api, "a", "Running").await;
    assert!(holds("1").await);
    for text in ["2", "3"] {
        api.put_map("m", "k", text);
        // Much sooner than the next regular turn.
        until("the volume shows it", async || holds(text).await).await;
    }
    assert_eq!(api.asked_for("m"), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_waits_for_the_config_map_of_its_volume() {
    let (root, api, runtime) = setup();
    let node = Node::start(root.path(), &api, &runtime);
    api.apply(with_map("none"));
    let message = "MountVolume.SetUp failed for volume \"v\" : configmap \"none\" not found";
    until("it is told why", async || api.was_told("FailedMount", message)).await;
    assert!(crate::container_of(&runtime, "ua").await.is_none());
    api.put_map("none", "k", "1");
    phase_is(&api, "a", "Running").await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restless_writer_keeps_no_pod_busy() {
    let (root, api, runtime) = setup();
    let volume = root.path().join("kubelet/pods/ua/volumes/kubernetes.io~configmap/v");
    api.put_map("m", "k", "0");
    let node = Node::start(root.path(), &api, &runtime);
    api.apply(with_map("m"));
    phase_is(&api, "a", "Running").await;
    let began = std::time::Instant::now();
    let mut versions = std::collections::BTreeSet::new();
    for n in 1..=200 {
        api.put_map("m", "k", &"x".repeat(n));
        tokio::time::sleep(Duration::from_millis(10)).await;
        versions.extend(std::fs::read_link(volume.join("..data")));
    }
    // The one at the beginning, the one that comes at once, and one a second.
    let most = 2 + began.elapsed().as_secs() + 1;
    assert!(versions.len() as u64 <= most, "{} versions, at most {most}", versions.len());
    let last = "x".repeat(200);
    until("the last one is shown", async || std::fs::read_to_string(volume.join("k")).is_ok_and(|held| held == last))
        .await;
    node.stop().await;
}
