//! A node with the pods on it, digested.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};

use super::{HostPort, PodInfo, Resources, affinity::Labels, pod::normalized_image};

/// A node as a decision needs it. Cheap to clone: pods are shared.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeInfo {
    pub(crate) name: String,
    /// The Node exists; pods can be known before it or after it.
    pub(crate) exists: bool,
    pub(crate) labels: Labels,
    pub(crate) taints: Vec<Taint>,
    pub(crate) unschedulable: bool,
    pub(crate) allocatable: Resources,
    pub(crate) requested: Resources,
    pub(crate) scored_requested: Resources,
    pub(crate) pods: Vec<Arc<PodInfo>>,
    /// How many of the pods have terms of pod affinity or anti-affinity.
    pub(crate) pods_with_terms: usize,
    pub(crate) used_ports: Vec<HostPort>,
    /// Sizes in bytes. Shared, because the images of a node change seldom and its pods often.
    pub(crate) images: Arc<BTreeMap<String, i64>>,
}

impl NodeInfo {
    /// Takes over what the Node says; pods stay.
    pub(crate) fn set_node(&mut self, node: &Node) {
        self.name = node.metadata.name.clone().unwrap_or_default();
        self.exists = true;
        self.labels = node.metadata.labels.clone().unwrap_or_default();
        let spec = node.spec.as_ref();
        self.taints = spec.and_then(|s| s.taints.clone()).unwrap_or_default();
        self.unschedulable = spec.and_then(|s| s.unschedulable).unwrap_or(false);
        let status = node.status.as_ref();
        self.allocatable = Resources::of(status.and_then(|s| s.allocatable.as_ref()).into_iter().flatten());
        let images = status.and_then(|s| s.images.as_ref()).into_iter().flatten();
        let sized = images.flat_map(|i| {
            let size = i.size_bytes.unwrap_or(0);
            i.names.iter().flatten().map(move |name| (normalized_image(name), size))
        });
        let images: BTreeMap<String, i64> = sized.collect();
        if images != *self.images {
            self.images = Arc::new(images);
        }
    }

    pub(crate) fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.scored_requested.add(&pod.scored_requests);
        self.used_ports.extend(pod.host_ports.iter().cloned());
        self.pods_with_terms += usize::from(has_terms(&pod));
        self.pods.push(pod);
    }

    /// Does nothing when the pod is not here.
    pub(crate) fn remove_pod(&mut self, uid: &str) {
        let Some(at) = self.pods.iter().position(|p| p.uid == uid) else { return };
        let pod = self.pods.swap_remove(at);
        self.requested.sub(&pod.requests);
        self.scored_requested.sub(&pod.scored_requests);
        self.pods_with_terms -= usize::from(has_terms(&pod));
        for port in &pod.host_ports {
            if let Some(at) = self.used_ports.iter().position(|p| p == port) {
                self.used_ports.swap_remove(at);
            }
        }
    }

    /// The first taint with one of these effects that no toleration covers.
    pub(crate) fn untolerated(&self, tolerations: &[Toleration], effects: &[&str]) -> Option<&Taint> {
        let mut wanted = self.taints.iter().filter(|t| effects.contains(&t.effect.as_str()));
        wanted.find(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
    }
}

fn has_terms(pod: &PodInfo) -> bool {
    !(pod.affinity.is_empty() && pod.anti_affinity.is_empty())
}

/// A toleration covers a taint.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    let effect = empty(&toleration.effect) || toleration.effect.as_deref() == Some(&taint.effect);
    let key = empty(&toleration.key) || toleration.key.as_deref() == Some(&taint.key);
    let own = taint.value.as_deref().unwrap_or("");
    let value = toleration.value.as_deref().unwrap_or("");
    let numbers = || Some((own.parse::<i64>().ok()?, value.parse::<i64>().ok()?));
    let matched = match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "" | "Equal" => own == value,
        "Gt" => numbers().is_some_and(|(own, value)| own > value),
        "Lt" => numbers().is_some_and(|(own, value)| own < value),
        _ => false,
    };
    effect && key && matched
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tolerations_cover_taints() {
        let taint: Taint = serde_json::from_value(json!({"key": "k", "value": "v", "effect": "NoSchedule"})).unwrap();
        let cases = [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "value": "v", "effect": "NoExecute"}), false),
            (json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), true),
            (json!({"key": "k", "value": "w"}), false),
            (json!({"key": "j", "operator": "Exists"}), false),
        ];
        for (toleration, expected) in cases {
            let parsed = serde_json::from_value(toleration.clone()).unwrap();
            assert_eq!(tolerates(&parsed, &taint), expected, "{toleration}");
        }
    }
}
