//! What a cron job does now. Pure.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use reconcile::{EventType, controller_ref, reference};

use super::schedule::Schedule;

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Clocks differ: looking a little late finds the time come.
const LATE: Duration = Duration::from_millis(100);
/// So many times may have been missed before that is told.
const MANY: i64 = 100;

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) status: CronJobStatus,
    /// A job to start, for this time.
    pub(super) start: Option<(Timestamp, Job)>,
    /// Running jobs that the new one replaces.
    pub(super) replace: Vec<String>,
    /// Ended jobs beyond the history.
    pub(super) surplus: Vec<String>,
    pub(super) again: Option<Duration>,
    pub(super) events: Vec<(EventType, &'static str, String)>,
}

/// `gone` are uids of jobs that are said to be active and do not exist.
pub(super) fn plan(cron: &CronJob, jobs: &[Arc<Job>], gone: &BTreeSet<String>, now: Timestamp) -> Plan {
    let mut plan = Plan { status: cron.status.clone().unwrap_or_default(), ..Plan::default() };
    plan.take_stock(jobs, gone);
    plan.surplus = surplus(cron, jobs);
    if cron.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let zone = match cron.spec.time_zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => match TimeZone::get(name) {
            Ok(zone) => zone,
            Err(error) => {
                plan.warn("UnknownTimeZone", format!("invalid timeZone: {name:?}: {error}"));
                return plan;
            }
        },
    };
    if cron.spec.suspend.unwrap_or(false) {
        return plan;
    }
    match Schedule::parse(&cron.spec.schedule) {
        Ok(schedule) => plan.decide(&Clock { cron, schedule, zone, now }),
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", cron.spec.schedule);
            plan.warn("UnparseableSchedule", message);
        }
    }
    plan
}

/// A cron job's schedule at a moment.
struct Clock<'a> {
    cron: &'a CronJob,
    schedule: Schedule,
    zone: TimeZone,
    now: Timestamp,
}

impl Clock<'_> {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next(after, &self.zone)
    }

    /// The last time that has come since the last start, and whether very many came.
    fn due(&self) -> Option<(Timestamp, bool)> {
        let created = self.cron.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let last = self.cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref()).map(|time| time.0);
        let mut since = last.or(created).unwrap_or(self.now);
        if let Some(seconds) = self.cron.spec.starting_deadline_seconds {
            // Further back than time goes is no limit.
            let earliest = self.now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN);
            since = since.max(earliest);
        }
        let first = self.next(since).filter(|time| *time <= self.now)?;
        let Some(second) = self.next(first).filter(|time| *time <= self.now) else { return Some((first, false)) };
        // Not one by one: the last start may be long ago.
        let period = second.duration_since(first).as_secs().max(1);
        let missed = self.now.duration_since(first).as_secs() / period + 1;
        let near = first + SignedDuration::from_secs((missed - 2).max(0) * period);
        let come = |after: Timestamp| self.next(after).filter(|time| *time <= self.now);
        // Between uneven times there may be none that near; as upstream, none is made up.
        let latest = std::iter::successors(come(near), |time| come(*time)).last()?;
        Some((latest, missed > MANY))
    }

    fn wait(&self) -> Option<Duration> {
        let next = self.next(self.now)?;
        Some(Duration::try_from(next.duration_since(self.now)).unwrap_or_default() + LATE)
    }
}

impl Plan {
    fn warn(&mut self, reason: &'static str, message: String) {
        self.events.push((EventType::Warning, reason, message));
    }

    fn tell(&mut self, reason: &'static str, message: String) {
        self.events.push((EventType::Normal, reason, message));
    }

    /// Brings the list of active jobs up to date.
    fn take_stock(&mut self, jobs: &[Arc<Job>], gone: &BTreeSet<String>) {
        let mut active = self.status.active.take().unwrap_or_default();
        for job in jobs {
            let name = job.metadata.name.clone().unwrap_or_default();
            let known = active.iter().position(|it| it.uid == job.metadata.uid);
            match (ended(job), known) {
                (Some(how), Some(at)) => {
                    active.remove(at);
                    self.tell("SawCompletedJob", format!("Saw completed job: {name}, condition: {how}"));
                }
                (None, None) => {
                    let message = format!("Saw a job that the controller did not create or forgot: {name}");
                    self.warn("UnexpectedJob", message);
                }
                _ => {}
            }
            let completed = job.status.as_ref().and_then(|status| status.completion_time.clone());
            if ended(job) == Some("Complete") && completed > self.status.last_successful_time {
                self.status.last_successful_time = completed;
            }
        }
        active.retain(|it| {
            let is_gone = it.uid.as_ref().is_some_and(|uid| gone.contains(uid));
            if is_gone {
                let name = it.name.as_deref().unwrap_or_default();
                self.events.push((EventType::Normal, "MissingJob", format!("Active job went missing: {name}")));
            }
            !is_gone
        });
        self.status.active = Some(active).filter(|it| !it.is_empty());
    }

    fn decide(&mut self, clock: &Clock<'_>) {
        self.again = clock.wait();
        let Some((at, many)) = clock.due() else { return };
        if many {
            let message =
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.warn("TooManyMissedTimes", message.to_owned());
        }
        let spec = &clock.cron.spec;
        let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        if deadline.and_then(|deadline| at.checked_add(deadline).ok()).is_some_and(|end| end < clock.now) {
            let when = at.strftime("%a, %d %b %Y %H:%M:%S +0000");
            return self.warn("MissSchedule", format!("Missed scheduled time to start a job: {when}"));
        }
        let name = job_name(clock.cron, at);
        let active = self.status.active.clone().unwrap_or_default();
        let done = self.status.last_schedule_time.as_ref().is_some_and(|last| last.0 == at);
        if done || active.iter().any(|it| it.name.as_ref() == Some(&name)) {
            return;
        }
        match spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                return self.tell("JobAlreadyActive", message.to_owned());
            }
            Some("Replace") => {
                self.replace = active.into_iter().filter_map(|it| it.name).collect();
                self.status.active = None;
            }
            _ => {}
        }
        self.start = Some((at, job(clock, name, at)));
    }
}

/// How a job ended.
pub(super) fn ended(job: &Job) -> Option<&'static str> {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    ["Complete", "Failed"]
        .into_iter()
        .find(|type_| conditions.iter().any(|it| it.type_ == *type_ && it.status == "True"))
}

/// The oldest ended jobs beyond what is kept of each sort.
fn surplus(cron: &CronJob, jobs: &[Arc<Job>]) -> Vec<String> {
    let spec = &cron.spec;
    let limits = [
        ("Complete", spec.successful_jobs_history_limit.unwrap_or(3)),
        ("Failed", spec.failed_jobs_history_limit.unwrap_or(1)),
    ];
    let mut names = Vec::new();
    for (how, limit) in limits {
        let mut list: Vec<_> = jobs.iter().filter(|job| ended(job) == Some(how)).collect();
        let started = |job: &Job| job.status.as_ref().and_then(|status| status.start_time.clone()).map(|time| time.0);
        list.sort_by(|one, other| {
            started(one).cmp(&started(other)).then_with(|| one.metadata.name.cmp(&other.metadata.name))
        });
        let surplus = list.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        names.extend(list[..surplus].iter().filter_map(|job| job.metadata.name.clone()));
    }
    names
}

/// The same for the same time, so that a job is not started twice.
fn job_name(cron: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", cron.metadata.name.as_deref().unwrap_or_default(), at.as_second() / 60)
}

fn job(clock: &Clock<'_>, name: String, at: Timestamp) -> Job {
    let template = clock.cron.spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let local = at.to_zoned(clock.zone.clone());
    let text = match clock.cron.spec.time_zone {
        None => local.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Some(_) => local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    };
    annotations.insert(SCHEDULED_AT.to_owned(), text);
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: clock.cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_ref(clock.cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

pub(super) fn note_start(status: &mut CronJobStatus, job: &Job, at: Timestamp) {
    let active: &mut Vec<ObjectReference> = status.active.get_or_insert_default();
    if !active.iter().any(|it| it.uid == job.metadata.uid) {
        active.push(reference(job));
    }
    status.last_schedule_time = Some(Time(at));
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
