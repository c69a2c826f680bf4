//! Claims of a pod, and whether what they name is really theirs: whoever may write a claim must not get at any volume
//! by its name alone.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, PersistentVolume, PersistentVolumeClaim, Pod, Volume};

use super::{Mounted, mount, ownership, pod_directory};
use crate::kubelet::Kubelet;
use crate::objects::api_message;
use crate::pod;

const FILESYSTEM: &str = "Filesystem";
const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// The volume of a claim, when it lies on this host.
pub(super) async fn mount(
    kubelet: &Kubelet,
    pod: &Pod,
    volume: &Volume,
    name: &str,
    read_only: bool,
) -> Result<Mounted, String> {
    let bound = resolve(kubelet, pod, name, volume.ephemeral.is_some()).await?;
    let spec = bound.spec.unwrap_or_default();
    check_mode(pod, &volume.name, spec.volume_mode.as_deref().unwrap_or(FILESYSTEM))?;
    if let Some(source) = &spec.host_path {
        mount::host_path(source)?;
        return Ok(Mounted { path: source.path.clone().into(), read_only });
    }
    let Some(source) = &spec.local else {
        let name = bound.metadata.name.unwrap_or_default();
        return Err(format!("persistent volume {name:?} is of a kind that this node does not support"));
    };
    let path = PathBuf::from(&source.path);
    hand_over(kubelet, pod, &volume.name, path.clone(), read_only).await?;
    Ok(Mounted { path, read_only })
}

/// Gives the volume to the pod's group, once in the pod's life: it may hold very many files.
async fn hand_over(kubelet: &Kubelet, pod: &Pod, volume: &str, path: PathBuf, read_only: bool) -> Result<(), String> {
    let context = pod::spec(pod).security_context.as_ref();
    let Some(group) = context.and_then(|context| context.fs_group) else { return Ok(()) };
    let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
    let only_on_mismatch = policy == Some("OnRootMismatch");
    let marker = pod_directory(&kubelet.config.root_dir, pod::uid(pod)).join("volume-groups").join(volume);
    let work = move || ownership::set_group_once(&marker, &path, group, read_only, only_on_mismatch);
    let outcome = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
    outcome.map_err(|error| format!("applyFSGroup failed for vol {volume}: {error}"))
}

/// Block devices are not given to containers: they must not start as if they had got one.
fn check_mode(pod: &Pod, volume: &str, mode: &str) -> Result<(), String> {
    let ephemeral: Vec<Container> = pod::ephemeral_containers(pod).iter().map(pod::ephemeral_as_container).collect();
    let containers = || pod::all_containers(pod).chain(&ephemeral);
    let mounted = containers().any(|c| c.volume_mounts.iter().flatten().any(|mount| mount.name == volume));
    let device = containers().any(|c| c.volume_devices.iter().flatten().any(|device| device.name == volume));
    let mismatch = |list: &str| Err(format!("volume {volume} has volumeMode {mode}, but is specified in {list}"));
    match mode == FILESYSTEM {
        false if mounted => mismatch("volumeMounts"),
        true if device => mismatch("volumeDevices"),
        false => Err(format!("volume {volume} has volumeMode {mode}, which this node does not support")),
        true => Ok(()),
    }
}

/// The volume that the pod's claim of this name is bound to.
async fn resolve(kubelet: &Kubelet, pod: &Pod, name: &str, is_own: bool) -> Result<PersistentVolume, String> {
    let namespace = pod::namespace(pod);
    let failed = |why: String| format!("error processing PVC {namespace}/{name}: {why}");
    let claims: kube::Api<PersistentVolumeClaim> = kube::Api::namespaced(kubelet.client.clone(), namespace);
    let fetched = |error: kube::Error| failed(format!("failed to fetch PVC from API server: {}", api_message(&error)));
    let claim = claims.get(name).await.map_err(fetched)?;
    let bound = bound_to(&claim).map_err(failed)?;
    if is_own && !is_controlled_by(&claim, pod) {
        let pod = pod::name(pod);
        return Err(format!("PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"));
    }
    let volumes: kube::Api<PersistentVolume> = kube::Api::all(kubelet.client.clone());
    let volume = volumes.get(bound).await;
    let volume =
        volume.map_err(|error| format!("failed to fetch PV {bound} from API server: {}", api_message(&error)))?;
    check_volume(&volume, &claim)?;
    Ok(volume)
}

/// The claim was made for an ephemeral volume of the pod. One that only has its name is somebody else's.
fn is_controlled_by(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    let mut owners = claim.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && !owner.uid.is_empty() && owner.uid == pod::uid(pod))
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
    fn the_claim_of_an_ephemeral_volume_belongs_to_the_pod() {
        let pod = crate::pod::tests::pod(json!({"containers": []}));
        let owner = |uid: &str, controller: bool| json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": controller}]);
        for (owners, ok) in
            [(owner("u1", true), true), (owner("u1", false), false), (owner("u2", true), false), (json!([]), false)]
        {
            let claim = claim(json!({"ownerReferences": owners}), "v", "Bound");
            assert_eq!(is_controlled_by(&claim, &pod), ok, "{owners}");
        }
    }

    #[test]
    fn block_devices_are_refused() {
        let mounted = json!({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        let device = json!({"name": "c", "volumeDevices": [{"name": "v", "devicePath": "/dev/v"}]});
        for (container, mode, expected) in [
            (&mounted, "Filesystem", None),
            (&mounted, "Block", Some("volume v has volumeMode Block, but is specified in volumeMounts")),
            (&device, "Filesystem", Some("volume v has volumeMode Filesystem, but is specified in volumeDevices")),
            (&device, "Block", Some("volume v has volumeMode Block, which this node does not support")),
        ] {
            let pod = crate::pod::tests::pod(json!({"containers": [container]}));
            assert_eq!(check_mode(&pod, "v", mode).err().as_deref(), expected, "{container} {mode}");
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
