//! Ends pods from outside: marks why in their status, then deletes them.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use reconcile::Key;
use serde_json::{Value, json};

use crate::{
    Error,
    error::{During as _, Tolerate as _},
};

/// Changes a pod's status, if it is still that pod.
pub(crate) async fn patch_status(client: &Client, pod: &Pod, status: Value) -> Result<Option<()>, Error> {
    let key = Key::of(pod);
    let api = Api::<Pod>::namespaced(client.clone(), &key.namespace);
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
    let patched = api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
    patched.map(drop).during("change the status of pod", key).found()
}

/// The condition that says that a pod was ended on purpose.
pub(crate) fn disruption_target(reason: &str, message: &str) -> Value {
    let now = daemon::clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message, "lastTransitionTime": now})
}

/// Deletes a pod, at once if `now`. That it is gone already is fine.
pub(crate) async fn delete(client: &Client, pod: &Pod, now: bool) -> Result<(), Error> {
    let key = Key::of(pod);
    let api = Api::<Pod>::namespaced(client.clone(), &key.namespace);
    let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
    let parameters = DeleteParams {
        grace_period_seconds: now.then_some(0),
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    };
    match api.delete(&key.name, &parameters).await.map(drop).during("delete pod", key).found() {
        // Another pod has the name by now.
        Err(error) if error.status_code() == Some(409) => Ok(()),
        done => done.map(drop),
    }
}
