//! Daemon sets: a pod on each node, and a new template.

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    core::v1::{Node, Pod},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use reconcile::{Informers, Key, Queue};
use serde_json::json;

use crate::cluster::{Cluster, eventually};

/// Binds each pod to the node that its affinity names, and says that it is ready.
fn run_pods(cluster: &Cluster) {
    let client = cluster.client.clone();
    let pods = Informers::new(client.clone(), cluster.tasks().clone()).of::<Pod>();
    let queue = Queue::<Key>::new();
    let changed = queue.clone();
    pods.handle(move |change| changed.add(Key::of(&**change.object())));
    let drain = cluster.tasks().drain().clone();
    cluster.tasks().spawn("hollow nodes", async move {
        let sync = |key: Key| {
            let (pod, client) = (pods.get(&key.namespace, &key.name), client.clone());
            async move {
                if let Some(pod) = pod {
                    run(Api::namespaced(client, &key.namespace), &pod).await?;
                }
                Ok::<_, kube::Error>(None)
            }
        };
        reconcile::run_workers("hollow nodes", &queue, 4, &drain, sync).await;
    });
}

async fn run(api: Api<Pod>, pod: &Pod) -> kube::Result<()> {
    let name = pod.name_any();
    let spec = serde_json::to_value(&pod.spec).unwrap();
    let wanted = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0";
    if pod.metadata.deletion_timestamp.is_some() {
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        return api.delete(&name, &now).await.map(drop).or_else(gone);
    }
    if spec["nodeName"].is_null() {
        let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": spec.pointer(wanted)}});
        let post = PostParams::default();
        let bound = api.create_subresource::<_, serde_json::Value>("binding", &name, &post, &binding).await;
        return bound.map(drop).or_else(gone);
    }
    if pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running") {
        return Ok(());
    }
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status)).await.map(drop).or_else(gone)
}

fn gone(error: kube::Error) -> kube::Result<()> {
    match error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => Ok(()),
        other => Err(other),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_run_on_every_node_and_are_replaced() {
    let Some(cluster) = Cluster::start("daemonset").await else { return };
    run_pods(&cluster);
    let nodes = Api::<Node>::all(cluster.client.clone());
    let add_node = |name: &'static str| {
        let nodes = nodes.clone();
        async move {
            let node = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
            nodes.create(&PostParams::default(), &node).await.unwrap();
            // The server taints new nodes until they are ready; here nobody would take that away.
            let free = json!({"spec": {"taints": null}});
            nodes.patch(name, &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
        }
    };
    add_node("one").await;
    add_node("two").await;
    let sets: Api<DaemonSet> = cluster.api();
    let set = json!({"metadata": {"name": "agent"}, "spec": {"selector": {"matchLabels": {"app": "agent"}},
        "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}}});
    sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    let complete = |count: i32| {
        let sets = sets.clone();
        move || {
            let sets = sets.clone();
            async move {
                let set = sets.get("agent").await.unwrap();
                let status = set.status.unwrap_or_default();
                status.observed_generation == set.metadata.generation
                    && [status.desired_number_scheduled, status.number_ready] == [count; 2]
                    && status.updated_number_scheduled == Some(count)
            }
        }
    };
    eventually("both nodes have one", complete(2)).await;
    add_node("three").await;
    eventually("the third too", complete(3)).await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
    sets.patch("agent", &PatchParams::default(), &Patch::Strategic(image)).await.unwrap();
    eventually("all are replaced", complete(3)).await;
    let pods: Api<Pod> = cluster.api();
    let images: Vec<_> = pods.list(&ListParams::default()).await.unwrap().items;
    assert!(images.iter().all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("two")));
    let revisions: Api<ControllerRevision> = cluster.api();
    assert_eq!(revisions.list(&ListParams::default()).await.unwrap().items.len(), 2);
    cluster.stop().await;
}
