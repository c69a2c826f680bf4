//! Static pods: manifests that come, go and come again.

use std::collections::HashMap;

use cri::Runtime as _;
use cri::fake::Fake;

use crate::{IMAGE, Node, config, setup, until};

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
