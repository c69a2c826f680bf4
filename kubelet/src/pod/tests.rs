//! Table tests, and the pods that other tests are made of.

use serde_json::{Value, json};

use super::*;

/// A pod from a spec, with a name and a uid.
pub(crate) fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u1", "generation": 1},
        "spec": spec,
    }))
    .unwrap()
}

#[test]
fn quality_of_service() {
    let same = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
    let limits = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    let requests = json!({"requests": {"cpu": "1"}});
    let table = [
        (vec![json!({})], Qos::BestEffort),
        (vec![same.clone()], Qos::Guaranteed),
        (vec![limits.clone()], Qos::Guaranteed),
        (vec![requests], Qos::Burstable),
        (vec![same, json!({})], Qos::Burstable),
        (vec![json!({"limits": {"cpu": "1"}})], Qos::Burstable),
    ];
    for (resources, expected) in table {
        let containers: Vec<_> = resources.iter().map(|r| json!({"name": "c", "resources": r})).collect();
        let pod = pod(json!({"containers": containers}));
        assert_eq!(qos_class(&pod), expected, "{resources:?}");
    }
}

#[test]
fn restart_rules() {
    let rule = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let table = [
        ("Always", json!({}), 0, true),
        ("OnFailure", json!({}), 0, false),
        ("OnFailure", json!({}), 1, true),
        ("Never", json!({}), 1, false),
        ("Never", json!({"restartPolicy": "Never", "restartPolicyRules": rule}), 42, true),
        ("Never", json!({"restartPolicy": "Never", "restartPolicyRules": rule}), 41, false),
        ("Never", json!({"restartPolicy": "Always"}), 0, true),
    ];
    for (policy, mut container, code, expected) in table {
        container["name"] = json!("c");
        let pod = pod(json!({"restartPolicy": policy, "containers": [container]}));
        assert_eq!(restarts_after(&pod, &spec(&pod).containers[0], code), expected, "{policy} {code}");
    }
}

#[test]
fn the_hash_covers_name_and_image() {
    let container =
        |name: &str, image: &str| Container { name: name.into(), image: Some(image.into()), ..Default::default() };
    assert_eq!(container_hash(&container("a", "x")), container_hash(&container("a", "x")));
    assert_ne!(container_hash(&container("a", "x")), container_hash(&container("a", "y")));
    assert_ne!(container_hash(&container("a", "x")), container_hash(&container("b", "x")));
}

#[test]
fn field_paths() {
    let pod = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]}));
    assert_eq!(field_path(&pod, "i"), "spec.initContainers{i}");
    assert_eq!(field_path(&pod, "c"), "spec.containers{c}");
}

#[test]
fn a_pod_of_the_api_is_never_taken_for_a_static_one() {
    let made = |annotations: Value| -> Arc<Pod> {
        let pod = serde_json::from_value(json!({"metadata": {"name": "p", "annotations": annotations}}));
        Arc::new(pod.unwrap())
    };
    for annotations in [json!({SOURCE: "file"}), json!({SOURCE: "http"}), json!({SOURCE: "api"}), json!({})] {
        let pod = from_api(&made(annotations.clone()));
        assert!(!is_static(&pod), "{annotations}");
        assert_eq!(annotation(&pod, SOURCE), Some("api"), "{annotations}");
    }
    let mirror = from_api(&made(json!({SOURCE: "file", MIRROR: "hash"})));
    assert_eq!(annotation(&mirror, SOURCE), Some("file"), "a mirror shows what it mirrors");
}
