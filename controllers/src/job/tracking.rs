//! Counting pods that have ended. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::{JobStatus, PodFailurePolicy, UncountedTerminatedPods},
    core::v1::{ContainerStatus, Pod},
};

use super::{
    indexes,
    policy::{Verdict, judge},
};
use crate::pods;

/// Keeps a pod until it is counted.
pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Uids that a status may hold at a time.
const MAX_UNCOUNTED: usize = 500;

pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|it| it == FINALIZER)
}

/// What a pod's end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed,
}

/// The end of a pod, if it has come. A pod that was told to end counts as failed, unless only failed ones are replaced.
pub(super) fn end(pod: &Pod, only_failed: bool) -> Option<End> {
    match pods::phase(pod) {
        "Succeeded" => Some(End::Succeeded),
        "Failed" => Some(End::Failed),
        _ if pod.metadata.deletion_timestamp.is_some() && !only_failed => Some(End::Failed),
        _ => None,
    }
}

/// When a pod ended, as far as it shows: its containers, then its readiness, then its deletion, at last its creation.
pub(super) fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let by_deletion = || {
        let deleted = pod.metadata.deletion_timestamp.as_ref()?.0;
        deleted.checked_sub(SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0))).ok()
    };
    let unready = || {
        let ready = pods::condition(pod, "Ready").filter(|ready| ready.status == "False")?;
        ready.last_transition_time.as_ref().map(|time| time.0)
    };
    let created = || pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    containers_finished_at(pod).or_else(unready).or_else(by_deletion).or_else(created)
}

/// None as long as one of them, or a sidecar, runs.
fn containers_finished_at(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let sidecars: BTreeSet<&str> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten())
        .filter(|container| container.restart_policy.as_deref() == Some("Always"))
        .map(|container| container.name.as_str())
        .collect();
    let last_to_go = status.init_container_statuses.iter().flatten().filter(|it| sidecars.contains(it.name.as_str()));
    let all = status.container_statuses.iter().flatten().chain(last_to_go);
    let ended = |it: &ContainerStatus| Some(it.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0);
    all.map(ended).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// The indexes that have succeeded, also those whose pods are not counted yet.
pub(super) fn succeeded_indexes(status: &JobStatus, pods: &[Arc<Pod>], completions: i32) -> BTreeSet<i32> {
    let mut found = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions);
    let succeeded = pods.iter().filter(|pod| is_tracked(pod) && pods::phase(pod) == "Succeeded");
    found.extend(succeeded.filter_map(|pod| super::pod::index(pod)).filter(|index| *index < completions));
    found
}

/// How pods that have ended count.
pub(super) struct Rules<'a> {
    pub(super) only_failed: bool,
    /// The number of indexes of an indexed job.
    pub(super) completions: Option<i32>,
    pub(super) policy: Option<&'a PodFailurePolicy>,
    /// Uids of failed pods that are kept for now.
    pub(super) held: &'a BTreeSet<String>,
}

/// Totals, with what still has to be added to them.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    pub(super) completed_indexes: BTreeSet<i32>,
    pub(super) uncounted: UncountedTerminatedPods,
    /// Pods whose uids are in `uncounted`: they may go once that is written.
    pub(super) release: Vec<Arc<Pod>>,
    /// Pods that ended since the last time.
    pub(super) fresh: Vec<(Arc<Pod>, End)>,
    /// Failures of pods that are kept for now.
    pub(super) held: i32,
}

impl Counted {
    pub(super) fn total(&self, end: End) -> i32 {
        let (counted, waiting) = match end {
            End::Succeeded => (self.succeeded, &self.uncounted.succeeded),
            End::Failed => (self.failed, &self.uncounted.failed),
        };
        let held = if end == End::Failed { self.held } else { 0 };
        counted + held + i32::try_from(waiting.as_ref().map_or(0, Vec::len)).unwrap_or(i32::MAX)
    }

    pub(super) fn is_settled(&self) -> bool {
        let none = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        none(&self.uncounted.succeeded) && none(&self.uncounted.failed)
    }
}

pub(super) fn count(status: &JobStatus, pods: &[Arc<Pod>], rules: &Rules<'_>) -> Counted {
    let completions = rules.completions;
    let by_uid: HashMap<&str, &Arc<Pod>> =
        pods.iter().filter_map(|pod| Some((pod.metadata.uid.as_deref()?, pod))).collect();
    let waiting = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let completed = status.completed_indexes.as_deref().unwrap_or_default();
    let mut counted = Counted {
        succeeded: status.succeeded.unwrap_or(0),
        failed: status.failed.unwrap_or(0),
        completed_indexes: completions.map(|limit| indexes::parse(completed, limit)).unwrap_or_default(),
        uncounted: UncountedTerminatedPods::default(),
        release: Vec::new(),
        fresh: Vec::new(),
        held: 0,
    };
    let mut known = BTreeSet::new();
    for (end, uids) in [(End::Succeeded, waiting.succeeded), (End::Failed, waiting.failed)] {
        for uid in uids.into_iter().flatten() {
            known.insert(uid.clone());
            match by_uid.get(uid.as_str()).filter(|pod| is_tracked(pod)) {
                Some(pod) => counted.wait(end, uid, pod),
                // It was let go: now it belongs to the totals. Those of an indexed job are its indexes.
                None if end == End::Failed => counted.failed += 1,
                None if completions.is_none() => counted.succeeded += 1,
                None => {}
            }
        }
    }
    for pod in pods.iter().filter(|pod| is_tracked(pod)) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let Some(end) = end(pod, rules.only_failed).filter(|_| !known.contains(&uid)) else { continue };
        let counts = end == End::Succeeded || rules.counts_failed(pod);
        if rules.held.contains(&uid) {
            counted.held += i32::from(counts);
            continue;
        }
        if counted.release.len() >= MAX_UNCOUNTED {
            break;
        }
        counted.note_index(end, pod, completions);
        counted.fresh.push((pod.clone(), end));
        if !counts {
            counted.release.push(pod.clone());
            continue;
        }
        // An index counts when it is complete, however many pods it took.
        counted.wait(end, uid, pod);
    }
    if completions.is_some() {
        counted.succeeded = i32::try_from(counted.completed_indexes.len()).unwrap_or(i32::MAX);
        counted.uncounted.succeeded = counted.uncounted.succeeded.take().filter(|it| !it.is_empty());
    }
    counted
}

impl Rules<'_> {
    /// A failed pod counts unless the policy ignores it; in an indexed job, it has to have an index.
    fn counts_failed(&self, pod: &Pod) -> bool {
        let is_placed = |limit| super::pod::index(pod).is_some_and(|index| index < limit);
        self.completions.is_none_or(is_placed) && judge(self.policy, pod) != Verdict::Ignore
    }
}

impl Counted {
    fn wait(&mut self, end: End, uid: String, pod: &Arc<Pod>) {
        let list = match end {
            End::Succeeded => &mut self.uncounted.succeeded,
            End::Failed => &mut self.uncounted.failed,
        };
        list.get_or_insert_default().push(uid);
        self.release.push(pod.clone());
    }

    fn note_index(&mut self, end: End, pod: &Pod, completions: Option<i32>) {
        let index = super::pod::index(pod).filter(|index| completions.is_some_and(|limit| *index < limit));
        if let Some(index) = index.filter(|_| end == End::Succeeded) {
            self.completed_indexes.insert(index);
        }
    }
}
