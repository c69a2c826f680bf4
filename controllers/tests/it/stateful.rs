//! Stateful sets: order, identity, volumes, a new template. And cron jobs, which wait for no one.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    batch::v1::{CronJob, Job},
    core::v1::{PersistentVolumeClaim, Pod},
};
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
async fn a_stateful_set_grows_changes_and_shrinks() {
    let Some(cluster) = Cluster::start("statefulset").await else { return };
    hollow::start(cluster.client.clone(), cluster.tasks(), "hollow").await;
    let sets: Api<StatefulSet> = cluster.api();
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    let set = json!({"metadata": {"name": "db"}, "spec": {"replicas": 3, "serviceName": "db",
        "selector": {"matchLabels": {"app": "db"}}, "volumeClaimTemplates": [claim],
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}}});
    sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    let complete = |count: i32| {
        let sets = sets.clone();
        move || {
            let sets = sets.clone();
            async move {
                let set = sets.get("db").await.unwrap();
                let status = set.status.unwrap_or_default();
                status.observed_generation == set.metadata.generation
                    && status.replicas == count
                    && [status.ready_replicas, status.updated_replicas] == [Some(count); 2]
                    && status.current_revision == status.update_revision
            }
        }
    };
    eventually("three run", complete(3)).await;
    let pods: Api<Pod> = cluster.api();
    let names = || async {
        let list = pods.list(&ListParams::default()).await.unwrap().items;
        list.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["db-0", "db-1", "db-2"]);
    let claims: Api<PersistentVolumeClaim> = cluster.api();
    let list = claims.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(
        list.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>(),
        ["data-db-0", "data-db-1", "data-db-2"]
    );
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
    sets.patch("db", &PatchParams::default(), &Patch::Strategic(image)).await.unwrap();
    eventually("all have the new template", complete(3)).await;
    let scale = json!({"spec": {"replicas": 1}});
    sets.patch("db", &PatchParams::default(), &Patch::Merge(scale)).await.unwrap();
    eventually("one is left", complete(1)).await;
    assert_eq!(names().await, ["db-0"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_a_claim_that_goes_and_gets_one_that_is_missing() {
    let Some(cluster) = Cluster::start("statefulset").await else { return };
    let (sets, pods): (Api<StatefulSet>, Api<Pod>) = (cluster.api(), cluster.api());
    let claims: Api<PersistentVolumeClaim> = cluster.api();
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let former = json!({"metadata": {"name": "data-db-0", "finalizers": ["example.com/kept"]}, "spec": spec});
    claims.create(&PostParams::default(), &serde_json::from_value(former).unwrap()).await.unwrap();
    claims.delete("data-db-0", &DeleteParams::default()).await.unwrap();
    let set = json!({"metadata": {"name": "db"}, "spec": {"replicas": 1, "serviceName": "db",
        "selector": {"matchLabels": {"app": "db"}}, "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": spec}],
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}}});
    sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    eventually("the set has been looked at", || async {
        sets.get("db").await.unwrap().status.is_some_and(|status| status.observed_generation.is_some())
    })
    .await;
    assert!(pods.get_opt("db-0").await.unwrap().is_none(), "its claim is being deleted");

    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let is_there = || async {
        let claim = claims.get_opt("data-db-0").await.unwrap();
        claim.is_some_and(|claim| claim.metadata.deletion_timestamp.is_none())
    };
    claims.patch("data-db-0", &PatchParams::default(), &free).await.unwrap();
    eventually("the pod is made", || async { pods.get_opt("db-0").await.unwrap().is_some() }).await;
    assert!(is_there().await, "the claim is made before its pod");

    claims.patch("data-db-0", &PatchParams::default(), &free).await.unwrap();
    claims.delete("data-db-0", &DeleteParams::default()).await.unwrap();
    let round = AtomicUsize::new(0);
    eventually("the waiting pod gets a claim", || async {
        // The controller may see the pod's change before the claim's end.
        let look = json!({"metadata": {"annotations": {"look": round.fetch_add(1, Relaxed).to_string()}}});
        pods.patch("db-0", &PatchParams::default(), &Patch::Merge(look)).await.unwrap();
        is_there().await
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_job_starts_jobs_on_time() {
    let Some(cluster) = Cluster::start("job,cronjob").await else { return };
    hollow::start(cluster.client.clone(), cluster.tasks(), "hollow").await;
    let crons: Api<CronJob> = cluster.api();
    let cron = json!({"metadata": {"name": "tick"}, "spec": {"schedule": "@every 1s", "successfulJobsHistoryLimit": 1,
        "jobTemplate": {"spec": {"template": {"metadata": {"annotations": {"hollow": "done"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}});
    crons.create(&PostParams::default(), &serde_json::from_value(cron).unwrap()).await.unwrap();
    let jobs: Api<Job> = cluster.api();
    eventually("a job has run", || async {
        let status = crons.get("tick").await.unwrap().status.unwrap_or_default();
        status.last_schedule_time.is_some() && status.last_successful_time.is_some()
    })
    .await;
    let list = jobs.list(&ListParams::default()).await.unwrap().items;
    assert!(list.iter().all(|job| job.name_any().starts_with("tick-")));
    cluster.stop().await;
}
