//! Decisions on their way to the API: bindings, conditions, events, evictions of victims.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{
    Api, Client, Error as KubeError,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use reconcile::{EventType, Recorder};
use serde_json::{Value, json};
use tracing::debug;

use crate::{
    cache::Cache,
    cycle::PREEMPTION,
    model::{
        PodInfo,
        storage::{self, Plan},
    },
};

/// A binding that was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// The pod's own.
    #[error("binding rejected: {0}")]
    Pod(KubeError),
    /// One of its volumes': somebody else was quicker, most likely.
    #[error("running PreBind plugin \"VolumeBinding\": binding volumes: {0}")]
    Volume(KubeError),
    /// What was to be bound came apart.
    #[error("running PreBind plugin \"VolumeBinding\": binding volumes: {0}")]
    Apart(String),
    /// Nobody has provided a volume.
    #[error("running PreBind plugin \"VolumeBinding\": binding volumes: context deadline exceeded")]
    Late,
}

impl BindError {
    /// The pod is gone or has a node already: there is nothing left to decide.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Pod(KubeError::Api(status)) if matches!(status.code, 404 | 409))
    }
}

/// How long a pod waits for its volumes once it was decided on, as upstream's default.
const VOLUMES_DEADLINE: Duration = Duration::from_secs(600);
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

pub(crate) struct Binder {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
}

impl Binder {
    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), BindError> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": pod.key.name, "namespace": pod.key.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let pods = self.pods(&pod.key.namespace);
        let created =
            pods.create_subresource::<_, Value>("binding", &pod.key.name, &PostParams::default(), &binding).await;
        created.map_err(BindError::Pod)?;
        let message = format!("Successfully assigned {} to {node}", pod.key);
        self.recorder.event(&*pod.object, EventType::Normal, "Scheduled", message);
        Ok(())
    }

    /// Binds what was chosen for a pod's claims, has the rest provided, and waits until its claims are bound.
    pub(crate) async fn bind_volumes(
        &self,
        pod: &PodInfo,
        plan: &Plan,
        node: &str,
        cache: &Cache,
    ) -> Result<(), BindError> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &pod.key.namespace);
        for (volume, claim) in &plan.bind {
            let bound = storage::bound_to(volume, claim);
            // The version makes the change fail when somebody else has changed the volume since.
            let mut patch = json!({
                "metadata": {"resourceVersion": volume.metadata.resource_version},
                "spec": {"claimRef": bound.spec.and_then(|spec| spec.claim_ref)},
            });
            // One that somebody keeps for the claim stays theirs when the claim goes elsewhere.
            if volume.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_none()) {
                patch["metadata"]["annotations"] = json!({BOUND_BY_CONTROLLER: "yes"});
            }
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            let patched = volumes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
            patched.map_err(BindError::Volume)?;
        }
        for claim in &plan.provision {
            let patch = json!({"metadata": {
                "resourceVersion": claim.metadata.resource_version, "annotations": {storage::SELECTED_NODE: node},
            }});
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            let patched = claims.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
            patched.map_err(BindError::Volume)?;
        }
        let outcome = cache.settled(|now| {
            if !cache.has_pod(&pod.uid) {
                return Some(Err(format!("pod does not exist any more: pod {:?} not found", pod.key.name)));
            }
            plan.progress(now.storage(), node, now.node(node).map(|node| &node.labels)).transpose()
        });
        let outcome = tokio::time::timeout(VOLUMES_DEADLINE, outcome).await.map_err(|_| BindError::Late)?;
        outcome.map_err(BindError::Apart)
    }

    /// Tells users why a pod has no node, and where room is being made for it: nowhere if that is empty, and where it was
    /// if there is nothing new about it.
    pub(crate) async fn refused(&self, pod: &PodInfo, message: &str, reason: &str, nominated: Option<&str>) {
        self.recorder.event(&*pod.object, EventType::Warning, "FailedScheduling", message);
        let told = condition(pod).is_some_and(|(r, m)| r == reason && m == message);
        if told && nominated.is_none_or(|node| node == nomination(pod)) {
            return;
        }
        let now = api::time::seconds(daemon::clock::now());
        let mut status = json!({"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastProbeTime": null, "lastTransitionTime": now,
            "observedGeneration": pod.object.metadata.generation,
        }]});
        if let Some(node) = nominated {
            status["nominatedNodeName"] = json!(Some(node).filter(|node| !node.is_empty()));
        }
        self.patch_status(pod, status).await;
    }

    /// The node that a pod waited for goes to a more important one.
    pub(crate) async fn give_up(&self, pod: &PodInfo) {
        self.patch_status(pod, json!({"nominatedNodeName": null})).await;
    }

    async fn patch_status(&self, pod: &PodInfo, status: Value) {
        let patch = json!({"metadata": {"uid": pod.uid}, "status": status});
        let pods = self.pods(&pod.key.namespace);
        let patched = pods.patch_status(&pod.key.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        if let Err(error) = patched {
            debug!(pod = %pod.key, %error, "the pod's status was not written");
        }
    }

    /// Removes a victim, with the condition that says why. False when it stays.
    pub(crate) async fn preempt(&self, victim: &PodInfo, by: &PodInfo, node: &str) -> bool {
        let pods = self.pods(&victim.key.namespace);
        let now = api::time::seconds(daemon::clock::now());
        let message = format!("{}: preempting to accommodate a higher priority pod", crate::COMPONENT);
        let patch = json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": PREEMPTION, "message": message,
            "lastTransitionTime": now,
        }]}});
        let patched = pods.patch_status(&victim.key.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        if let Err(error) = patched {
            debug!(pod = %victim.key, %error, "the victim's condition was not written");
        }
        let uid = Preconditions { uid: Some(victim.uid.clone()), resource_version: None };
        let delete = DeleteParams { preconditions: Some(uid), ..DeleteParams::default() };
        match pods.delete(&victim.key.name, &delete).await {
            Ok(_) => {
                let message = format!("Preempted by pod {} on node {node}", by.uid);
                self.recorder.event(&*victim.object, EventType::Normal, "Preempted", message);
                true
            }
            Err(KubeError::Api(status)) if matches!(status.code, 404 | 409) => true,
            Err(error) => {
                debug!(pod = %victim.key, %error, "the victim was not removed");
                false
            }
        }
    }
}

/// The nomination that users see.
fn nomination(pod: &PodInfo) -> &str {
    pod.object.status.as_ref().and_then(|status| status.nominated_node_name.as_deref()).unwrap_or_default()
}

fn condition(pod: &PodInfo) -> Option<(&str, &str)> {
    let conditions = pod.object.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled")?;
    Some((scheduled.reason.as_deref()?, scheduled.message.as_deref()?))
}
