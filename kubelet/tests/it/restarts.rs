//! What fails on the way, or is left of an earlier life: of a sandbox, of this program.

use std::collections::HashMap;
use std::time::Duration;

use cri::Runtime as _;
use parking_lot::Mutex;
use serde_json::json;

use crate::{IMAGE, Node, config, phase_is, pod, setup, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_that_died_gives_its_address_back() {
    let (root, api, runtime) = setup();
    let node = Node::start(root.path(), &api, &runtime);
    api.apply(pod("a", "ua", "Always"));
    phase_is(&api, "a", "Running").await;
    let dead = runtime.list_sandboxes(HashMap::new()).await.unwrap().pop().unwrap().id;
    runtime.stop_sandbox(&dead).await.unwrap();
    runtime.take_calls();
    api.touch("a");
    let calls = Mutex::new(Vec::new());
    until("it has another one", async || {
        calls.lock().extend(runtime.take_calls());
        calls.lock().iter().any(|call| call == "run_sandbox")
    })
    .await;
    let stopped = format!("stop_sandbox {dead}");
    assert!(calls.lock().contains(&stopped), "only who stops a sandbox frees its address: {calls:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_between_a_sidecars_start_and_the_others_holds_up_nothing() {
    let (root, api, runtime) = setup();
    let node = Node::start(root.path(), &api, &runtime);
    let mut pod = pod("a", "ua", "Always");
    pod["spec"]["initContainers"] = json!([{"name": "s", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["ok"]}, "periodSeconds": 1}}]);
    pod["spec"]["containers"][0]["image"] = json!("late:1");
    api.apply(pod);
    until("the sidecar has started, the other waits", async || {
        api.pod("a").is_some_and(|pod| {
            let waits = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
            let waits = waits.as_str().is_some_and(|reason| reason.contains("ImagePull"));
            waits && pod["status"]["initContainerStatuses"][0]["started"] == true
        })
    })
    .await;
    node.stop().await;
    runtime.add_image("late:1");
    let node = Node::start(root.path(), &api, &runtime);
    phase_is(&api, "a", "Running").await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_that_gets_no_answer_is_not_the_last() {
    let (root, api, runtime) = setup();
    api.lose_first_lease();
    let config = kubelet::Config { lease_duration: Duration::from_secs(2), ..config(root.path()) };
    let node = Node::start_as(config, &api, &runtime);
    until("it is renewed", async || api.leases() > 2).await;
    node.stop().await;
}
