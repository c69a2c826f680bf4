//! Claims of a pod, and whether what they name is really theirs: whoever may write a claim must not get at any volume
//! by its name alone.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};

use crate::kubelet::Kubelet;
use crate::objects::api_message;
use crate::pod;

const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// The volume that the pod's claim of this name is bound to.
pub(super) async fn resolve(kubelet: &Kubelet, pod: &Pod, name: &str) -> Result<PersistentVolume, String> {
    let namespace = pod::namespace(pod);
    let failed = |why: String| format!("error processing PVC {namespace}/{name}: {why}");
    let claims: kube::Api<PersistentVolumeClaim> = kube::Api::namespaced(kubelet.client.clone(), namespace);
    let fetched = |error: kube::Error| failed(format!("failed to fetch PVC from API server: {}", api_message(&error)));
    let claim = claims.get(name).await.map_err(fetched)?;
    let bound = bound_to(&claim).map_err(failed)?;
    let volumes: kube::Api<PersistentVolume> = kube::Api::all(kubelet.client.clone());
    let volume = volumes.get(bound).await;
    let volume =
        volume.map_err(|error| format!("failed to fetch PV {bound} from API server: {}", api_message(&error)))?;
    check_volume(&volume, &claim)?;
    Ok(volume)
}

/// The name of the volume that the claim is bound to.
fn bound_to(claim: &PersistentVolumeClaim) -> Result<&str, String> {
    let is_protected = claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == PROTECTION);
    if claim.metadata.deletion_timestamp.is_some() && !is_protected {
        return Err("PVC is being deleted".into());
    }
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        return Err("PVC is not bound".into());
    }
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty());
    name.ok_or_else(|| "PVC has empty pvc.Spec.VolumeName".into())
}

/// The volume has to name the claim as well.
fn check_volume(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else {
        return Err(format!(
            "found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        ));
    };
    let wanted = claim.metadata.uid.as_deref().unwrap_or_default();
    let found = reference.uid.as_deref().unwrap_or_default();
    if found != wanted || wanted.is_empty() {
        return Err(format!(
            "found PV object {name} but its pv.Spec.ClaimRef.UID {found} does not point to claim.UID {wanted}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(metadata: Value, volume: &str, phase: &str) -> PersistentVolumeClaim {
        let made = json!({"metadata": metadata, "spec": {"volumeName": volume}, "status": {"phase": phase}});
        serde_json::from_value(made).unwrap()
    }

    #[test]
    fn only_bound_claims_that_stay() {
        let deleted = "2026-01-01T00:00:00Z";
        for (metadata, volume, phase, expected) in [
            (json!({}), "v", "Bound", Ok("v")),
            (json!({}), "v", "Pending", Err("PVC is not bound")),
            (json!({}), "v", "Lost", Err("PVC is not bound")),
            (json!({}), "", "Bound", Err("PVC has empty pvc.Spec.VolumeName")),
            (json!({"deletionTimestamp": deleted}), "v", "Bound", Err("PVC is being deleted")),
            (json!({"deletionTimestamp": deleted, "finalizers": [PROTECTION]}), "v", "Bound", Ok("v")),
        ] {
            let claim = claim(metadata.clone(), volume, phase);
            assert_eq!(bound_to(&claim), expected.map_err(str::to_owned), "{metadata} {volume} {phase}");
        }
    }

    #[test]
    fn a_volume_of_somebody_elses_is_refused() {
        let own = claim(json!({"uid": "u"}), "v", "Bound");
        for (spec, ok) in [
            (json!({"claimRef": {"uid": "u"}}), true),
            (json!({"claimRef": {"uid": "other"}}), false),
            (json!({"claimRef": {}}), false),
            (json!({}), false),
        ] {
            let volume = serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": spec})).unwrap();
            assert_eq!(check_volume(&volume, &own).is_ok(), ok, "{spec}");
        }
        let unnamed = serde_json::from_value(json!({"spec": {"claimRef": {}}})).unwrap();
        assert!(check_volume(&unnamed, &claim(json!({}), "v", "Bound")).is_err(), "two absent uids are not the same");
    }
}
