//! Volumes and their claims: bound, kept while they are used, released.

use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::cluster::{Cluster, eventually};

const CONTROLLERS: &str = "persistentvolume-binder,pvc-protection,pv-protection,ephemeral-volume,garbagecollector";

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_own_claim_is_bound_and_goes_with_the_pod() {
    let Some(cluster) = Cluster::start(CONTROLLERS).await else { return };
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    let (pods, claims): (Api<Pod>, Api<PersistentVolumeClaim>) = (cluster.api(), cluster.api());
    let volume = json!({"metadata": {"name": "disk"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "2Gi"}, "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/disk"}}});
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": spec}}}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let claim_phase = || async { claims.get_opt("p-v").await.unwrap().and_then(|claim| claim.status?.phase) };
    let volume_phase = || async { volumes.get("disk").await.unwrap().status.unwrap_or_default().phase };
    eventually("the claim is bound", || async { claim_phase().await.as_deref() == Some("Bound") }).await;
    eventually("the volume is bound", || async { volume_phase().await.as_deref() == Some("Bound") }).await;
    let claim = claims.get("p-v").await.unwrap();
    assert_eq!(claim.labels()["a"], "b");
    assert_eq!(claim.status.unwrap().capacity.unwrap()["storage"].0, "2Gi");

    // A volume in use stays, however it is asked to go.
    volumes.delete("disk", &DeleteParams::default()).await.unwrap();
    assert!(volumes.get("disk").await.unwrap().metadata.deletion_timestamp.is_some());
    pods.delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    eventually("the claim goes with its pod", || async { claims.get_opt("p-v").await.unwrap().is_none() }).await;
    eventually("the volume goes when it is free", || async { volumes.get_opt("disk").await.unwrap().is_none() }).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_loses_its_claim_is_released() {
    let Some(cluster) = Cluster::start(CONTROLLERS).await else { return };
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    let claims: Api<PersistentVolumeClaim> = cluster.api();
    for (name, size) in [("small", "1Gi"), ("fitting", "3Gi"), ("large", "9Gi")] {
        let volume = json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": size}, "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/disk"}}});
        volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
    }
    let phase = |name: &'static str| {
        let volumes = volumes.clone();
        async move { volumes.get(name).await.unwrap().status.unwrap_or_default().phase.unwrap_or_default() }
    };
    for name in ["small", "fitting", "large"] {
        eventually("a volume is free", || async { phase(name).await == "Available" }).await;
    }
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "resources": {"requests": {"storage": "2Gi"}}}});
    claims.create(&PostParams::default(), &serde_json::from_value(claim).unwrap()).await.unwrap();
    eventually("the smallest that fits is taken", || async { phase("fitting").await == "Bound" }).await;
    claims.delete("c", &DeleteParams::default()).await.unwrap();
    eventually("it is released", || async { phase("fitting").await == "Released" }).await;
    assert_eq!((phase("small").await.as_str(), phase("large").await.as_str()), ("Available", "Available"));
    cluster.stop().await;
}

/// Nobody but the binder: what protects volumes and claims in use is taken off by hand.
async fn delete<K>(api: &Api<K>, name: &str)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let unprotected = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch(name, &PatchParams::default(), &unprotected).await.unwrap();
    api.delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_follows_the_fate_of_its_volume() {
    let Some(cluster) = Cluster::start("persistentvolume-binder").await else { return };
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    let claims: Api<PersistentVolumeClaim> = cluster.api();
    let volume = json!({"metadata": {"name": "disk"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/disk"}}});
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "resources": {"requests": {"storage": "1Gi"}}}});
    volumes.create(&PostParams::default(), &serde_json::from_value(volume.clone()).unwrap()).await.unwrap();
    claims.create(&PostParams::default(), &serde_json::from_value(claim).unwrap()).await.unwrap();
    let phase = || async { claims.get("c").await.unwrap().status.unwrap_or_default().phase.unwrap_or_default() };
    eventually("the claim is bound", || async { phase().await == "Bound" }).await;
    delete(&volumes, "disk").await;
    eventually("the claim is lost with its volume", || async { phase().await == "Lost" }).await;
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
    eventually("the claim is bound to the restored volume", || async { phase().await == "Bound" }).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_whose_binding_was_never_completed_is_released() {
    let Some(cluster) = Cluster::start("persistentvolume-binder").await else { return };
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    let (claims, events): (Api<PersistentVolumeClaim>, Api<Event>) = (cluster.api(), cluster.api());
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "resources": {"requests": {"storage": "1Gi"}}}});
    let claim = claims.create(&PostParams::default(), &serde_json::from_value(claim).unwrap()).await.unwrap();
    // Another mode: the volume names the claim, but the claim will never name it.
    let volume = json!({"metadata": {"name": "disk"}, "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block",
        "claimRef": {"namespace": "default", "name": "c", "uid": claim.uid()}, "capacity": {"storage": "1Gi"},
        "persistentVolumeReclaimPolicy": "Retain", "local": {"path": "/disk"}, "nodeAffinity": {"required": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "Exists"}]}]}}}});
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
    eventually("the volume has been looked at", || async {
        let events = events.list(&ListParams::default()).await.unwrap().items;
        events.iter().any(|event| event.reason.as_deref() == Some("VolumeMismatch"))
    })
    .await;
    delete(&claims, "c").await;
    eventually("the volume is released", || async {
        volumes.get("disk").await.unwrap().status.unwrap_or_default().phase.as_deref() == Some("Released")
    })
    .await;
    cluster.stop().await;
}
