//! Replica sets and replication controllers.

use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Event, Pod, ReplicationController},
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    cluster::{Cluster, eventually},
    hollow,
};

fn template(app: &str) -> serde_json::Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_scale_adopt_and_release() {
    let Some(cluster) = Cluster::start("replicaset,replicationcontroller").await else { return };
    hollow::start(cluster.client.clone(), cluster.tasks(), "hollow").await;
    let (sets, pods): (Api<ReplicaSet>, Api<Pod>) = (cluster.api(), cluster.api());
    let mut orphan = template("web");
    orphan["metadata"]["name"] = json!("orphan");
    pods.create(&PostParams::default(), &serde_json::from_value(orphan).unwrap()).await.unwrap();
    let set = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
        "template": template("web")}});
    sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    let counts = || async {
        let status = sets.get("web").await.unwrap().status.unwrap_or_default();
        [Some(status.replicas), status.ready_replicas, status.available_replicas, status.fully_labeled_replicas]
            .map(Option::unwrap_or_default)
    };
    eventually("three are ready", || async { counts().await == [3; 4] }).await;
    let adopted = pods.get("orphan").await.unwrap();
    assert_eq!(adopted.owner_references()[0].name, "web");
    let list = pods.list(&ListParams::default()).await.unwrap();
    assert_eq!(list.items.len(), 3);
    assert!(list.items.iter().any(|pod| pod.name_any().starts_with("web-")));

    let relabel = json!({"metadata": {"labels": {"app": "other"}}});
    pods.patch("orphan", &PatchParams::default(), &Patch::Merge(relabel)).await.unwrap();
    eventually("it is released", || async { pods.get("orphan").await.unwrap().owner_references().is_empty() }).await;
    eventually("three are ready again", || async {
        counts().await == [3; 4] && pods.list(&ListParams::default()).await.unwrap().items.len() == 4
    })
    .await;
    let scale = json!({"spec": {"replicas": 1}});
    sets.patch("web", &PatchParams::default(), &Patch::Merge(scale)).await.unwrap();
    eventually("one is left", || async { counts().await == [1; 4] }).await;
    let events: Api<Event> = cluster.api();
    eventually("events tell it", || async {
        let events = events.list(&ListParams::default()).await.unwrap().items;
        let count = |reason: &str| events.iter().filter(|it| it.reason.as_deref() == Some(reason)).count();
        count("SuccessfulCreate") == 3 && count("SuccessfulDelete") == 2
    })
    .await;

    let controllers: Api<ReplicationController> = cluster.api();
    let controller = json!({"metadata": {"name": "old"}, "spec": {"replicas": 2, "selector": {"app": "old"},
        "template": template("old")}});
    controllers.create(&PostParams::default(), &serde_json::from_value(controller).unwrap()).await.unwrap();
    eventually("the replication controller is ready", || async {
        controllers.get("old").await.unwrap().status.unwrap_or_default().ready_replicas == Some(2)
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_told_in_a_condition() {
    let Some(cluster) = Cluster::start("replicaset").await else { return };
    let sets: Api<ReplicaSet> = cluster.api();
    let set = json!({"metadata": {"name": "web"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"priorityClassName": "absent", "containers": [{"name": "c", "image": "i"}]}}}});
    sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    eventually("the failure is told", || async {
        let status = sets.get("web").await.unwrap().status.unwrap_or_default();
        status.conditions.unwrap_or_default().iter().any(|it| {
            it.reason.as_deref() == Some("FailedCreate")
                && it.message.as_deref()
                    == Some("pods \"web-\" is forbidden: no PriorityClass with name absent was found")
        })
    })
    .await;
    cluster.stop().await;
}
