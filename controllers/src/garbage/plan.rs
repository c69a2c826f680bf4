//! What to do about an object, given what is known of its owners. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PropagationPolicy;
use serde_json::{Value, json};

use super::graph::Dependent;

/// Keeps an object until its blocking dependents are gone.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// Keeps an object until its dependents have been taken from it.
pub(super) const ORPHAN: &str = "orphan";

/// What the server says about an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnerState {
    Solid,
    /// It does not exist, or is another object of that name.
    Absent,
    /// It waits for its dependents to go.
    Waiting,
}

#[derive(Debug, PartialEq)]
pub(super) enum Action {
    Nothing,
    /// Keep it, with these owners only.
    Release(Vec<OwnerReference>),
    /// `unblock` first lets its owners go without waiting for it: it is part of a circle.
    Delete {
        propagation: PropagationPolicy,
        unblock: bool,
    },
}

pub(super) fn decide(meta: &ObjectMeta, owners: Vec<(OwnerReference, OwnerState)>, dependents: &[Dependent]) -> Action {
    let any = |state: OwnerState| owners.iter().any(|(_, it)| *it == state);
    if owners.is_empty() {
        return Action::Nothing;
    }
    if any(OwnerState::Solid) {
        let solid: Vec<_> =
            owners.iter().filter(|(_, it)| *it == OwnerState::Solid).map(|(owner, _)| owner.clone()).collect();
        return if solid.len() == owners.len() { Action::Nothing } else { Action::Release(solid) };
    }
    if any(OwnerState::Waiting) && !dependents.is_empty() {
        let unblock = dependents.iter().any(|dependent| dependent.suspect.foreground);
        return Action::Delete { propagation: PropagationPolicy::Foreground, unblock };
    }
    let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|it| it == finalizer);
    let propagation = if has(ORPHAN) {
        PropagationPolicy::Orphan
    } else if has(FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    };
    Action::Delete { propagation, unblock: false }
}

/// A merge patch that applies only to the object as it was seen.
pub(super) fn owners_patch(meta: &ObjectMeta, owners: &[OwnerReference]) -> Value {
    let owners = if owners.is_empty() { Value::Null } else { json!(owners) };
    json!({"metadata": {
        "uid": meta.uid, "resourceVersion": meta.resource_version, "ownerReferences": owners,
    }})
}

pub(super) fn finalizer_patch(meta: &ObjectMeta, finalizer: &str) -> Option<Value> {
    let finalizers = meta.finalizers.as_ref()?;
    let left: Vec<&String> = finalizers.iter().filter(|it| *it != finalizer).collect();
    if left.len() == finalizers.len() {
        return None;
    }
    let left = if left.is_empty() { Value::Null } else { json!(left) };
    Some(json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": left}}))
}

pub(super) fn without(meta: &ObjectMeta, owner: &str) -> Vec<OwnerReference> {
    meta.owner_references.iter().flatten().filter(|it| it.uid != owner).cloned().collect()
}

pub(super) fn unblocked(meta: &ObjectMeta) -> Vec<OwnerReference> {
    let free = |it: &OwnerReference| OwnerReference { block_owner_deletion: Some(false), ..it.clone() };
    meta.owner_references.iter().flatten().map(free).collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
