//! `NodeVolumeLimits`: a storage driver can attach so many volumes to a node, as its `CSINode` says.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;

use crate::{
    cache::Snapshot,
    framework::{ClusterEvent, Events, Filter, Plugin, Rejection},
    model::{
        NodeInfo, PodInfo,
        storage::{Storage, class_of, used_claims, volume_of},
    },
};

pub(super) struct NodeVolumeLimits;

/// Handles of volumes by driver.
type Attached = BTreeMap<String, BTreeSet<String>>;

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn events(&self) -> Events {
        use ClusterEvent::{AssignedPodDelete, NodeAdd, PodUpdate, Storage};
        Events::of(&[AssignedPodDelete, NodeAdd, Storage, PodUpdate])
    }

    fn filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Result<Filter<'a>, Rejection> {
        let storage = snapshot.storage();
        let wanted = attached(&pod.object, storage);
        if wanted.is_empty() {
            return Ok(Filter::Skip);
        }
        Ok(Filter::Check(Box::new(move |node: &NodeInfo| {
            if fits(&wanted, node, storage) {
                return Ok(());
            }
            Err(Rejection::unschedulable("node(s) exceed max volume count"))
        })))
    }
}

fn fits(wanted: &Attached, node: &NodeInfo, storage: &Storage) -> bool {
    let Some(drivers) = storage.csi_nodes.get(&node.name).map(|node| &node.spec.drivers) else { return true };
    let limits = drivers.iter().filter_map(|driver| Some((&driver.name, driver.allocatable.as_ref()?.count?)));
    let mut limits = limits.filter(|(driver, _)| wanted.contains_key(*driver)).peekable();
    if limits.peek().is_none() {
        return true;
    }
    let mut there = Attached::new();
    for pod in &node.pods {
        for (driver, handles) in attached(&pod.object, storage) {
            there.entry(driver).or_default().extend(handles);
        }
    }
    limits.all(|(driver, limit)| {
        let none = BTreeSet::new();
        let there = there.get(driver).unwrap_or(&none);
        let more = wanted[driver].difference(there).count();
        more == 0 || there.len() + more <= usize::try_from(limit).unwrap_or(0)
    })
}

/// The volumes that a pod's node attaches for it; a claim that is not bound yet counts as one of its class's driver.
fn attached(pod: &Pod, storage: &Storage) -> Attached {
    let mut found = Attached::new();
    for used in used_claims(pod) {
        let Some(claim) = storage.claims.get(&used.key) else { continue };
        let volume = storage.volumes.get(volume_of(claim));
        let csi = volume.and_then(|volume| volume.spec.as_ref()).and_then(|spec| spec.csi.as_ref());
        let (driver, handle) = match (csi, volume) {
            (Some(csi), _) => (csi.driver.clone(), csi.volume_handle.clone()),
            (None, Some(_)) => continue,
            (None, None) => match storage.classes.get(class_of(claim)) {
                Some(class) => (class.provisioner.clone(), used.key.to_string()),
                None => continue,
            },
        };
        found.entry(driver).or_default().insert(handle);
    }
    found
}
