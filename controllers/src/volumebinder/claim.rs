//! What a claim needs next. Pure.

use std::{collections::BTreeSet, sync::Arc};

use api::quantity::Quantity;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};
use reconcile::EventType;

use super::bind::{
    BIND_COMPLETED, capacity, claim_ref, class_of_claim, class_of_volume, has_class, is_for, phase, volume_name,
};

const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// Provisioners under this name were part of Kubernetes once; none is left.
const BUILT_IN: &str = "kubernetes.io/";

/// What there is beside the claim.
pub(super) struct Surroundings<'a> {
    pub(super) volumes: &'a [Arc<PersistentVolume>],
    /// The claim's class, if it exists.
    pub(super) class: Option<Arc<StorageClass>>,
    pub(super) default_class: Option<String>,
    /// Pods that use the claim and have no node.
    pub(super) waiting_pods: Vec<String>,
}

pub(super) type Event = (EventType, &'static str, String);

#[derive(Debug)]
pub(super) enum ClaimStep {
    Nothing,
    Bind(Arc<PersistentVolume>),
    /// It stays Pending.
    Wait {
        event: Option<Event>,
    },
    SetClass(String),
    HandOver {
        provisioner: String,
    },
    Lose {
        reason: &'static str,
        message: &'static str,
    },
}

impl ClaimStep {
    /// It stays open for what others have to do.
    pub(super) fn is_wait(&self) -> bool {
        matches!(self, Self::Wait { .. } | Self::HandOver { .. })
    }
}

/// The class of a claim that any volume of it would do for.
pub(super) fn open_class(claim: &PersistentVolumeClaim) -> Option<String> {
    let is_open = !claim.annotations().contains_key(BIND_COMPLETED) && volume_name(claim).is_empty();
    is_open.then(|| class_of_claim(claim).to_owned())
}

pub(super) fn plan(claim: &PersistentVolumeClaim, around: &Surroundings<'_>) -> ClaimStep {
    if claim.annotations().contains_key(BIND_COMPLETED) {
        return plan_bound(claim, around);
    }
    if !volume_name(claim).is_empty() {
        return plan_chosen(claim, around);
    }
    let mode = around.class.as_ref().and_then(|class| class.volume_binding_mode.as_deref());
    let delayed = mode == Some("WaitForFirstConsumer");
    if let Some(volume) = best_match(claim, around.volumes, delayed) {
        return ClaimStep::Bind(volume.clone());
    }
    if let Some(default) = around.default_class.as_ref().filter(|_| !has_class(claim)) {
        return ClaimStep::SetClass(default.clone());
    }
    if delayed && !claim.annotations().contains_key(SELECTED_NODE) {
        return ClaimStep::Wait { event: Some(wait_for_pods(&around.waiting_pods)) };
    }
    provision(claim, around)
}

fn wait_for_pods(pods: &[String]) -> Event {
    let (reason, message) = match pods {
        [] => ("WaitForFirstConsumer", "waiting for first consumer to be created before binding".to_owned()),
        [one] => ("WaitForPodScheduled", format!("waiting for pod {one} to be scheduled")),
        many => ("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", many.join(","))),
    };
    (EventType::Normal, reason, message)
}

fn provision(claim: &PersistentVolumeClaim, around: &Surroundings<'_>) -> ClaimStep {
    let name = class_of_claim(claim);
    let event = match &around.class {
        _ if name.is_empty() => {
            let message = "no persistent volumes available for this claim and no storage class is set";
            (EventType::Normal, "FailedBinding", message.to_owned())
        }
        None => {
            let message = format!("storageclass.storage.k8s.io {name:?} not found");
            (EventType::Warning, "ProvisioningFailed", message)
        }
        Some(class) if class.provisioner.starts_with(BUILT_IN) => {
            let message = format!("no volume plugin matched name: {}", class.provisioner);
            (EventType::Warning, "ProvisioningFailed", message)
        }
        Some(class) => return ClaimStep::HandOver { provisioner: class.provisioner.clone() },
    };
    ClaimStep::Wait { event: Some(event) }
}

/// A claim that names its volume.
fn plan_chosen(claim: &PersistentVolumeClaim, around: &Surroundings<'_>) -> ClaimStep {
    let name = volume_name(claim);
    let Some(volume) = around.volumes.iter().find(|volume| volume.name_any() == name) else {
        return ClaimStep::Wait { event: None };
    };
    if claim_ref(volume).is_none() {
        return match mismatch(volume, claim) {
            None => ClaimStep::Bind(volume.clone()),
            Some(why) => {
                let message = format!("Cannot bind to requested volume {name:?}: {why}");
                ClaimStep::Wait { event: Some((EventType::Warning, "VolumeMismatch", message)) }
            }
        };
    }
    if is_for(volume, claim) {
        return ClaimStep::Bind(volume.clone());
    }
    let message = format!("volume {name:?} already bound to a different claim.");
    ClaimStep::Wait { event: Some((EventType::Warning, "FailedBinding", message)) }
}

/// A claim that was bound once: it is bound again, or lost.
fn plan_bound(claim: &PersistentVolumeClaim, around: &Surroundings<'_>) -> ClaimStep {
    let is_lost = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost");
    let lose = |reason, message| if is_lost { ClaimStep::Nothing } else { ClaimStep::Lose { reason, message } };
    let name = volume_name(claim);
    if name.is_empty() {
        return lose("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!");
    }
    let Some(volume) = around.volumes.iter().find(|volume| volume.name_any() == name) else {
        return lose("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    };
    match claim_ref(volume) {
        None => ClaimStep::Bind(volume.clone()),
        Some(reference) if reference.uid == claim.metadata.uid => ClaimStep::Bind(volume.clone()),
        Some(_) => lose("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly"),
    }
}

fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let storage = resources.and_then(|it| it.requests.as_ref()).and_then(|requests| requests.get("storage"));
    storage.and_then(|text| Quantity::parse(&text.0).ok()).unwrap_or_else(Quantity::zero)
}

pub(super) fn same_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let of_volume = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem");
    let of_claim = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem");
    of_volume == of_claim
}

fn same_attributes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let of_volume = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let of_claim = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    of_volume.unwrap_or_default() == of_claim.unwrap_or_default()
}

fn modes_of(volume: &PersistentVolume) -> BTreeSet<&str> {
    let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    modes.into_iter().flatten().map(String::as_str).collect()
}

fn has_modes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    let modes = modes_of(volume);
    wanted.into_iter().flatten().all(|mode| modes.contains(mode.as_str()))
}

/// Why a volume that was asked for by name will not do.
fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    if volume.metadata.deletion_timestamp.is_some() {
        return Some(format!("the volume is marked for deletion {:?}", volume.name_any()));
    }
    let checks = [
        (capacity(volume).value() >= requested(claim).value(), "requested PV is too small"),
        (class_of_volume(volume) == class_of_claim(claim), "storageClassName does not match"),
        (same_attributes(volume, claim), "volumeAttributesClassName does not match"),
        (same_mode(volume, claim), "incompatible volumeMode"),
        (has_modes(volume, claim), "incompatible accessMode"),
    ];
    checks.into_iter().find(|(holds, _)| !holds).map(|(_, why)| why.to_owned())
}

/// The volume that is kept for the claim, or the smallest that will do, of those with the fewest access modes. Where the
/// pod's node decides, only the former is bound here.
fn best_match<'v>(
    claim: &PersistentVolumeClaim,
    volumes: &'v [Arc<PersistentVolume>],
    delayed: bool,
) -> Option<&'v Arc<PersistentVolume>> {
    let wanted = requested(claim);
    let fits = |volume: &&Arc<PersistentVolume>| {
        (claim_ref(volume).is_none() || is_for(volume, claim))
            && has_modes(volume, claim)
            && capacity(volume) >= wanted
            && same_mode(volume, claim)
            && same_attributes(volume, claim)
            && volume.metadata.deletion_timestamp.is_none()
    };
    let fitting: Vec<_> = volumes.iter().filter(fits).collect();
    if let Some(kept) = fitting.iter().find(|volume| is_for(volume, claim)) {
        return Some(kept);
    }
    if delayed {
        return None;
    }
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.clone());
    let selector = match selector.map(Selector::try_from) {
        None => None,
        Some(Ok(selector)) => Some(selector),
        Some(Err(_)) => return None,
    };
    let is_free = |volume: &&Arc<PersistentVolume>| {
        phase(volume) == "Available"
            && class_of_volume(volume) == class_of_claim(claim)
            && selector.as_ref().is_none_or(|selector| selector.matches(volume.labels()))
    };
    let free = fitting.into_iter().filter(is_free);
    free.min_by_key(|volume| (modes_of(volume).len(), capacity(volume)))
}

/// The class of claims that choose none: the newest of those that are marked.
pub(super) fn default_class(classes: &[Arc<StorageClass>]) -> Option<String> {
    let is_default = |class: &&Arc<StorageClass>| {
        DEFAULT_CLASS.iter().any(|key| class.annotations().get(*key).is_some_and(|value| value == "true"))
    };
    let age = |class: &Arc<StorageClass>| class.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let newest =
        classes.iter().filter(is_default).max_by_key(|class| (age(class), std::cmp::Reverse(class.name_any())));
    newest.map(|class| class.name_any())
}
