//! Static pods: manifests that come, go and come again.

use std::collections::HashMap;

use cri::Runtime as _;
use cri::fake::Fake;

use crate::{IMAGE, Node, config, phase_is, pod, setup, until};

async fn running(runtime: &Fake) -> usize {
    runtime.list_containers(HashMap::new()).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_comes_back_runs_again() {
    let (root, api, runtime) = setup();
    let manifests = root.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers: [{{name: c, image: \"{IMAGE}\", imagePullPolicy: IfNotPresent}}]\n"
    );
    // What is no manifest beside it changes nothing.
    std::fs::write(manifests.join("broken"), "kind: Pod\nmetadata: 5\n").unwrap();
    std::fs::write(manifests.join("web"), &text).unwrap();
    let mut settings = config(root.path());
    settings.manifest_dir = Some(manifests.clone());
    let node = Node::start_as(settings, &api, &runtime);
    until("it runs", async || running(&runtime).await == 1).await;
    std::fs::remove_file(manifests.join("web")).unwrap();
    until("it is gone", async || running(&runtime).await == 0).await;
    std::fs::write(manifests.join("web"), &text).unwrap();
    until("it runs again", async || running(&runtime).await == 1).await;
    node.stop().await;
}

/// A node with room for one pod.
fn narrow(root: &std::path::Path) -> kubelet::Config {
    let manifests = root.join("manifests");
    std::fs::create_dir_all(&manifests).unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers: [{{name: c, image: \"{IMAGE}\", imagePullPolicy: IfNotPresent}}]\n"
    );
    std::fs::write(manifests.join("web"), text).unwrap();
    let mut settings = config(root);
    settings.manifest_dir = Some(manifests);
    settings.max_pods = 1;
    settings
}

async fn uid_of_the_only_pod(runtime: &Fake) -> String {
    let sandboxes = runtime.list_sandboxes(HashMap::new()).await.unwrap();
    assert_eq!(sandboxes.len(), 1);
    sandboxes[0].labels["io.kubernetes.pod.uid"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_pod_keeps_its_room_whoever_is_looked_at_first() {
    let (root, api, runtime) = setup();
    let node = Node::start_as(narrow(root.path()), &api, &runtime);
    until("it runs", async || running(&runtime).await == 1).await;
    node.stop().await;
    // Known before, then for the first time.
    for is_known in [true, false] {
        let uid = uid_of_the_only_pod(&runtime).await;
        if !is_known {
            std::fs::remove_dir_all(root.path().join("kubelet/pods")).unwrap();
        }
        runtime.hold(&uid);
        let name = format!("other-{is_known}");
        api.apply(pod(&name, &name, "Always"));
        let node = Node::start_as(narrow(root.path()), &api, &runtime);
        phase_is(&api, &name, "Failed").await;
        assert_eq!(api.pod(&name).unwrap()["status"]["reason"], "OutOfpods", "known before: {is_known}");
        runtime.release();
        node.stop().await;
        api.remove(&name);
    }
    assert_eq!(running(&runtime).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ran_before_leaves_no_room_for_a_new_manifest() {
    let (root, api, runtime) = setup();
    let node = Node::start_as(narrow(root.path()), &api, &runtime);
    until("it runs", async || running(&runtime).await == 1).await;
    node.stop().await;
    let uid = uid_of_the_only_pod(&runtime).await;
    let settings = narrow(root.path());
    let manifests = settings.manifest_dir.clone().unwrap();
    let text = std::fs::read_to_string(manifests.join("web")).unwrap().replace("name: web", "name: new");
    std::fs::write(manifests.join("new"), text).unwrap();
    runtime.hold(&uid);
    let node = Node::start_as(settings, &api, &runtime);
    until("it is refused", async || {
        let why = "Node didn't have enough resource: pods, requested: 1, used: 1, capacity: 1";
        api.was_told("OutOfpods", why)
    })
    .await;
    runtime.release();
    assert_eq!(uid_of_the_only_pod(&runtime).await, uid);
    node.stop().await;
}
