//! The next step of a stateful set. Pure.
//!
//! In order: every pod below the number of replicas exists and is available before the next one is made; then those
//! above it go, the highest first; then, from the highest down, those of another template are replaced. A set that
//! manages its pods in parallel waits for none of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetStatus},
        core::v1::{Pod, PodTemplateSpec},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    is_available,
    pod::{make, ordinal, revision},
};
use crate::{
    deployment::scaled,
    history::{History, template_of},
    pods,
};

/// Pods made at once by a set that does not wait for each of them; the rest comes when these are seen.
const BURST: usize = 500;

pub(super) struct Observed<'a> {
    set: &'a StatefulSet,
    pods: Vec<Arc<Pod>>,
    /// Name and template of what was rolled out last, and of what is being rolled out.
    current: (String, PodTemplateSpec),
    update: (String, PodTemplateSpec),
    now: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) status: StatefulSetStatus,
    pub(super) steps: Steps,
    pub(super) again: Option<Duration>,
}

#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) create: Vec<Pod>,
    /// They wait, maybe for a claim that has been lost.
    pub(super) provide: Vec<Arc<Pod>>,
    pub(super) delete: Vec<Arc<Pod>>,
}

impl<'a> Observed<'a> {
    pub(super) fn new(set: &'a StatefulSet, history: &History, pods: Vec<Arc<Pod>>, now: Timestamp) -> Self {
        let name = |it: &k8s_openapi::api::apps::v1::ControllerRevision| it.metadata.name.clone().unwrap_or_default();
        let update = (name(&history.current), set.spec.template.clone());
        let noted = set.status.as_ref().and_then(|status| status.current_revision.as_ref());
        let current = history.old.iter().find(|it| it.metadata.name.as_ref() == noted);
        let current = current.and_then(|it| Some((name(it), template_of(it)?))).unwrap_or_else(|| update.clone());
        Self { set, pods, current, update, now }
    }

    /// A revision that pods were made of, or will be.
    pub(super) fn uses(&self, name: &str) -> bool {
        name == self.current.0 || name == self.update.0 || self.pods.iter().any(|pod| revision(pod) == name)
    }

    fn min_ready(&self) -> i32 {
        self.set.spec.min_ready_seconds.unwrap_or(0)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        is_available(pod, self.min_ready(), self.now)
    }

    fn is_unavailable(&self, pod: &Pod) -> bool {
        !self.is_available(pod) || pod.metadata.deletion_timestamp.is_some()
    }

    fn wanted(&self) -> i32 {
        self.set.spec.replicas.unwrap_or(1).max(0)
    }

    fn start(&self) -> i32 {
        self.set.spec.ordinals.as_ref().and_then(|it| it.start).unwrap_or(0)
    }

    /// The numbers of the pods that there should be.
    fn range(&self) -> Range<i32> {
        self.start()..self.start().saturating_add(self.wanted())
    }

    fn is_ordered(&self) -> bool {
        self.set.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    /// Only in a rolling update: pods below keep the former template.
    fn partition(&self) -> Option<i32> {
        let strategy = self.set.spec.update_strategy.as_ref();
        if strategy.and_then(|it| it.type_.as_deref()).is_some_and(|it| it != "RollingUpdate") {
            return None;
        }
        Some(strategy.and_then(|it| it.rolling_update.as_ref()).and_then(|it| it.partition).unwrap_or(0))
    }

    fn max_unavailable(&self) -> i32 {
        let rolling = self.set.spec.update_strategy.as_ref().and_then(|it| it.rolling_update.as_ref());
        let said: Option<&IntOrString> = rolling.and_then(|it| it.max_unavailable.as_ref());
        said.map_or(1, |it| scaled(it, self.wanted(), false).max(1))
    }

    fn make(&self, number: i32) -> Pod {
        let keeps = self.partition().is_some_and(|partition| number < self.start().saturating_add(partition));
        let (name, template) = if keeps { &self.current } else { &self.update };
        make(self.set, template, name, number)
    }
}

pub(super) fn plan(observed: &Observed<'_>) -> Plan {
    let mut plan = Plan { status: status(observed), ..Plan::default() };
    plan.again = next_check(observed);
    if observed.set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let range = observed.range();
    let number = |pod: &Pod| ordinal(observed.set, pod).unwrap_or(-1);
    let (replicas, mut condemned): (Vec<_>, Vec<_>) =
        observed.pods.iter().cloned().partition(|pod| range.contains(&number(pod)));
    let replicas: Replicas = replicas.into_iter().map(|pod| (number(&pod), pod)).collect();
    condemned.sort_by_key(|pod| std::cmp::Reverse(number(pod)));
    let established = establish(observed, &replicas, &mut plan) && remove(observed, &replicas, condemned, &mut plan);
    if established {
        update(observed, &replicas, &mut plan);
    }
    plan
}

/// The pods that there are of those that there should be, by number.
type Replicas = BTreeMap<i32, Arc<Pod>>;

/// Makes the pods that there should be. False when the set has to wait for one.
fn establish(observed: &Observed<'_>, replicas: &Replicas, plan: &mut Plan) -> bool {
    for number in observed.range() {
        match replicas.get(&number) {
            None => plan.steps.create.push(observed.make(number)),
            Some(pod) if pods::is_terminal(pod) => {
                if pod.metadata.deletion_timestamp.is_none() {
                    plan.steps.delete.push(pod.clone());
                }
            }
            Some(pod) if pods::phase(pod) == "Pending" => plan.steps.provide.push(pod.clone()),
            Some(pod) if observed.is_unavailable(pod) => {}
            Some(_) => continue,
        }
        if observed.is_ordered() || plan.steps.create.len() == BURST {
            return false;
        }
    }
    plan.steps.create.is_empty() && plan.steps.delete.is_empty()
}

/// Removes pods above the number of replicas. False when the set has to wait for one.
fn remove(observed: &Observed<'_>, replicas: &Replicas, condemned: Vec<Arc<Pod>>, plan: &mut Plan) -> bool {
    let waiting = !condemned.is_empty();
    if !observed.is_ordered() {
        plan.steps.delete.extend(condemned.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()));
        return !waiting;
    }
    // The lowest of those that are not well may go although it is not.
    let unwell = |pod: &&Arc<Pod>| observed.is_unavailable(pod);
    let first = replicas.values().find(unwell);
    let first = first.or_else(|| condemned.iter().rev().find(unwell)).and_then(|pod| pod.metadata.uid.clone());
    if let Some(highest) = condemned.first().filter(|pod| pod.metadata.deletion_timestamp.is_none())
        && (observed.is_available(highest) || highest.metadata.uid == first)
    {
        plan.steps.delete.push(highest.clone());
    }
    !waiting
}

/// Deletes pods of another template, as many as may be missing; they are made again of the new one.
fn update(observed: &Observed<'_>, replicas: &Replicas, plan: &mut Plan) {
    let Some(partition) = observed.partition() else { return };
    let unavailable = replicas.values().filter(|pod| observed.is_unavailable(pod)).count();
    let mut left = observed.max_unavailable() - i32::try_from(unavailable).unwrap_or(i32::MAX);
    for (_, pod) in replicas.range(observed.start().saturating_add(partition)..).rev() {
        let is_old = revision(pod) != observed.update.0 && pod.metadata.deletion_timestamp.is_none();
        // In parallel, old pods that are not available are no loss.
        let is_free = !observed.is_ordered() && observed.is_unavailable(pod);
        if is_old && (left > 0 || is_free) {
            plan.steps.delete.push(pod.clone());
            left -= i32::from(!is_free);
            plan.status.current_replicas = plan.status.current_replicas.map(|it| it - 1).filter(|it| *it > 0);
        }
    }
}

fn status(observed: &Observed<'_>) -> StatefulSetStatus {
    let old = observed.set.status.clone().unwrap_or_default();
    let count = |what: &dyn Fn(&Pod) -> bool| {
        let count = observed.pods.iter().filter(|pod| what(pod)).count();
        i32::try_from(count).unwrap_or(i32::MAX)
    };
    let some = |count: i32| Some(count).filter(|count| *count != 0);
    let is_created = |pod: &Pod| !pods::phase(pod).is_empty();
    let is_ready = |pod: &Pod| pods::phase(pod) == "Running" && pods::is_ready(pod);
    let has =
        |pod: &Pod, name: &str| is_created(pod) && pod.metadata.deletion_timestamp.is_none() && revision(pod) == name;
    let (replicas, ready) = (count(&is_created), count(&is_ready));
    let updated = count(&|pod| has(pod, &observed.update.0));
    let wanted = observed.wanted();
    let complete = observed.partition().is_some() && [updated, ready, replicas] == [wanted; 3];
    let current = if complete { &observed.update.0 } else { &observed.current.0 };
    StatefulSetStatus {
        observed_generation: observed.set.metadata.generation,
        replicas,
        ready_replicas: some(ready),
        available_replicas: Some(count(&|pod| observed.is_available(pod))),
        current_replicas: some(count(&|pod| has(pod, current))),
        updated_replicas: some(updated),
        current_revision: Some(current.clone()),
        update_revision: Some(observed.update.0.clone()),
        collision_count: Some(old.collision_count.unwrap_or(0)),
        conditions: old.conditions,
    }
}

/// When the next ready pod becomes available.
fn next_check(observed: &Observed<'_>) -> Option<Duration> {
    let min_ready = observed.min_ready();
    let waiting = observed.pods.iter().filter_map(|pod| pods::available_in(pod, min_ready, observed.now));
    let waiting: BTreeSet<Duration> = waiting.filter(|left| !left.is_zero()).collect();
    waiting.first().copied()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
