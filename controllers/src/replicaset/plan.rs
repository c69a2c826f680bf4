//! What a replica set needs, and what its status says. Pure.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::rank;
use crate::pods;

/// Pods created or deleted at once; the rest waits until these are seen.
const BURST: usize = 500;
const FAILURE: &str = "ReplicaFailure";

/// What to do about the number of pods.
#[derive(Debug)]
pub(super) enum Action {
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

pub(super) fn wanted(set: &ReplicaSet) -> usize {
    let replicas = set.spec.replicas.unwrap_or(1);
    usize::try_from(replicas).unwrap_or(0)
}

pub(super) fn min_ready_seconds(set: &ReplicaSet) -> i32 {
    set.spec.min_ready_seconds.unwrap_or(0)
}

/// `related` are the pods of all sets of the same owner: pods on nodes that hold many of them go first.
pub(super) fn action(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    related: impl FnOnce() -> Vec<Arc<Pod>>,
    now: Timestamp,
) -> Option<Action> {
    let wanted = wanted(set);
    if active.len() < wanted {
        return Some(Action::Create((wanted - active.len()).min(BURST)));
    }
    let surplus = (active.len() - wanted).min(BURST);
    if surplus == 0 {
        return None;
    }
    let mut candidates = active.to_vec();
    if surplus < candidates.len() {
        rank::sort(&mut candidates, &related(), now);
        candidates.truncate(surplus);
    }
    Some(Action::Delete(candidates))
}

/// The status that is true now; `failure` is why pods could not be created or deleted.
pub(super) fn status(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    terminating: Option<usize>,
    failure: Option<&str>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let old = set.status.clone().unwrap_or_default();
    let template = set.spec.template.as_ref();
    let labels = template.and_then(|it| it.metadata.as_ref()).and_then(|meta| meta.labels.clone()).unwrap_or_default();
    let is_labeled = |pod: &Pod| {
        let has = pod.metadata.labels.as_ref();
        labels.iter().all(|(name, value)| has.and_then(|has| has.get(name)) == Some(value))
    };
    let min_ready = min_ready_seconds(set);
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let count = |what: &dyn Fn(&Pod) -> bool| number(active.iter().filter(|pod| what(pod)).count());
    // Fields that upstream leaves out when they are zero.
    let some = |count: i32| Some(count).filter(|count| *count != 0);
    ReplicaSetStatus {
        replicas: number(active.len()),
        fully_labeled_replicas: some(count(&is_labeled)),
        ready_replicas: some(count(&pods::is_ready)),
        available_replicas: some(count(&|pod| pods::is_available(pod, min_ready, now))),
        terminating_replicas: terminating.map(number),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions, active.len().cmp(&wanted(set)), failure, now),
    }
}

fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    has: std::cmp::Ordering,
    failure: Option<&str>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.unwrap_or_default();
    let failed = conditions.iter().any(|it| it.type_.as_deref() == Some(FAILURE));
    match failure {
        None => conditions.retain(|it| it.type_.as_deref() != Some(FAILURE)),
        Some(_) if failed => {}
        Some(message) => conditions.push(ReplicaSetCondition {
            type_: Some(FAILURE.to_owned()),
            status: Some("True".to_owned()),
            reason: match has {
                std::cmp::Ordering::Less => Some("FailedCreate".to_owned()),
                std::cmp::Ordering::Equal => None,
                std::cmp::Ordering::Greater => Some("FailedDelete".to_owned()),
            },
            message: Some(message.to_owned()),
            last_transition_time: Some(Time(now)),
        }),
    }
    if conditions.is_empty() { None } else { Some(conditions) }
}

/// Whether two statuses say the same; a field that is not set says zero.
pub(super) fn same(one: &ReplicaSetStatus, other: &ReplicaSetStatus) -> bool {
    let counts = |it: &ReplicaSetStatus| {
        let zero = |count: Option<i32>| count.unwrap_or(0);
        let counts =
            (it.replicas, zero(it.fully_labeled_replicas), zero(it.ready_replicas), zero(it.available_replicas));
        (counts, it.terminating_replicas, it.observed_generation.unwrap_or(0))
    };
    let conditions = |it: &ReplicaSetStatus| it.conditions.clone().unwrap_or_default();
    counts(one) == counts(other) && conditions(one) == conditions(other)
}

/// When the next of the ready pods becomes available.
pub(super) fn next_check(
    set: &ReplicaSet,
    status: &ReplicaSetStatus,
    active: &[Arc<Pod>],
    now: Timestamp,
) -> Option<Duration> {
    let min_ready = min_ready_seconds(set);
    if min_ready <= 0 || status.ready_replicas == status.available_replicas {
        return None;
    }
    let waiting = active.iter().filter_map(|pod| pods::available_in(pod, min_ready, now)).filter(|it| !it.is_zero());
    let whole = Duration::from_secs(u64::try_from(min_ready).unwrap_or(0));
    Some(waiting.min().unwrap_or(whole))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
