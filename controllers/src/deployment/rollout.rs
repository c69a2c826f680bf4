//! How much of which set is replaced in one step. Pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::{
    progress,
    scale::{by_age, max_unavailable, new_size, replicas, total, wanted},
};

/// New sizes of sets, by their place in a list.
pub(super) type Sizes = Vec<(usize, i32)>;

/// The size of the newest set in a rolling update, if it changes.
pub(super) fn grow(deployment: &Deployment, sets: &[Arc<ReplicaSet>], new: &ReplicaSet) -> Option<i32> {
    let (size, wanted) = (replicas(new), wanted(deployment));
    let to = if size > wanted { wanted } else { new_size(deployment, sets, size) };
    (to != size).then_some(to)
}

/// The sizes of old sets in a rolling update: first those that have unhealthy pods are cut down, which makes nothing
/// worse; then what availability allows goes, the oldest first.
pub(super) fn shrink(deployment: &Deployment, old: &[Arc<ReplicaSet>], new: &ReplicaSet) -> Sizes {
    let available = |set: &ReplicaSet| set.status.as_ref().and_then(|it| it.available_replicas).unwrap_or(0);
    let minimum = wanted(deployment) - max_unavailable(deployment);
    let new_unavailable = replicas(new) - available(new);
    let limit = total(old) + replicas(new) - minimum - new_unavailable;
    if total(old) == 0 || limit <= 0 {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..old.len()).filter(|at| replicas(&old[*at]) > 0).collect();
    order.sort_by(|one, other| by_age(&old[*one], &old[*other]));
    let mut sizes: Vec<i32> = old.iter().map(|set| replicas(set)).collect();
    let mut cleaned = 0;
    for at in &order {
        let cut = (sizes[*at] - available(&old[*at])).min(limit - cleaned).max(0);
        sizes[*at] -= cut;
        cleaned += cut;
    }
    let mut left = progress::available(old) + available(new) - minimum;
    for at in &order {
        let cut = sizes[*at].min(left).max(0);
        sizes[*at] -= cut;
        left -= cut;
    }
    order.into_iter().filter(|at| sizes[*at] != replicas(&old[*at])).map(|at| (at, sizes[at])).collect()
}

/// Old sets beyond the history limit that have and want no pods, oldest revisions first.
pub(super) fn surplus(deployment: &Deployment, old: &[Arc<ReplicaSet>]) -> Vec<String> {
    let Some(limit) = deployment.spec.revision_history_limit.filter(|limit| *limit != i32::MAX) else {
        return Vec::new();
    };
    let mut alive: Vec<_> = old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
    alive.sort_by(|one, other| {
        let revision = super::revision::revision;
        revision(one).cmp(&revision(other)).then_with(|| by_age(one, other))
    });
    let surplus = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    let is_idle = |set: &ReplicaSet| {
        let status = set.status.clone().unwrap_or_default();
        let seen = status.observed_generation.unwrap_or(0) >= set.metadata.generation.unwrap_or(0);
        status.replicas == 0 && replicas(set) == 0 && seen
    };
    alive.into_iter().take(surplus).filter(|set| is_idle(set)).filter_map(|set| set.metadata.name.clone()).collect()
}
