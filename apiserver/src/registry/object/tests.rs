//! Encoding, splicing and reading labels.

use serde_json::json;

use super::*;

#[test]
fn objects_are_spliced_out_of_their_bytes() {
    let head = Head::new("Pod", "v1");
    let object = json!({
        "kind": "Other", "apiVersion": "x", "spec": {"a": 1},
        "metadata": {"name": "web", "resourceVersion": "3", "labels": {"b": "2", "a": "1"}},
    });
    let raw = head.encode(&object, b"");
    assert_eq!(
        &raw[..],
        br#"{"kind":"Pod","apiVersion":"v1","metadata":{"labels":{"a":"1","b":"2"},"name":"web"},"spec":{"a":1}}"#
    );
    assert_eq!(head.canonical(&raw).unwrap(), raw);
    let foreign = Bytes::from(serde_json::to_vec(&object).unwrap());
    assert_eq!(head.canonical(&foreign).unwrap(), raw);

    let mut full = Vec::new();
    head.write_full(&mut full, &raw, 17);
    let full: Value = serde_json::from_slice(&full).unwrap();
    let stored = Stored::new(raw.clone(), 17);
    assert_eq!(full, stored.tree());
    assert_eq!(full["metadata"]["resourceVersion"], "17");

    let mut item = Vec::new();
    head.write_item(&mut item, &raw, 17);
    let item: Value = serde_json::from_slice(&item).unwrap();
    assert_eq!(item["kind"], Value::Null);
    assert_eq!(item["spec"], full["spec"]);

    assert_eq!((stored.label("a"), stored.label("b"), stored.label("c")), (Some("1"), Some("2"), None));
}

#[test]
fn empty_objects_stay_valid() {
    let head = Head::new("Pod", "v1");
    let raw = head.encode(&json!({}), b"");
    let mut full = Vec::new();
    head.write_full(&mut full, &raw, 1);
    let full: Value = serde_json::from_slice(&full).unwrap();
    assert_eq!(full, json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}}));
}

#[test]
fn managed_fields_are_cut_out_and_put_back() {
    let head = Head::new("Pod", "v1");
    let text = br#"[{"manager":"a\"]","fieldsV1":{"f:metadata":{"f:labels":{"f:x\\":{}}}}}]"#;
    let object = json!({"metadata": {"name": "web"}, "spec": {"managedFields": "no"}});
    let raw = head.encode(&object, text);
    assert_eq!(managed(&raw), text);
    assert_eq!(head.canonical(&raw).unwrap(), raw);
    let cut = unmanaged(&raw).unwrap();
    assert_eq!(cut["metadata"], object["metadata"]);
    assert_eq!(cut["spec"], object["spec"]);
    assert_eq!(head.encode(&cut, managed(&raw)), raw);

    let whole: Value = serde_json::from_slice(&raw).unwrap();
    let foreign = br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web","managedFields":[{"manager":"a"}]}}"#;
    let canonical = head.canonical(&Bytes::from_static(foreign)).unwrap();
    assert_eq!(managed(&canonical), br#"[{"manager":"a"}]"#);
    assert_eq!(whole["metadata"]["managedFields"][0]["manager"], "a\"]");
    assert_eq!(managed(&head.encode(&json!({}), text)), text);
    assert_eq!(unmanaged(&head.encode(&json!({}), text)).unwrap()["metadata"], json!({}));
    assert_eq!(managed(&head.encode(&object, b"")), b"");
}

#[test]
fn selectable_fields_are_those_of_the_whole_object() {
    let pod = json!({
        "spec": {"nodeName": "n", "restartPolicy": "Always", "schedulerName": "s", "serviceAccountName": "a",
            "hostNetwork": true, "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.2"}], "nominatedNodeName": "m"},
    });
    let event = json!({
        "involvedObject": {"kind": "Pod", "namespace": "n", "name": "x", "uid": "u", "apiVersion": "v1",
            "resourceVersion": "1", "fieldPath": "spec"},
        "reason": "r", "type": "Normal", "reportingComponent": "c", "source": {"component": "s"},
    });
    let unsourced = json!({"involvedObject": {"name": "x"}, "reportingComponent": "c", "source": {}});
    let cases = [
        ("", "pods", pod),
        ("", "pods", json!({"spec": {}, "status": {"podIP": "192.0.2.1"}})),
        ("", "pods", json!({})),
        ("", "events", event),
        ("", "events", unsourced),
        ("", "namespaces", json!({"metadata": {"name": "n"}, "status": {"phase": "Active"}})),
        ("", "nodes", json!({"spec": {"unschedulable": true}})),
        ("", "secrets", json!({"type": "Opaque"})),
        ("", "services", json!({"spec": {"clusterIP": "192.0.2.1", "type": "ClusterIP"}})),
        ("", "replicationcontrollers", json!({"status": {"replicas": 2}})),
        ("batch", "jobs", json!({"status": {"succeeded": 3}})),
        ("coordination.k8s.io", "leasecandidates", json!({"spec": {"leaseName": "l"}})),
        ("certificates.k8s.io", "certificatesigningrequests", json!({"spec": {"signerName": "s"}})),
        ("certificates.k8s.io", "podcertificaterequests", json!({"spec": {"signerName": "s", "nodeName": "n"}})),
        ("resource.k8s.io", "resourceslices", json!({"spec": {"nodeName": "n", "driver": "d", "pool": {"name": "p"}}})),
    ];
    for (group, resource, object) in cases {
        let strategy = kinds::strategy(group, resource);
        let raw = Head::new("Any", "v1").encode(&object, b"");
        let tree: Value = serde_json::from_slice(&raw).unwrap();
        let stored = Stored::new(raw, 1);
        assert!(!strategy.selectable_fields().is_empty(), "{resource}");
        for (place, field) in strategy.selectable_fields().iter().enumerate() {
            assert_eq!(stored.field(strategy, place), strategy.selectable_field(&tree, field), "{resource} {field}");
        }
    }
}

#[test]
fn labels_are_read_from_the_metadata_alone() {
    let head = Head::new("Pod", "v1");
    let managed = br#"[{"manager":"a","fieldsV1":{"f:metadata":{"f:labels":{"f:a":{}}}}}]"#;
    let labelled =
        head.encode(&json!({"metadata": {"labels": {"a": "1\"\u{e9}"}}, "spec": {"labels": {"b": "2"}}}), managed);
    let labelled = Stored::new(labelled, 1);
    assert_eq!((labelled.label("a"), labelled.label("b")), (Some("1\"\u{e9}"), None));
    for object in [json!({}), json!({"metadata": {"labels": null}}), json!({"metadata": {"name": "x"}})] {
        assert_eq!(Stored::new(head.encode(&object, b""), 1).label("a"), None);
    }
}
