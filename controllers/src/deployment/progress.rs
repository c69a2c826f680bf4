//! The status: counts, and what the conditions say about progress. Pure.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::scale;

const AVAILABLE: &str = "Available";
pub(super) const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(super) const CREATE_ERROR: &str = "ReplicaSetCreateError";
pub(super) const NEW_CREATED: &str = "NewReplicaSetCreated";
pub(super) const NEW_FOUND: &str = "FoundNewReplicaSet";
const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const UPDATED: &str = "ReplicaSetUpdated";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

pub(super) fn condition<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|it| it.type_.as_deref() == Some(type_))
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|it| it.type_.as_deref() != Some(type_));
    }
}

fn make(type_: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(type_.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Replaces the condition of this type, unless status and reason stay.
fn set(status: &mut DeploymentStatus, mut wanted: DeploymentCondition) {
    let type_ = wanted.type_.clone().unwrap_or_default();
    if let Some(present) = condition(status, &type_) {
        if present.status == wanted.status && present.reason == wanted.reason {
            return;
        }
        if present.status == wanted.status {
            wanted.last_transition_time.clone_from(&present.last_transition_time);
        }
    }
    remove(status, &type_);
    status.conditions.get_or_insert_default().push(wanted);
}

/// Notes progress at once, in the status that is there.
pub(super) fn note(status: &mut DeploymentStatus, reason: &str, message: &str, now: Timestamp) {
    set(status, make(PROGRESSING, "True", reason, message, now));
}

pub(super) fn deadline(deployment: &Deployment) -> Option<i32> {
    deployment.spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)
}

/// The deployment with the condition that its replica set could not be created.
pub(super) fn creation_failed(deployment: &Deployment, message: &str, now: Timestamp) -> Option<Box<Deployment>> {
    deadline(deployment)?;
    let mut changed = deployment.clone();
    set(changed.status.get_or_insert_default(), make(PROGRESSING, "False", CREATE_ERROR, message, now));
    Some(Box::new(changed))
}

/// The status with the condition that the deployment was paused or resumed, if it just was: while it is paused its
/// deadline does not run.
pub(super) fn paused(deployment: &Deployment, now: Timestamp) -> Option<DeploymentStatus> {
    deadline(deployment)?;
    let mut status = deployment.status.clone().unwrap_or_default();
    let reason = condition(&status, PROGRESSING).and_then(|it| it.reason.clone());
    let noted = reason.as_deref() == Some(PAUSED);
    let paused = deployment.spec.paused.unwrap_or(false);
    if reason.as_deref() == Some(TIMED_OUT) || paused == noted {
        return None;
    }
    let (reason, message) = if paused { (PAUSED, "Deployment is paused") } else { (RESUMED, "Deployment is resumed") };
    set(&mut status, make(PROGRESSING, "Unknown", reason, message, now));
    Some(status)
}

/// Counts, and whether enough replicas are available.
pub(super) fn counted(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let sum = |count: &dyn Fn(&ReplicaSet) -> i32| sets.iter().map(|set| count(set)).sum::<i32>();
    let status = |set: &ReplicaSet| set.status.clone().unwrap_or_default();
    let available = available(sets);
    let some = |count: i32| Some(count).filter(|count| *count != 0);
    let mut counted = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(&|set| status(set).replicas)),
        updated_replicas: some(new.map_or(0, |set| status(set).replicas)),
        ready_replicas: some(sum(&|set| status(set).ready_replicas.unwrap_or(0))),
        available_replicas: some(available),
        unavailable_replicas: some((scale::total(sets) - available).max(0)),
        terminating_replicas: terminating(sets),
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    let minimum = scale::wanted(deployment) - scale::max_unavailable(deployment);
    let condition = if available >= minimum {
        make(AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now)
    } else {
        let message = "Deployment does not have minimum availability.";
        make(AVAILABLE, "False", "MinimumReplicasUnavailable", message, now)
    };
    set(&mut counted, condition);
    counted
}

pub(super) fn available(sets: &[Arc<ReplicaSet>]) -> i32 {
    sets.iter().filter_map(|set| set.status.as_ref()?.available_replicas).sum()
}

/// Unknown as soon as one set that has been looked at does not tell.
fn terminating(sets: &[Arc<ReplicaSet>]) -> Option<i32> {
    let mut total = 0;
    for status in sets.iter().filter_map(|set| set.status.as_ref()) {
        match status.terminating_replicas {
            Some(count) => total += count,
            None if status.observed_generation.unwrap_or(0) == 0 => {}
            None => return None,
        }
    }
    Some(total)
}

/// All replicas are new and available, and no others are left.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = scale::wanted(deployment);
    let counts = [status.updated_replicas, status.replicas, status.available_replicas];
    counts.iter().all(|count| count.unwrap_or(0) == wanted)
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let zero = |count: Option<i32>| count.unwrap_or(0);
    let left = |status: &DeploymentStatus| zero(status.replicas) - zero(status.updated_replicas);
    zero(new.updated_replicas) > zero(old.updated_replicas)
        || left(new) < left(old)
        || zero(new.ready_replicas) > zero(old.ready_replicas)
        || zero(new.available_replicas) > zero(old.available_replicas)
}

fn has_timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let Some(present) = condition(status, PROGRESSING) else { return false };
    match present.reason.as_deref() {
        Some(NEW_AVAILABLE) => return false,
        Some(TIMED_OUT) => return true,
        _ => {}
    }
    left(deployment, present, now).is_some_and(|left| left.is_negative())
}

/// What is left until the deadline, from the last time that progress was seen.
fn left(deployment: &Deployment, present: &DeploymentCondition, now: Timestamp) -> Option<SignedDuration> {
    let deadline = SignedDuration::from_secs(i64::from(deadline(deployment)?));
    let since = present.last_update_time.as_ref()?.0;
    Some(deadline - now.duration_since(since))
}

/// The status during a rollout: counts, whether it progresses, and what keeps pods from being made.
pub(super) fn rolling(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) -> DeploymentStatus {
    let mut status = counted(deployment, sets, new, now);
    let old = deployment.status.clone().unwrap_or_default();
    let present = condition(&old, PROGRESSING).cloned();
    let finished = status.replicas.unwrap_or(0) == status.updated_replicas.unwrap_or(0)
        && present.as_ref().is_some_and(|it| it.reason.as_deref() == Some(NEW_AVAILABLE));
    if deadline(deployment).is_none() {
        remove(&mut status, PROGRESSING);
    } else if !finished {
        judge(deployment, &old, &mut status, new, now);
    }
    match failure(sets, new) {
        Some(failure) => set(&mut status, failure),
        None => remove(&mut status, REPLICA_FAILURE),
    }
    status
}

fn judge(
    deployment: &Deployment,
    old: &DeploymentStatus,
    status: &mut DeploymentStatus,
    new: Option<&ReplicaSet>,
    now: Timestamp,
) {
    let subject = match new.and_then(|set| set.metadata.name.as_ref()) {
        Some(name) => format!("ReplicaSet \"{name}\""),
        None => format!("Deployment \"{}\"", deployment.metadata.name.as_deref().unwrap_or_default()),
    };
    if is_complete(deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        set(status, make(PROGRESSING, "True", NEW_AVAILABLE, &message, now));
    } else if has_progressed(old, status) {
        let mut wanted = make(PROGRESSING, "True", UPDATED, &format!("{subject} is progressing."), now);
        // Written even when nothing but the time of the update differs: the deadline starts again.
        if let Some(present) = condition(old, PROGRESSING) {
            if present.status.as_deref() == Some("True") {
                wanted.last_transition_time.clone_from(&present.last_transition_time);
            }
            remove(status, PROGRESSING);
        }
        set(status, wanted);
    } else if has_timed_out(deployment, status, now) {
        let message = format!("{subject} has timed out progressing.");
        set(status, make(PROGRESSING, "False", TIMED_OUT, &message, now));
    }
}

/// The failure of the newest set, else of any.
fn failure(sets: &[Arc<ReplicaSet>], new: Option<&ReplicaSet>) -> Option<DeploymentCondition> {
    let of = |set: &ReplicaSet| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        let failure = conditions.iter().find(|it| it.type_.as_deref() == Some(REPLICA_FAILURE))?;
        Some(DeploymentCondition {
            type_: failure.type_.clone(),
            status: failure.status.clone(),
            reason: failure.reason.clone(),
            message: failure.message.clone(),
            last_update_time: failure.last_transition_time.clone(),
            last_transition_time: failure.last_transition_time.clone(),
        })
    };
    new.and_then(of).or_else(|| sets.iter().find_map(|set| of(set)))
}

/// When the deadline has to be looked at again, if nothing else happens.
pub(super) fn next_check(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let present = condition(status, PROGRESSING)?;
    if is_complete(deployment, status) || present.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    let left = Duration::try_from(left(deployment, present, now)?).unwrap_or_default();
    Some(left + Duration::from_secs(1))
}
