//! Whose a set's volume claims are: what a claim belongs to goes with it. Pure.
//!
//! | when scaled | when deleted | owner |
//! |---|---|---|
//! | Retain | Retain | nobody |
//! | Retain | Delete | the set |
//! | Delete | Retain | its pod, once that is above the number of replicas |
//! | Delete | Delete | its pod, once that is above the number of replicas; the set before |

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, Pod},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::Resource;
use reconcile::controller_ref;

use super::pod::ordinal;

#[derive(Clone, Copy)]
struct Policy {
    delete_when_scaled: bool,
    delete_when_deleted: bool,
}

impl Policy {
    fn of(set: &StatefulSet) -> Self {
        let policy = set.spec.persistent_volume_claim_retention_policy.clone().unwrap_or_default();
        let deletes = |said: Option<String>| said.as_deref() == Some("Delete");
        Self { delete_when_scaled: deletes(policy.when_scaled), delete_when_deleted: deletes(policy.when_deleted) }
    }

    fn retains_always(self) -> bool {
        !self.delete_when_scaled && !self.delete_when_deleted
    }
}

/// The owners that a claim should have instead of those it has.
#[derive(Debug, PartialEq)]
pub(super) enum Owners {
    /// They are right, or not ours to change.
    Right,
    /// Another controller has the claim: ours leave it.
    Conflicting(Vec<OwnerReference>),
    Wrong(Vec<OwnerReference>),
}

pub(super) fn owners(set: &StatefulSet, pod: &Pod, claim: &PersistentVolumeClaim) -> Owners {
    let policy = Policy::of(set);
    let present = claim.metadata.owner_references.clone().unwrap_or_default();
    if is_stale(&present, set) || is_stale(&present, pod) {
        return Owners::Right;
    }
    let ours = |owner: &OwnerReference| names(owner, set) || names(owner, pod);
    let others: Vec<OwnerReference> = present.iter().filter(|owner| !ours(owner)).cloned().collect();
    let is_controlled = others.iter().any(|owner| owner.controller == Some(true));
    if is_controlled && !policy.retains_always() {
        return if others.len() == present.len() { Owners::Right } else { Owners::Conflicting(others) };
    }
    let above = is_above(set, pod);
    let by_pod = policy.delete_when_scaled && above;
    let by_set = policy.delete_when_deleted && !by_pod;
    let is_right = |owner: &dyn Fn(&OwnerReference) -> bool, wanted: bool| {
        let mut found = present.iter().filter(|it| owner(it));
        if wanted { found.any(|it| it.controller == Some(true)) } else { found.next().is_none() }
    };
    if is_right(&|owner| names(owner, set), by_set) && is_right(&|owner| names(owner, pod), by_pod) {
        return Owners::Right;
    }
    let set = by_set.then(|| controller_ref(set));
    let pod = by_pod.then(|| controller_ref(pod));
    Owners::Wrong(others.into_iter().chain(set).chain(pod).collect())
}

/// A claim that goes with a former pod of this name: a new one would lose its data.
pub(super) fn is_leaving(set: &StatefulSet, pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let present = claim.metadata.owner_references.as_deref().unwrap_or_default();
    Policy::of(set).delete_when_scaled && is_stale(present, pod)
}

/// The pod's number is not one of the set's.
fn is_above(set: &StatefulSet, pod: &Pod) -> bool {
    let start = set.spec.ordinals.as_ref().and_then(|it| it.start).unwrap_or(0);
    let range = start..start.saturating_add(set.spec.replicas.unwrap_or(1));
    ordinal(set, pod).is_none_or(|number| !range.contains(&number))
}

fn names<K: Resource<DynamicType = ()>>(owner: &OwnerReference, object: &K) -> bool {
    owner.api_version == K::api_version(&())
        && owner.kind == K::kind(&())
        && Some(&owner.name) == object.meta().name.as_ref()
}

/// An owner of this name is another object.
fn is_stale<K: Resource<DynamicType = ()>>(owners: &[OwnerReference], object: &K) -> bool {
    let uid = |meta: &ObjectMeta| meta.uid.clone().unwrap_or_default();
    owners.iter().find(|owner| names(owner, object)).is_some_and(|owner| owner.uid != uid(object.meta()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(scaled: &str, deleted: &str) -> StatefulSet {
        serde_json::from_value(json!({"metadata": {"name": "web", "uid": "s"}, "spec": {
            "replicas": 2, "selector": {}, "template": {},
            "persistentVolumeClaimRetentionPolicy": {"whenScaled": scaled, "whenDeleted": deleted}}}))
        .unwrap()
    }

    fn pod(number: i32) -> Pod {
        let name = format!("web-{number}");
        serde_json::from_value(json!({"metadata": {"name": name, "uid": "p"}})).unwrap()
    }

    fn claim(owners: &[(&str, &str, &str, bool)]) -> PersistentVolumeClaim {
        let owner = |(kind, name, uid, controller): &(&str, &str, &str, bool)| {
            let version = if *kind == "Pod" { "v1" } else { "apps/v1" };
            json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": controller})
        };
        let owners: Vec<_> = owners.iter().map(owner).collect();
        serde_json::from_value(json!({"metadata": {"name": "data-web-0", "ownerReferences": owners}})).unwrap()
    }

    #[test]
    fn claims_belong_as_the_policy_says() {
        let (of_set, of_pod) = (("StatefulSet", "web", "s", true), ("Pod", "web-2", "p", true));
        let cases = [
            ("Retain", "Retain", 0, vec![], None),
            ("Retain", "Retain", 0, vec![of_set], Some(vec![])),
            ("Retain", "Delete", 0, vec![], Some(vec!["StatefulSet"])),
            ("Retain", "Delete", 2, vec![of_set], None),
            ("Delete", "Retain", 0, vec![], None),
            ("Delete", "Retain", 2, vec![], Some(vec!["Pod"])),
            ("Delete", "Delete", 0, vec![of_set], None),
            ("Delete", "Delete", 2, vec![of_set], Some(vec!["Pod"])),
            ("Delete", "Delete", 2, vec![of_pod], None),
            ("Retain", "Delete", 0, vec![("StatefulSet", "web", "s", false)], Some(vec!["StatefulSet"])),
            ("Retain", "Delete", 0, vec![("StatefulSet", "web", "former", true)], None),
            ("Retain", "Delete", 0, vec![("Operator", "mine", "o", true)], None),
        ];
        for (scaled, deleted, number, present, expected) in cases {
            let found = match owners(&set(scaled, deleted), &pod(number), &claim(&present)) {
                Owners::Right => None,
                Owners::Wrong(owners) | Owners::Conflicting(owners) => Some(owners),
            };
            let kinds = found.map(|owners| owners.into_iter().map(|owner| owner.kind).collect::<Vec<_>>());
            let expected = expected.map(|kinds: Vec<&str>| kinds.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(kinds, expected, "{scaled} {deleted} {number} {present:?}");
        }
        let both = claim(&[of_set, ("Operator", "mine", "o", true)]);
        let left = owners(&set("Retain", "Delete"), &pod(0), &both);
        assert!(matches!(left, Owners::Conflicting(owners) if owners.len() == 1 && owners[0].kind == "Operator"));
    }

    #[test]
    fn a_claim_of_a_former_pod_is_waited_for() {
        let former = claim(&[("Pod", "web-0", "former", true)]);
        assert!(is_leaving(&set("Delete", "Retain"), &pod(0), &former));
        assert!(!is_leaving(&set("Retain", "Retain"), &pod(0), &former));
        assert!(!is_leaving(&set("Delete", "Retain"), &pod(1), &former));
    }
}
