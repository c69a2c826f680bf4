//! What has to change in an object that exists: pure.
//!
//! Mirrors upstream's `component-helpers/auth/rbac/reconciliation`: missing rules and subjects are added, others stay, and an
//! object whose `autoupdate` annotation is false is left alone.

use api::{Map, Value, meta};
use serde_json::json;

const RBAC_AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const FLOW_AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// The object as it should be; None when it is.
pub(super) fn updated(kind: &str, found: &Value, wanted: &Value) -> Option<Value> {
    let is_protected = |key: &str| meta::annotation(found, key) == Some("false");
    let changed = match kind {
        "ClusterRole" | "Role" if !is_protected(RBAC_AUTO_UPDATE) => role(found, wanted),
        "ClusterRoleBinding" | "RoleBinding" if !is_protected(RBAC_AUTO_UPDATE) => binding(found, wanted),
        "FlowSchema" | "PriorityLevelConfiguration" if !is_protected(FLOW_AUTO_UPDATE) => {
            with(found, wanted, &["spec"])
        }
        "Endpoints" => with(found, wanted, &["subsets"]),
        "EndpointSlice" => with(found, wanted, &["endpoints", "ports"]),
        "ConfigMap" => with_entries(found, wanted, "data"),
        _ => return None,
    };
    (changed != *found).then_some(changed)
}

/// These fields are the wanted ones.
fn with(found: &Value, wanted: &Value, fields: &[&str]) -> Value {
    let mut changed = found.clone();
    for field in fields {
        if !is_covered(&found[*field], &wanted[*field]) {
            changed[*field] = wanted[*field].clone();
        }
    }
    changed
}

fn with_entries(found: &Value, wanted: &Value, field: &str) -> Value {
    let mut changed = found.clone();
    let entries = wanted.get(field).and_then(Value::as_object).into_iter().flatten();
    let target = meta::as_object_mut(&mut changed).entry(field).or_insert_with(|| Value::Object(Map::new()));
    for (key, value) in entries {
        target[key] = value.clone();
    }
    changed
}

/// Everything wanted is there; what is there besides may be a default.
fn is_covered(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| found.get(key).is_some_and(|own| is_covered(own, value)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(own, value)| is_covered(own, value))
        }
        (found, wanted) => found == wanted,
    }
}

fn role(found: &Value, wanted: &Value) -> Value {
    let mut changed = with_metadata(found, wanted);
    if wanted.get("aggregationRule").is_some() {
        // The rules of an aggregated role are its controller's.
        changed["aggregationRule"] = wanted["aggregationRule"].clone();
        return changed;
    }
    if let Some(root) = changed.as_object_mut() {
        root.remove("aggregationRule");
    }
    union(&mut changed, wanted, "rules");
    changed
}

fn binding(found: &Value, wanted: &Value) -> Value {
    let mut changed = with_metadata(found, wanted);
    union(&mut changed, wanted, "subjects");
    changed
}

/// Adds the wanted items that are missing.
fn union(changed: &mut Value, wanted: &Value, field: &str) {
    let missing = |own: &Value| {
        let items = wanted.get(field).and_then(Value::as_array).into_iter().flatten();
        let known = own.as_array().cloned().unwrap_or_default();
        items.filter(|item| !known.iter().any(|one| is_covered(one, item))).cloned().collect::<Vec<_>>()
    };
    let missing = missing(&changed[field]);
    if missing.is_empty() {
        return;
    }
    match changed[field].as_array_mut() {
        Some(list) => list.extend(missing),
        None => changed[field] = json!(missing),
    }
}

/// Wanted labels and annotations are added where they are missing.
fn with_metadata(found: &Value, wanted: &Value) -> Value {
    let mut changed = found.clone();
    for field in ["labels", "annotations"] {
        for (key, value) in meta::strings(wanted, field) {
            let metadata = meta::metadata_mut(&mut changed);
            let entries = metadata.entry(field).or_insert_with(|| Value::Object(Map::new()));
            if entries.get(key).is_none() {
                entries[key] = json!(value);
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role_with(rules: Value) -> Value {
        json!({"metadata": {"name": "r", "labels": {"own": "1"}}, "rules": rules})
    }

    #[test]
    fn the_rules_of_an_aggregated_role_are_its_controllers() {
        let rule = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
        let mut found = role_with(json!([{"verbs": ["get"]}]));
        found["aggregationRule"] = rule.clone();
        let wanted = json!({"metadata": {"name": "r"}, "aggregationRule": rule, "rules": null});
        assert_eq!(updated("ClusterRole", &found, &wanted), None);
        found["aggregationRule"] = json!({});
        let changed = updated("ClusterRole", &found, &wanted).unwrap();
        assert_eq!((&changed["aggregationRule"], &changed["rules"]), (&rule, &json!([{"verbs": ["get"]}])));
    }

    #[test]
    fn missing_rules_are_added_and_others_stay() {
        let (one, two) = (json!({"verbs": ["get"], "resources": ["a"]}), json!({"verbs": ["get"], "resources": ["b"]}));
        let found = role_with(json!([two]));
        let changed = updated("ClusterRole", &found, &role_with(json!([one]))).unwrap();
        assert_eq!(changed["rules"], json!([two, one]));
        assert_eq!(updated("ClusterRole", &changed, &role_with(json!([one]))), None);
    }

    #[test]
    fn protected_objects_are_left_alone() {
        let mut found = role_with(json!([]));
        found["metadata"]["annotations"] = json!({RBAC_AUTO_UPDATE: "false"});
        assert_eq!(updated("ClusterRole", &found, &role_with(json!([{"verbs": ["get"]}]))), None);
    }

    #[test]
    fn defaults_are_no_difference() {
        let found = json!({"spec": {"a": 1, "defaulted": true}});
        assert_eq!(updated("FlowSchema", &found, &json!({"spec": {"a": 1}})), None);
        assert!(updated("FlowSchema", &found, &json!({"spec": {"a": 2}})).is_some());
    }
}
