//! Deletion with dependents, and services' endpoints.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ConfigMap, Endpoints, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use crate::{
    cluster::{Cluster, eventually},
    hollow,
};

fn deployment(name: &str) -> Deployment {
    let value = json!({"metadata": {"name": name}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
            {"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 8080}]}]}}}});
    serde_json::from_value(value).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_cascade_as_asked() {
    let Some(cluster) = Cluster::start("replicaset,deployment,garbagecollector,endpoint,endpointslice").await else {
        return;
    };
    hollow::start(cluster.client.clone(), cluster.tasks(), "hollow").await;
    let deployments: Api<Deployment> = cluster.api();
    let sets: Api<ReplicaSet> = cluster.api();
    let pods: Api<Pod> = cluster.api();
    for name in ["background", "foreground", "orphan"] {
        deployments.create(&PostParams::default(), &deployment(name)).await.unwrap();
    }
    let of = |name: &str| ListParams::default().labels(&format!("app={name}"));
    let count = |name: &'static str| {
        let (sets, pods) = (sets.clone(), pods.clone());
        async move { (sets.list(&of(name)).await.unwrap().items.len(), pods.list(&of(name)).await.unwrap().items.len()) }
    };
    for name in ["background", "foreground", "orphan"] {
        eventually("the pods are there", || async { count(name).await == (1, 2) }).await;
    }
    deployments.delete("background", &DeleteParams::background()).await.unwrap();
    deployments.delete("foreground", &DeleteParams::foreground()).await.unwrap();
    deployments.delete("orphan", &DeleteParams::orphan()).await.unwrap();
    eventually("background deletion is done", || async { count("background").await == (0, 0) }).await;
    eventually("foreground deletion is done", || async { deployments.get_opt("foreground").await.unwrap().is_none() })
        .await;
    assert_eq!(count("foreground").await, (0, 0), "the owner goes last");
    eventually("the orphan's owner is gone", || async { deployments.get_opt("orphan").await.unwrap().is_none() }).await;
    assert_eq!(count("orphan").await, (1, 2));
    assert!(sets.list(&of("orphan")).await.unwrap().items[0].owner_references().is_empty());

    let maps: Api<ConfigMap> = cluster.api();
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": "00000000-0000-0000-0000-000000000001"}]);
    let map = json!({"metadata": {"name": "lost", "ownerReferences": owner}});
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    eventually("what has no owner goes", || async { maps.get_opt("lost").await.unwrap().is_none() }).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_have_endpoints_and_slices() {
    let Some(cluster) = Cluster::start("replicaset,deployment,endpoint,endpointslice,garbagecollector").await else {
        return;
    };
    hollow::start(cluster.client.clone(), cluster.tasks(), "hollow").await;
    let services: Api<Service> = cluster.api();
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": "http"}]}});
    services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    let slices: Api<EndpointSlice> = cluster.api();
    let endpoints: Api<Endpoints> = cluster.api();
    let of_web = ListParams::default().labels("kubernetes.io/service-name=web");
    eventually("an empty slice is there", || async { slices.list(&of_web).await.unwrap().items.len() == 1 }).await;
    let deployments: Api<Deployment> = cluster.api();
    deployments.create(&PostParams::default(), &deployment("web")).await.unwrap();
    let ready = || async {
        let list = slices.list(&of_web).await.unwrap().items;
        let of_slice = |slice: &EndpointSlice| {
            let endpoints = slice.endpoints.iter().flatten();
            endpoints.filter(|it| it.conditions.as_ref().and_then(|it| it.ready) == Some(true)).count()
        };
        (list.len(), list.iter().map(of_slice).sum::<usize>())
    };
    eventually("both pods are in it", || async { ready().await == (1, 2) }).await;
    eventually("and in the endpoints", || async {
        let subsets = endpoints.get("web").await.unwrap().subsets.unwrap_or_default();
        subsets.first().and_then(|it| it.addresses.as_ref()).map_or(0, Vec::len) == 2
    })
    .await;
    services.delete("web", &DeleteParams::default()).await.unwrap();
    eventually("they go with the service", || async {
        slices.list(&of_web).await.unwrap().items.is_empty() && endpoints.get_opt("web").await.unwrap().is_none()
    })
    .await;
    cluster.stop().await;
}
