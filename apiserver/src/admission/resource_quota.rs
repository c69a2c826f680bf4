//! ResourceQuota: a write that would use more than a namespace's quotas allow is refused; every other one is charged to
//! them before it is stored. Mirrors upstream's `k8s.io/apiserver/pkg/admission/plugin/resourcequota`.
//!
//! Writes of one namespace that come at the same time are charged together: one update of a quota's status covers them
//! all. A write that fails later leaves its charge behind until the controller has counted again.

mod check;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::quota::{Evaluator, Write};
use api::{Status, Value};
use async_trait::async_trait;
use daemon::Tasks;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::check::{Charge, Quota};
use super::{Attributes, Operation, Plugin};
use crate::objects::{Handle, Manager, Objects, Ref};

const RESOURCE: &str = "resourcequotas";
/// How often a charge is tried again after somebody else has changed a quota.
const RETRIES_MAX: usize = 3;
/// How long a write waits for its turn.
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a write is refused.
#[derive(Clone, Debug)]
enum Refusal {
    /// By a quota.
    Forbidden(String),
    /// The quotas could not be read or charged.
    Failed(Status),
}

type Outcome = Result<(), Refusal>;

struct Waiter {
    charge: Charge,
    dry_run: bool,
    answer: oneshot::Sender<Outcome>,
}

/// Writes that wait, by namespace. A namespace has an entry exactly while a task works on it.
type Waiting = Arc<Mutex<HashMap<String, Vec<Waiter>>>>;

pub(super) struct ResourceQuota {
    objects: Handle,
    tasks: Tasks,
    waiting: Waiting,
}

impl ResourceQuota {
    pub(super) fn new(objects: Handle, tasks: Tasks) -> Self {
        Self { objects, tasks, waiting: Waiting::default() }
    }

    /// Hands a write to the task of its namespace, and starts that when there is none.
    fn enqueue(&self, namespace: &str, waiter: Waiter) {
        let mut waiting = self.waiting.lock();
        if let Some(waiters) = waiting.get_mut(namespace) {
            waiters.push(waiter);
            return;
        }
        waiting.insert(namespace.to_owned(), vec![waiter]);
        let work = work_off(self.objects.clone(), self.waiting.clone(), namespace.to_owned());
        self.tasks.spawn("resource quota", work);
    }

    async fn charge(&self, namespace: &str, charge: Charge, dry_run: bool) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        self.enqueue(namespace, Waiter { charge, dry_run, answer });
        let timed_out = || Refusal::Failed(Status::internal("resource quota evaluation timed out"));
        match tokio::time::timeout(WAIT_TIMEOUT, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(timed_out()),
        }
    }
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let path = attributes.path;
        matches!(attributes.operation, Operation::Create | Operation::Update)
            && !path.namespace.is_empty()
            && !(path.group.is_empty() && path.resource == "namespaces")
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let path = attributes.path;
        let (Some(evaluator), Some(new)) = (Evaluator::of(&path.group, &path.resource), &attributes.object) else {
            return Ok(());
        };
        let write = Write { subresource: &path.subresource, new, old: attributes.old };
        if !evaluator.handles(&write) {
            return Ok(());
        }
        // Most namespaces have no quota.
        if self.objects.get().list(Ref::collection("", RESOURCE, &path.namespace)).is_empty() {
            return Ok(());
        }
        let charge = Charge::new(evaluator, &write);
        let outcome = self.charge(&path.namespace, charge, attributes.dry_run).await;
        outcome.map_err(|refusal| match refusal {
            Refusal::Forbidden(why) => attributes.forbidden(&why),
            Refusal::Failed(status) => status,
        })
    }
}

/// Settles what waits in a namespace until nothing does.
async fn work_off(objects: Handle, waiting: Waiting, namespace: String) {
    loop {
        let waiters = {
            let mut waiting = waiting.lock();
            match waiting.get_mut(&namespace).map(std::mem::take) {
                Some(waiters) if !waiters.is_empty() => waiters,
                _ => {
                    waiting.remove(&namespace);
                    return;
                }
            }
        };
        settle(objects.get(), &namespace, waiters).await;
    }
}

/// Decides on writes that came together.
async fn settle(objects: &dyn Objects, namespace: &str, waiters: Vec<Waiter>) {
    let mut outcomes: Vec<Option<Outcome>> = waiters.iter().map(|_| None).collect();
    let mut left: Option<Vec<String>> = None;
    let mut failure = None;
    for _ in 0..=RETRIES_MAX {
        let quotas = match read(objects, namespace, left.as_deref()).await {
            Ok(quotas) => quotas,
            Err(status) => {
                failure = Some(status);
                break;
            }
        };
        let charged = charge_all(&quotas, &waiters, &mut outcomes);
        let failed = write(objects, namespace, &quotas, &charged).await;
        let Some((_, status)) = failed.first() else {
            failure = None;
            break;
        };
        failure = Some(status.clone());
        left = Some(failed.into_iter().map(|(name, _)| name).collect());
    }
    for (waiter, outcome) in waiters.into_iter().zip(outcomes) {
        let undecided = || failure.clone().map_or(Ok(()), |status| Err(Refusal::Failed(status)));
        // A request that was given up no longer listens.
        let _ = waiter.answer.send(outcome.unwrap_or_else(undecided));
    }
}

/// The quotas as they would be with all writes that fit; decides on those that do not, or cost nothing.
fn charge_all(quotas: &[Quota], waiters: &[Waiter], outcomes: &mut [Option<Outcome>]) -> Vec<Quota> {
    let now = daemon::clock::now();
    let mut running = quotas.to_vec();
    for (waiter, outcome) in waiters.iter().zip(outcomes) {
        if outcome.is_some() {
            continue;
        }
        match waiter.charge.against(&running, now) {
            Err(why) => *outcome = Some(Err(Refusal::Forbidden(why))),
            Ok(_) if waiter.dry_run => *outcome = Some(Ok(())),
            Ok(charged) => {
                if check::same_use(&charged, &running) {
                    *outcome = Some(Ok(()));
                }
                running = charged;
            }
        }
    }
    running
}

/// The quotas of a namespace as they are stored now; only those of these names if there are any.
async fn read(objects: &dyn Objects, namespace: &str, only: Option<&[String]>) -> Result<Vec<Quota>, Status> {
    let mut quotas = Vec::new();
    for known in objects.list(Ref::collection("", RESOURCE, namespace)) {
        let name = api::meta::name(&known);
        if only.is_some_and(|only| !only.iter().any(|one| one == name)) {
            continue;
        }
        match objects.read(Ref::namespaced("", RESOURCE, namespace, name)).await {
            Ok(quota) => quotas.push(Quota::read(quota)),
            Err(status) if status.reason == api::Reason::NotFound => {}
            Err(status) => return Err(status),
        }
    }
    Ok(quotas)
}

/// Stores what has changed; returns what could not be.
async fn write(objects: &dyn Objects, namespace: &str, before: &[Quota], after: &[Quota]) -> Vec<(String, Status)> {
    let mut failed = Vec::new();
    for quota in after.iter().zip(before).filter(|(after, before)| after.used != before.used).map(|(after, _)| after) {
        let changed: Value = quota.charged_tree();
        let object = Ref::namespaced("", RESOURCE, namespace, &quota.name);
        if let Err(status) = objects.update(object, "status", changed, Manager::SERVER).await {
            failed.push((quota.name.clone(), status));
        }
    }
    failed
}
