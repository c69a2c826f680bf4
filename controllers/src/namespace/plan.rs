//! What is left of a namespace, how long it may take, and the conditions that tell it. Pure.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{NamespaceCondition, NamespaceStatus, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{Error, discovery::Resource};

/// How long finalizers are given before the next look.
const FINALIZER_ESTIMATE: Duration = Duration::from_secs(15);

/// Condition type, and reason and message while there is nothing to complain about.
const CONDITIONS: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// What remains of one resource.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Remaining {
    pub(super) estimate: Duration,
    pub(super) items: usize,
    pub(super) finalizers: BTreeMap<String, usize>,
}

/// What remains of a namespace.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) estimate: Duration,
    /// Other content waits for the pods.
    pub(super) pods_remain: bool,
    /// `resource.group` to number of objects.
    pub(super) remaining: BTreeMap<String, usize>,
    pub(super) finalizers: BTreeMap<String, usize>,
    pub(super) errors: Vec<Error>,
    /// Those of `errors` that are about content.
    content_errors: Vec<String>,
    discovery: Option<String>,
}

impl Progress {
    pub(super) fn discovery_failed(&mut self, message: &str) {
        self.discovery = Some(message.to_owned());
    }

    pub(super) fn add(&mut self, resource: &Resource, outcome: Result<Remaining, Error>) {
        let left = match outcome {
            Ok(left) => left,
            Err(error) => {
                self.content_errors.push(error.message());
                self.errors.push(error);
                return;
            }
        };
        self.estimate = self.estimate.max(left.estimate);
        if left.items > 0 {
            self.remaining.insert(format!("{}.{}", resource.api.plural, resource.api.group), left.items);
        }
        for (finalizer, items) in left.finalizers {
            *self.finalizers.entry(finalizer).or_default() += items;
        }
    }

    /// The first of the errors, if there are any.
    pub(super) fn into_error(self) -> Option<Error> {
        self.errors.into_iter().next()
    }

    fn complaints(&self) -> BTreeMap<&'static str, (&'static str, String)> {
        let mut complaints = BTreeMap::new();
        if let Some(message) = &self.discovery {
            complaints.insert(CONDITIONS[0].0, ("DiscoveryFailed", message.clone()));
        }
        if !self.content_errors.is_empty() {
            let mut errors = self.content_errors.clone();
            errors.sort_unstable();
            let (count, list) = (errors.len(), errors.join(", "));
            let message = format!("Failed to delete all resource types, {count} remaining: {list}");
            complaints.insert(CONDITIONS[2].0, ("ContentDeletionFailed", message));
        }
        // While other content waits for the pods its remains are not known, and nothing is said about them.
        if self.pods_remain {
            return complaints;
        }
        if !self.remaining.is_empty() {
            let list = self.remaining.iter().map(|(name, count)| format!("{name} has {count} resource instances"));
            let list: Vec<_> = list.collect();
            let message = format!("Some resources are remaining: {}", list.join(", "));
            complaints.insert(CONDITIONS[3].0, ("SomeResourcesRemain", message));
        }
        if !self.finalizers.is_empty() {
            let list = self.finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances"));
            let list: Vec<_> = list.collect();
            let message = format!("Some content in the namespace has finalizers remaining: {}", list.join(", "));
            complaints.insert(CONDITIONS[4].0, ("SomeFinalizersRemain", message));
        }
        complaints
    }
}

/// Judges the objects left after a deletion by their finalizers. Objects that neither end gracefully nor have
/// finalizers should not be there.
pub(super) fn remaining(
    left: Vec<Vec<String>>,
    grace: Duration,
    unexpected: impl FnOnce() -> Error,
) -> Result<Remaining, Error> {
    let items = left.len();
    if items == 0 {
        return Ok(Remaining::default());
    }
    let mut finalizers = BTreeMap::new();
    for finalizer in left.into_iter().flatten() {
        *finalizers.entry(finalizer).or_default() += 1;
    }
    if !grace.is_zero() {
        return Ok(Remaining { estimate: grace, items, finalizers });
    }
    if finalizers.is_empty() {
        return Err(unexpected());
    }
    Ok(Remaining { estimate: FINALIZER_ESTIMATE, items, finalizers })
}

/// The longest grace period of pods that have not ended, unless it has passed since the deletion.
pub(super) fn pods_grace(pods: &[Pod], deleted: Option<Timestamp>, now: Timestamp) -> Duration {
    let ended = |pod: &&Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    let periods = pods.iter().filter(|pod| !ended(pod)).filter_map(|pod| {
        let seconds = pod.spec.as_ref()?.termination_grace_period_seconds?;
        u64::try_from(seconds).ok()
    });
    let grace = Duration::from_secs(periods.max().unwrap_or(0));
    let since = deleted.map_or(Duration::ZERO, |deleted| now.duration_since(deleted).try_into().unwrap_or_default());
    if since >= grace { Duration::ZERO } else { grace }
}

/// Brings the conditions up to date; false when they were.
pub(super) fn update_conditions(status: &mut NamespaceStatus, progress: &Progress, now: Timestamp) -> bool {
    let complaints = progress.complaints();
    let conditions = status.conditions.get_or_insert_default();
    let mut changed = false;
    for (type_, ok_reason, ok_message) in CONDITIONS {
        let (status, reason, message) = match complaints.get(type_) {
            Some((reason, message)) => ("True", *reason, message.as_str()),
            None => ("False", ok_reason, ok_message),
        };
        let wanted = NamespaceCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: Some(Time(now)),
        };
        changed |= set_condition(conditions, wanted);
    }
    changed
}

fn set_condition(conditions: &mut Vec<NamespaceCondition>, mut wanted: NamespaceCondition) -> bool {
    let Some(present) = conditions.iter_mut().find(|it| it.type_ == wanted.type_) else {
        conditions.push(wanted);
        return true;
    };
    if present.status == wanted.status {
        wanted.last_transition_time.clone_from(&present.last_transition_time);
    }
    if *present == wanted {
        return false;
    }
    *present = wanted;
    true
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
