//! Upstream's causes for bad metadata.

use super::*;
use serde_json::json;

fn causes(object: &Value) -> Vec<String> {
    let mut errors = FieldErrors::new();
    validate(object, true, NameRule::Dns1123Subdomain, &mut errors);
    errors.0.iter().map(ToString::to_string).collect()
}

#[test]
fn new_objects() {
    let good = json!({"metadata": {"name": "a", "namespace": "b", "labels": {"a/b": "c"}}});
    assert_eq!(causes(&good), [""; 0]);
    assert_eq!(
        causes(&json!({"metadata": {}})),
        ["metadata.name: Required value: name or generateName is required", "metadata.namespace: Required value",]
    );
    let owners = json!({"metadata": {"name": "a", "namespace": "b", "ownerReferences": [
        {"apiVersion": "a/b/c", "kind": "K", "name": "n", "uid": "u", "controller": true},
        {"apiVersion": "v1", "kind": "L", "name": "m", "uid": "", "controller": true},
    ]}});
    let found = causes(&owners);
    assert_eq!(found.len(), 3);
    assert_eq!(
        found[0],
        "metadata.ownerReferences[0].apiVersion: Invalid value: \"a/b/c\": must be <group>/<version> or <version>"
    );
    assert!(found[2].ends_with("Found \"true\" in references for K/n and L/m"));
}

#[test]
fn changes() {
    let old = json!({"metadata": {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "1",
        "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]}});
    let mut new = old.clone();
    new["metadata"]["uid"] = json!("v");
    new["metadata"]["resourceVersion"] = json!("");
    new["metadata"]["finalizers"] = json!(["a/b", "c/d"]);
    let mut errors = FieldErrors::new();
    validate_update(&new, &old, &mut errors);
    let found: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"c/d\"}",
            "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
            "metadata.uid: Invalid value: \"v\": field is immutable",
        ]
    );
}
