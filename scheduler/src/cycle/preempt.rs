//! `DefaultPreemption`: room for an important pod by removing less important ones. Pure: says whom, removes nobody.

use std::{cmp::Reverse, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::{Filters, Nominated, Unfit, histogram};
use crate::{
    cache::Snapshot,
    config::Profile,
    framework::Rejection,
    model::{NodeInfo, PodInfo, affinity::Selector},
};

/// Nodes to choose from: a tenth of the cluster, but at least this many.
const MIN_CANDIDATES: usize = 100;
const CANDIDATE_PERCENTAGE: usize = 10;
/// Why a victim ends, as its condition says.
pub(crate) const PREEMPTION: &str = "PreemptionByScheduler";

/// What preemption found.
#[derive(Debug)]
pub(crate) enum Preemption {
    /// Removing these pods makes room on a node.
    Victims {
        /// The node.
        node: String,
        /// Whom to remove.
        pods: Vec<Arc<PodInfo>>,
    },
    /// The pod may not make room, or not again yet; the text goes behind the message of the decision.
    NotEligible(String),
    /// Nothing helps; the same with the text.
    Useless(String),
}

/// A node and the pods that would have to go.
struct Candidate {
    node: String,
    victims: Vec<Arc<PodInfo>>,
    /// How many of them a disruption budget protects.
    violations: usize,
}

/// Looks for a node where removing less important pods makes room.
pub(crate) fn preempt(
    profile: &Profile,
    pod: &PodInfo,
    snapshot: &Snapshot,
    unfit: &Unfit,
    nominated: &Nominated,
    budgets: &[Arc<PodDisruptionBudget>],
) -> Preemption {
    let not_eligible = |why: &str| Preemption::NotEligible(format!("preemption: not eligible due to {why}"));
    if !pod.may_preempt {
        return not_eligible("preemptionPolicy=Never.");
    }
    if waits_for_victims(pod, snapshot, unfit) {
        return not_eligible("a terminating pod on the nominated node.");
    }
    let limit = (snapshot.len() * CANDIDATE_PERCENTAGE / 100).max(MIN_CANDIDATES);
    let mut candidates = Vec::new();
    let mut rejections = Vec::new();
    for name in unfit.resolvable() {
        if candidates.len() == limit {
            break;
        }
        let Some(node) = snapshot.node(name) else { continue };
        match candidate(profile, pod, snapshot, node, nominated, budgets) {
            Ok(candidate) => candidates.push(candidate),
            Err(rejection) => rejections.push(rejection),
        }
    }
    let Some(best) = candidates.into_iter().min_by_key(rank) else {
        return Preemption::Useless(format!("preemption: {}", explanation(unfit, &rejections)));
    };
    Preemption::Victims { node: best.node, pods: best.victims }
}

fn explanation(unfit: &Unfit, rejections: &[Rejection]) -> String {
    let helpless = Rejection::unresolvable("Preemption is not helpful for scheduling");
    let missing = unfit.all_nodes.saturating_sub(rejections.len());
    let all = rejections.iter().chain(std::iter::repeat_n(&helpless, missing));
    format!("0/{} nodes are available: {}.", unfit.all_nodes, histogram(all, 0))
}

/// The pod made room once and its victims are still ending, on a node that can still become right.
fn waits_for_victims(pod: &PodInfo, snapshot: &Snapshot, unfit: &Unfit) -> bool {
    if unfit.nodes.get(&pod.nominated).is_some_and(|rejection| !rejection.resolvable) {
        return false;
    }
    let node = snapshot.node(&pod.nominated);
    node.is_some_and(|n| n.pods.iter().any(|p| p.priority < pod.priority && ends_by_preemption(p)))
}

fn ends_by_preemption(pod: &PodInfo) -> bool {
    let conditions = pod.object.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut targets = conditions.into_iter().flatten().filter(|condition| condition.type_ == "DisruptionTarget");
    let is_ours = |reason: Option<&str>| reason == Some(PREEMPTION);
    pod.terminating && targets.next().is_some_and(|it| it.status == "True" && is_ours(it.reason.as_deref()))
}

/// Removes every less important pod, then brings back as many as fit, the protected and important ones first.
fn candidate(
    profile: &Profile,
    pod: &PodInfo,
    snapshot: &Snapshot,
    node: &Arc<NodeInfo>,
    nominated: &Nominated,
    budgets: &[Arc<PodDisruptionBudget>],
) -> Result<Candidate, Rejection> {
    let mut lower: Vec<Arc<PodInfo>> = node.pods.iter().filter(|p| p.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return Err(Rejection::unresolvable("No preemption victims found for incoming pod"));
    }
    let waiting = nominated.get(&node.name).map(Vec::as_slice).unwrap_or_default();
    let mut trial = NodeInfo::clone(node);
    lower.iter().for_each(|p| trial.remove_pod(&p.uid));
    fits(profile, pod, snapshot, &trial, waiting)?;
    lower.sort_by_key(|p| (Reverse(p.priority), p.started));
    let (protected, free) = split_protected(lower, budgets);
    let mut bring_back = |pods: Vec<Arc<PodInfo>>| -> Vec<Arc<PodInfo>> {
        let stays = |p: &Arc<PodInfo>| {
            trial.add_pod(p.clone());
            let stays = fits(profile, pod, snapshot, &trial, waiting).is_ok();
            if !stays {
                trial.remove_pod(&p.uid);
            }
            stays
        };
        let mut stays = stays;
        pods.into_iter().filter(|p| !stays(p)).collect()
    };
    let mut victims = bring_back(protected);
    let violations = victims.len();
    victims.extend(bring_back(free));
    Ok(Candidate { node: node.name.clone(), victims, violations })
}

fn fits(
    profile: &Profile,
    pod: &PodInfo,
    snapshot: &Snapshot,
    node: &NodeInfo,
    waiting: &[Arc<PodInfo>],
) -> Result<(), Rejection> {
    let snapshot = snapshot.with_node(node.clone());
    let filters = Filters::new(profile, pod, &snapshot).map_err(|(rejection, _)| rejection)?;
    filters.check_nominated(node, waiting).map_err(|(rejection, _)| rejection)
}

/// Pods whose budgets allow no further disruption, and the others.
fn split_protected(
    pods: Vec<Arc<PodInfo>>,
    budgets: &[Arc<PodDisruptionBudget>],
) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut allowed: Vec<i32> =
        budgets.iter().map(|b| b.status.as_ref().and_then(|s| s.disruptions_allowed).unwrap_or(0)).collect();
    pods.into_iter().partition(|pod| {
        let mut protected = false;
        for (_, allowed) in budgets.iter().zip(&mut allowed).filter(|(b, _)| covers(b, pod) && !is_counted(b, pod)) {
            *allowed -= 1;
            protected |= *allowed < 0;
        }
        protected
    })
}

/// A budget that selects everything protects nothing here, as upstream has it.
fn covers(budget: &PodDisruptionBudget, pod: &PodInfo) -> bool {
    let same_namespace = budget.metadata.namespace.as_deref() == Some(&pod.key.namespace);
    let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
    let is_narrow = selector.is_some_and(|selector| {
        let labels = selector.match_labels.as_ref().is_some_and(|labels| !labels.is_empty());
        labels || selector.match_expressions.as_ref().is_some_and(|expressions| !expressions.is_empty())
    });
    same_namespace && is_narrow && !pod.labels.is_empty() && Selector::new(selector).matches(&pod.labels)
}

/// Its eviction is one of those that the budget has counted.
fn is_counted(budget: &PodDisruptionBudget, pod: &PodInfo) -> bool {
    let counted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
    counted.is_some_and(|counted| counted.contains_key(&pod.key.name))
}

/// Fewest protected victims, then the least important highest victim, the smallest sum, the fewest, the latest start.
fn rank(candidate: &Candidate) -> (usize, i64, i64, usize, Reverse<Option<Timestamp>>) {
    let victims = &candidate.victims;
    let highest = victims.iter().map(|p| p.priority).max().unwrap_or(i64::MIN);
    let sum = victims.iter().map(|p| p.priority + i64::from(i32::MAX) + 1).sum();
    let earliest = victims.iter().filter(|p| p.priority == highest).map(|p| p.started).min().flatten();
    (candidate.violations, highest, sum, victims.len(), Reverse(earliest))
}
