//! `PodTopologySpread`: pods of a group spread over domains that a node label makes.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    cache::Snapshot,
    framework::{ClusterEvent, Events, Filter, MAX_SCORE, Plugin, Rejection},
    model::{NodeInfo, PodInfo, SpreadConstraint},
};

const SKEWED: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";
const HARD_TAINTS: [&str; 2] = ["NoSchedule", "NoExecute"];
const HOSTNAME: &str = "kubernetes.io/hostname";

pub(super) struct PodTopologySpread;

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn events(&self) -> Events {
        use ClusterEvent::{
            AssignedPodAdd, AssignedPodDelete, AssignedPodUpdate, NodeAdd, NodeLabel, NodeTaint, PodUpdate,
        };
        Events::of(&[AssignedPodAdd, AssignedPodDelete, AssignedPodUpdate, NodeAdd, NodeLabel, NodeTaint, PodUpdate])
    }

    fn filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Result<Filter<'a>, Rejection> {
        let hard: Vec<&SpreadConstraint> = pod.spread.iter().filter(|c| c.hard).collect();
        if hard.is_empty() {
            return Ok(Filter::Skip);
        }
        let counted: Vec<(&SpreadConstraint, HashMap<&str, i64>)> =
            hard.iter().map(|c| (*c, domains(pod, c, &hard, snapshot))).collect();
        Ok(Filter::Check(Box::new(move |node| {
            counted.iter().try_for_each(|(constraint, counts)| check(pod, constraint, counts, node))
        })))
    }

    fn score(&self, pod: &PodInfo, nodes: &[Arc<NodeInfo>], snapshot: &Snapshot) -> Option<Vec<i64>> {
        let soft: Vec<SpreadConstraint> = pod.spread.iter().filter(|c| !c.hard).cloned().collect();
        if soft.is_empty() {
            return None;
        }
        let labelled = |node: &NodeInfo| soft.iter().all(|c| node.labels.contains_key(&c.topology_key));
        let ignored: HashSet<&str> = nodes.iter().filter(|n| !labelled(n)).map(|n| n.name.as_str()).collect();
        let mut sums = vec![0.0; nodes.len()];
        for constraint in &soft {
            add_scores(pod, constraint, nodes, snapshot, &ignored, &mut sums);
        }
        Some(fewest_is_best(nodes, &sums, &ignored))
    }
}

/// Matching pods by domain, over the nodes that count.
fn domains<'a>(
    pod: &PodInfo,
    constraint: &SpreadConstraint,
    hard: &[&SpreadConstraint],
    snapshot: &'a Snapshot,
) -> HashMap<&'a str, i64> {
    let mut counts = HashMap::new();
    for node in snapshot.nodes() {
        let labelled = hard.iter().all(|c| node.labels.contains_key(&c.topology_key));
        if !labelled || !counts_here(pod, constraint, node) {
            continue;
        }
        let value = node.labels.get(&constraint.topology_key).expect("the label was looked for above");
        *counts.entry(value.as_str()).or_default() += matching(pod, constraint, node);
    }
    counts
}

fn counts_here(pod: &PodInfo, constraint: &SpreadConstraint, node: &NodeInfo) -> bool {
    let affine = !constraint.honor_affinity || pod.selects_node(&node.name, &node.labels);
    affine && (!constraint.honor_taints || node.untolerated(&pod.tolerations, &HARD_TAINTS).is_none())
}

fn matching(pod: &PodInfo, constraint: &SpreadConstraint, node: &NodeInfo) -> i64 {
    let same = |p: &&Arc<PodInfo>| {
        !p.terminating
            && p.uid != pod.uid
            && p.key.namespace == pod.key.namespace
            && constraint.selector.matches(&p.labels)
    };
    i64::try_from(node.pods.iter().filter(same).count()).unwrap_or(i64::MAX)
}

fn check(
    pod: &PodInfo,
    constraint: &SpreadConstraint,
    counts: &HashMap<&str, i64>,
    node: &NodeInfo,
) -> Result<(), Rejection> {
    let Some(value) = node.labels.get(&constraint.topology_key) else {
        return Err(Rejection::unresolvable(NO_LABEL));
    };
    let few_domains = i64::try_from(counts.len()).unwrap_or(i64::MAX) < constraint.min_domains;
    let lowest = if few_domains { 0 } else { counts.values().copied().min().unwrap_or(0) };
    let itself = i64::from(constraint.selector.matches(&pod.labels));
    let here = counts.get(value.as_str()).copied().unwrap_or(0);
    if here + itself - lowest > constraint.max_skew {
        return Err(Rejection::unschedulable(SKEWED));
    }
    Ok(())
}

fn add_scores(
    pod: &PodInfo,
    constraint: &SpreadConstraint,
    nodes: &[Arc<NodeInfo>],
    snapshot: &Snapshot,
    ignored: &HashSet<&str>,
    sums: &mut [f64],
) {
    let mut counts: HashMap<&str, i64> = HashMap::new();
    let per_node = constraint.topology_key == HOSTNAME;
    for node in snapshot.nodes().filter(|n| counts_here(pod, constraint, n)) {
        if let Some(value) = node.labels.get(&constraint.topology_key) {
            *counts.entry(value).or_default() += matching(pod, constraint, node);
        }
    }
    let usable = || nodes.iter().filter(|n| !ignored.contains(n.name.as_str()));
    let size = if per_node {
        usable().count()
    } else {
        usable().filter_map(|n| n.labels.get(&constraint.topology_key)).collect::<HashSet<_>>().len()
    };
    // Many small domains would drown few large ones.
    let weight = (size as f64 + 2.0).ln();
    for (node, sum) in nodes.iter().zip(sums).filter(|(n, _)| !ignored.contains(n.name.as_str())) {
        let count =
            node.labels.get(&constraint.topology_key).and_then(|v| counts.get(v.as_str())).copied().unwrap_or(0);
        *sum += count as f64 * weight + (constraint.max_skew - 1) as f64;
    }
}

fn fewest_is_best(nodes: &[Arc<NodeInfo>], sums: &[f64], ignored: &HashSet<&str>) -> Vec<i64> {
    let rounded: Vec<i64> = sums.iter().map(|sum| sum.round() as i64).collect();
    let usable = || nodes.iter().zip(&rounded).filter(|(n, _)| !ignored.contains(n.name.as_str())).map(|(_, sum)| *sum);
    let (min, max) = (usable().min().unwrap_or(0), usable().max().unwrap_or(0));
    let score = |(node, sum): (&Arc<NodeInfo>, &i64)| match max {
        _ if ignored.contains(node.name.as_str()) => 0,
        0 => MAX_SCORE,
        _ => MAX_SCORE * (max + min - sum) / max,
    };
    nodes.iter().zip(&rounded).map(score).collect()
}
