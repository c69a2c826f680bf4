//! Which pods are too many, and which nodes are out of service. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::pods;

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// An administrator says that it will not come back, and it is not ready.
pub(super) fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True");
    !ready && taints.iter().any(|it| it.key == OUT_OF_SERVICE)
}

/// The pods above the threshold that have ended: evicted ones first, then the oldest.
pub(super) fn surplus(mut all: Vec<Arc<Pod>>, threshold: usize) -> Vec<Arc<Pod>> {
    if threshold == 0 {
        return Vec::new();
    }
    all.retain(|pod| pods::is_terminal(pod));
    let surplus = all.len().saturating_sub(threshold);
    let evicted = |pod: &Pod| pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("Evicted");
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    all.sort_by(|one, other| {
        let order = evicted(other).cmp(&evicted(one)).then_with(|| created(one).cmp(&created(other)));
        order.then_with(|| one.metadata.name.cmp(&other.metadata.name))
    });
    all.truncate(surplus);
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, phase: &str, reason: &str, created: &str) -> Arc<Pod> {
        let value = json!({"metadata": {"name": name, "creationTimestamp": format!("2024-01-01T00:00:{created}Z")},
            "status": {"phase": phase, "reason": reason}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn evicted_and_old_pods_go_first() {
        let pods = vec![
            pod("new", "Succeeded", "", "09"),
            pod("old", "Failed", "", "01"),
            pod("running", "Running", "", "00"),
            pod("evicted", "Failed", "Evicted", "08"),
        ];
        let names = |threshold| -> Vec<String> {
            surplus(pods.clone(), threshold).iter().map(|pod| pod.metadata.name.clone().unwrap()).collect()
        };
        assert_eq!(names(1), ["evicted", "old"]);
        assert_eq!(names(3), [""; 0]);
        assert_eq!(names(0), [""; 0], "no limit");
    }

    #[test]
    fn out_of_service_needs_both() {
        for (ready, taint, expected) in
            [("True", OUT_OF_SERVICE, false), ("Unknown", OUT_OF_SERVICE, true), ("Unknown", "other", false)]
        {
            let value = json!({"spec": {"taints": [{"key": taint, "effect": "NoExecute"}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            assert_eq!(is_out_of_service(&serde_json::from_value(value).unwrap()), expected);
        }
    }
}
