//! `VolumeRestrictions`: disks that only one pod may write to, and claims that only one pod may use.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, Volume};
use reconcile::Key;

use crate::{
    cache::Snapshot,
    framework::{ClusterEvent, Events, Filter, Plugin, Rejection},
    model::{NodeInfo, PodInfo, storage::used_claims},
};

const DISK: &str = "node(s) had no available disk";
const ONE_POD: &str =
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";

pub(super) struct VolumeRestrictions;

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn events(&self) -> Events {
        use ClusterEvent::{AssignedPodDelete, NodeAdd, PodUpdate, Storage};
        Events::of(&[AssignedPodDelete, NodeAdd, Storage, PodUpdate])
    }

    fn filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Result<Filter<'a>, Rejection> {
        let own: Vec<&Volume> = volumes(&pod.object).filter(|volume| is_disk(volume)).collect();
        let exclusive = exclusive_claims(pod, snapshot);
        if own.is_empty() && exclusive.is_empty() {
            return Ok(Filter::Skip);
        }
        // Whoever has such a claim has it on every node; only the end of that very pod helps.
        let holders: BTreeSet<&str> = match exclusive.is_empty() {
            true => BTreeSet::new(),
            false => holders(&exclusive, pod, snapshot),
        };
        Ok(Filter::Check(Box::new(move |node: &NodeInfo| {
            let clash = |other: &PodInfo| volumes(&other.object).any(|theirs| own.iter().any(|own| clash(own, theirs)));
            if node.pods.iter().any(|other| clash(other)) {
                return Err(Rejection::unschedulable(DISK));
            }
            if !holders.is_empty() {
                return Err(Rejection::unschedulable(ONE_POD));
            }
            Ok(())
        })))
    }
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
}

fn exclusive_claims(pod: &PodInfo, snapshot: &Snapshot) -> BTreeSet<Key> {
    let exclusive = |key: &Key| {
        let claim = snapshot.storage().claims.get(key);
        let modes = claim.and_then(|claim| claim.spec.as_ref()).and_then(|spec| spec.access_modes.as_ref());
        modes.is_some_and(|modes| modes.iter().any(|mode| mode == "ReadWriteOncePod"))
    };
    used_claims(&pod.object).into_iter().map(|used| used.key).filter(exclusive).collect()
}

/// Uids of pods with a node that use one of the claims.
fn holders<'a>(claims: &BTreeSet<Key>, pod: &PodInfo, snapshot: &'a Snapshot) -> BTreeSet<&'a str> {
    let others = snapshot.nodes().flat_map(|node| &node.pods).filter(|other| other.uid != pod.uid);
    let same = others.filter(|other| other.key.namespace == pod.key.namespace);
    let uses = same.filter(|other| used_claims(&other.object).iter().any(|used| claims.contains(&used.key)));
    uses.map(|other| other.uid.as_str()).collect()
}

fn is_disk(volume: &Volume) -> bool {
    volume.gce_persistent_disk.is_some()
        || volume.aws_elastic_block_store.is_some()
        || volume.iscsi.is_some()
        || volume.rbd.is_some()
}

/// The same disk, which one of both writes to.
fn clash(a: &Volume, b: &Volume) -> bool {
    let both = |a: Option<bool>, b: Option<bool>| a.unwrap_or(false) && b.unwrap_or(false);
    if let (Some(a), Some(b)) = (&a.gce_persistent_disk, &b.gce_persistent_disk) {
        return a.pd_name == b.pd_name && !both(a.read_only, b.read_only);
    }
    if let (Some(a), Some(b)) = (&a.aws_elastic_block_store, &b.aws_elastic_block_store) {
        return a.volume_id == b.volume_id;
    }
    if let (Some(a), Some(b)) = (&a.iscsi, &b.iscsi) {
        return a.iqn == b.iqn && !both(a.read_only, b.read_only);
    }
    if let (Some(a), Some(b)) = (&a.rbd, &b.rbd) {
        let shared = a.monitors.iter().any(|monitor| b.monitors.contains(monitor));
        let pool = |pool: &Option<String>| pool.clone().unwrap_or_else(|| "rbd".into());
        return shared && pool(&a.pool) == pool(&b.pool) && a.image == b.image && !both(a.read_only, b.read_only);
    }
    false
}
