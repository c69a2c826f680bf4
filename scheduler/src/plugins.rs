//! The plug-ins, one file each, and the table of those that run by default, with upstream's names and weights.

mod balanced_allocation;
mod dynamic_resources;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_unschedulable;
mod node_volume_limits;
mod pod_topology_spread;
mod resources_fit;
mod taint_toleration;
pub(crate) mod volume_binding;
mod volume_restrictions;
mod volume_zone;

use crate::framework::Plugin;

/// A plug-in with its weight; 0 for one that does not score.
pub(crate) struct Entry {
    pub(crate) plugin: Box<dyn Plugin>,
    pub(crate) weight: i64,
}

/// What makes a plug-in.
type Make = fn() -> Box<dyn Plugin>;

/// Filters run in this order; the first rejection of a node counts.
const TABLE: &[(Make, i64)] = &[
    (|| Box::new(node_name::NodeName), 0),
    (|| Box::new(node_unschedulable::NodeUnschedulable), 0),
    (|| Box::new(taint_toleration::TaintToleration), 3),
    (|| Box::new(node_affinity::NodeAffinity), 2),
    (|| Box::new(node_ports::NodePorts), 0),
    (|| Box::new(resources_fit::Fit), 1),
    (|| Box::new(volume_restrictions::VolumeRestrictions), 0),
    (|| Box::new(node_volume_limits::NodeVolumeLimits), 0),
    (|| Box::new(volume_binding::VolumeBinding), 1),
    (|| Box::new(volume_zone::VolumeZone), 0),
    (|| Box::new(pod_topology_spread::PodTopologySpread), 2),
    (|| Box::new(inter_pod_affinity::InterPodAffinity), 2),
    (|| Box::new(dynamic_resources::DynamicResources), 0),
    (|| Box::new(balanced_allocation::BalancedAllocation), 1),
    (|| Box::new(image_locality::ImageLocality), 1),
];

/// Every plug-in with its default weight.
pub(crate) fn all() -> Vec<Entry> {
    TABLE.iter().map(|(make, weight)| Entry { plugin: make(), weight: *weight }).collect()
}
