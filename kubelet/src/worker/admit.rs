//! Whether this node can run a pod at all, and for how long it may run.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};

use crate::kubelet::Kubelet;
use crate::pod;
use crate::spec::resources::{milli, total, whole};
use crate::status::Verdict;

/// When the pod's active deadline ends, from its start.
fn deadline(pod: &Pod, status: &PodStatus) -> Option<Timestamp> {
    let seconds = pod::spec(pod).active_deadline_seconds?;
    let start = status.start_time.as_ref()?.0;
    start.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?)).ok()
}

pub(super) fn deadline_passed(pod: &Pod, status: &PodStatus, now: Timestamp) -> bool {
    deadline(pod, status).is_some_and(|deadline| now >= deadline)
}

pub(super) fn until_deadline(pod: &Pod, status: &PodStatus, now: Timestamp) -> Option<Duration> {
    deadline(pod, status).map(|deadline| Duration::try_from(deadline.duration_since(now)).unwrap_or_default())
}

/// A pod that was bound here by whoever did not look: resources and node selector are checked again.
pub(super) fn check(kubelet: &Kubelet, pod: &Pod) -> Option<Verdict> {
    let others: Vec<_> = kubelet
        .pods
        .list()
        .into_iter()
        .filter(|view| pod::uid(&view.pod) != pod::uid(pod))
        .filter(|view| !view.is_finished && !pod::is_terminal_phase(view.status.phase.as_deref()))
        // One that has no address yet may be the rejected one.
        .filter(|view| view.status.container_statuses.is_some())
        .collect();
    let labels = kubelet.machine.labels(&kubelet.config);
    if !selector_fits(pod, &labels) {
        return Some(Verdict {
            reason: "NodeAffinity".into(),
            message:
                "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
                    .into(),
        });
    }
    let pods = i64::from(kubelet.config.max_pods);
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if count + 1 > pods {
        return Some(shortage("pods", 1, count, pods));
    }
    let used = |name: &str| others.iter().map(|view| requested(&view.pod, name)).sum::<i64>();
    let allocatable = kubelet.machine.allocatable(&kubelet.config);
    ["cpu", "memory"].into_iter().find_map(|name| {
        let capacity = if name == "cpu" { allocatable.0 } else { allocatable.1 };
        let (wanted, used) = (requested(pod, name), used(name));
        (wanted > 0 && wanted + used > capacity).then(|| shortage(name, wanted, used, capacity))
    })
}

fn requested(pod: &Pod, name: &str) -> i64 {
    total(pod, |c: &Container| {
        let list = c.resources.as_ref().and_then(|r| r.requests.as_ref());
        if name == "cpu" { milli(list, name) } else { whole(list, name) }
    })
}

fn shortage(name: &str, requested: i64, used: i64, capacity: i64) -> Verdict {
    Verdict {
        reason: format!("OutOf{name}"),
        message: format!(
            "Pod was rejected: Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    }
}

fn selector_fits(pod: &Pod, labels: &std::collections::BTreeMap<String, String>) -> bool {
    let wanted = pod::spec(pod).node_selector.iter().flatten();
    let mut wanted = wanted.filter(|(key, _)| labels.contains_key(*key));
    // A label that others put on the node is not known here: only those this node set itself can disagree.
    wanted.all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn deadlines() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let pod = pod(json!({"activeDeadlineSeconds": 10, "containers": []}));
        let mut status = PodStatus::default();
        assert!(!deadline_passed(&pod, &status, at(100)), "not started");
        status.start_time = Some(Time(at(95)));
        assert!(!deadline_passed(&pod, &status, at(100)));
        assert_eq!(until_deadline(&pod, &status, at(100)), Some(Duration::from_secs(5)));
        assert!(deadline_passed(&pod, &status, at(105)));
    }
}
