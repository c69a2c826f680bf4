//! `NodeUnschedulable`: a cordoned node takes only pods that tolerate it.

use k8s_openapi::api::core::v1::Taint;

use crate::{
    cache::Snapshot,
    framework::{ClusterEvent, Events, Filter, Plugin, Rejection},
    model::{PodInfo, node::tolerates},
};

pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn events(&self) -> Events {
        Events::of(&[ClusterEvent::NodeAdd, ClusterEvent::NodeTaint, ClusterEvent::PodUpdate])
    }

    fn filter<'a>(&'a self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> Result<Filter<'a>, Rejection> {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        if pod.tolerations.iter().any(|t| tolerates(t, &taint)) {
            return Ok(Filter::Skip);
        }
        Ok(Filter::Check(Box::new(|node| {
            if node.unschedulable {
                return Err(Rejection::unresolvable("node(s) were unschedulable"));
            }
            Ok(())
        })))
    }
}
