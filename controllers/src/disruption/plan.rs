//! The status of a budget. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        core::v1::Pod,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};

use crate::{deployment::scaled, pods};

const CONDITION: &str = "DisruptionAllowed";
/// An evicted pod that is not deleted by then counts again.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);

/// How many pods there should be, and how many nobody manages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scale {
    pub(super) expected: i32,
    pub(super) unmanaged: usize,
}

fn bounds(budget: &PodDisruptionBudget) -> (Option<&IntOrString>, Option<&IntOrString>) {
    let spec = budget.spec.as_ref();
    let max = spec.and_then(|spec| spec.max_unavailable.as_ref());
    (max, spec.and_then(|spec| spec.min_available.as_ref()).filter(|_| max.is_none()))
}

/// The budget is relative to what the pods' controllers want.
pub(super) fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    !matches!(bounds(budget), (None, None | Some(IntOrString::Int(_))))
}

/// The status, and when an eviction that came to nothing has to be looked at.
pub(super) fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: i32,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let (expected, desired) = match bounds(budget) {
        (Some(max), _) => (expected, (expected - scaled(max, expected, true)).max(0)),
        (None, Some(IntOrString::Int(min))) => (count(pods.len()), *min),
        (None, Some(min)) => (expected, scaled(min, expected, true)),
        (None, None) => (0, 0),
    };
    let disrupted = disrupted(budget, pods, now);
    let is_disrupted = |pod: &Pod| pod.metadata.name.as_ref().is_some_and(|name| disrupted.contains_key(name));
    let healthy = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && !is_disrupted(pod) && pods::is_ready(pod));
    let healthy = count(healthy.count());
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let again = disrupted.values().map(|time| {
        let left = DELETION_TIMEOUT - now.duration_since(time.0);
        Duration::try_from(left).unwrap_or_default() + Duration::from_secs(1)
    });
    let again = again.min();
    let (state, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted).filter(|map| !map.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: Some(conditions(budget, state, reason, "", now)),
    };
    (status, again)
}

/// Nothing may be evicted while it is not known how many pods there should be.
pub(super) fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    for count in [&mut status.current_healthy, &mut status.desired_healthy, &mut status.expected_pods] {
        count.get_or_insert(0);
    }
    status.conditions = Some(conditions(budget, "False", "SyncFailed", why, now));
    status
}

/// Pods that were evicted and are not deleted yet.
fn disrupted(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], now: Timestamp) -> BTreeMap<String, Time> {
    let noted = budget.status.as_ref().and_then(|status| status.disrupted_pods.clone()).unwrap_or_default();
    let waits = |name: &String, time: &Time| {
        let mut present = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        now.duration_since(time.0) <= DELETION_TIMEOUT && present.any(|pod| pod.metadata.name.as_ref() == Some(name))
    };
    noted.into_iter().filter(|(name, time)| waits(name, time)).collect()
}

fn conditions(
    budget: &PodDisruptionBudget,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = budget.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let old = conditions.iter().find(|it| it.type_ == CONDITION);
    let since = old.filter(|it| it.status == status).map_or(Time(now), |it| it.last_transition_time.clone());
    let condition = Condition {
        type_: CONDITION.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: budget.metadata.generation,
        last_transition_time: since,
    };
    match conditions.iter_mut().find(|it| it.type_ == CONDITION) {
        Some(present) => *present = condition,
        None => conditions.push(condition),
    }
    conditions
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({"metadata": {"name": "b", "generation": 1}, "spec": spec, "status": status}))
            .unwrap()
    }

    fn pods(ready: usize, unready: usize) -> Vec<Arc<Pod>> {
        let pod = |number: usize| {
            let state = if number < ready { "True" } else { "False" };
            let value = json!({"metadata": {"name": format!("p{number}")},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": state}]}});
            Arc::new(serde_json::from_value(value).unwrap())
        };
        (0..ready + unready).map(pod).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn budgets_decide_how_many_may_go() {
        for (spec, ready, expected, told) in [
            (json!({"minAvailable": 2}), 3, 0, [3, 2, 3, 1]),
            (json!({"minAvailable": 3}), 3, 0, [3, 3, 3, 0]),
            (json!({"minAvailable": "50%"}), 3, 5, [3, 3, 5, 0]),
            (json!({"maxUnavailable": 1}), 5, 5, [5, 4, 5, 1]),
            (json!({"maxUnavailable": "30%"}), 5, 5, [5, 3, 5, 2]),
            (json!({"maxUnavailable": 9}), 5, 5, [5, 0, 5, 5]),
        ] {
            let status = status(&budget(spec.clone(), json!({})), &pods(ready, 0), expected, at(0)).0;
            let counts =
                [status.current_healthy, status.desired_healthy, status.expected_pods, status.disruptions_allowed];
            assert_eq!(counts.map(Option::unwrap), told, "{spec}");
            let condition = &status.conditions.unwrap()[0];
            assert_eq!(condition.status == "True", told[3] > 0);
        }
    }

    #[test]
    fn evicted_pods_do_not_count_until_they_should_be_gone() {
        let noted = json!({"disruptedPods": {"p0": "1970-01-01T00:00:00Z", "gone": "1970-01-01T00:00:00Z"}});
        let it = budget(json!({"minAvailable": 1}), noted);
        let (early, again) = status(&it, &pods(3, 0), 0, at(60));
        assert_eq!((early.disruptions_allowed, again), (Some(1), Some(Duration::from_secs(61))));
        assert_eq!(early.disrupted_pods.unwrap().into_keys().collect::<Vec<_>>(), ["p0"]);
        let (late, _) = status(&it, &pods(3, 0), 0, at(121));
        assert_eq!((late.disruptions_allowed, late.disrupted_pods), (Some(2), None));
    }

    #[test]
    fn what_is_not_known_is_not_allowed() {
        let status = failed(&budget(json!({"maxUnavailable": 1}), json!({"disruptionsAllowed": 3})), "why", at(0));
        assert_eq!(status.disruptions_allowed, Some(0));
        assert_eq!(status.conditions.unwrap()[0].reason, "SyncFailed");
        assert!(needs_scale(&budget(json!({"minAvailable": "1%"}), json!({}))));
        assert!(!needs_scale(&budget(json!({"minAvailable": 1}), json!({}))));
    }
}
