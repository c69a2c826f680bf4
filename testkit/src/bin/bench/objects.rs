//! The objects that the load is made of.

use serde_json::{Value, json};

/// The namespace of everything that is created.
pub(crate) const NAMESPACE: &str = "bench";
/// Of a config map, encoded.
const CONFIG_MAP_BYTES: usize = 1024;
/// Of a pod, encoded as it is sent.
const POD_BYTES: usize = 1536;

pub(crate) fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
}

/// Pods are refused without it, and nobody makes it where no controller runs.
pub(crate) fn service_account() -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NAMESPACE}})
}

pub(crate) fn config_map(name: &str) -> Vec<u8> {
    let data = |filling: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": filling}});
    padded(CONFIG_MAP_BYTES, data)
}

/// No scheduler takes it.
pub(crate) fn pod(name: &str) -> Vec<u8> {
    let spec = json!({
        "schedulerName": "nobody",
        "containers": [{
            "name": "main",
            "image": "registry.example/app/web:1.2.3",
            "ports": [{"name": "http", "containerPort": 8080}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "env": [{"name": "MODE", "value": "production"}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
        }],
    });
    let pod = |filling: &str| {
        let labels = json!({"app": "web", "tier": "front"});
        let metadata = json!({"name": name, "labels": labels, "annotations": {"example.com/filling": filling}});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    };
    padded(POD_BYTES, pod)
}

fn padded(bytes: usize, object: impl Fn(&str) -> Value) -> Vec<u8> {
    let bare = object("").to_string().len();
    object(&"x".repeat(bytes.saturating_sub(bare))).to_string().into_bytes()
}
