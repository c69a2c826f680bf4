//! The node agent against a runtime and an API in memory: what runs, what is told, what is left alone.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking and owns its tasks")]

mod api;
mod images;
mod objects;
mod resize;
mod restarts;
mod statics;

use std::sync::Arc;
use std::time::Duration;

use cri::Runtime as _;
use cri::fake::Fake;
use kubelet::{Cgroups, Config, ImagePolicy, LogPolicy, Server, Thresholds};
use serde_json::{Value, json};

use crate::api::Api;

const IMAGE: &str = "app:1";
const DEADLINE: Duration = Duration::from_secs(20);

fn config(root: &std::path::Path) -> Config {
    Config {
        node_name: "n1".into(),
        node_ips: vec!["192.0.2.1".parse().unwrap()],
        register_node: true,
        labels: std::collections::BTreeMap::new(),
        taints: Vec::new(),
        root_dir: root.join("kubelet"),
        pod_logs_dir: root.join("logs"),
        container_logs_dir: root.join("links"),
        manifest_dir: None,
        seccomp_dir: root.join("seccomp"),
        runtime_socket: root.join("none.sock"),
        exec_dir: root.join("exec"),
        cluster_dns: Vec::new(),
        cluster_domain: "cluster.local".into(),
        resolv_conf: None,
        cgroups: Cgroups { per_qos: false, root: "/".into() },
        max_pods: 110,
        reserved: std::collections::BTreeMap::new(),
        server: Server {
            address: "127.0.0.1:0".parse().unwrap(),
            certificate: root.join("kubelet.crt"),
            key: root.join("kubelet.key"),
            client_ca: None,
            anonymous: false,
            token_review: false,
            authorize: true,
        },
        healthz: None,
        status_update_frequency: Duration::from_secs(10),
        status_report_frequency: Duration::from_secs(300),
        lease_duration: Duration::from_secs(40),
        thresholds: Thresholds::default(),
        images: ImagePolicy { gc_high_percent: 85, gc_low_percent: 80, min_age: Duration::from_secs(120) },
        logs: LogPolicy { max_size_bytes: 1 << 20, max_files: 5 },
        allowed_unsafe_sysctls: Vec::new(),
        max_container_backoff: Duration::from_secs(300),
        serialize_image_pulls: true,
    }
}

/// A node agent that runs until it is dropped.
struct Node {
    stop: daemon::Trigger,
    ended: tokio::task::JoinHandle<Result<(), kubelet::Error>>,
}

impl Node {
    fn start(root: &std::path::Path, api: &Arc<Api>, runtime: &Arc<Fake>) -> Self {
        Self::start_as(config(root), api, runtime)
    }

    fn start_as(config: Config, api: &Arc<Api>, runtime: &Arc<Fake>) -> Self {
        let (stop, drain) = daemon::Drain::new();
        let run = kubelet::run_with(config, api.client(), runtime.clone(), drain);
        Self { stop, ended: tokio::spawn(run) }
    }

    async fn stop(self) {
        self.stop.start();
        tokio::time::timeout(DEADLINE, self.ended).await.expect("ends in time").unwrap().unwrap();
    }
}

fn pod(name: &str, uid: &str, policy: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": uid, "generation": 1},
        "spec": {"nodeName": "n1", "restartPolicy": policy, "terminationGracePeriodSeconds": 1, "enableServiceLinks": true,
            "containers": [{"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent"}]},
        "status": {"phase": "Pending"},
    })
}

async fn until(what: &str, check: impl AsyncFn() -> bool) {
    let wait = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "{what} within {DEADLINE:?}");
}

async fn phase_is(api: &Api, name: &str, phase: &str) {
    until(&format!("{name} is {phase}"), async || api.pod(name).is_some_and(|p| p["status"]["phase"] == phase)).await;
}

fn setup() -> (tempfile::TempDir, Arc<Api>, Arc<Fake>) {
    let runtime = Arc::new(Fake::default());
    runtime.add_image(IMAGE);
    (tempfile::tempdir().unwrap(), Arc::new(Api::default()), runtime)
}

async fn container_of(runtime: &Fake, uid: &str) -> Option<cri::v1::Container> {
    let labels = [("io.kubernetes.pod.uid".to_owned(), uid.to_owned())].into();
    let mut containers = runtime.list_containers(labels).await.unwrap();
    containers.sort_by_key(|container| container.created_at);
    containers.pop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_runs_restarts_and_goes() {
    let (root, api, runtime) = setup();
    let node = Node::start(root.path(), &api, &runtime);
    api.apply(pod("a", "ua", "Always"));
    phase_is(&api, "a", "Running").await;
    let first = container_of(&runtime, "ua").await.unwrap();
    runtime.exit(&first.id, 3, "Error");
    until("it is started again", async || {
        api.pod("a").is_some_and(|pod| {
            let status = &pod["status"]["containerStatuses"][0];
            status["restartCount"] == 1 && status["lastState"]["terminated"]["exitCode"] == 3
        })
    })
    .await;
    api.delete_gracefully("a");
    until("it is deleted for good", async || api.pod("a").is_none()).await;
    until("nothing of it is left", async || {
        runtime.list_sandboxes(std::collections::HashMap::new()).await.unwrap().is_empty()
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_agent_takes_over_what_runs() {
    let (root, api, runtime) = setup();
    let node = Node::start(root.path(), &api, &runtime);
    api.apply(pod("a", "ua", "Always"));
    phase_is(&api, "a", "Running").await;
    node.stop().await;
    runtime.take_calls();
    let patches = api.pod_patches();

    let node = Node::start(root.path(), &api, &runtime);
    api.apply(pod("b", "ub", "Always"));
    phase_is(&api, "b", "Running").await;
    let calls = runtime.take_calls();
    assert_eq!(calls, ["run_sandbox", "create_container c", "start_container c"], "only the new pod's");
    assert_eq!(api.pod_patches_of("a"), patches, "nothing new to tell about the old one");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_pods_end_leaves_the_others() {
    let (root, api, runtime) = setup();
    let node = Node::start(root.path(), &api, &runtime);
    for (name, uid) in [("a", "ua"), ("b", "ub")] {
        api.apply(pod(name, uid, "Always"));
        phase_is(&api, name, "Running").await;
    }
    let other = container_of(&runtime, "ub").await.unwrap();
    runtime.take_calls();
    // The name of the first is taken over at once by another pod.
    api.remove("a");
    api.apply(pod("a", "ua2", "Always"));
    until("the new one runs", async || container_of(&runtime, "ua2").await.is_some()).await;
    until("the old one is gone", async || container_of(&runtime, "ua").await.is_none()).await;
    let calls = runtime.take_calls();
    assert!(!calls.iter().any(|call| call.contains(&other.id)), "{calls:?}");
    assert_eq!(container_of(&runtime, "ub").await.unwrap().state, other.state);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_says_why() {
    let (root, api, runtime) = setup();
    let node = Node::start(root.path(), &api, &runtime);
    let mut missing = pod("image", "u1", "Always");
    missing["spec"]["containers"][0]["image"] = json!("other:1");
    missing["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    api.apply(missing);
    let mut unset = pod("map", "u2", "Always");
    unset["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "none"}}]);
    api.apply(unset);
    for (name, reason, message) in [
        ("image", "ErrImageNeverPull", "Container image \"other:1\" is not present with pull policy of Never"),
        ("map", "CreateContainerConfigError", "configmap \"none\" not found"),
    ] {
        until(reason, async || {
            api.pod(name).is_some_and(|pod| {
                let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
                waiting["reason"] == reason && waiting["message"] == message
            })
        })
        .await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_too_large_is_rejected() {
    let (root, api, runtime) = setup();
    let node = Node::start(root.path(), &api, &runtime);
    let mut large = pod("large", "ul", "Always");
    large["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100k"}});
    api.apply(large);
    phase_is(&api, "large", "Failed").await;
    let status = api.pod("large").unwrap()["status"].clone();
    assert_eq!(status["reason"], "OutOfcpu");
    assert!(status.get("containerStatuses").is_none(), "{status}");
    assert_eq!(runtime.take_calls(), Vec::<String>::new());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_pod_is_not_run_again() {
    let (root, api, runtime) = setup();
    let node = Node::start(root.path(), &api, &runtime);
    api.apply(pod("job", "uj", "OnFailure"));
    phase_is(&api, "job", "Running").await;
    runtime.exit(&container_of(&runtime, "uj").await.unwrap().id, 0, "Completed");
    phase_is(&api, "job", "Succeeded").await;
    runtime.take_calls();
    node.stop().await;
    let node = Node::start(root.path(), &api, &runtime);
    api.apply(pod("b", "ub", "Always"));
    phase_is(&api, "b", "Running").await;
    // What the old one had is given back once more: nobody knows whether it was.
    let calls = runtime.take_calls();
    let calls: Vec<_> = calls.iter().filter(|call| !call.starts_with("stop_sandbox")).collect();
    assert_eq!(calls, ["run_sandbox", "create_container c", "start_container c"]);
    node.stop().await;
}
