//! `NodePorts`: a port of the node goes to one pod.

use crate::{
    cache::Snapshot,
    framework::{ClusterEvent, Events, Filter, Plugin, Rejection},
    model::PodInfo,
};

pub(super) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn events(&self) -> Events {
        Events::of(&[ClusterEvent::AssignedPodDelete, ClusterEvent::NodeAdd])
    }

    fn filter<'a>(&'a self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> Result<Filter<'a>, Rejection> {
        if pod.host_ports.is_empty() {
            return Ok(Filter::Skip);
        }
        Ok(Filter::Check(Box::new(|node| {
            let taken = |wanted| node.used_ports.iter().any(|used| used.conflicts(wanted));
            if pod.host_ports.iter().any(taken) {
                return Err(Rejection::unschedulable("node(s) didn't have free ports for the requested pod ports"));
            }
            Ok(())
        })))
    }
}
