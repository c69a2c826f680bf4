//! Pod templates: whether two are the same, and a short name for one. Pure.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

/// Tells the replica sets of a deployment, and their pods, apart.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// Letters and digits without vowels and without those that look alike.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The same but for the hash label.
pub(crate) fn same(one: &PodTemplateSpec, other: Option<&PodTemplateSpec>) -> bool {
    other.is_some_and(|other| canonical(one) == canonical(other))
}

/// A hash of the template. Other tools only rely on it being stable and a valid label value, so that it need not be
/// the number that upstream computes from the memory layout of its types.
pub(crate) fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut bytes = canonical(template).to_string().into_bytes();
    if let Some(collisions) = collisions {
        bytes.extend(collisions.to_le_bytes());
    }
    encode(&bytes)
}

/// A short hash of bytes, as part of a name.
pub(crate) fn encode(bytes: &[u8]) -> String {
    fnv32a(bytes).to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

fn fnv32a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// As JSON, without the hash label and without what means nothing: nulls, empty lists, empty label maps.
fn canonical(template: &PodTemplateSpec) -> Value {
    let mut value = serde_json::to_value(template).expect("a template is representable as JSON");
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove(HASH_LABEL);
        }
        metadata.remove("creationTimestamp");
        metadata.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
    }
    prune(&mut value);
    value
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}
