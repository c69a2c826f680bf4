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
        .then_with(|| by_age(one, other, (pods::ready_since(one), pods::ready_since(other)), now))
        .then_with(|| Reverse(restarts(one)).cmp(&Reverse(restarts(other))))
        .then_with(|| by_age(one, other, (created(one), created(other)), now))
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

/// Younger first, but ages of the same magnitude are told apart by the uid: so not always the newest pods go, which
/// would concentrate the old ones where they were.
fn by_age(
    one: &Pod,
    other: &Pod,
    (since_one, since_other): (Option<Timestamp>, Option<Timestamp>),
    now: Timestamp,
) -> Ordering {
    match (since_one, since_other) {
        (one, other) if one == other => Ordering::Equal,
        (None, _) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (Some(since_one), Some(since_other)) => magnitude(since_one, now)
            .cmp(&magnitude(since_other, now))
            .then_with(|| one.metadata.uid.cmp(&other.metadata.uid)),
    }
}

/// The logarithm of an age in nanoseconds.
fn magnitude(since: Timestamp, now: Timestamp) -> i64 {
    let age = now.duration_since(since).as_nanos();
    u128::try_from(age).ok().and_then(u128::checked_ilog2).map_or(-1, i64::from)
}
