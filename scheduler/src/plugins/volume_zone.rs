//! `VolumeZone`: a bound volume that is labelled with a zone or region is used there only.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PersistentVolume;

use crate::{
    cache::Snapshot,
    framework::{ClusterEvent, Events, Filter, Plugin, Rejection},
    model::{
        NodeInfo, PodInfo,
        storage::{used_claims, volume_of},
    },
};

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const BETA_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
const BETA_REGION: &str = "failure-domain.beta.kubernetes.io/region";
const LABELS: [&str; 4] = [BETA_ZONE, BETA_REGION, ZONE, REGION];
/// Between the zones of a volume that lies in several.
const SEPARATOR: &str = "__";

pub(super) struct VolumeZone;

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn events(&self) -> Events {
        use ClusterEvent::{NodeAdd, NodeLabel, PodUpdate, Storage};
        Events::of(&[Storage, NodeAdd, NodeLabel, PodUpdate])
    }

    fn filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Result<Filter<'a>, Rejection> {
        let storage = snapshot.storage();
        // Claims that cannot be used are told about by `VolumeBinding`.
        let claims = used_claims(&pod.object).into_iter().filter_map(|used| storage.claims.get(&used.key));
        let volumes = claims.filter_map(|claim| storage.volumes.get(volume_of(claim)));
        let topologies: Vec<(&str, BTreeSet<String>)> = volumes.flat_map(|volume| topologies(volume)).collect();
        if topologies.is_empty() {
            return Ok(Filter::Skip);
        }
        Ok(Filter::Check(Box::new(move |node: &NodeInfo| {
            if !LABELS.iter().any(|label| node.labels.contains_key(*label)) {
                // One zone, which nobody has named.
                return Ok(());
            }
            let lies = |(key, values): &(&str, BTreeSet<String>)| {
                let own = node.labels.get(*key).or_else(|| node.labels.get(current(key)));
                own.is_some_and(|own| values.contains(own))
            };
            if topologies.iter().all(lies) {
                return Ok(());
            }
            Err(Rejection::unresolvable("node(s) had no available volume zone"))
        })))
    }
}

fn current(label: &str) -> &str {
    match label {
        BETA_ZONE => ZONE,
        BETA_REGION => REGION,
        other => other,
    }
}

fn topologies(volume: &PersistentVolume) -> Vec<(&'static str, BTreeSet<String>)> {
    let labels = volume.metadata.labels.as_ref();
    let value = |label: &'static str| Some((label, labels?.get(label)?));
    let split = |(label, value): (&'static str, &String)| (label, value.split(SEPARATOR).map(str::to_owned).collect());
    LABELS.into_iter().filter_map(value).map(split).collect()
}
