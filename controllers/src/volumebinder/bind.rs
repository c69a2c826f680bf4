//! Volumes and claims before and after a binding. Pure.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeSpec,
    },
    apimachinery::pkg::{api::resource::Quantity as ApiQuantity, apis::meta::v1::Time},
};
use kube::ResourceExt as _;

pub(super) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
pub(super) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const PROVISIONERS: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
/// What a claim may rely on until the file system of its enlarged volume has grown, too.
const BEFORE_RESIZE: &str = "volume.alpha.kubernetes.io/pre-resize-capacity";
const YES: &str = "yes";

pub(super) fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let old = claim.annotations().get(OLD_CLASS);
    let new = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    old.or(new).map_or("", String::as_str)
}

/// Somebody chose a class, if only none.
pub(super) fn has_class(claim: &PersistentVolumeClaim) -> bool {
    let new = claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name.is_some());
    new || claim.annotations().contains_key(OLD_CLASS)
}

pub(super) fn class_of_volume(volume: &PersistentVolume) -> &str {
    let old = volume.annotations().get(OLD_CLASS);
    let new = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    old.or(new).map_or("", String::as_str)
}

pub(super) fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

pub(super) fn phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(super) fn capacity(volume: &PersistentVolume) -> Quantity {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()).and_then(|all| all.get("storage"));
    capacity.and_then(|text| Quantity::parse(&text.0).ok()).unwrap_or_else(Quantity::zero)
}

pub(super) fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// The volume names the claim, or is kept for one of its name.
pub(super) fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = claim_ref(volume) else { return false };
    let uid = reference.uid.as_deref().unwrap_or_default();
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (uid.is_empty() || Some(uid) == claim.metadata.uid.as_deref())
}

/// The volume naming the claim; None when it does.
pub(super) fn bound_volume(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<PersistentVolume> {
    let was_for = is_for(volume, claim);
    let is_named = was_for && claim_ref(volume).is_some_and(|reference| reference.uid == claim.metadata.uid);
    if is_named {
        return None;
    }
    let mut changed = volume.clone();
    changed.spec.get_or_insert_with(PersistentVolumeSpec::default).claim_ref = Some(ObjectReference {
        resource_version: claim.metadata.resource_version.clone(),
        ..reconcile::reference(claim)
    });
    if !was_for {
        changed.annotations_mut().insert(BOUND_BY_CONTROLLER.to_owned(), YES.to_owned());
    }
    Some(changed)
}

/// The claim naming the volume; None when it does.
pub(super) fn bound_claim(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaim> {
    let names = volume_name(claim) == volume.name_any();
    if names && claim.annotations().contains_key(BIND_COMPLETED) {
        return None;
    }
    let mut changed = claim.clone();
    if !names {
        changed.spec.get_or_insert_default().volume_name = Some(volume.name_any());
        changed.annotations_mut().entry(BOUND_BY_CONTROLLER.to_owned()).or_insert_with(|| YES.to_owned());
    }
    changed.annotations_mut().insert(BIND_COMPLETED.to_owned(), YES.to_owned());
    Some(changed)
}

/// The volume as it was before this controller bound it; one that was kept for the claim stays so.
pub(super) fn unbound_volume(volume: &PersistentVolume) -> PersistentVolume {
    let mut changed = volume.clone();
    let by_controller = changed.annotations_mut().remove(BOUND_BY_CONTROLLER).is_some();
    if changed.metadata.annotations.as_ref().is_some_and(BTreeMap::is_empty) {
        changed.metadata.annotations = None;
    }
    if let Some(spec) = &mut changed.spec {
        if by_controller {
            spec.claim_ref = None;
        } else if let Some(reference) = &mut spec.claim_ref {
            reference.uid = None;
        }
    }
    changed
}

/// The claim noting who is to make its volume; None when it does.
pub(super) fn handed_over(claim: &PersistentVolumeClaim, provisioner: &str) -> Option<PersistentVolumeClaim> {
    if PROVISIONERS.iter().all(|key| claim.annotations().get(*key).is_some_and(|noted| noted == provisioner)) {
        return None;
    }
    let mut changed = claim.clone();
    for key in PROVISIONERS {
        changed.annotations_mut().insert(key.to_owned(), provisioner.to_owned());
    }
    Some(changed)
}

/// The volume in another phase; None when it is in it.
pub(super) fn with_phase(
    volume: &PersistentVolume,
    wanted: &str,
    message: &str,
    now: Timestamp,
) -> Option<PersistentVolume> {
    if phase(volume) == wanted {
        return None;
    }
    let mut changed = volume.clone();
    let status = changed.status.get_or_insert_default();
    status.phase = Some(wanted.to_owned());
    status.message = Some(message.to_owned()).filter(|message| !message.is_empty());
    status.last_phase_transition_time = Some(Time(now));
    Some(changed)
}

fn status_in(claim: &PersistentVolumeClaim, phase: &str) -> PersistentVolumeClaimStatus {
    let old = claim.status.clone().unwrap_or_default();
    PersistentVolumeClaimStatus {
        phase: Some(phase.to_owned()),
        access_modes: None,
        capacity: None,
        current_volume_attributes_class_name: None,
        ..old
    }
}

pub(super) fn pending_status(claim: &PersistentVolumeClaim) -> PersistentVolumeClaimStatus {
    status_in(claim, "Pending")
}

pub(super) fn lost_status(claim: &PersistentVolumeClaim) -> PersistentVolumeClaimStatus {
    status_in(claim, "Lost")
}

/// Capacity and class are those of the volume at the time of the binding; later changes have other writers.
pub(super) fn bound_status(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> PersistentVolumeClaimStatus {
    let old = claim.status.clone().unwrap_or_default();
    let spec = volume.spec.clone().unwrap_or_default();
    let is_new = old.phase.as_deref() != Some("Bound");
    let was_pending = old.phase.as_deref() == Some("Pending");
    PersistentVolumeClaimStatus {
        phase: Some("Bound".to_owned()),
        access_modes: spec.access_modes,
        capacity: if is_new { usable_capacity(volume) } else { old.capacity.clone() },
        current_volume_attributes_class_name: if was_pending {
            spec.volume_attributes_class_name
        } else {
            old.current_volume_attributes_class_name.clone()
        },
        ..old
    }
}

fn usable_capacity(volume: &PersistentVolume) -> Option<BTreeMap<String, ApiQuantity>> {
    let mut capacity = volume.spec.as_ref()?.capacity.clone()?;
    let before = volume.annotations().get(BEFORE_RESIZE).filter(|text| Quantity::parse(text).is_ok());
    if let Some(before) = before {
        capacity.insert("storage".to_owned(), ApiQuantity(before.clone()));
    }
    Some(capacity)
}
