//! Makes the claims of volumes that live as long as their pod. The garbage collector ends them with it.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod, Volume},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, ResourceExt as _, api::PostParams};
use reconcile::{Change, EventType, Index, Informer, Key, Queue, Recorder, controller_of, controller_ref};

use crate::{
    Error,
    context::Context,
    error::{During as _, is_namespace_terminating},
    protection,
};

const WORKERS: usize = 5;

struct Controller {
    client: Client,
    recorder: Recorder,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let queue = Queue::<Key>::new();
    let controller = Controller {
        client: context.client.clone(),
        recorder: context.recorder("ephemeral_volume"),
        pods: context.informer(),
        claims: context.informer(),
    };
    let added = queue.clone();
    controller.pods.handle(move |change| {
        needing_claims(change).into_iter().for_each(|key| added.add(key));
    });
    let by_claim = Index::<Key, Pod>::new(&controller.pods, protection::plan::claims_of);
    let lost = queue.clone();
    controller.claims.handle(move |change| {
        if change.is_deleted() {
            by_claim.get(&Key::of(&**change.object())).iter().for_each(|pod| lost.add(Key::of(&**pod)));
        }
    });
    controller.pods.synced().await;
    controller.claims.synced().await;
    context.work("ephemeral-volume-controller", &queue, WORKERS, |key| controller.sync(key)).await;
    Ok(())
}

/// A pod's volumes never change: only one that is new needs claims.
fn needing_claims(change: &Change<Pod>) -> Option<Key> {
    let Change::Added(pod) = change else { return None };
    own_volumes(pod).next().map(|_| Key::of(&**pod))
}

/// The cache is behind: whose the claim of this name is will be seen, and is no failure yet.
fn is_undecided(error: &Error) -> bool {
    error.status_code() == Some(409)
}

/// The volumes that need a claim of their own; none for a pod on its way out.
fn own_volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let volumes = pod.spec.iter().filter(|_| pod.metadata.deletion_timestamp.is_none());
    volumes.flat_map(|spec| spec.volumes.iter().flatten()).filter(|volume| volume.ephemeral.is_some())
}

/// The claim of a pod's volume.
fn claim_for(pod: &Pod, volume: &Volume) -> PersistentVolumeClaim {
    let template = volume.ephemeral.as_ref().and_then(|source| source.volume_claim_template.clone());
    let (meta, spec) =
        template.map(|template| (template.metadata.unwrap_or_default(), template.spec)).unwrap_or_default();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", pod.name_any(), volume.name)),
            namespace: pod.namespace(),
            annotations: meta.annotations,
            labels: meta.labels,
            owner_references: Some(vec![controller_ref(pod)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

fn is_for(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    controller_of(&claim.metadata).is_some_and(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref())
}

impl Controller {
    async fn sync(&self, key: Key) -> Result<Option<Duration>, Error> {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else { return Ok(None) };
        for volume in own_volumes(&pod) {
            match self.provide(&pod, volume).await {
                Err(Error::Api { source, .. }) if is_namespace_terminating(&source) => return Ok(None),
                Err(error) if is_undecided(&error) => return Err(error),
                Err(error) => {
                    let message = format!("ephemeral volume {}: {}", volume.name, error.message());
                    self.recorder.event(&*pod, EventType::Warning, "FailedBinding", message);
                    return Err(error);
                }
                Ok(()) => {}
            }
        }
        Ok(None)
    }

    async fn provide(&self, pod: &Pod, volume: &Volume) -> Result<(), Error> {
        let claim = claim_for(pod, volume);
        let key = Key::of(&claim);
        match self.claims.get(&key.namespace, &key.name) {
            Some(known) if is_for(&known, pod) => Ok(()),
            Some(_) => {
                let pod = Key::of(pod);
                Err(Error::Unfinished(format!("PVC {key} was not created for pod {pod} (pod is not owner)")))
            }
            None => {
                let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
                api.create(&PostParams::default(), &claim).await.during("create PVC", key).map(drop)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_claim_is_as_the_template_says_and_belongs_to_the_pod() {
        let template = json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "s"}});
        let mut pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": [], "volumes": [
            {"name": "none", "emptyDir": {}}, {"name": "v", "ephemeral": {"volumeClaimTemplate": template}}]}});
        let parsed: Pod = serde_json::from_value(pod.clone()).unwrap();
        let volumes: Vec<&Volume> = own_volumes(&parsed).collect();
        assert_eq!(volumes.len(), 1);
        let claim = claim_for(&parsed, volumes[0]);
        assert_eq!(Key::of(&claim), Key::new("n", "p-v"));
        assert_eq!(claim.labels()["a"], "b");
        assert_eq!(claim.annotations()["c"], "d");
        assert_eq!(claim.spec.as_ref().unwrap().storage_class_name.as_deref(), Some("s"));
        assert!(is_for(&claim, &parsed));
        let stranger = Pod { metadata: ObjectMeta { uid: Some("w".to_owned()), ..parsed.metadata.clone() }, ..parsed };
        assert!(!is_for(&claim, &stranger));
        let new = |pod: &Value| Arc::new(serde_json::from_value::<Pod>(pod.clone()).unwrap());
        let key = Some(Key::new("n", "p"));
        assert_eq!(needing_claims(&Change::Added(new(&pod))), key);
        assert_eq!(needing_claims(&Change::Updated { old: new(&pod), new: new(&pod) }), None);
        assert_eq!(needing_claims(&Change::Deleted(new(&pod))), None);
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(needing_claims(&Change::Added(new(&pod))), None);
        assert_eq!(own_volumes(&serde_json::from_value(pod).unwrap()).count(), 0);
    }

    #[test]
    fn a_claim_that_is_there_already_is_no_failure_yet() {
        let refused = |code: u16| {
            let status = kube::core::Status { code, ..kube::core::Status::failure("no", "Refused") };
            Err::<(), _>(kube::Error::Api(Box::new(status))).during("create PVC", "n/p-v").unwrap_err()
        };
        assert!(is_undecided(&refused(409)));
        assert!(!is_undecided(&refused(403)));
        assert!(!is_undecided(&Error::Unfinished("pod is not owner".to_owned())));
    }
}
