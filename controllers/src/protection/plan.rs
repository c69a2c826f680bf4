//! Who uses what, and what is to be done with a finalizer. Pure.

use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt as _;
use reconcile::{Change, Key, controller_of};

use crate::pods;

pub(super) const CLAIM: &str = "kubernetes.io/pvc-protection";
pub(super) const VOLUME: &str = "kubernetes.io/pv-protection";
pub(super) const CLASS: &str = "kubernetes.io/vac-protection";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Give,
    TakeWhenFree,
}

pub(super) fn step(meta: &ObjectMeta, finalizer: &str) -> Step {
    let has = meta.finalizers.iter().flatten().any(|one| one == finalizer);
    match (meta.deletion_timestamp.is_some(), has) {
        (true, true) => Step::TakeWhenFree,
        (false, false) => Step::Give,
        _ => Step::Nothing,
    }
}

/// The claim of one of a pod's volumes, and whether it was made for the pod.
fn claim_of(pod: &Pod, volume: &Volume) -> Option<(String, bool)> {
    match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => Some((source.claim_name.clone(), false)),
        (None, Some(_)) => Some((format!("{}-{}", pod.name_any(), volume.name), true)),
        (None, None) => None,
    }
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref()).into_iter().flatten()
}

/// Every claim that a pod names.
pub(crate) fn claims_of(pod: &Pod) -> Vec<Key> {
    let namespace = pod.namespace().unwrap_or_default();
    let names = volumes(pod).filter_map(|volume| claim_of(pod, volume));
    names.map(|(name, _)| Key { namespace: namespace.clone(), name }).collect()
}

/// The claims that a change of a pod may have freed.
pub(super) fn freed_by(change: &Change<Pod>) -> Vec<Key> {
    let ended = |pod: &Pod| pods::is_terminal(pod) || pods::node(pod).is_empty() || is_shut_down(pod);
    match change {
        Change::Added(pod) if !ended(pod) => Vec::new(),
        // A pod of the same name may have taken the place of another unseen.
        Change::Updated { old, new } if old.metadata.uid != new.metadata.uid => {
            claims_of(old).into_iter().chain(claims_of(new)).collect()
        }
        Change::Updated { new, .. } if !ended(new) => Vec::new(),
        change => claims_of(change.object()),
    }
}

/// A pod uses a claim from the moment it has a node; one that was made for it until its containers are gone.
pub(super) fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    if pods::node(pod).is_empty() {
        return false;
    }
    let is_its_own =
        || controller_of(&claim.metadata).is_some_and(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref());
    volumes(pod).filter_map(|volume| claim_of(pod, volume)).any(|(name, was_made_for_it)| {
        Some(&name) == claim.metadata.name.as_ref() && (!was_made_for_it || !is_shut_down(pod) && is_its_own())
    })
}

/// The kubelet is done with it, or nobody waits for the kubelet.
fn is_shut_down(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() && pod.metadata.deletion_grace_period_seconds == Some(0)
}

pub(super) fn is_bound(volume: &PersistentVolume) -> bool {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

pub(super) fn classes_of_volume(volume: &PersistentVolume) -> Vec<String> {
    let named = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone());
    named.into_iter().filter(|name| !name.is_empty()).collect()
}

pub(super) fn classes_of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone());
    let status = claim.status.as_ref();
    let current = status.and_then(|status| status.current_volume_attributes_class_name.clone());
    let target = status.and_then(|status| status.modify_volume_status.as_ref());
    let target = target.and_then(|status| status.target_volume_attributes_class_name.clone());
    let mut names: Vec<String> =
        [wanted, current, target].into_iter().flatten().filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    names
}
