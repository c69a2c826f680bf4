//! Blocks of service addresses: how one comes into use, and how it goes.

use k8s_openapi::api::{
    core::v1::Service,
    networking::v1::{IPAddress, ServiceCIDR},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use crate::cluster::{Cluster, eventually};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// Status and message of the `Ready` condition.
async fn ready(blocks: &Api<ServiceCIDR>, name: &str) -> (String, String) {
    let conditions = blocks.get(name).await.unwrap().status.and_then(|status| status.conditions).unwrap_or_default();
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    ready.map(|ready| (ready.status, ready.message)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_stays_until_its_last_address_has_gone() {
    let Some(cluster) = Cluster::start("service-cidr-controller").await else { return };
    let blocks = Api::<ServiceCIDR>::all(cluster.client.clone());
    let addresses = Api::<IPAddress>::all(cluster.client.clone());
    let services = cluster.api::<Service>();
    eventually("the default block is guarded", || async {
        blocks.get("kubernetes").await.is_ok_and(|block| block.finalizers() == [FINALIZER])
    })
    .await;
    let block = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/24"]}});
    blocks.create(&PostParams::default(), &serde_json::from_value(block).unwrap()).await.unwrap();
    eventually("the new one is ready", || async {
        ready(&blocks, "more").await == ("True".to_owned(), "Kubernetes Service CIDR is ready".to_owned())
    })
    .await;
    let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.97.0.5", "ports": [{"port": 80}]}});
    services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    assert!(addresses.get("10.97.0.5").await.is_ok());

    blocks.delete("more", &DeleteParams::default()).await.unwrap();
    eventually("its address holds it", || async { ready(&blocks, "more").await.0 == "False" }).await;
    assert!(ready(&blocks, "more").await.1.starts_with("There are still IPAddresses referencing the ServiceCIDR"));
    let other = json!({"metadata": {"name": "t"}, "spec": {"clusterIP": "10.97.0.6", "ports": [{"port": 80}]}});
    let refused = services.create(&PostParams::default(), &serde_json::from_value(other).unwrap()).await;
    assert!(refused.unwrap_err().to_string().contains("does not match the current range"));

    services.delete("s", &DeleteParams::default()).await.unwrap();
    assert!(addresses.get_opt("10.97.0.5").await.unwrap().is_none());
    eventually("it goes", || async { blocks.get_opt("more").await.unwrap().is_none() }).await;
    cluster.stop().await;
}
