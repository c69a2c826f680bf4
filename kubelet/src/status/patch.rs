//! The patch that turns one status into another: strategic merge on the status subresource.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// Lists of the status that merge by a key; all others are replaced whole.
const MERGED: [(&str, &str); 3] = [("conditions", "type"), ("podIPs", "ip"), ("hostIPs", "ip")];

/// None when nothing changes. The uid in the metadata makes a patch of a pod of the same name fail.
pub(crate) fn patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let old = serde_json::to_value(old).unwrap_or_default();
    let new = serde_json::to_value(new).unwrap_or_default();
    let changes = changes(old.as_object()?, new.as_object()?);
    if changes.is_empty() {
        return None;
    }
    Some(json!({"metadata": {"uid": uid}, "status": changes}))
}

fn changes(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let mut changes = Map::new();
    for (key, value) in new {
        let before = old.get(key);
        if before == Some(value) {
            continue;
        }
        let change = match (MERGED.iter().find(|(list, _)| list == key), before) {
            (Some((_, merge_key)), Some(before)) => merged(before, value, merge_key),
            // Objects in a status (`resources`) merge by field: a null for what is gone.
            (None, Some(Value::Object(before))) if value.is_object() => {
                let value = value.as_object().cloned().unwrap_or_default();
                Value::Object(object_changes(before, &value))
            }
            _ => value.clone(),
        };
        changes.insert(key.clone(), change);
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        // What this side never sets belongs to others.
        if OWNED.contains(&key.as_str()) {
            changes.insert(key.clone(), Value::Null);
        }
    }
    changes
}

/// Fields that disappear when this side no longer sets them.
const OWNED: [&str; 4] = ["reason", "message", "podIP", "podIPs"];

fn object_changes(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    gone.chain(changed.map(|(key, value)| (key.clone(), value.clone()))).collect()
}

/// Changed and new elements; removed ones are deleted by key.
fn merged(old: &Value, new: &Value, key: &str) -> Value {
    let old = old.as_array().cloned().unwrap_or_default();
    let new = new.as_array().cloned().unwrap_or_default();
    let same_key = |a: &Value, b: &Value| a.get(key) == b.get(key);
    let mut list: Vec<Value> = Vec::new();
    for element in &new {
        let before = old.iter().find(|before| same_key(before, element));
        match before {
            Some(before) if before == element => {}
            Some(before) => list.push(with_nulls(before, element)),
            None => list.push(element.clone()),
        }
    }
    for element in old.iter().filter(|element| !new.iter().any(|n| same_key(n, element))) {
        list.push(json!({"$patch": "delete", key: element.get(key)}));
    }
    Value::Array(list)
}

fn with_nulls(old: &Value, new: &Value) -> Value {
    let mut element = new.as_object().cloned().unwrap_or_default();
    for key in old.as_object().into_iter().flat_map(Map::keys) {
        element.entry(key.clone()).or_insert(Value::Null);
    }
    Value::Object(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_what_changed() {
        let old = status(json!({"phase": "Pending", "reason": "x", "conditions": [
            {"type": "Ready", "status": "False", "message": "m"}, {"type": "PodScheduled", "status": "True"}]}));
        let new = status(json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}]}));
        assert_eq!(patch("u", &old, &old), None);
        let patch = patch("u", &old, &new).unwrap();
        assert_eq!(
            patch,
            json!({"metadata": {"uid": "u"}, "status": {
                "phase": "Running", "reason": null, "podIPs": [{"ip": "10.0.0.1"}],
                "conditions": [{"type": "Ready", "status": "True", "message": null}]}})
        );
    }

    #[test]
    fn a_changed_address_replaces_the_old() {
        let old = status(json!({"podIPs": [{"ip": "10.0.0.1"}]}));
        let new = status(json!({"podIPs": [{"ip": "10.0.0.2"}]}));
        let patch = patch("u", &old, &new).unwrap();
        assert_eq!(patch["status"]["podIPs"], json!([{"ip": "10.0.0.2"}, {"$patch": "delete", "ip": "10.0.0.1"}]));
    }
}
