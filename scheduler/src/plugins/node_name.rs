//! `NodeName`: a pod that names its node goes nowhere else.

use crate::{
    cache::Snapshot,
    framework::{ClusterEvent, Events, Filter, Plugin, Rejection},
    model::PodInfo,
};

pub(super) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn events(&self) -> Events {
        Events::of(&[ClusterEvent::NodeAdd])
    }

    fn filter<'a>(&'a self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> Result<Filter<'a>, Rejection> {
        if pod.node_name.is_empty() {
            return Ok(Filter::Skip);
        }
        Ok(Filter::Check(Box::new(|node| {
            if node.name == pod.node_name {
                return Ok(());
            }
            Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
        })))
    }
}
