//! Deployments end to end: rollout, failure, undo, scale, deletion.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    cluster::{Cluster, eventually},
    hollow,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rolls_stalls_and_is_repaired() {
    let Some(cluster) = Cluster::start("replicaset,deployment").await else { return };
    hollow::start(cluster.client.clone(), cluster.tasks(), "hollow").await;
    let deployments: Api<Deployment> = cluster.api();
    let sets: Api<ReplicaSet> = cluster.api();
    let deployment = json!({"metadata": {"name": "web"}, "spec": {"replicas": 4, "progressDeadlineSeconds": 3,
        "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "one"}]}}}});
    deployments.create(&PostParams::default(), &serde_json::from_value(deployment).unwrap()).await.unwrap();
    let complete = |replicas: i32| {
        let deployments = deployments.clone();
        move || {
            let deployments = deployments.clone();
            async move {
                let it = deployments.get("web").await.unwrap();
                let status = it.status.unwrap_or_default();
                status.observed_generation == it.metadata.generation
                    && [status.replicas, status.updated_replicas, status.available_replicas] == [Some(replicas); 3]
            }
        }
    };
    let reason = || async {
        let conditions =
            deployments.get("web").await.unwrap().status.unwrap_or_default().conditions.unwrap_or_default();
        let progressing = conditions.into_iter().find(|it| it.type_.as_deref() == Some("Progressing"));
        progressing.and_then(|it| it.reason).unwrap_or_default()
    };
    eventually("the first version runs", complete(4)).await;
    eventually("it says so", || async { reason().await == "NewReplicaSetAvailable" }).await;

    let change = |patch: serde_json::Value| {
        let deployments = deployments.clone();
        async move {
            deployments.patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
        }
    };
    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    change(image("two")).await;
    eventually("the second version runs", complete(4)).await;
    let revision = |it: &Deployment| it.annotations()["deployment.kubernetes.io/revision"].clone();
    assert_eq!(revision(&deployments.get("web").await.unwrap()), "2");
    assert_eq!(sets.list(&ListParams::default()).await.unwrap().items.len(), 2);

    let mut broken = image("three");
    broken["spec"]["template"]["metadata"] = json!({"annotations": {"hollow": "broken"}});
    change(broken).await;
    eventually("the deadline passes", || async { reason().await == "ProgressDeadlineExceeded" }).await;
    let status = deployments.get("web").await.unwrap().status.unwrap();
    assert!(status.available_replicas.unwrap() >= 3, "old pods keep running");

    let mut undo = image("two");
    undo["spec"]["template"]["metadata"] = json!({"annotations": {"hollow": null}});
    change(undo).await;
    eventually("the second version runs again", complete(4)).await;
    assert_eq!(revision(&deployments.get("web").await.unwrap()), "4");

    change(json!({"spec": {"replicas": 30}})).await;
    eventually("it grew", complete(30)).await;
    change(json!({"spec": {"replicas": 2}})).await;
    eventually("it shrank", complete(2)).await;
    cluster.stop().await;
}
