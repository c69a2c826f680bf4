//! Revisions: which replica set is the newest, counted in annotations. Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// What of the deployment's annotations its replica sets do not get.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// Limit of the history annotation in bytes.
const HISTORY_LIMIT: usize = 2000;

pub(super) fn annotation<'a>(set: &'a ReplicaSet, name: &str) -> Option<&'a str> {
    set.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The set's revision; 0 when it has none, nothing when it is not a number.
pub(super) fn revision(set: &ReplicaSet) -> Option<i64> {
    annotation(set, REVISION).map_or(Some(0), |value| value.parse().ok())
}

pub(super) fn max_revision(sets: &[Arc<ReplicaSet>]) -> i64 {
    sets.iter().filter_map(|set| revision(set)).max().unwrap_or(0).max(0)
}

pub(super) fn desired(set: &ReplicaSet) -> Option<i32> {
    number(set, DESIRED)
}

pub(super) fn max(set: &ReplicaSet) -> Option<i32> {
    number(set, MAX)
}

fn number(set: &ReplicaSet, name: &str) -> Option<i32> {
    annotation(set, name)?.parse().ok().filter(|number| *number >= 0)
}

/// Notes how large the deployment was when the set was last scaled.
pub(super) fn set_sizes(set: &mut ReplicaSet, desired: i32, max: i32) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED.to_owned(), desired.to_string());
    annotations.insert(MAX.to_owned(), max.to_string());
}

/// The annotations of the newest set: those of the deployment, and its revision if that is higher than what it had.
pub(super) fn annotations(deployment: &Deployment, set: &ReplicaSet, new_revision: i64) -> BTreeMap<String, String> {
    let mut annotations = set.metadata.annotations.clone().unwrap_or_default();
    for (name, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN.contains(&name.as_str()) {
            annotations.insert(name.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    let Some(number) = old.as_deref().map_or(Some(0), |value| value.parse::<i64>().ok()) else { return annotations };
    if number >= new_revision {
        return annotations;
    }
    annotations.insert(REVISION.to_owned(), new_revision.to_string());
    // The deployment returned to a set that it had left: what that was is kept.
    if let Some(old) = old {
        let history = annotations.get(HISTORY).map(String::as_str).unwrap_or_default();
        if let Some(history) = append(history, &old) {
            annotations.insert(HISTORY.to_owned(), history);
        }
    }
    annotations
}

/// Appends to a list with commas, dropping the first entries when it gets too long.
fn append(history: &str, revision: &str) -> Option<String> {
    let mut entries: Vec<&str> = history.split(',').filter(|entry| !entry.is_empty()).collect();
    entries.push(revision);
    let length = |entries: &[&str]| entries.iter().map(|entry| entry.len() + 1).sum::<usize>() - 1;
    while entries.len() > 1 && length(&entries) > HISTORY_LIMIT {
        entries.remove(0);
    }
    (length(&entries) <= HISTORY_LIMIT).then(|| entries.join(","))
}
