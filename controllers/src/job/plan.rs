//! What a job needs, and its status. Pure but for the memory of failures.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobSpec, JobStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use reconcile::EventType;

use super::{
    indexes, is_active,
    per_index::{PerIndex, Pods},
    pod::{index, make},
    policy::{self, Verdict},
    tracking::{self, Counted, End, Rules, finished_at},
};
use crate::pods;

const CONTROLLER: &str = "kubernetes.io/job-controller";
/// First and longest wait after pods failed.
const BACKOFF_BASE: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(600);
/// Pods made at once.
const BURST: usize = 500;

/// Reasons of conditions that are reasons of events too.
const REASONS: [&str; 5] =
    ["BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy"];

/// Failures since the last success.
#[derive(Debug, Default)]
pub(super) struct Failures {
    count: u32,
    last: Option<Timestamp>,
    /// Uids of pods whose end is noted and that have not gone.
    noted: BTreeSet<String>,
}

impl Failures {
    fn note(&mut self, fresh: &[(Arc<Pod>, End)], pods: &[Arc<Pod>], now: Timestamp) {
        let uid = |pod: &Pod| pod.metadata.uid.clone().unwrap_or_default();
        self.noted.retain(|noted| pods.iter().any(|pod| pod.metadata.uid.as_ref() == Some(noted)));
        for (pod, end) in fresh {
            if !self.noted.insert(uid(pod)) {
                continue;
            }
            match end {
                End::Succeeded => (self.count, self.last) = (0, None),
                End::Failed => {
                    self.count = self.count.saturating_add(1);
                    self.last = self.last.max(Some(finished_at(pod).unwrap_or(now)));
                }
            }
        }
    }

    /// How long no pod may be made.
    fn left(&self, now: Timestamp) -> Duration {
        self.last.map_or(Duration::ZERO, |last| backoff(self.count, last, now))
    }
}

/// What is left of the wait after so many failures in a row, the last of them then.
pub(super) fn backoff(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = BACKOFF_BASE.saturating_mul(1 << doublings).min(BACKOFF_MAX);
    whole.saturating_sub(Duration::try_from(now.duration_since(last)).unwrap_or_default())
}

#[derive(Debug)]
pub(super) enum Action {
    Nothing,
    Create(Vec<Pod>),
    Delete(Vec<Arc<Pod>>),
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) status: JobStatus,
    pub(super) action: Action,
    /// Pods that may go once the status is written.
    pub(super) release: Vec<Arc<Pod>>,
    pub(super) again: Option<Duration>,
    pub(super) events: Vec<(EventType, &'static str, String)>,
}

pub(super) fn is_managed_elsewhere(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref()).is_some_and(|it| it != CONTROLLER)
}

fn condition<'a>(status: &'a JobStatus, type_: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|it| it.type_ == type_ && it.status == "True")
}

pub(super) fn is_finished(job: &Job) -> bool {
    job.status.as_ref().is_some_and(|it| condition(it, "Complete").is_some() || condition(it, "Failed").is_some())
}

/// It is decided how the job ends.
fn is_ending(status: &JobStatus) -> bool {
    condition(status, "FailureTarget").is_some() || condition(status, "SuccessCriteriaMet").is_some()
}

pub(super) fn plan(job: &Job, pods: &[Arc<Pod>], failures: &mut Failures, settled: bool, now: Timestamp) -> Plan {
    let spec = job.spec.clone().unwrap_or_default();
    let status = job.status.clone().unwrap_or_default();
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let only_failed = spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some();
    let active: Vec<_> = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
    let there = Pods { all: pods, active: &active, only_failed };
    let per_index = PerIndex::new(&spec, &status, &there, is_ending(&status)).filter(|_| indexed);
    let held = per_index.as_ref().map(PerIndex::held_uids).unwrap_or_default();
    let policy = spec.pod_failure_policy.as_ref();
    let rules = Rules { only_failed, completions: spec.completions.filter(|_| indexed), policy, held: &held };
    let counted = tracking::count(&status, pods, &rules);
    failures.note(&counted.fresh, pods, now);
    let (again, events) = (None, Vec::new());
    let mut planner = Planner { job, spec, status, pods, active, counted, per_index, only_failed, again, events, now };
    planner.start();
    planner.decide_end();
    let action = planner.act(failures, settled);
    planner.finish(action)
}

struct Planner<'a> {
    job: &'a Job,
    spec: JobSpec,
    status: JobStatus,
    pods: &'a [Arc<Pod>],
    active: Vec<Arc<Pod>>,
    counted: Counted,
    per_index: Option<PerIndex>,
    only_failed: bool,
    again: Option<Duration>,
    events: Vec<(EventType, &'static str, String)>,
    now: Timestamp,
}

impl Planner<'_> {
    fn is_suspended(&self) -> bool {
        self.spec.suspend.unwrap_or(false)
    }

    fn wait(&mut self, left: Duration) {
        self.again = Some(self.again.map_or(left, |again| again.min(left)));
    }

    fn set(&mut self, type_: &str, status: &str, reason: &str, message: &str) {
        let conditions = self.status.conditions.get_or_insert_default();
        conditions.retain(|it| it.type_ != type_);
        conditions.push(JobCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: Some(Time(self.now)),
            last_transition_time: Some(Time(self.now)),
        });
    }

    /// The clock of a job runs from its start, or from when it was last resumed.
    fn start(&mut self) {
        let noted =
            self.status.conditions.iter().flatten().find(|it| it.type_ == "Suspended").map(|it| it.status.clone());
        match (self.is_suspended(), noted.as_deref()) {
            (true, Some("True")) => {}
            (true, _) => {
                self.set("Suspended", "True", "JobSuspended", "Job suspended");
                self.status.start_time = None;
                self.events.push((EventType::Normal, "Suspended", "Job suspended".to_owned()));
            }
            (false, Some("True")) => {
                self.set("Suspended", "False", "JobResumed", "Job resumed");
                self.status.start_time = Some(Time(self.now));
                self.events.push((EventType::Normal, "Resumed", "Job resumed".to_owned()));
            }
            (false, _) if self.status.start_time.is_none() => self.status.start_time = Some(Time(self.now)),
            (false, _) => {}
        }
    }

    /// Notes that the job has to end, and why.
    fn decide_end(&mut self) {
        if is_ending(&self.status) {
            return;
        }
        let failure =
            self.failure_by_policy().or_else(|| self.failure_by_limits()).or_else(|| self.failure_of_indexes());
        if let Some((reason, message)) = failure {
            self.set("FailureTarget", "True", reason, &message);
        } else if let Some(rule) = self.success_by_policy() {
            self.set("SuccessCriteriaMet", "True", "SuccessPolicy", &format!("Matched rules at index {rule}"));
        } else if self.is_complete() {
            let message = "Reached expected number of succeeded pods";
            self.set("SuccessCriteriaMet", "True", "CompletionsReached", message);
        }
    }

    fn failure_by_policy(&self) -> Option<(&'static str, String)> {
        let policy = self.spec.pod_failure_policy.as_ref()?;
        let failed = self.pods.iter().filter(|pod| tracking::end(pod, self.only_failed) == Some(End::Failed));
        let fatal = failed.map(|pod| policy::judge(Some(policy), pod)).find_map(|verdict| match verdict {
            Verdict::FailJob(message) => Some(message),
            _ => None,
        });
        fatal.map(|message| ("PodFailurePolicy", message))
    }

    fn failure_by_limits(&mut self) -> Option<(&'static str, String)> {
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if self.counted.total(End::Failed) > limit || self.restarts_exceed(limit) {
            return Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit".to_owned()));
        }
        let message = "Job was active longer than specified deadline";
        self.is_past_deadline().then(|| ("DeadlineExceeded", message.to_owned()))
    }

    fn failure_of_indexes(&self) -> Option<(&'static str, String)> {
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let failed = number(self.per_index.as_ref()?.failed.len());
        if self.spec.max_failed_indexes.is_some_and(|most| failed > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(("MaxFailedIndexesExceeded", message.to_owned()));
        }
        let ended = failed + number(self.counted.completed_indexes.len());
        let all = failed > 0 && ended >= self.spec.completions.unwrap_or(0);
        all.then(|| ("FailedIndexes", "Job has failed indexes".to_owned()))
    }

    /// The number of the rule that is met.
    fn success_by_policy(&self) -> Option<usize> {
        let completions = self.spec.completions.filter(|_| self.is_indexed())?;
        policy::met(self.spec.success_policy.as_ref(), completions, &self.counted.completed_indexes)
    }

    /// Containers that are restarted in place count when their pods do not fail.
    fn restarts_exceed(&self, limit: i32) -> bool {
        let policy = self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let restarts = |pod: &Arc<Pod>| {
            let status = pod.status.clone().unwrap_or_default();
            let all = status.container_statuses.into_iter().chain(status.init_container_statuses).flatten();
            all.map(|it| it.restart_count).sum::<i32>()
        };
        let running = self.active.iter().filter(|pod| matches!(pods::phase(pod), "Running" | "Pending"));
        let total: i32 = running.map(restarts).sum();
        if limit == 0 { total > 0 } else { total >= limit }
    }

    fn is_past_deadline(&mut self) -> bool {
        let (Some(seconds), Some(start)) = (self.spec.active_deadline_seconds, &self.status.start_time) else {
            return false;
        };
        let left = SignedDuration::from_secs(seconds) - self.now.duration_since(start.0);
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => {
                self.wait(left);
                false
            }
            _ => !self.is_suspended(),
        }
    }

    fn is_complete(&self) -> bool {
        let succeeded = self.counted.total(End::Succeeded);
        match self.spec.completions {
            Some(completions) if self.is_indexed() => self.counted.succeeded >= completions,
            Some(completions) => succeeded >= completions,
            None => succeeded > 0 && self.active.is_empty(),
        }
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn act(&mut self, failures: &Failures, settled: bool) -> Action {
        if is_ending(&self.status) || self.is_suspended() {
            let all = std::mem::take(&mut self.active);
            return if all.is_empty() || !settled { self.keep(all) } else { Action::Delete(all) };
        }
        if !settled {
            return Action::Nothing;
        }
        let wanted = self.wanted();
        self.active.sort_by_key(|pod| (pods::is_ready(pod), pods::phase(pod) == "Running"));
        let mut surplus = self.misplaced();
        let more = self.active.len().saturating_sub(wanted);
        surplus.extend(self.active.drain(..more));
        if !surplus.is_empty() {
            return Action::Delete(surplus);
        }
        let terminating = if self.only_failed { self.terminating() } else { 0 };
        let missing = wanted.saturating_sub(self.active.len() + terminating).min(BURST);
        if missing == 0 {
            return Action::Nothing;
        }
        let left = if self.per_index.is_some() { Duration::ZERO } else { failures.left(self.now) };
        if !left.is_zero() {
            self.wait(left);
            return Action::Nothing;
        }
        match self.make(missing) {
            pods if pods.is_empty() => Action::Nothing,
            pods => Action::Create(pods),
        }
    }

    /// Takes out active pods whose index is not one of the job's, or another pod's.
    fn misplaced(&mut self) -> Vec<Arc<Pod>> {
        let Some(completions) = self.spec.completions.filter(|_| self.is_indexed()) else { return Vec::new() };
        let mut taken = BTreeSet::new();
        let is_placed = |pod: &Arc<Pod>| index(pod).is_some_and(|at| at < completions && taken.insert(at));
        // Those that have come furthest stay.
        let (stay, go) = self.active.drain(..).rev().partition(is_placed);
        self.active = stay;
        self.active.reverse();
        go
    }

    fn keep(&mut self, active: Vec<Arc<Pod>>) -> Action {
        self.active = active;
        Action::Nothing
    }

    fn wanted(&self) -> usize {
        let parallelism = usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0);
        let succeeded = self.counted.total(End::Succeeded);
        match self.spec.completions {
            // One of a group has finished the work: the others finish theirs, and no more are started.
            None if succeeded > 0 => self.active.len(),
            None => parallelism,
            Some(completions) => {
                let done = if self.is_indexed() { self.counted.succeeded } else { succeeded };
                parallelism.min(usize::try_from(completions - done).unwrap_or(0))
            }
        }
    }

    fn make(&mut self, count: usize) -> Vec<Pod> {
        let Some(completions) = self.spec.completions.filter(|_| self.is_indexed()) else {
            return (0..count).map(|_| make(self.job, None)).collect();
        };
        let mut occupied: BTreeSet<i32> = self.active.iter().filter_map(|pod| index(pod)).collect();
        if self.only_failed {
            occupied.extend(self.pods.iter().filter(|pod| pods::is_terminating(pod)).filter_map(|pod| index(pod)));
        }
        let is_free = |at: &i32| {
            let failed = self.per_index.as_ref().is_some_and(|per_index| per_index.failed.contains(at));
            !occupied.contains(at) && !self.counted.completed_indexes.contains(at) && !failed
        };
        let free: Vec<i32> = (0..completions).filter(is_free).take(count).collect();
        let Some(per_index) = &self.per_index else {
            return free.into_iter().map(|at| make(self.job, Some(at))).collect();
        };
        let (due, later): (Vec<_>, Vec<_>) = free.into_iter().partition(|at| per_index.left(*at, self.now).is_zero());
        let policy = self.spec.pod_failure_policy.as_ref();
        let pods = due.into_iter().map(|at| {
            let mut pod = make(self.job, Some(at));
            per_index.annotate(policy, at, &mut pod);
            pod
        });
        let pods = pods.collect();
        let next = later.into_iter().map(|at| per_index.left(at, self.now)).min();
        next.into_iter().for_each(|left| self.wait(left));
        pods
    }

    fn terminating(&self) -> usize {
        self.pods.iter().filter(|pod| pods::is_terminating(pod)).count()
    }

    fn finish(mut self, action: Action) -> Plan {
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let active = self.active.len() + if let Action::Create(pods) = &action { pods.len() } else { 0 };
        let terminating = self.terminating();
        let some = |count: i32| Some(count).filter(|count| *count != 0);
        self.status.active = some(number(active));
        self.status.ready = Some(number(self.active.iter().filter(|pod| pods::is_ready(pod)).count()));
        self.status.terminating = Some(number(terminating));
        self.status.succeeded = some(self.counted.succeeded);
        self.status.failed = some(self.counted.failed);
        if self.is_indexed() {
            let text = indexes::format(&self.counted.completed_indexes);
            self.status.completed_indexes = Some(text).filter(|text| !text.is_empty());
            self.status.failed_indexes = self.per_index.as_ref().map(|it| indexes::format(&it.failed));
        }
        // Pods that are kept for their successors are let go, and counted, when there will be none.
        let is_counted = self.counted.is_settled() && self.counted.held == 0;
        let quiet = matches!(action, Action::Nothing) && active == 0 && terminating == 0 && is_counted;
        self.status.uncounted_terminated_pods = Some(self.counted.uncounted.clone());
        if quiet {
            self.conclude();
        }
        let Self { status, counted, again, events, .. } = self;
        Plan { status, action, release: counted.release, again, events }
    }

    /// Nothing of the job runs any more, and everything is counted.
    fn conclude(&mut self) {
        let target = |type_: &str| {
            let it = condition(&self.status, type_)?;
            Some((it.reason.clone().unwrap_or_default(), it.message.clone().unwrap_or_default()))
        };
        if let Some((reason, message)) = target("SuccessCriteriaMet") {
            self.set("Complete", "True", &reason, &message);
            self.status.completion_time = Some(Time(self.now));
            self.events.push((EventType::Normal, "Completed", "Job completed".to_owned()));
        } else if let Some((reason, message)) = target("FailureTarget") {
            self.set("Failed", "True", &reason, &message);
            let known = REASONS.into_iter().find(|it| *it == reason);
            self.events.push((EventType::Warning, known.unwrap_or("Failed"), message));
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
