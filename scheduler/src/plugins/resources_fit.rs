//! `NodeResourcesFit`: what a pod asks for has to be free; emptier nodes are better (`LeastAllocated`).

use std::{borrow::Cow, sync::Arc};

use crate::{
    cache::Snapshot,
    framework::{ClusterEvent, Events, Filter, MAX_SCORE, Plugin, Rejection},
    model::{NodeInfo, PodInfo, Resources},
};

pub(super) struct Fit;

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn events(&self) -> Events {
        use ClusterEvent::{AssignedPodDelete, AssignedPodUpdate, NodeAdd, NodeAllocatable};
        Events::of(&[AssignedPodDelete, AssignedPodUpdate, NodeAdd, NodeAllocatable])
    }

    fn filter<'a>(&'a self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> Result<Filter<'a>, Rejection> {
        Ok(Filter::Check(Box::new(|node| fit(&pod.requests, node))))
    }

    fn score(&self, pod: &PodInfo, nodes: &[Arc<NodeInfo>], _snapshot: &Snapshot) -> Option<Vec<i64>> {
        Some(nodes.iter().map(|node| least_allocated(pod, node)).collect())
    }
}

/// Every resource that is short is named. More than a node has at all cannot be helped by removing pods.
fn fit(wanted: &Resources, node: &NodeInfo) -> Result<(), Rejection> {
    let mut rejection = Rejection { reasons: Vec::new(), resolvable: true };
    let pods = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
    if pods >= node.allocatable.pods {
        rejection.reasons.push(Cow::Borrowed("Too many pods"));
    }
    let named = ["cpu", "memory", "ephemeral-storage"].into_iter().chain(wanted.scalar.keys().map(String::as_str));
    for name in named {
        let (wanted, total) = (wanted.get(name), node.allocatable.get(name));
        if wanted > 0 && wanted > total - node.requested.get(name) {
            rejection.reasons.push(Cow::Owned(format!("Insufficient {name}")));
            rejection.resolvable &= wanted <= total;
        }
    }
    if rejection.reasons.is_empty() { Ok(()) } else { Err(rejection) }
}

fn least_allocated(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let free = |name: &str| {
        let total = node.allocatable.get(name);
        let used = node.scored_requested.get(name) + pod.scored_requests.get(name);
        if total == 0 || used > total { 0 } else { (total - used) * MAX_SCORE / total }
    };
    i64::midpoint(free("cpu"), free("memory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_named() {
        let resources = |cpu, memory| Resources { milli_cpu: cpu, memory, pods: 1, ..Resources::default() };
        let node = NodeInfo { allocatable: resources(1000, 100), requested: resources(600, 0), ..NodeInfo::default() };
        let wanted = |cpu, memory| Resources { pods: 0, ..resources(cpu, memory) };
        assert_eq!(fit(&wanted(400, 100), &node), Ok(()));
        assert_eq!(fit(&wanted(401, 0), &node), Err(Rejection::unschedulable("Insufficient cpu")));
        let both = fit(&wanted(401, 101), &node).unwrap_err();
        assert_eq!(both.reasons, ["Insufficient cpu", "Insufficient memory"]);
        assert!(!both.resolvable);
    }
}
