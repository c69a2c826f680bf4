//! Images as volumes.

use cri::Runtime as _;
use serde_json::{Value, json};

use crate::{IMAGE, Node, container_of, phase_is, pod, setup, until};

/// One container with the image as a volume, and one without.
fn with_image(policy: &str) -> Value {
    let mut pod = pod("a", "ua", "Always");
    pod["spec"]["volumes"] = json!([{"name": "v", "image": {"reference": "data:1", "pullPolicy": policy}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let other = json!({"name": "d", "image": IMAGE, "imagePullPolicy": "IfNotPresent"});
    pod["spec"]["containers"].as_array_mut().unwrap().push(other);
    pod
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_an_image_as_a_volume_waits_for_it() {
    let (root, api, runtime) = setup();
    let node = Node::start(root.path(), &api, &runtime);
    api.apply(with_image("IfNotPresent"));
    let waits = async |reason: &str, message: &str| {
        api.pod("a").is_some_and(|pod| {
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            waiting["reason"] == reason && waiting["message"] == message
        })
    };
    let why = "rpc error: code = NotFound desc = image \"data:1\" not found";
    until("the other container runs", async || {
        api.pod("a").is_some_and(|pod| !pod["status"]["containerStatuses"][1]["state"]["running"].is_null())
    })
    .await;
    until("events say why", async || {
        api.was_told("Failed", "Error: ErrImagePull")
            && api.was_told("Failed", &format!("Failed to pull image \"data:1\": {why}"))
    })
    .await;
    api.touch("a");
    let why = format!("Back-off pulling image \"data:1\": ErrImagePull: {why}");
    until("it is not pulled all the time", async || waits("ImagePullBackOff", &why).await).await;
    assert_eq!(runtime.image_mounts(), []);

    runtime.add_image("data:1");
    api.touch("a");
    phase_is(&api, "a", "Running").await;
    assert_eq!(runtime.image_mounts(), [("ua".to_owned(), "v".to_owned())]);
    let named = [("io.kubernetes.container.name".to_owned(), "c".to_owned())].into();
    let container = runtime.list_containers(named).await.unwrap().pop().unwrap();
    let mounts = runtime.container_status(&container.id).await.unwrap().mounts;
    let mount = mounts.iter().find(|mount| mount.container_path == "/v").unwrap();
    assert!(mount.readonly && mount.host_path.ends_with("kubernetes.io~image/v"), "{mount:?}");
    api.delete_gracefully("a");
    until("it is gone", async || api.pod("a").is_none()).await;
    assert_eq!(runtime.image_mounts(), [], "nothing is kept for it");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_may_not_be_pulled() {
    let (root, api, runtime) = setup();
    let node = Node::start(root.path(), &api, &runtime);
    api.apply(with_image("Never"));
    until("it is told why", async || {
        api.pod("a").is_some_and(|pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ErrImageNeverPull"
        })
    })
    .await;
    assert!(runtime.take_calls().iter().all(|call| !call.starts_with("pull_image")));
    node.stop().await;
}

/// A read-only mount whose sub-mounts are to be read-only too.
fn recursive(name: &str, uid: &str, mode: &str) -> Value {
    let mut pod = pod(name, uid, "Always");
    pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "v", "mountPath": "/v", "readOnly": true, "recursiveReadOnly": mode}]);
    pod
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_handler_can_do_is_told_and_used() {
    let (root, api, runtime) = setup();
    runtime.offer_handler("", true);
    let node = Node::start(root.path(), &api, &runtime);
    for (name, mode, shown) in
        [("a", "Enabled", "Enabled"), ("b", "IfPossible", "Enabled"), ("c", "Disabled", "Disabled")]
    {
        api.apply(recursive(name, &format!("u{name}"), mode));
        phase_is(&api, name, "Running").await;
        let status = api.pod(name).unwrap()["status"].clone();
        assert_eq!(status["containerStatuses"][0]["volumeMounts"][0]["recursiveReadOnly"], shown, "{mode}");
        let container = container_of(&runtime, &format!("u{name}")).await.unwrap();
        let mounts = runtime.container_status(&container.id).await.unwrap().mounts;
        let mount = mounts.iter().find(|mount| mount.container_path == "/v").unwrap();
        assert_eq!(mount.recursive_read_only, shown == "Enabled", "{mode}");
    }
    let told = json!([{"features": {"recursiveReadOnlyMounts": true, "userNamespaces": false}}]);
    until("the node tells", async || api.node_status()["runtimeHandlers"] == told).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_tells_nothing_is_not_relied_on() {
    let (root, api, runtime) = setup();
    let node = Node::start(root.path(), &api, &runtime);
    api.apply(recursive("a", "ua", "IfPossible"));
    phase_is(&api, "a", "Running").await;
    let shown = api.pod("a").unwrap()["status"]["containerStatuses"][0]["volumeMounts"][0].clone();
    assert_eq!(shown["recursiveReadOnly"], "Disabled");
    api.apply(recursive("b", "ub", "Enabled"));
    let why = "failed to resolve recursive read-only mode: volume \"v\" requested recursive read-only mode, but it is not supported by the runtime";
    until("it is refused", async || {
        api.pod("b").is_some_and(|pod| {
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            waiting["reason"] == "CreateContainerConfigError" && waiting["message"] == why
        })
    })
    .await;
    node.stop().await;
}
