//! Other resources for containers that run.

use cri::Runtime as _;
use serde_json::{Value, json};

use crate::{Node, phase_is, pod, setup, until};

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
    assert!(!calls.is_empty());

    // More than the node has is asked for in vain, also after a restart of the node agent.
    api.apply(asking("100k"));
    let refused =
        async || api.pod("a").is_some_and(|pod| shown(&pod) == (Some("200m"), Some("200m"), vec!["Infeasible"]));
    until("it is refused", refused).await;
    node.stop().await;
    let node = Node::start(root.path(), &api, &runtime);
    api.apply(pod("b", "ub", "Always"));
    phase_is(&api, "b", "Running").await;
    assert!(refused().await, "{:?}", api.pod("a"));
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
