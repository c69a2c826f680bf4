//! Claims, volumes and their classes, as decisions about pods with volumes need them. Pure.

mod capacity;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::quantity::Quantity;
use imbl::OrdMap;
use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod, TopologySelectorTerm, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};
use reconcile::Key;

pub(crate) use capacity::{has_grown, is_tracked};

use super::affinity::{Labels, NodeSelector, Selector};

pub(crate) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// The provisioner of classes whose volumes somebody makes by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// Everything about storage at one moment. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Storage {
    pub(crate) claims: OrdMap<Key, Arc<PersistentVolumeClaim>>,
    pub(crate) volumes: OrdMap<String, Arc<PersistentVolume>>,
    pub(crate) classes: OrdMap<String, Arc<StorageClass>>,
    pub(crate) csi_nodes: OrdMap<String, Arc<CSINode>>,
    pub(crate) drivers: OrdMap<String, Arc<CSIDriver>>,
    pub(crate) capacities: OrdMap<Key, Arc<CSIStorageCapacity>>,
}

/// A claim that a pod uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) key: Key,
    /// It is made for the pod's own volume.
    pub(crate) is_ephemeral: bool,
}

/// A pod's claims by what is left to do about them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sorted {
    pub(crate) bound: Vec<Arc<PersistentVolumeClaim>>,
    /// To be bound with the decision about the pod.
    pub(crate) delayed: Vec<Arc<PersistentVolumeClaim>>,
    /// To be bound by the controller, before any decision.
    pub(crate) immediate: Vec<Arc<PersistentVolumeClaim>>,
}

/// What is to be bound for a pod on a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) bind: Vec<(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)>,
    pub(crate) provision: Vec<Arc<PersistentVolumeClaim>>,
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.bind.is_empty() && self.provision.is_empty()
    }

    /// Whether everything is bound by now.
    ///
    /// # Errors
    /// Why it will not be any more: the pod needs another decision.
    pub(crate) fn progress(&self, now: &Storage, node: &str, labels: Option<&Labels>) -> Result<Option<()>, String> {
        let labels = labels.ok_or_else(|| format!("failed to get node {node:?}: node {node:?} not found"))?;
        let mut complete = true;
        for (volume, claim) in &self.bind {
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            let volume = now.volumes.get(name);
            let volume = volume.ok_or_else(|| format!("failed to check binding: could not find pv {name:?}"))?;
            check_reach(volume, node, labels)?;
            let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
            if reference.and_then(|it| it.uid.as_deref()).is_none_or(str::is_empty) {
                return Err(format!("ClaimRef got reset for pv {name:?}"));
            }
            complete &= is_bound(now.still(claim, "failed to check binding")?);
        }
        for claim in &self.provision {
            let claim = now.still(claim, "failed to check provisioning pvc")?;
            // Who cannot make the volume for that node takes the annotation away.
            if annotation(claim, SELECTED_NODE) != Some(node) {
                let name = claim.metadata.name.as_deref().unwrap_or_default();
                return Err(format!("provisioning failed for PVC {name:?}"));
            }
            let Some(volume) = now.volumes.get(volume_of(claim)) else {
                complete = false;
                continue;
            };
            check_reach(volume, node, labels)?;
            complete &= is_bound(claim);
        }
        Ok(complete.then_some(()))
    }
}

/// Why a node cannot have a pod's volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// Nothing to bind, and nobody to provision.
    Bind,
    Node,
    /// Who provisions has too little left there.
    Space,
    /// A bound volume does not exist.
    Gone,
}

/// The claims of a pod's volumes, those that are made for it too.
pub(crate) fn used_claims(pod: &Pod) -> Vec<Used> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let used = volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some((claim.claim_name.clone(), false)),
        (None, Some(_)) => Some((format!("{name}-{}", volume.name), true)),
        (None, None) => None,
    });
    used.map(|(claim, is_ephemeral)| Used { key: Key::new(namespace, claim), is_ephemeral }).collect()
}

/// The claim's class; empty for none.
pub(crate) fn class_of(claim: &PersistentVolumeClaim) -> &str {
    let old = claim.metadata.annotations.as_ref().and_then(|annotations| annotations.get(BETA_CLASS));
    let named = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    old.or(named).map_or("", String::as_str)
}

pub(crate) fn volume_of(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

fn annotation<'a>(claim: &'a PersistentVolumeClaim, name: &str) -> Option<&'a str> {
    claim.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

pub(crate) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    !volume_of(claim).is_empty() && annotation(claim, BIND_COMPLETED).is_some()
}

impl Storage {
    pub(crate) fn sort(&self, claims: Vec<Arc<PersistentVolumeClaim>>) -> Sorted {
        let mut sorted = Sorted::default();
        for claim in claims {
            if is_bound(&claim) {
                sorted.bound.push(claim);
            } else if volume_of(&claim).is_empty() && self.waits(&claim) {
                sorted.delayed.push(claim);
            } else {
                sorted.immediate.push(claim);
            }
        }
        sorted
    }

    /// The claim as it is now; another of its name is another.
    fn still(&self, claim: &PersistentVolumeClaim, doing: &str) -> Result<&PersistentVolumeClaim, String> {
        let key = Key::of(claim);
        let now = self.claims.get(&key).filter(|now| now.metadata.uid == claim.metadata.uid);
        now.map(|now| &**now).ok_or_else(|| format!("{doing}: could not find pvc {:?}", key.to_string()))
    }

    /// Its class says to wait for the first pod.
    fn waits(&self, claim: &PersistentVolumeClaim) -> bool {
        let class = self.classes.get(class_of(claim));
        class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
    }

    /// How a pod's claims are served on a node.
    pub(crate) fn plan(&self, sorted: &Sorted, node: &str, labels: &Labels) -> Result<Plan, Conflict> {
        for claim in &sorted.bound {
            let volume = self.volumes.get(volume_of(claim)).ok_or(Conflict::Gone)?;
            if !reaches(volume, node, labels) {
                return Err(Conflict::Node);
            }
        }
        let mut plan = Plan::default();
        let mut chosen = BTreeSet::new();
        let mut open = Vec::new();
        for claim in &sorted.delayed {
            match annotation(claim, SELECTED_NODE) {
                // Being provisioned for a node: nowhere else.
                Some(selected) if selected != node => return Err(Conflict::Bind),
                Some(_) => plan.provision.push(claim.clone()),
                None => open.push(claim.clone()),
            }
        }
        open.sort_by_key(|claim| requested(claim));
        for claim in open {
            match self.find(&claim, node, labels, &chosen) {
                Some(volume) => {
                    chosen.insert(volume.metadata.name.clone());
                    plan.bind.push((volume, claim));
                }
                None => plan.provision.push(claim),
            }
        }
        plan.provision.iter().try_for_each(|claim| self.check_provision(claim, labels))?;
        Ok(plan)
    }

    /// The smallest volume that fits; one that is reserved for the claim before all others.
    fn find(
        &self,
        claim: &PersistentVolumeClaim,
        node: &str,
        labels: &Labels,
        chosen: &BTreeSet<Option<String>>,
    ) -> Option<Arc<PersistentVolume>> {
        let here = |volume: &&Arc<PersistentVolume>| {
            !chosen.contains(&volume.metadata.name) && reaches(volume, node, labels) && fits(volume, claim)
        };
        let candidates: Vec<&Arc<PersistentVolume>> = self.volumes.values().filter(here).collect();
        let reserved = candidates.iter().find(|volume| is_reserved_for(volume, claim));
        let free = || candidates.iter().filter(|volume| is_free(volume, claim)).min_by_key(|volume| capacity(volume));
        reserved.or_else(free).map(|volume| (*volume).clone())
    }

    fn check_provision(&self, claim: &PersistentVolumeClaim, labels: &Labels) -> Result<(), Conflict> {
        let class = self.classes.get(class_of(claim)).ok_or(Conflict::Bind)?;
        let made = !class.provisioner.is_empty() && class.provisioner != NO_PROVISIONER;
        if !made || !allowed(class.allowed_topologies.as_deref().unwrap_or_default(), labels) {
            return Err(Conflict::Bind);
        }
        if self.has_room(claim, class, labels) { Ok(()) } else { Err(Conflict::Space) }
    }
}

fn check_reach(volume: &PersistentVolume, node: &str, labels: &Labels) -> Result<(), String> {
    if reaches(volume, node, labels) {
        return Ok(());
    }
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    Err(format!("pv {name:?} node affinity doesn't match node {node:?}: no matching NodeSelectorTerms"))
}

/// No term allows every node.
fn allowed(terms: &[TopologySelectorTerm], labels: &Labels) -> bool {
    let holds = |term: &TopologySelectorTerm| {
        let mut expressions = term.match_label_expressions.iter().flatten();
        expressions.all(|one| labels.get(&one.key).is_some_and(|value| one.values.contains(value)))
    };
    terms.is_empty() || terms.iter().any(holds)
}

/// The volume can be used on the node.
pub(crate) fn reaches(volume: &PersistentVolume, node: &str, labels: &Labels) -> bool {
    let affinity: Option<&VolumeNodeAffinity> = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|required| NodeSelector::new(required).matches(node, labels))
}

fn quantity(list: &BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>) -> Option<i64> {
    Some(list.get("storage")?.0.parse::<Quantity>().ok()?.value())
}

fn capacity(volume: &PersistentVolume) -> i64 {
    volume.spec.as_ref().and_then(|spec| quantity(spec.capacity.as_ref()?)).unwrap_or(0)
}

/// None when the claim names no size.
fn asked(claim: &PersistentVolumeClaim) -> Option<i64> {
    quantity(claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?)
}

fn requested(claim: &PersistentVolumeClaim) -> i64 {
    asked(claim).unwrap_or(0)
}

/// Of the kind, the size and the class that the claim wants, and not on its way out.
fn fits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(own), Some(wanted)) = (&volume.spec, &claim.spec) else { return false };
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    volume.metadata.deletion_timestamp.is_none()
        && mode(&own.volume_mode) == mode(&wanted.volume_mode)
        && capacity(volume) >= requested(claim)
}

fn is_reserved_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    reference.is_some_and(|reference| {
        reference.name == claim.metadata.name
            && reference.namespace == claim.metadata.namespace
            && (reference.uid.as_deref().is_none_or(str::is_empty) || reference.uid == claim.metadata.uid)
    })
}

/// Nobody's, and what the claim's class, modes and selector ask for.
fn is_free(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(own), Some(wanted)) = (&volume.spec, &claim.spec) else { return false };
    let available = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available");
    let modes = own.access_modes.as_deref().unwrap_or_default();
    let selected = wanted.selector.as_ref().is_none_or(|selector| {
        Selector::new(Some(selector)).matches(&volume.metadata.labels.clone().unwrap_or_default())
    });
    available
        && own.claim_ref.is_none()
        && own.storage_class_name.as_deref().unwrap_or_default() == class_of(claim)
        && own.volume_attributes_class_name.as_deref().unwrap_or_default()
            == wanted.volume_attributes_class_name.as_deref().unwrap_or_default()
        && wanted.access_modes.iter().flatten().all(|mode| modes.contains(mode))
        && selected
}

/// The volume as it is once it is bound to the claim.
pub(crate) fn bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> PersistentVolume {
    let mut bound = volume.clone();
    bound.spec.get_or_insert_default().claim_ref = Some(ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        ..ObjectReference::default()
    });
    bound
}

/// The claim as it is once a node was chosen for its volume.
pub(crate) fn provisioned_on(claim: &PersistentVolumeClaim, node: &str) -> PersistentVolumeClaim {
    let mut chosen = claim.clone();
    chosen.metadata.annotations.get_or_insert_default().insert(SELECTED_NODE.into(), node.into());
    chosen
}

pub(crate) fn same_version<K: kube::Resource>(a: &K, b: &K) -> bool {
    a.meta().resource_version == b.meta().resource_version
}

#[cfg(test)]
mod tests;
