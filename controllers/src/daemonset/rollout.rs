//! How a new template reaches the nodes. Pure.

use std::sync::Arc;

use k8s_openapi::{
    api::{apps::v1::DaemonSet, core::v1::Pod},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    plan::{Observed, Plan},
    pod,
};
use crate::deployment::scaled;

/// Nodes that may have a second pod, and nodes that may have none, of so many.
fn bounds(set: &DaemonSet, nodes: i32) -> Option<(i32, i32)> {
    let strategy = set.spec.update_strategy.as_ref()?;
    if strategy.type_.as_deref() != Some("RollingUpdate") {
        return None;
    }
    let rolling = strategy.rolling_update.clone().unwrap_or_default();
    let count = |value: Option<IntOrString>| value.map_or(0, |it| scaled(&it, nodes, true));
    let (surge, unavailable) = (count(rolling.max_surge), count(rolling.max_unavailable));
    Some(if nodes > 0 && surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) })
}

/// New pods start beside old ones.
pub(super) fn surges(set: &DaemonSet) -> bool {
    bounds(set, 1).is_some_and(|(surge, _)| surge > 0)
}

type Pair = (Option<Arc<Pod>>, Option<Arc<Pod>>);

/// The new and the old pod of a node; nothing when there are more, which has to be put right first.
fn pair(observed: &Observed<'_>, node: &str) -> Option<Pair> {
    let alive = observed.on(node).iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).cloned();
    let (new, old): (Vec<_>, Vec<_>) = alive.partition(|it| pod::is_updated(observed.set, it, observed.hash));
    (new.len() <= 1 && old.len() <= 1).then(|| (new.into_iter().next(), old.into_iter().next()))
}

pub(super) fn plan(observed: &Observed<'_>) -> Plan {
    let wanted = observed.nodes.iter().filter(|(_, should, _)| *should).count();
    let wanted = i32::try_from(wanted).unwrap_or(i32::MAX);
    match bounds(observed.set, wanted) {
        None => Plan::default(),
        Some((0, unavailable)) => replace(observed, unavailable),
        Some((surge, _)) => surge_plan(observed, surge),
    }
}

/// Nodes with a pod, or that should have one.
fn concerned<'a>(observed: &'a Observed<'_>) -> impl Iterator<Item = (&'a str, bool)> {
    let is_concerned = |it: &&(String, bool, bool)| it.1 || !observed.on(&it.0).is_empty();
    observed.nodes.iter().filter(is_concerned).map(|(name, should, _)| (name.as_str(), *should))
}

/// Deletes old pods, as many as may be missing; those that are not available anyway do not count.
fn replace(observed: &Observed<'_>, max_unavailable: i32) -> Plan {
    let (mut unavailable, mut free, mut candidates) = (0, Vec::new(), Vec::new());
    for (node, _) in concerned(observed) {
        match pair(observed, node) {
            Some((Some(new), None)) => unavailable += i32::from(!observed.is_available(&new)),
            Some((None, Some(old))) if !observed.is_available(&old) => {
                unavailable += 1;
                free.push(old);
            }
            Some((None, Some(old))) => candidates.push(old),
            _ => unavailable += 1,
        }
    }
    let left = usize::try_from(max_unavailable - unavailable).unwrap_or(0);
    free.extend(candidates.into_iter().take(left));
    Plan { delete: free, ..Plan::default() }
}

/// Creates new pods beside old ones, as many as may be too many, and deletes old ones when their successor is there.
fn surge_plan(observed: &Observed<'_>, max_surge: i32) -> Plan {
    let mut plan = Plan::default();
    let (mut surging, mut candidates) = (0, Vec::new());
    for (node, should) in concerned(observed) {
        match pair(observed, node) {
            None => surging += 1,
            Some((_, None)) => {}
            Some((None, Some(old))) => match (observed.is_available(&old), should) {
                (false, false) => plan.delete.push(old),
                (false, true) => plan.create.push(node.to_owned()),
                (true, true) => candidates.push(node.to_owned()),
                (true, false) => {}
            },
            Some((Some(new), Some(old))) => {
                if observed.is_available(&new) {
                    plan.delete.push(old);
                } else {
                    surging += 1;
                }
            }
        }
    }
    let left = usize::try_from(max_surge - surging).unwrap_or(0);
    plan.create.extend(candidates.into_iter().take(left));
    plan
}
