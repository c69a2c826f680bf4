//! Jobs, and cron jobs that make them.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    cluster::{Cluster, eventually},
    hollow,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_completes_and_is_removed() {
    let Some(cluster) = Cluster::start("job,garbagecollector,ttl-after-finished").await else { return };
    hollow::start(cluster.client.clone(), cluster.tasks(), "hollow").await;
    let jobs: Api<Job> = cluster.api();
    let job = json!({"metadata": {"name": "work"}, "spec": {"completions": 3, "parallelism": 2, "completionMode": "Indexed",
        "template": {"metadata": {"annotations": {"hollow": "done"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    jobs.create(&PostParams::default(), &serde_json::from_value(job).unwrap()).await.unwrap();
    eventually("it completes", || async {
        let status = jobs.get("work").await.unwrap().status.unwrap_or_default();
        let complete = status.conditions.iter().flatten().any(|it| it.type_ == "Complete" && it.status == "True");
        complete && status.succeeded == Some(3) && status.completed_indexes.as_deref() == Some("0-2")
    })
    .await;
    let pods: Api<Pod> = cluster.api();
    eventually("its pods may go", || async {
        let pods = pods.list(&ListParams::default()).await.unwrap().items;
        pods.len() == 3 && pods.iter().all(|pod| pod.finalizers().is_empty())
    })
    .await;
    jobs.delete("work", &DeleteParams::background()).await.unwrap();
    eventually("they go with it", || async { pods.list(&ListParams::default()).await.unwrap().items.is_empty() }).await;

    let short = json!({"metadata": {"name": "short"}, "spec": {"ttlSecondsAfterFinished": 1,
        "template": {"metadata": {"annotations": {"hollow": "done"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    jobs.create(&PostParams::default(), &serde_json::from_value(short).unwrap()).await.unwrap();
    eventually("it is removed after its time", || async { jobs.get_opt("short").await.unwrap().is_none() }).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_leave_a_job_can_go() {
    const UID: &str = "batch.kubernetes.io/controller-uid";
    const TRACKING: &str = "batch.kubernetes.io/job-tracking";
    let Some(cluster) = Cluster::start("job,garbagecollector").await else { return };
    hollow::start(cluster.client.clone(), cluster.tasks(), "hollow").await;
    let (jobs, pods): (Api<Job>, Api<Pod>) = (cluster.api(), cluster.api());
    let job = json!({"metadata": {"name": "work"}, "spec": {"completions": 20, "parallelism": 20,
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    jobs.create(&PostParams::default(), &serde_json::from_value(job).unwrap()).await.unwrap();
    let all = || async { pods.list(&ListParams::default()).await.unwrap().items };
    eventually("it has its pods", || async { all().await.len() == 20 }).await;
    let (name, uid) = {
        let pod = &all().await[0];
        (pod.name_any(), pod.labels()[UID].clone())
    };
    let label = async |value: serde_json::Value| {
        let patch = Patch::Merge(json!({"metadata": {"labels": {UID: value}}}));
        pods.patch(&name, &PatchParams::default(), &patch).await.unwrap();
    };
    let state = || async {
        let pod = pods.get(&name).await.unwrap();
        (pod.owner_references().len(), pod.finalizers().iter().any(|it| it == TRACKING))
    };
    label(json!(null)).await;
    eventually("it is let go as a whole", || async { state().await == (0, false) }).await;
    label(json!(uid)).await;
    eventually("it is taken back as a whole", || async { state().await == (1, true) }).await;
    jobs.delete("work", &DeleteParams::orphan()).await.unwrap();
    eventually("the job is gone", || async { jobs.get_opt("work").await.unwrap().is_none() }).await;
    eventually("nothing holds its pods", || async { all().await.iter().all(|pod| pod.finalizers().is_empty()) }).await;
    assert!(all().await.len() >= 20, "they are not deleted");
    cluster.stop().await;
}
