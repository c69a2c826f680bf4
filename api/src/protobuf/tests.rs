//! Every object of upstream's test data in both forms, and damage of every kind.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;

/// Upstream's test data, which the Go module cache holds; CI downloads the modules first.
fn fixtures() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let modules = [("k8s.io/api", "testdata/HEAD"), ("k8s.io/apiextensions-apiserver", "pkg/apis/testdata/HEAD")];
    for (module, folder) in modules {
        let Some(directory) = module_directory(module) else { continue };
        for entry in std::fs::read_dir(directory.join(folder)).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "pb") {
                continue;
            }
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            if table().type_of(group_of(&name), version_of(&name), kind_of(&name)).is_none() {
                assert_eq!(name.split('.').nth(3), Some("v1beta1"), "{name}: no type");
                continue;
            }
            found.push((name, std::fs::read(path.with_extension("json")).unwrap(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

fn module_directory(module: &str) -> Option<PathBuf> {
    let output = std::process::Command::new("go")
        .args(["list", "-m", "-f", "{{.Dir}}", module])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../conformance"))
        .output()
        .ok()?;
    let directory = Path::new(std::str::from_utf8(&output.stdout).ok()?.trim()).to_path_buf();
    (output.status.success() && directory.is_dir()).then_some(directory)
}

fn kind_of(name: &str) -> &str {
    name.rsplit('.').next().unwrap()
}

fn version_of(name: &str) -> &str {
    name.rsplit('.').nth(1).unwrap()
}

fn group_of(name: &str) -> &str {
    let group = name.rsplitn(3, '.').nth(2).unwrap();
    if group == "core" { "" } else { group }
}

fn gvk_of(name: &str) -> GroupVersionKind {
    GroupVersionKind::new(group_of(name), version_of(name), kind_of(name))
}

fn without_own_type(name: &str) -> Option<(&str, &str)> {
    (name == "core.v1.WatchEvent").then_some(("v1", "WatchEvent"))
}

/// Every pair of forms turns into the other, byte for byte.
#[test]
fn upstream_fixtures_round_trip() {
    let fixtures = fixtures();
    let mut wrong = Vec::new();
    for (name, json, pb) in &fixtures {
        let mut want: Value = serde_json::from_slice(json).unwrap();
        if let Some((api_version, kind)) = without_own_type(name) {
            // What has no kind of its own in JSON has one in its envelope.
            want["apiVersion"] = api_version.into();
            want["kind"] = kind.into();
        }
        match decode_body(pb, &gvk_of(name)) {
            Ok(body) if body.value == want => {}
            Ok(body) => wrong.push(format!("{name}: want {want}\n got {}", body.value)),
            Err(status) => wrong.push(format!("{name}: {}", status.message)),
        }
        let encoded = match without_own_type(name) {
            // Its test data was written without saying what it is.
            Some((_, kind)) => {
                let id = table().type_of("", "v1", kind).unwrap();
                envelope::write(Vec::new(), "", "", |writer| encode::encode(writer, &(&want).into(), id))
            }
            None => encode_object(&want),
        };
        match encoded {
            Ok(bytes) if bytes == *pb => {}
            Ok(bytes) => {
                let at = bytes.iter().zip(pb).take_while(|(a, b)| a == b).count();
                wrong.push(format!("{name}: encoded differs at {at} of {}", pb.len()));
            }
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    let seen = fixtures.len();
    assert!(wrong.is_empty(), "{} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
    if module_directory("k8s.io/api").is_some() {
        assert!(seen > 150, "only {seen} pairs");
    }
}

/// Damage gives another object or an error, and what can be read can be written.
#[test]
fn damaged_fixtures_are_refused_or_read() {
    for (name, _, pb) in fixtures() {
        let gvk = gvk_of(&name);
        let check = |bytes: &[u8]| {
            if let Ok(body) = decode_body(bytes, &gvk) {
                drop(encode_object(&body.value));
            }
        };
        let step = (pb.len() / 12).max(1);
        (0..pb.len()).step_by(step).for_each(|end| check(&pb[..end]));
        for at in (0..pb.len()).step_by(step) {
            for bit in [0, 3, 7] {
                let mut flipped = pb.clone();
                flipped[at] ^= 1 << bit;
                check(&flipped);
            }
        }
    }
}

fn pod() -> GroupVersionKind {
    GroupVersionKind::new("", "v1", "Pod")
}

fn enveloped(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let raw = |writer: &mut Writer| {
        *writer = Writer::after([std::mem::take(writer).finish(), raw.to_vec()].concat());
        Ok::<(), Infallible>(())
    };
    envelope::write(Vec::new(), version, kind, raw).unwrap()
}

#[test]
fn refusals_have_upstreams_words() {
    let unrecognized = "the object provided is unrecognized (must be of type Pod): ";
    let cases: &[(&[u8], String)] = &[
        (b"", format!("{unrecognized}empty data (<empty>)")),
        (
            b"{}",
            format!(
                "{unrecognized}provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] ({{}})"
            ),
        ),
        (b"k8s\0", format!("{unrecognized}empty body (6b387300)")),
        (b"k8s\0\x0a\x05", format!("{unrecognized}unexpected EOF (6b3873000a05)")),
        (
            &enveloped("v1", "Foo", b""),
            r#"Foo in version "v1" cannot be handled as a Pod: no kind "Foo" is registered for version "v1""#
                .to_owned(),
        ),
        (
            &enveloped("v1", "Pod", b"\x0a\x10"),
            r#"Pod in version "v1" cannot be handled as a Pod: unexpected EOF"#.to_owned(),
        ),
        (
            &enveloped("v1", "Pod", b"\x08\x10"),
            r#"Pod in version "v1" cannot be handled as a Pod: proto: wrong wireType = 0 for field metadata"#
                .to_owned(),
        ),
        (
            &enveloped("v1", "Pod", b"\x00\x10"),
            r#"Pod in version "v1" cannot be handled as a Pod: proto: Pod: illegal tag 0 (wire type 0)"#.to_owned(),
        ),
    ];
    for (bytes, want) in cases {
        let message = decode_body(bytes, &pod()).unwrap_err().message;
        assert!(message.starts_with(want), "want {want}\n got {message}");
    }
}

#[test]
fn what_the_envelope_does_not_say_is_what_the_route_takes() {
    let body = decode_body(&enveloped("", "", b"\x0a\x03\x0a\x01x"), &pod()).unwrap();
    assert_eq!((body.gvk, body.value["metadata"]["name"].as_str()), (pod(), Some("x")));
    assert_eq!((&body.value["kind"], &body.value["apiVersion"]), (&json!("Pod"), &json!("v1")));
}

#[test]
fn unknown_fields_and_groups_are_passed_over() {
    let raw = b"\x0a\x03\x0a\x01x\xfb\x01\x08\x05\x13\x09\x01\x02\x03\x04\x05\x06\x07\x08\x14\xfc\x01\xa5\x06\x01\x02\x03\x04";
    let body = decode_body(&enveloped("v1", "Pod", raw), &pod()).unwrap();
    assert_eq!(body.value["metadata"], json!({"name": "x"}));
}

#[test]
fn nesting_and_numbers_are_bounded() {
    let props = schema_props();
    let mut deep = Vec::new();
    for _ in 0..5_000 {
        // `not`, field 28, in itself.
        let mut writer = Writer::default();
        writer.bytes(28, &deep);
        deep = writer.finish();
    }
    assert!(matches!(decode(&deep, props), Err(DecodeError::Depth(_))));
    let list = table().type_of("", "v1", "PodList").unwrap();
    assert!(matches!(decode(&b"\x12\x00".repeat(1_000_000), list), Err(DecodeError::Messages(_))));
    let mut tree = json!({});
    for _ in 0..500 {
        tree = json!({ "not": tree });
    }
    assert!(matches!(encode(&tree, props), Err(EncodeError::Depth(_))));
}

#[test]
fn trees_that_do_not_fit_are_refused() {
    for tree in [
        json!({"kind": "Pod", "apiVersion": "v1", "spec": {"containers": 5}}),
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"creationTimestamp": "yesterday"}}),
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"generation": "x"}}),
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": []}),
        json!({"kind": "Secret", "apiVersion": "v1", "data": {"a": "%"}}),
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1"}),
        json!({"kind": "Nothing", "apiVersion": "v1"}),
        json!(3),
    ] {
        assert!(encode_object(&tree).is_err(), "{tree}");
    }
}

#[test]
fn the_core_groups_discovery_names_no_version() {
    let list = json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": []});
    assert_eq!(encode_object(&list).unwrap(), enveloped("", "APIResourceList", b"\x0a\x02v1"));
    assert!(encode_object(&json!({"kind": "Pod"})).is_err());
}

#[test]
fn lists_are_written_item_by_item() {
    let item = json!({"metadata": {"name": "a"}, "data": {"b": "c", "a": ""}});
    let meta = json!({"resourceVersion": "7"});
    let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": meta, "items": [item, item]});
    let gvk = GroupVersionKind::new("", "v1", "ConfigMapList");
    let mut left = 2;
    let next = |out: &mut Vec<u8>| {
        left -= 1;
        serde_json::to_writer(out, &item).unwrap();
        left >= 0
    };
    assert_eq!(encode_list(&gvk, &meta, next).unwrap(), encode_object(&list).unwrap());
    assert_eq!(encode_text(&gvk, list.to_string().as_bytes()).unwrap(), encode_object(&list).unwrap());
}

#[test]
fn events_are_framed() {
    let mut out = Vec::new();
    write_event(&mut out, "ADDED", b"xyz");
    assert_eq!(out, b"\0\0\0\x0e\x0a\x05ADDED\x12\x05\x0a\x03xyz");
}
