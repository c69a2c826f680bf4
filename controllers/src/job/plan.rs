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
    pod::{index, make},
    tracking::{self, Counted, End},
};
use crate::pods;

const CONTROLLER: &str = "kubernetes.io/job-controller";
/// First and longest wait after pods failed.
const BACKOFF_BASE: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(600);
/// Pods made at once.
const BURST: usize = 500;

/// Failures since the last success.
#[derive(Debug, Default)]
pub(super) struct Failures {
    count: u32,
    last: Option<Timestamp>,
}

impl Failures {
    fn note(&mut self, fresh: &[(Arc<Pod>, End)], now: Timestamp) {
        for (_, end) in fresh {
            match end {
                End::Succeeded => *self = Self::default(),
                End::Failed => {
                    self.count = self.count.saturating_add(1);
                    self.last = Some(now);
                }
            }
        }
    }

    /// How long no pod may be made.
    fn left(&self, now: Timestamp) -> Duration {
        let Some(last) = self.last else { return Duration::ZERO };
        let doublings = self.count.saturating_sub(1).min(16);
        let whole = BACKOFF_BASE.saturating_mul(1 << doublings).min(BACKOFF_MAX);
        whole.saturating_sub(Duration::try_from(now.duration_since(last)).unwrap_or_default())
    }
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

pub(super) fn plan(job: &Job, pods: &[Arc<Pod>], failures: &mut Failures, settled: bool, now: Timestamp) -> Plan {
    let spec = job.spec.clone().unwrap_or_default();
    let status = job.status.clone().unwrap_or_default();
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let only_failed = spec.pod_replacement_policy.as_deref() == Some("Failed");
    let completions = spec.completions.filter(|_| indexed);
    let counted = tracking::count(&status, pods, only_failed, completions);
    failures.note(&counted.fresh, now);
    let active: Vec<_> = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
    let mut planner =
        Planner { job, spec, status, pods, active, counted, only_failed, again: None, events: Vec::new(), now };
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
        if condition(&self.status, "FailureTarget").is_some() || condition(&self.status, "SuccessCriteriaMet").is_some()
        {
            return;
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if self.counted.total(End::Failed) > limit || self.restarts_exceed(limit) {
            let message = "Job has reached the specified backoff limit";
            self.set("FailureTarget", "True", "BackoffLimitExceeded", message);
        } else if self.is_past_deadline() {
            let message = "Job was active longer than specified deadline";
            self.set("FailureTarget", "True", "DeadlineExceeded", message);
        } else if self.is_complete() {
            let message = "Reached expected number of succeeded pods";
            self.set("SuccessCriteriaMet", "True", "CompletionsReached", message);
        }
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

    fn is_ending(&self) -> bool {
        condition(&self.status, "FailureTarget").is_some() || condition(&self.status, "SuccessCriteriaMet").is_some()
    }

    fn act(&mut self, failures: &Failures, settled: bool) -> Action {
        if self.is_ending() || self.is_suspended() {
            let all = std::mem::take(&mut self.active);
            return if all.is_empty() || !settled { self.keep(all) } else { Action::Delete(all) };
        }
        if !settled {
            return Action::Nothing;
        }
        let wanted = self.wanted();
        if self.active.len() > wanted {
            let surplus = self.active.len() - wanted;
            self.active.sort_by_key(|pod| (pods::is_ready(pod), pods::phase(pod) == "Running"));
            return Action::Delete(self.active.drain(..surplus).collect());
        }
        let terminating = if self.only_failed { self.terminating() } else { 0 };
        let missing = wanted.saturating_sub(self.active.len() + terminating).min(BURST);
        if missing == 0 {
            return Action::Nothing;
        }
        let left = failures.left(self.now);
        if !left.is_zero() {
            self.wait(left);
            return Action::Nothing;
        }
        Action::Create(self.make(missing))
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

    fn make(&self, count: usize) -> Vec<Pod> {
        let Some(completions) = self.spec.completions.filter(|_| self.is_indexed()) else {
            return (0..count).map(|_| make(self.job, None)).collect();
        };
        let occupied: BTreeSet<i32> = self.active.iter().filter_map(|pod| index(pod)).collect();
        let free = (0..completions).filter(|it| !occupied.contains(it) && !self.counted.completed_indexes.contains(it));
        free.take(count).map(|it| make(self.job, Some(it))).collect()
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
        }
        let quiet = matches!(action, Action::Nothing) && active == 0 && terminating == 0 && self.counted.is_settled();
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
            let known = ["BackoffLimitExceeded", "DeadlineExceeded"].into_iter().find(|it| *it == reason);
            self.events.push((EventType::Warning, known.unwrap_or("Failed"), message));
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
