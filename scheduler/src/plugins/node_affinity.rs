//! `NodeAffinity`: a pod's node selector and node affinity.

use std::sync::Arc;

use crate::{
    cache::Snapshot,
    framework::{ClusterEvent, Events, Filter, Plugin, Rejection, normalize},
    model::{NodeInfo, PodInfo},
};

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

pub(super) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn events(&self) -> Events {
        Events::of(&[ClusterEvent::NodeAdd, ClusterEvent::NodeLabel])
    }

    fn filter<'a>(&'a self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> Result<Filter<'a>, Rejection> {
        if pod.node_selector.is_empty() && pod.required_nodes.is_none() {
            return Ok(Filter::Skip);
        }
        let check = Box::new(|node: &NodeInfo| {
            if pod.selects_node(&node.name, &node.labels) {
                return Ok(());
            }
            Err(Rejection::unresolvable(REASON))
        });
        let names = pod.required_nodes.as_ref().and_then(|s| s.names());
        Ok(names.map_or(Filter::Check(check.clone()), |names| Filter::Only(names, check)))
    }

    fn score(&self, pod: &PodInfo, nodes: &[Arc<NodeInfo>], _snapshot: &Snapshot) -> Option<Vec<i64>> {
        if pod.preferred_nodes.is_empty() {
            return None;
        }
        let weight = |node: &Arc<NodeInfo>| {
            let terms = pod.preferred_nodes.iter().filter(|p| p.term.matches(&node.name, &node.labels));
            terms.map(|p| p.weight).sum()
        };
        Some(normalize(nodes.iter().map(weight).collect(), false))
    }
}
