//! `InterPodAffinity`: pods that want to be together or apart, in domains that a node label makes.

use std::{collections::HashMap, sync::Arc};

use crate::{
    cache::Snapshot,
    framework::{ClusterEvent, Events, Filter, MAX_SCORE, Plugin, Rejection},
    model::{NodeInfo, PodInfo, PodTerm},
};

const AFFINITY: &str = "node(s) didn't match pod affinity rules";
const ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
const EXISTING: &str = "node(s) didn't satisfy existing pods anti-affinity rules";
/// What a required term of a pod that is there already weighs for a pod that it matches.
const HARD_WEIGHT: i64 = 1;

pub(super) struct InterPodAffinity;

/// Counts by topology key and value.
type Domains<'a> = HashMap<(&'a str, &'a str), i64>;

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn events(&self) -> Events {
        use ClusterEvent::{AssignedPodAdd, AssignedPodDelete, AssignedPodUpdate, Namespace, NodeAdd, NodeLabel};
        Events::of(&[AssignedPodAdd, AssignedPodDelete, AssignedPodUpdate, Namespace, NodeAdd, NodeLabel])
    }

    fn filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Result<Filter<'a>, Rejection> {
        let counts = Counts::new(pod, snapshot);
        if counts.is_empty() && pod.affinity.required.is_empty() && pod.anti_affinity.required.is_empty() {
            return Ok(Filter::Skip);
        }
        Ok(Filter::Check(Box::new(move |node| counts.check(pod, node))))
    }

    fn score(&self, pod: &PodInfo, nodes: &[Arc<NodeInfo>], snapshot: &Snapshot) -> Option<Vec<i64>> {
        let weights = weights(pod, snapshot);
        if weights.is_empty() {
            return None;
        }
        let sum = |node: &Arc<NodeInfo>| -> i64 {
            let here = weights.iter().filter(|((key, value), _)| node.labels.get(*key).is_some_and(|v| v == value));
            here.map(|(_, weight)| weight).sum()
        };
        Some(stretch(&nodes.iter().map(sum).collect::<Vec<_>>()))
    }
}

/// How many pods matter in each domain.
struct Counts<'a> {
    /// Pods that match all of the pod's required affinity terms, by the terms' domains.
    wanted: Domains<'a>,
    /// Pods that match one of its anti-affinity terms.
    unwanted: Domains<'a>,
    /// Pods with an anti-affinity term that matches this pod.
    refusing: Domains<'a>,
    /// The pod would satisfy its own affinity: the first of a group may go anywhere.
    matches_itself: bool,
}

impl<'a> Counts<'a> {
    fn new(pod: &'a PodInfo, snapshot: &'a Snapshot) -> Self {
        let own_labels = snapshot.namespace_labels(&pod.key.namespace);
        let matches_itself =
            pod.affinity.required.iter().all(|t| t.matches(&pod.key.namespace, &pod.labels, own_labels));
        let mut counts =
            Self { wanted: Domains::new(), unwanted: Domains::new(), refusing: Domains::new(), matches_itself };
        let has_terms = !(pod.affinity.required.is_empty() && pod.anti_affinity.required.is_empty());
        for node in snapshot.nodes().filter(|n| has_terms || n.pods_with_terms > 0) {
            for existing in node.pods.iter().filter(|p| p.uid != pod.uid) {
                counts.count(pod, existing, node, snapshot);
            }
        }
        counts
    }

    fn count(&mut self, pod: &'a PodInfo, existing: &'a PodInfo, node: &'a NodeInfo, snapshot: &'a Snapshot) {
        let labels = snapshot.namespace_labels(&existing.key.namespace);
        let matches = |t: &&PodTerm| t.matches(&existing.key.namespace, &existing.labels, labels);
        let required = &pod.affinity.required;
        if !required.is_empty() && required.iter().all(|t| matches(&t)) {
            required.iter().for_each(|t| add(&mut self.wanted, t, node, 1));
        }
        pod.anti_affinity.required.iter().filter(matches).for_each(|t| add(&mut self.unwanted, t, node, 1));
        let own_labels = snapshot.namespace_labels(&pod.key.namespace);
        let refuses = |t: &&PodTerm| t.matches(&pod.key.namespace, &pod.labels, own_labels);
        existing.anti_affinity.required.iter().filter(refuses).for_each(|t| add(&mut self.refusing, t, node, 1));
    }

    fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.unwanted.is_empty() && self.refusing.is_empty()
    }

    fn check(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if !self.affinity_holds(pod, node) {
            return Err(Rejection::unresolvable(AFFINITY));
        }
        if pod.anti_affinity.required.iter().any(|t| found(&self.unwanted, &t.topology_key, node)) {
            return Err(Rejection::unschedulable(ANTI_AFFINITY));
        }
        if self.refusing.keys().any(|(key, value)| node.labels.get(*key).is_some_and(|v| v == value)) {
            return Err(Rejection::unschedulable(EXISTING));
        }
        Ok(())
    }

    fn affinity_holds(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        let terms = &pod.affinity.required;
        if terms.iter().any(|t| !node.labels.contains_key(&t.topology_key)) {
            return false;
        }
        let together = terms.iter().all(|t| found(&self.wanted, &t.topology_key, node));
        together || (self.wanted.is_empty() && self.matches_itself)
    }
}

fn add<'a>(domains: &mut Domains<'a>, term: &'a PodTerm, node: &'a NodeInfo, weight: i64) {
    if let Some(value) = node.labels.get(&term.topology_key) {
        *domains.entry((&term.topology_key, value)).or_default() += weight;
    }
}

fn found(domains: &Domains<'_>, key: &str, node: &NodeInfo) -> bool {
    node.labels.get(key).is_some_and(|value| domains.get(&(key, value.as_str())).is_some_and(|count| *count > 0))
}

/// What each domain weighs: the pod's preferences about others, and others' about it.
fn weights<'a>(pod: &'a PodInfo, snapshot: &'a Snapshot) -> Domains<'a> {
    let mut weights = Domains::new();
    let prefers = !(pod.affinity.preferred.is_empty() && pod.anti_affinity.preferred.is_empty());
    let own_labels = snapshot.namespace_labels(&pod.key.namespace);
    for node in snapshot.nodes().filter(|n| prefers || n.pods_with_terms > 0) {
        for existing in &node.pods {
            let labels = snapshot.namespace_labels(&existing.key.namespace);
            let about_it = |t: &PodTerm| t.matches(&existing.key.namespace, &existing.labels, labels);
            let about_us = |t: &PodTerm| t.matches(&pod.key.namespace, &pod.labels, own_labels);
            let mut weigh = |term: &'a PodTerm, weight: i64| add(&mut weights, term, node, weight);
            pod.affinity.preferred.iter().filter(|p| about_it(&p.term)).for_each(|p| weigh(&p.term, p.weight));
            pod.anti_affinity.preferred.iter().filter(|p| about_it(&p.term)).for_each(|p| weigh(&p.term, -p.weight));
            existing.affinity.preferred.iter().filter(|p| about_us(&p.term)).for_each(|p| weigh(&p.term, p.weight));
            existing
                .anti_affinity
                .preferred
                .iter()
                .filter(|p| about_us(&p.term))
                .for_each(|p| weigh(&p.term, -p.weight));
            existing.affinity.required.iter().filter(|t| about_us(t)).for_each(|t| weigh(t, HARD_WEIGHT));
        }
    }
    weights
}

/// From the lowest to the highest sum.
fn stretch(sums: &[i64]) -> Vec<i64> {
    let (min, max) = (sums.iter().copied().min().unwrap_or(0), sums.iter().copied().max().unwrap_or(0));
    let range = max - min;
    sums.iter().map(|sum| if range > 0 { MAX_SCORE * (sum - min) / range } else { 0 }).collect()
}
