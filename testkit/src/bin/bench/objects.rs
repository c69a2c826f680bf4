//! The objects that the load is made of.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::connection::Format;

/// The namespace of everything that is created.
pub(crate) const NAMESPACE: &str = "bench";
/// Of a config map, encoded.
const CONFIG_MAP_BYTES: usize = 1024;
/// Of a pod, encoded as it is sent.
const POD_BYTES: usize = 1536;
/// Of a pod in a list, in any encoding, at least.
pub(crate) const POD_BYTES_MIN: usize = 1024;

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

/// Objects that differ in the number at the end of their name. Encoded once: the generator shares the machine's cores
/// with the server that is measured.
#[derive(Clone)]
pub(crate) struct Template {
    before: Bytes,
    after: Bytes,
}

/// What stands in a template for the number.
const PLACE: &str = "9999999";

impl Template {
    /// Of the object that is made for a name.
    pub(crate) fn new(prefix: &str, object: fn(&str) -> Vec<u8>, format: Format) -> Result<Self> {
        let name = name(prefix, PLACE);
        let mut encoded = object(&name);
        if format == Format::Protobuf {
            encoded = api::protobuf::encode_object(&serde_json::from_slice(&encoded)?)?;
        }
        let found = encoded.windows(name.len()).position(|window| window == name.as_bytes());
        let at = found.context("the name is not in the encoded object")? + name.len() - PLACE.len();
        let mut before = Bytes::from(encoded);
        let mut after = before.split_off(at);
        let _ = after.split_to(PLACE.len());
        Ok(Self { before, after })
    }

    /// The object with a number, which has as many digits as every other.
    pub(crate) fn numbered(&self, n: usize) -> Bytes {
        let mut object = Vec::with_capacity(self.before.len() + PLACE.len() + self.after.len());
        object.extend_from_slice(&self.before);
        object.extend_from_slice(digits(n).as_bytes());
        object.extend_from_slice(&self.after);
        object.into()
    }
}

/// The name of the object with a number.
pub(crate) fn numbered(prefix: &str, n: usize) -> String {
    name(prefix, &digits(n))
}

/// The number in the name of an object, found in its encoded form.
pub(crate) fn number(prefix: &str, encoded: &[u8]) -> Option<usize> {
    let start = name(prefix, "");
    let found = encoded.windows(start.len()).position(|window| window == start.as_bytes())?;
    let digits = encoded.get(found + start.len()..)?.get(..PLACE.len())?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn name(prefix: &str, digits: &str) -> String {
    format!("{prefix}-{digits}")
}

fn digits(n: usize) -> String {
    format!("{n:0width$}", width = PLACE.len())
}

fn padded(bytes: usize, object: impl Fn(&str) -> Value) -> Vec<u8> {
    let bare = object("").to_string().len();
    object(&"x".repeat(bytes.saturating_sub(bare))).to_string().into_bytes()
}
