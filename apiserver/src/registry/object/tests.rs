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
