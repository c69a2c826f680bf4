//! Whether this node can run a pod at all, and for how long it may run.

mod fit;
mod sysctls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};

use super::resize::Pending;
use crate::kubelet::Kubelet;
use crate::pod;

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

/// A pod that was bound here by whoever did not look is looked at again. Reason and message of a refusal.
pub(super) fn check(kubelet: &Kubelet, pod: &Pod) -> Option<(String, String)> {
    let spec = pod::spec(pod);
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        return Some(("PodOSNotSupported".into(), message.into()));
    }
    if let Some(message) = sysctls::refusal(pod, &kubelet.config.allowed_unsafe_sysctls) {
        return Some(("SysctlForbidden".into(), message));
    }
    if asks_for_apparmor(pod) && !kubelet.machine.has_apparmor {
        return Some(("AppArmor".into(), "Cannot enforce AppArmor: AppArmor is not enabled on the host".into()));
    }
    let others = others(kubelet, pod);
    let others: Vec<&Pod> = others.iter().map(AsRef::as_ref).collect();
    let node = kubelet.node.get("", &kubelet.config.node_name);
    let place = fit::Place {
        node: node.as_deref(),
        own_labels: &kubelet.machine.labels(&kubelet.config),
        allocatable: &kubelet.machine.allocatable_list(&kubelet.config),
    };
    fit::check(pod, &others, &place).map(|refusal| (refusal.reason, refusal.message))
}

/// Why a pod that runs cannot have the resources that it asks for now; none when it can.
pub(super) fn resize(kubelet: &Kubelet, pod: &Pod) -> Option<Pending> {
    let others = others(kubelet, pod);
    let others: Vec<&Pod> = others.iter().map(AsRef::as_ref).collect();
    let allocatable = kubelet.machine.allocatable_list(&kubelet.config);
    let place = fit::Place { node: None, own_labels: &BTreeMap::new(), allocatable: &allocatable };
    let pending = |reason, refusal: fit::Refusal| Pending { reason, message: refusal.message };
    fit::shortage(pod, &[], &place)
        .map(|refusal| pending("Infeasible", refusal))
        .or_else(|| fit::shortage(pod, &others, &place).map(|refusal| pending("Deferred", refusal)))
}

/// The other pods that take room on the node. The room of static pods is theirs before anybody has looked whether they
/// fit: they are there before any pod of the API's, as upstream.
fn others(kubelet: &Kubelet, pod: &Pod) -> Vec<Arc<Pod>> {
    let views = kubelet.pods.list().into_iter();
    views
        .filter(|view| pod::uid(&view.pod) != pod::uid(pod))
        .filter(|view| !view.is_finished && !pod::is_terminal_phase(view.status.phase.as_deref()))
        .filter(|view| view.is_admitted || (pod::is_static(&view.pod) && !pod::is_static(pod)))
        .map(|view| view.allocated.unwrap_or(view.pod))
        .collect()
}

fn asks_for_apparmor(pod: &Pod) -> bool {
    let of_pod = pod::spec(pod).security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
    let own = |c: &Container| c.security_context.as_ref().and_then(|context| context.app_armor_profile.clone());
    let profiles = pod::all_containers(pod).filter_map(own).chain(of_pod.cloned());
    profiles.into_iter().any(|profile| profile.type_ != "Unconfined")
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
