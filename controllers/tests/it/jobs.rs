//! Jobs, and cron jobs that make them.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
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
