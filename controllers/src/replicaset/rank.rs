//! Which pods a shrinking set deletes first. Pure.

use std::{
    cmp::{Ordering, Reverse},
    collections::HashMap,
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::pods;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Puts the pods that are missed least first.
pub(super) fn sort(candidates: &mut [Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| pods::is_active(pod)) {
        *on_node.entry(pods::node(pod)).or_default() += 1;
    }
    candidates.sort_by(|one, other| compare(one, other, &on_node, now));
}

/// Unbound, pending, not ready, cheap to delete, doubled up on a node, ready for a short time, often restarted, young:
/// in this order.
fn compare(one: &Pod, other: &Pod, on_node: &HashMap<&str, usize>, now: Timestamp) -> Ordering {
    let neighbours = |pod| Reverse(on_node.get(pods::node(pod)).copied().unwrap_or(0));
    bound(one, other)
        .then_with(|| phase(one).cmp(&phase(other)))
        .then_with(|| pods::is_ready(one).cmp(&pods::is_ready(other)))
        .then_with(|| deletion_cost(one).cmp(&deletion_cost(other)))
        .then_with(|| neighbours(one).cmp(&neighbours(other)))
        .then_with(|| by_age(pods::ready_since(one), pods::ready_since(other), now))
        .then_with(|| Reverse(restarts(one)).cmp(&Reverse(restarts(other))))
        .then_with(|| by_age(created(one), created(other), now))
        .then_with(|| one.metadata.uid.cmp(&other.metadata.uid))
}

fn bound(one: &Pod, other: &Pod) -> Ordering {
    let is_bound = |pod| !pods::node(pod).is_empty();
    is_bound(one).cmp(&is_bound(other))
}

fn phase(pod: &Pod) -> u8 {
    match pods::phase(pod) {
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let said = pod.metadata.annotations.as_ref().and_then(|it| it.get(DELETION_COST));
    said.and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// Restarts of regular containers, then of sidecars: the most of any one.
fn restarts(pod: &Pod) -> (i32, i32) {
    let most =
        |statuses: &mut dyn Iterator<Item = &ContainerStatus>| statuses.map(|it| it.restart_count).max().unwrap_or(0);
    let status = pod.status.as_ref();
    let regular = most(&mut status.and_then(|it| it.container_statuses.as_ref()).into_iter().flatten());
    let inits = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let is_sidecar =
        |name: &str| inits.iter().any(|it| it.name == name && it.restart_policy.as_deref() == Some("Always"));
    let statuses = status.and_then(|it| it.init_container_statuses.as_ref()).into_iter().flatten();
    let sidecars = most(&mut statuses.filter(|it| is_sidecar(&it.name)));
    (regular, sidecars)
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// Younger first, by the magnitude of the age: so not always the newest pods go, which would concentrate the old ones
/// where they were.
///
/// Upstream tells pods of one magnitude apart by their uids right here, unless their times are the same, which is no
/// order at all: three pods can each come before the next. Here the uid decides at the very end.
fn by_age(one: Option<Timestamp>, other: Option<Timestamp>, now: Timestamp) -> Ordering {
    one.map(|since| magnitude(since, now)).cmp(&other.map(|since| magnitude(since, now)))
}

/// The logarithm of an age in nanoseconds.
fn magnitude(since: Timestamp, now: Timestamp) -> i64 {
    let age = now.duration_since(since).as_nanos();
    u128::try_from(age).ok().and_then(u128::checked_ilog2).map_or(-1, i64::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(at: usize) -> Arc<Pod> {
        let second = at * 7 % 5;
        let pod = json!({
            "metadata": {"name": format!("p{at}"), "uid": format!("{:02}", at * 13 % 40),
                         "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "a", "containers": []},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": format!("2026-01-01T00:00:1{second}Z")}]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    /// Sorting panics when the comparison is no order; it notices with this many.
    #[test]
    fn pods_of_few_different_ages_are_ordered() {
        let mut pods: Vec<Arc<Pod>> = (0..40).map(pod).collect();
        let related = pods.clone();
        sort(&mut pods, &related, "2026-01-01T00:00:19Z".parse().unwrap());
        let uids: Vec<&str> = pods.iter().filter_map(|p| p.metadata.uid.as_deref()).collect();
        assert!(
            [&uids[..24], &uids[24..32], &uids[32..]].iter().all(|group| group.is_sorted()),
            "ages of few magnitudes, each by uid: {uids:?}"
        );
    }
}
