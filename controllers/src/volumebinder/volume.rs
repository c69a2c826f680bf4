//! What a volume needs next. Pure.

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt as _;
use reconcile::{Change, Key};

use super::{
    bind::{claim_ref, class_of_volume, phase, volume_name},
    claim::same_mode,
};

const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";

#[derive(Debug, PartialEq)]
pub(super) enum VolumeStep {
    Nothing,
    Phase(&'static str),
    /// The rest of the binding is the claim's.
    WakeClaim(Key),
    /// The claim's mode is another.
    Mismatch,
    /// The claim has another volume.
    Unbind,
    Reclaim,
}

/// The claim that the volume is bound to, not only kept for.
pub(super) fn claim_of(volume: &PersistentVolume) -> Option<Key> {
    claim_uid(volume)?;
    claim_ref(volume).map(key_of)
}

pub(super) fn claim_uid(volume: &PersistentVolume) -> Option<String> {
    claim_ref(volume)?.uid.clone().filter(|uid| !uid.is_empty())
}

pub(super) fn key_of(claim: &ObjectReference) -> Key {
    Key::new(claim.namespace.clone().unwrap_or_default(), claim.name.clone().unwrap_or_default())
}

/// The claim is the one that the volume is bound to, not another of its name.
pub(super) fn is_of(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_ref(volume).is_some_and(|reference| reference.uid == claim.metadata.uid)
}

/// The class whose open claims may take the volume now, and could not before the change.
pub(super) fn freed_in(change: &Change<PersistentVolume>) -> Option<&str> {
    let new = match change {
        Change::Deleted(_) => return None,
        Change::Added(new) => new,
        Change::Updated { old, new } => {
            let is_same = phase(old) == phase(new)
                && old.spec == new.spec
                && old.labels() == new.labels()
                && class_of_volume(old) == class_of_volume(new);
            if is_same {
                return None;
            }
            new
        }
    };
    (phase(new) == "Available").then(|| class_of_volume(new))
}

/// It is known already that the claim is gone.
pub(super) fn is_released(volume: &PersistentVolume) -> bool {
    matches!(phase(volume), "Released" | "Failed")
}

/// `claim` is the one that the volume is bound to, if it still exists.
pub(super) fn plan(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> VolumeStep {
    let to_phase = |wanted| if phase(volume) == wanted { VolumeStep::Nothing } else { VolumeStep::Phase(wanted) };
    let Some(key) = claim_of(volume) else { return to_phase("Available") };
    let Some(claim) = claim else { return VolumeStep::Reclaim };
    let name = volume_name(claim);
    if name.is_empty() {
        return if same_mode(volume, claim) { VolumeStep::WakeClaim(key) } else { VolumeStep::Mismatch };
    }
    if name == volume.name_any() {
        return to_phase("Bound");
    }
    let was_made_for_it = volume.annotations().contains_key(PROVISIONED_BY);
    if was_made_for_it && policy(volume) == "Delete" {
        return VolumeStep::Reclaim;
    }
    VolumeStep::Unbind
}

fn policy(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()).unwrap_or_default()
}

/// Why a released volume cannot be reclaimed: reason and message. What a provisioner has made, it deletes.
pub(super) fn refuse_to_reclaim(volume: &PersistentVolume) -> Option<(&'static str, String)> {
    let has = |annotation: &str| volume.annotations().contains_key(annotation);
    if has(MIGRATED_TO) {
        return None;
    }
    match policy(volume) {
        "Retain" => None,
        "Delete" if has(PROVISIONED_BY) => None,
        "Delete" => {
            let name = volume.name_any();
            let why = "no deletable volume plugin matched";
            Some(("VolumeFailedDelete", format!("error getting deleter volume plugin for volume {name:?}: {why}")))
        }
        "Recycle" => Some(("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned())),
        _ => Some(("VolumeUnknownReclaimPolicy", "Volume has unrecognized PersistentVolumeReclaimPolicy".to_owned())),
    }
}
