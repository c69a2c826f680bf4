//! Sizes: surge and unavailability, and how a changed total is shared among replica sets. Pure.

use std::sync::Arc;

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{plan::is_rolling, revision};

pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

pub(super) fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

pub(super) fn total(sets: &[Arc<ReplicaSet>]) -> i32 {
    sets.iter().map(|set| replicas(set)).sum()
}

/// Surplus and missing pods that a rolling update may make. They are never both zero: nothing could move.
fn bounds(deployment: &Deployment) -> (i32, i32) {
    let rolling = deployment.spec.strategy.as_ref().and_then(|it| it.rolling_update.as_ref());
    let wanted = wanted(deployment);
    let surge = rolling.and_then(|it| it.max_surge.as_ref()).map_or(0, |it| scaled(it, wanted, true));
    let unavailable = rolling.and_then(|it| it.max_unavailable.as_ref()).map_or(0, |it| scaled(it, wanted, false));
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) { bounds(deployment).0 } else { 0 }
}

pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    let wanted = wanted(deployment);
    if !is_rolling(deployment) || wanted == 0 {
        return 0;
    }
    bounds(deployment).1.min(wanted)
}

/// A number, or a percentage of a total. Nonsense, which validation keeps out, is zero.
pub(crate) fn scaled(value: &IntOrString, total: i32, up: bool) -> i32 {
    let text = match value {
        IntOrString::Int(number) => return *number,
        IntOrString::String(text) => text,
    };
    let Some(percent) = text.strip_suffix('%').and_then(|it| it.parse::<i64>().ok()) else { return 0 };
    let product = percent * i64::from(total);
    let whole = if up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
    i32::try_from(whole).unwrap_or(i32::MAX)
}

/// How large the newest set may be now.
pub(super) fn new_size(deployment: &Deployment, sets: &[Arc<ReplicaSet>], new: i32) -> i32 {
    let wanted = wanted(deployment);
    if !is_rolling(deployment) {
        return wanted;
    }
    let room = wanted + max_surge(deployment) - total(sets);
    if room <= 0 { new } else { new + room.min(wanted - new) }
}

/// Shares the change of the total among sets in proportion to their sizes. The largest set takes what rounding leaves.
/// `sets` are all that have pods; returned are their new sizes in their order.
pub(super) fn proportional(deployment: &Deployment, sets: &mut [Arc<ReplicaSet>]) -> Vec<i32> {
    let wanted = wanted(deployment);
    let allowed = if wanted > 0 { wanted + max_surge(deployment) } else { 0 };
    let to_add = allowed - total(sets);
    match to_add {
        0 => return sets.iter().map(|set| replicas(set)).collect(),
        1.. => sets.sort_by(|one, other| replicas(other).cmp(&replicas(one)).then_with(|| by_age(other, one))),
        _ => sets.sort_by(|one, other| replicas(other).cmp(&replicas(one)).then_with(|| by_age(one, other))),
    }
    let mut added = 0;
    let mut sizes = Vec::with_capacity(sets.len());
    for set in sets.iter() {
        let share = proportion(deployment, set, to_add, added);
        added += share;
        sizes.push(replicas(set) + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    sizes
}

fn proportion(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if replicas(set) == 0 || to_add == added {
        return 0;
    }
    let (share, allowed) = (fraction(deployment, set), to_add - added);
    if to_add > 0 { share.min(allowed) } else { share.max(allowed) }
}

fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    let (size, wanted) = (replicas(set), wanted(deployment));
    if wanted == 0 {
        return -size;
    }
    let noted = revision::max(set).filter(|max| *max != 0);
    let status = deployment.status.as_ref().and_then(|status| status.replicas);
    let before = noted.or(status).unwrap_or(0);
    if before == 0 {
        return 0;
    }
    let grown = f64::from(size) * f64::from(wanted + max_surge(deployment)) / f64::from(before);
    // Halves round away from zero, as upstream's do.
    #[expect(clippy::cast_possible_truncation, reason = "sizes are far below the limit, and the cast saturates")]
    let rounded = grown.round() as i32;
    rounded - size
}

/// Older first; of the same age by name.
pub(super) fn by_age(one: &ReplicaSet, other: &ReplicaSet) -> std::cmp::Ordering {
    let created = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    created(one).cmp(&created(other)).then_with(|| one.metadata.name.cmp(&other.metadata.name))
}
