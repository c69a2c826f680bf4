//! One decision: which node for this pod. Pure, over a snapshot.

mod preempt;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

pub(crate) use self::preempt::{PREEMPTION, Preemption, preempt};
use crate::{
    cache::Snapshot,
    config::Profile,
    framework::{Check, ClusterEvent, Events, Filter, Rejection},
    model::{NodeInfo, PodInfo},
};

/// Fewer nodes than this are all looked at.
const MIN_NODES: usize = 100;
const MIN_PERCENTAGE: usize = 5;

/// Where decisions begin to look, so that all nodes get their share.
#[derive(Debug, Default)]
pub(crate) struct Cursor(usize);

/// Pods that wait for a node, by the node's name.
pub(crate) type Nominated = HashMap<String, Vec<Arc<PodInfo>>>;

/// Why no node takes a pod.
#[derive(Debug, Default)]
pub(crate) struct Unfit {
    /// Every node's first rejection; a plug-in that rejects all nodes leaves this empty.
    nodes: BTreeMap<String, Rejection>,
    all_nodes: usize,
    /// The text of a plug-in that rejected every node at once.
    before: Option<Rejection>,
    /// What can change it.
    pub(crate) wakes: Events,
}

impl Unfit {
    /// The text that users read in the pod's condition and event.
    pub(crate) fn message(&self, after: &str) -> String {
        if self.all_nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut text = format!("0/{} nodes are available:", self.all_nodes);
        match &self.before {
            Some(rejection) => text.push_str(&format!(" {}.", rejection.reasons.join(", "))),
            None => text.push_str(&format!(" {}.", histogram(self.nodes.values(), self.all_nodes - self.nodes.len()))),
        }
        if !after.is_empty() {
            text.push_str(&format!(" {after}"));
        }
        text
    }

    /// Nodes where removing pods could help.
    fn resolvable(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|(_, r)| r.resolvable).map(|(name, _)| name.as_str())
    }
}

/// `1 Insufficient cpu, 2 node(s) were unschedulable`; `absent` nodes were excluded by name before any filter.
fn histogram<'a>(rejections: impl Iterator<Item = &'a Rejection>, absent: usize) -> String {
    let mut counts: BTreeMap<Cow<'_, str>, usize> = BTreeMap::new();
    for reason in rejections.flat_map(|r| &r.reasons) {
        *counts.entry(reason.clone()).or_default() += 1;
    }
    if absent > 0 {
        *counts.entry(Cow::Borrowed("node(s) didn't satisfy plugin(s) [NodeAffinity]")).or_default() += absent;
    }
    let mut texts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    texts.sort();
    texts.join(", ")
}

/// The filters of one pod over one snapshot.
struct Filters<'a> {
    checks: Vec<(Check<'a>, Events)>,
    only: Option<BTreeSet<String>>,
}

impl<'a> Filters<'a> {
    fn new(profile: &'a Profile, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Result<Self, (Rejection, Events)> {
        let mut filters = Self { checks: Vec::new(), only: None };
        for plugin in profile.filters() {
            match plugin.filter(pod, snapshot).map_err(|rejection| (rejection, plugin.events()))? {
                Filter::Skip => {}
                Filter::Check(check) => filters.checks.push((check, plugin.events())),
                Filter::Only(names, check) => {
                    filters.checks.push((check, plugin.events()));
                    filters.only = Some(match filters.only {
                        Some(earlier) => earlier.intersection(&names).cloned().collect(),
                        None => names,
                    });
                }
            }
        }
        Ok(filters)
    }

    /// The first rejection, with what can change it.
    fn check(&self, node: &NodeInfo) -> Result<(), (Rejection, Events)> {
        self.checks.iter().try_for_each(|(check, events)| check(node).map_err(|rejection| (rejection, *events)))
    }

    /// A node has to be right with the more important pods that wait for it, and without them.
    fn check_nominated(&self, node: &NodeInfo, waiting: &[Arc<PodInfo>]) -> Result<(), (Rejection, Events)> {
        if !waiting.is_empty() {
            let mut fuller = node.clone();
            waiting.iter().for_each(|pod| fuller.add_pod(pod.clone()));
            self.check(&fuller)?;
        }
        self.check(node)
    }
}

/// Picks a node for a pod.
///
/// # Errors
/// Why no node takes it.
pub(crate) fn decide(
    profile: &Profile,
    pod: &PodInfo,
    snapshot: &Snapshot,
    nominated: &Nominated,
    cursor: &mut Cursor,
) -> Result<String, Box<Unfit>> {
    let unfit = |before, wakes| Box::new(Unfit { all_nodes: snapshot.len(), before, wakes, ..Unfit::default() });
    if snapshot.len() == 0 {
        return Err(unfit(None, Events::ALL));
    }
    let filters = Filters::new(profile, pod, snapshot).map_err(|(rejection, wakes)| unfit(Some(rejection), wakes))?;
    if let Some(node) = nominated_node(&filters, pod, snapshot, nominated) {
        return Ok(node);
    }
    let feasible = feasible(profile, &filters, snapshot, nominated, cursor)?;
    match feasible.as_slice() {
        [only] => Ok(only.name.clone()),
        _ => Ok(best(profile, pod, &feasible, snapshot)),
    }
}

/// Room was made for the pod there: it goes there if it can.
fn nominated_node(filters: &Filters<'_>, pod: &PodInfo, snapshot: &Snapshot, nominated: &Nominated) -> Option<String> {
    let node = snapshot.node(&pod.nominated)?;
    let waiting = nominated.get(&node.name).map(Vec::as_slice).unwrap_or_default();
    filters.check_nominated(node, waiting).ok().map(|()| node.name.clone())
}

fn feasible(
    profile: &Profile,
    filters: &Filters<'_>,
    snapshot: &Snapshot,
    nominated: &Nominated,
    cursor: &mut Cursor,
) -> Result<Vec<Arc<NodeInfo>>, Box<Unfit>> {
    let named = |n: &&Arc<NodeInfo>| filters.only.as_ref().is_none_or(|only| only.contains(&n.name));
    let candidates: Vec<&Arc<NodeInfo>> = snapshot.nodes().filter(named).collect();
    let wanted = nodes_to_find(snapshot.len(), profile.percentage_of_nodes_to_score);
    let mut unfit = Unfit { all_nodes: snapshot.len(), ..Unfit::default() };
    if filters.only.is_some() {
        unfit.wakes = unfit.wakes.with(Events::of(&[ClusterEvent::NodeAdd]));
    }
    let mut found = Vec::new();
    let mut looked = 0;
    for at in 0..candidates.len() {
        let node = candidates[(cursor.0 + at) % candidates.len()];
        let waiting = nominated.get(&node.name).map(Vec::as_slice).unwrap_or_default();
        looked += 1;
        match filters.check_nominated(node, waiting) {
            Ok(()) => found.push(node.clone()),
            Err((rejection, events)) => {
                unfit.wakes = unfit.wakes.with(events);
                unfit.nodes.insert(node.name.clone(), rejection);
            }
        }
        if found.len() == wanted {
            break;
        }
    }
    cursor.0 = (cursor.0 + looked) % snapshot.len();
    if found.is_empty() { Err(Box::new(unfit)) } else { Ok(found) }
}

/// In a large cluster, enough nodes to choose from are enough.
fn nodes_to_find(all: usize, percentage: usize) -> usize {
    if all < MIN_NODES {
        return all;
    }
    let percentage = match percentage {
        0 => 50_usize.saturating_sub(all / 125).max(MIN_PERCENTAGE),
        given => given.min(100),
    };
    (all * percentage / 100).max(MIN_NODES)
}

/// The node with the best weighted sum of scores; chance decides between equals.
fn best(profile: &Profile, pod: &PodInfo, nodes: &[Arc<NodeInfo>], snapshot: &Snapshot) -> String {
    let mut sums = vec![0_i64; nodes.len()];
    for (plugin, weight) in profile.scorers() {
        let scores = plugin.score(pod, nodes, snapshot).unwrap_or_default();
        sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score * weight);
    }
    let max = sums.iter().copied().max().unwrap_or(0);
    let equal: Vec<usize> = (0..nodes.len()).filter(|at| sums[*at] == max).collect();
    nodes[equal[rand::random_range(0..equal.len())]].name.clone()
}

#[cfg(test)]
mod tests;
