//! `VolumeBinding`: a pod goes where its volumes are, or where volumes for it can be.
//!
//! Claims whose class waits for their first pod are bound with the decision: [`Plan`](crate::model::storage::Plan) says
//! to what, and `bind` does it before the pod itself is bound. A node where the storage driver has too little left
//! (`CSIStorageCapacity`) is no choice; one where more is left is a better one.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::{
    cache::Snapshot,
    framework::{ClusterEvent, Events, Filter, Plugin, Rejection},
    model::{
        NodeInfo, PodInfo,
        storage::{Conflict, Sorted, Storage, Used, used_claims},
    },
};

pub(super) struct VolumeBinding;

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn events(&self) -> Events {
        use ClusterEvent::{NodeAdd, NodeLabel, PodUpdate, Storage};
        Events::of(&[Storage, NodeAdd, NodeLabel, PodUpdate])
    }

    fn filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Result<Filter<'a>, Rejection> {
        let storage = snapshot.storage();
        let Some(sorted) = sorted(pod, storage)? else { return Ok(Filter::Skip) };
        if !sorted.immediate.is_empty() {
            return Err(Rejection::unresolvable("pod has unbound immediate PersistentVolumeClaims"));
        }
        Ok(Filter::Check(Box::new(move |node: &NodeInfo| {
            storage.plan(&sorted, &node.name, &node.labels).map(drop).map_err(|conflict| {
                Rejection::unresolvable(match conflict {
                    Conflict::Bind => "node(s) didn't find available persistent volumes to bind",
                    Conflict::Node => "node(s) didn't match PersistentVolume's node affinity",
                    Conflict::Space => "node(s) did not have enough free storage",
                    Conflict::Gone => "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
                })
            })
        })))
    }

    fn score(&self, pod: &PodInfo, nodes: &[Arc<NodeInfo>], snapshot: &Snapshot) -> Option<Vec<i64>> {
        let storage = snapshot.storage();
        let sorted = sorted(pod, storage).ok()?.filter(|sorted| !sorted.delayed.is_empty())?;
        let score = |node: &Arc<NodeInfo>| {
            let plan = storage.plan(&sorted, &node.name, &node.labels);
            plan.map_or(0, |plan| storage.score(&plan, &node.labels))
        };
        Some(nodes.iter().map(score).collect())
    }
}

/// The pod's claims; none when it has none.
pub(crate) fn sorted(pod: &PodInfo, storage: &Storage) -> Result<Option<Sorted>, Rejection> {
    let used = used_claims(&pod.object);
    if used.is_empty() {
        return Ok(None);
    }
    let claims = used.iter().map(|used| usable(used, pod, storage)).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(storage.sort(claims)))
}

fn usable(used: &Used, pod: &PodInfo, storage: &Storage) -> Result<Arc<PersistentVolumeClaim>, Rejection> {
    let name = &used.key.name;
    let Some(claim) = storage.claims.get(&used.key) else {
        return Err(Rejection::unresolvable(match used.is_ephemeral {
            true => format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"),
            false => format!("persistentvolumeclaim {name:?} not found"),
        }));
    };
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
        let volume = crate::model::storage::volume_of(claim);
        return Err(Rejection::unresolvable(format!(
            "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
        )));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(Rejection::unresolvable(format!("persistentvolumeclaim {name:?} is being deleted")));
    }
    let mut owners = claim.metadata.owner_references.iter().flatten();
    if used.is_ephemeral && !owners.any(|owner| owner.controller == Some(true) && owner.uid == pod.uid) {
        return Err(Rejection::unresolvable(format!(
            "PVC {} was not created for pod {} (pod is not owner)",
            used.key, pod.key
        )));
    }
    Ok(claim.clone())
}
