//! Other resources for containers that run.

use cri::Runtime as _;
use serde_json::{Value, json};

use crate::{Node, container_of, phase_is, pod, setup, until};

fn asking(cpu: &str) -> Value {
    let mut pod = pod("a", "ua", "Always");
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
    pod
}

fn shown(pod: &Value) -> (Option<&str>, Option<&str>, Vec<&str>) {
    let container = &pod["status"]["containerStatuses"][0];
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let resizing = conditions.iter().filter(|c| c["type"].as_str().is_some_and(|t| t.starts_with("PodResize")));
    (
        container["resources"]["requests"]["cpu"].as_str(),
        container["allocatedResources"]["cpu"].as_str(),
        resizing.filter_map(|c| c["reason"].as_str()).collect(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_resized_while_it_runs() {
    let (root, api, runtime) = setup();
    let node = Node::start(root.path(), &api, &runtime);
    api.apply(asking("100m"));
    phase_is(&api, "a", "Running").await;
    runtime.take_calls();
    api.apply(asking("200m"));
    until("it has more", async || {
        api.pod("a").is_some_and(|pod| shown(&pod) == (Some("200m"), Some("200m"), Vec::new()))
    })
    .await;
    let calls = runtime.take_calls();
    assert!(calls.iter().all(|call| call.starts_with("update_container_resources")), "{calls:?}");
    let container = container_of(&runtime, "ua").await.unwrap();
    assert_eq!(runtime.resources_of(&container.id).unwrap().cpu_shares, 204);

    // More than the node has is asked for in vain, also after a restart of the node agent.
    api.apply(asking("100k"));
    let refused =
        async || api.pod("a").is_some_and(|pod| shown(&pod) == (Some("200m"), Some("200m"), vec!["Infeasible"]));
    until("it is refused", refused).await;
    node.stop().await;
    // Nothing of the refusal is left in the API: who shows it again has found it again.
    api.apply(asking("100k"));
    let node = Node::start(root.path(), &api, &runtime);
    until("it is refused again", refused).await;
    assert_eq!(runtime.resources_of(&container.id).unwrap().cpu_shares, 204);
    api.apply(asking("200m"));
    until("nothing is asked for any more", async || {
        api.pod("a").is_some_and(|pod| shown(&pod) == (Some("200m"), Some("200m"), Vec::new()))
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resize_that_fails_holds_up_no_other_container() {
    let asking = |cpu: &str| {
        let mut pod = asking(cpu);
        let other = json!({"name": "d", "image": crate::IMAGE, "imagePullPolicy": "IfNotPresent"});
        pod["spec"]["containers"].as_array_mut().unwrap().push(other);
        pod
    };
    let (root, api, runtime) = setup();
    let node = Node::start(root.path(), &api, &runtime);
    api.apply(asking("100m"));
    phase_is(&api, "a", "Running").await;
    runtime.refuse_updates();
    runtime.take_calls();
    api.apply(asking("200m"));
    until("the resize fails", async || {
        runtime.take_calls().iter().any(|call| call.starts_with("update_container_resources"))
    })
    .await;
    let named = [("io.kubernetes.container.name".to_owned(), "d".to_owned())].into();
    let other = runtime.list_containers(named).await.unwrap().pop().unwrap();
    runtime.exit(&other.id, 1, "Error");
    until("the other one is started again", async || {
        let pod = api.pod("a").unwrap();
        pod["status"]["containerStatuses"][1]["restartCount"] == 1
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_in_use_is_not_taken_away() {
    let limited = |memory: &str| {
        let mut pod = pod("a", "ua", "Always");
        let resources = json!({"requests": {"memory": "10Mi"}, "limits": {"memory": memory}});
        pod["spec"]["containers"][0]["resources"] = resources;
        pod
    };
    let (root, api, runtime) = setup();
    let node = Node::start(root.path(), &api, &runtime);
    api.apply(limited("200Mi"));
    phase_is(&api, "a", "Running").await;
    let id = container_of(&runtime, "ua").await.unwrap().id;
    let limit = || runtime.resources_of(&id).unwrap().memory_limit_in_bytes;
    let shown = async |memory: &str, reasons: &[(&str, &str, &str)]| {
        let status = api.pod("a").unwrap()["status"].clone();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let resizes = conditions.iter().filter(|c| c["type"].as_str().is_some_and(|t| t.starts_with("PodResize")));
        let text = |condition: &Value, key: &str| condition[key].as_str().unwrap_or_default().to_owned();
        let found: Vec<_> = resizes.map(|c| (text(c, "type"), text(c, "reason"), text(c, "message"))).collect();
        let found: Vec<_> = found.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        status["containerStatuses"][0]["resources"]["limits"]["memory"] == memory && found == reasons
    };
    runtime.use_memory(&id, 150 << 20);
    api.apply(limited("100Mi"));
    let why = "cannot decrease memory limits: [attempting to set pod memory limit (104857600) below current usage (157286400), \
        attempting to set container \"c\" memory limit (104857600) below current usage (157286400)]";
    let refused = [("PodResizeInProgress", "Error", why)];
    until("it is refused", async || shown("200Mi", &refused).await).await;
    assert_eq!(limit(), 200 << 20);
    // Once it is free, it goes.
    runtime.use_memory(&id, 50 << 20);
    api.touch("a");
    until("it has less", async || shown("100Mi", &[]).await).await;
    assert_eq!(limit(), 100 << 20);
    // More is never in use.
    runtime.use_memory(&id, 99 << 20);
    api.apply(limited("300Mi"));
    until("it has more", async || shown("300Mi", &[]).await).await;
    assert_eq!(limit(), 300 << 20);
    node.stop().await;
}
