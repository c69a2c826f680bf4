//! Bodies made by hand, and, where they are at hand, all of upstream's.

use super::*;

fn field(number: u32, wire: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(number << 3).unwrap() | wire];
    bytes.extend(value);
    bytes
}

fn message(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(content.len()).unwrap()];
    bytes.extend(content);
    field(number, 2, &bytes)
}

fn body(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [message(1, version.as_bytes()), message(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), message(1, &meta), message(2, raw)].concat()
}

fn gvk(group: &str, version: &str, kind: &str) -> GroupVersionKind {
    GroupVersionKind::new(group, version, kind)
}

#[test]
fn a_service_account_is_read() {
    let label = message(11, &[message(1, b"a"), message(2, b"b")].concat());
    let metadata = message(1, &[message(1, b"x"), message(8, b""), label].concat());
    let raw = [metadata, message(3, &message(1, b"pull")), field(4, 0, &[1])].concat();
    let tree = object(&body("v1", "ServiceAccount", &raw), &gvk("", "v1", "ServiceAccount")).unwrap();
    let expected = json!({
        "kind": "ServiceAccount", "apiVersion": "v1",
        "metadata": {"name": "x", "creationTimestamp": null, "labels": {"a": "b"}},
        "imagePullSecrets": [{"name": "pull"}], "automountServiceAccountToken": true,
    });
    assert_eq!(tree, expected);
}

#[test]
fn a_body_without_its_kind_is_what_the_route_takes() {
    let tree = object(&[MAGIC.to_vec(), message(2, b"")].concat(), &gvk("", "v1", "Namespace")).unwrap();
    assert_eq!(tree, json!({"kind": "Namespace", "apiVersion": "v1"}));
}

#[test]
fn damage_is_refused() {
    let expected = gvk("", "v1", "ConfigMap");
    let cut = body("v1", "ConfigMap", &message(1, b"\x0a\x09"));
    for bytes in [b"{}".to_vec(), b"k8s\0\xff".to_vec(), cut, body("v1", "Nothing", b"")] {
        let refused = protobuf_to_json(&bytes, &expected).unwrap_err();
        assert_eq!(refused.reason, Reason::BadRequest, "{bytes:?}");
    }
}

/// Upstream's filled-in objects of every kind, when `KUBERNETES_TESTDATA` names the directory of its `testdata/HEAD`.
#[test]
fn upstreams_bodies_say_what_their_json_says() {
    let Ok(directory) = std::env::var("KUBERNETES_TESTDATA") else {
        return;
    };
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "pb") {
            continue;
        }
        let text = std::fs::read(path.with_extension("json")).unwrap();
        let wanted: Value = serde_json::from_slice(&text).unwrap();
        let text_of = |field: &str| wanted[field].as_str().unwrap_or_default();
        let (version, kind) = (text_of("apiVersion"), text_of("kind"));
        let Some(version) = GroupVersion::parse(version) else {
            continue;
        };
        let expected = gvk(&version.group, &version.version, kind);
        if table().kind(&expected).is_none() {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let read = protobuf_to_json(&bytes, &expected).map(|text| crate::schema::decode_body(&text, &expected));
        let own = crate::schema::decode_body(&text, &expected).unwrap().value;
        match read {
            Ok(Ok(body)) if body.value == own => {}
            Ok(Ok(body)) => wrong.push(format!("{path:?} {}", difference("", &body.value, &own))),
            other => wrong.push(format!("{path:?} {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn difference(path: &str, a: &Value, b: &Value) -> String {
    if let (Value::Object(a), Value::Object(b)) = (a, b) {
        for key in a.keys().chain(b.keys()) {
            let (x, y) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
            if x != y {
                return difference(&format!("{path}.{key}"), x, y);
            }
        }
    }
    if let (Value::Array(x), Value::Array(y)) = (a, b)
        && x.len() == y.len()
        && let Some(at) = (0..x.len()).find(|at| x[*at] != y[*at])
    {
        return difference(&format!("{path}[{at}]"), &x[at], &y[at]);
    }
    format!("{path}: {a} is not {b}")
}
