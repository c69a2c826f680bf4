//! Namespaces: what each gets, and how one goes.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use crate::{
    cluster::{Cluster, eventually},
    hollow,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_gets_its_account_and_map_and_goes_with_everything() {
    let Some(cluster) = Cluster::start("*").await else { return };
    hollow::start(cluster.client.clone(), cluster.tasks(), "hollow").await;
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "work"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let accounts = Api::<ServiceAccount>::namespaced(cluster.client.clone(), "work");
    let maps = Api::<ConfigMap>::namespaced(cluster.client.clone(), "work");
    eventually("the account is there", || async { accounts.get_opt("default").await.unwrap().is_some() }).await;
    eventually("the map is there", || async { maps.get_opt("kube-root-ca.crt").await.unwrap().is_some() }).await;
    maps.delete("kube-root-ca.crt", &DeleteParams::default()).await.unwrap();
    eventually("the map is back", || async { maps.get_opt("kube-root-ca.crt").await.unwrap().is_some() }).await;

    let pods = Api::<Pod>::namespaced(cluster.client.clone(), "work");
    let pod = json!({"metadata": {"name": "one"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let stubborn = json!({"metadata": {"name": "stubborn", "finalizers": ["example.com/keep"]}});
    maps.create(&PostParams::default(), &serde_json::from_value(stubborn).unwrap()).await.unwrap();
    namespaces.delete("work", &DeleteParams::default()).await.unwrap();
    eventually("the finalizer is told", || async {
        let Some(namespace) = namespaces.get_opt("work").await.unwrap() else { return false };
        let conditions = namespace.status.unwrap().conditions.unwrap_or_default();
        conditions.iter().any(|it| {
            it.message.as_deref()
                == Some(
                    "Some content in the namespace has finalizers remaining: example.com/keep in 1 resource instances",
                )
        })
    })
    .await;
    assert!(pods.get_opt("one").await.unwrap().is_none());
    let released = json!({"metadata": {"finalizers": null}});
    maps.patch("stubborn", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(released)).await.unwrap();
    eventually("the namespace is gone", || async { namespaces.get_opt("work").await.unwrap().is_none() }).await;
    cluster.stop().await;
}
