//! `NodeResourcesBalancedAllocation`: CPU and memory of a node should fill up alike.

use std::sync::Arc;

use crate::{
    cache::Snapshot,
    framework::{MAX_SCORE, Plugin},
    model::{NodeInfo, PodInfo},
};

pub(super) struct BalancedAllocation;

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score(&self, pod: &PodInfo, nodes: &[Arc<NodeInfo>], _snapshot: &Snapshot) -> Option<Vec<i64>> {
        // A pod that asks for nothing changes no balance.
        if pod.requests.milli_cpu == 0 && pod.requests.memory == 0 {
            return None;
        }
        Some(nodes.iter().map(|node| balance(pod, node)).collect())
    }
}

/// The gain in balance over the node without the pod, between half and all of the maximum, as upstream counts.
fn balance(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let (before, after) = (evenness(node, None), evenness(node, Some(pod)));
    MAX_SCORE / 2 + (MAX_SCORE / 2 + after - before) / 2
}

/// How alike CPU and memory are used: the maximum less the standard deviation of the used fractions.
fn evenness(node: &NodeInfo, pod: Option<&PodInfo>) -> i64 {
    let fraction = |name: &str| {
        let total = node.allocatable.get(name);
        let used = node.requested.get(name) + pod.map_or(0, |p| p.requests.get(name));
        (total > 0).then(|| (used as f64 / total as f64).min(1.0))
    };
    let deviation = match (fraction("cpu"), fraction("memory")) {
        (Some(cpu), Some(memory)) => (cpu - memory).abs() / 2.0,
        _ => 0.0,
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Resources;

    #[test]
    fn a_node_that_gets_more_even_is_better() {
        let resources = |cpu, memory| Resources { milli_cpu: cpu, memory, ..Resources::default() };
        let node = |cpu, memory| NodeInfo {
            allocatable: resources(1000, 1000),
            requested: resources(cpu, memory),
            ..NodeInfo::default()
        };
        let pod = PodInfo { requests: resources(500, 0), ..PodInfo::new(Arc::default()) };
        assert_eq!(balance(&pod, &node(0, 500)), 87);
        assert_eq!(balance(&pod, &node(0, 0)), 62);
    }
}
