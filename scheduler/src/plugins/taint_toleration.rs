//! `TaintToleration`: taints keep pods away that do not tolerate them; soft ones make a node less wanted.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Toleration;

use crate::{
    cache::Snapshot,
    framework::{ClusterEvent, Events, Filter, Plugin, Rejection, normalize},
    model::{NodeInfo, PodInfo, node::tolerates},
};

const HARD: [&str; 2] = ["NoSchedule", "NoExecute"];
const SOFT: &str = "PreferNoSchedule";

pub(super) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn events(&self) -> Events {
        Events::of(&[ClusterEvent::NodeAdd, ClusterEvent::NodeTaint, ClusterEvent::PodUpdate])
    }

    fn filter<'a>(&'a self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> Result<Filter<'a>, Rejection> {
        Ok(Filter::Check(Box::new(|node| match node.untolerated(&pod.tolerations, &HARD) {
            Some(_) => Err(Rejection::unresolvable("node(s) had untolerated taint(s)")),
            None => Ok(()),
        })))
    }

    fn score(&self, pod: &PodInfo, nodes: &[Arc<NodeInfo>], _snapshot: &Snapshot) -> Option<Vec<i64>> {
        let soft = |t: &&Toleration| t.effect.as_deref().is_none_or(|e| e.is_empty() || e == SOFT);
        let tolerations: Vec<&Toleration> = pod.tolerations.iter().filter(soft).collect();
        let count = |node: &Arc<NodeInfo>| {
            let taints = node.taints.iter().filter(|t| t.effect == SOFT);
            taints.filter(|taint| !tolerations.iter().any(|t| tolerates(t, taint))).count()
        };
        let counts = nodes.iter().map(|n| i64::try_from(count(n)).unwrap_or(i64::MAX)).collect();
        Some(normalize(counts, true))
    }
}
