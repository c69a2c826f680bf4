//! Every object of upstream's test data in both forms, and damage of every kind.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// An object of upstream's test data: what was written by some release, and what this one writes of it.
struct Fixture {
    /// `HEAD` or the release.
    release: String,
    /// `apps.v1.Deployment`.
    name: String,
    json: Vec<u8>,
    yaml: Vec<u8>,
    pb: Vec<u8>,
    json_after: Value,
    pb_after: Vec<u8>,
}

impl Fixture {
    fn read(release: &Path, pb: &Path) -> Self {
        let read = |extension: &str| std::fs::read(pb.with_extension(extension)).unwrap_or_default();
        // Some releases wrote less than the present one does of the same object.
        let after = |extension: &str| {
            let after = read(&format!("after_roundtrip.{extension}"));
            if after.is_empty() { read(extension) } else { after }
        };
        Self {
            release: release.file_name().unwrap().to_string_lossy().into_owned(),
            name: pb.file_stem().unwrap().to_string_lossy().into_owned(),
            json: read("json"),
            yaml: read("yaml"),
            pb: read("pb"),
            json_after: serde_json::from_slice(&after("json")).unwrap(),
            pb_after: after("pb"),
        }
    }

    fn type_id(&self) -> Option<TypeId> {
        table().type_of(group_of(&self.name), version_of(&self.name), kind_of(&self.name))
    }
}

/// Upstream's test data, of this release and of older ones, which the Go module cache holds; CI downloads the modules
/// first.
fn fixtures() -> Vec<Fixture> {
    let modules = [("k8s.io/api", "testdata"), ("k8s.io/apiextensions-apiserver", "pkg/apis/testdata")];
    let mut found = Vec::new();
    for (module, folder) in modules {
        let Some(directory) = module_directory(module) else { continue };
        let releases = std::fs::read_dir(directory.join(folder)).unwrap();
        for release in releases.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
            let files = std::fs::read_dir(&release).unwrap().map(|entry| entry.unwrap().path());
            let is_whole = |path: &PathBuf| {
                let name = path.file_name().unwrap().to_string_lossy();
                name.ends_with(".pb") && !name.contains(".after_roundtrip.")
            };
            found.extend(files.filter(is_whole).map(|path| Fixture::read(&release, &path)));
        }
    }
    let present: HashSet<String> = found.iter().filter(|f| f.release == "HEAD").map(|f| f.name.clone()).collect();
    found.retain(|fixture| {
        let is_known = fixture.type_id().is_some();
        // What this release has dropped, and versions of custom resources' own kind that nobody serves.
        let may_lack = !present.contains(&fixture.name) || fixture.name.split('.').nth(3) == Some("v1beta1");
        assert!(is_known || may_lack, "{} of {}: no type", fixture.name, fixture.release);
        is_known
    });
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

impl Fixture {
    /// The tree that all three forms have to give.
    fn want(&self) -> Value {
        let mut want = self.json_after.clone();
        if let Some((api_version, kind)) = without_own_type(&self.name) {
            // What has no kind of its own in JSON has one in its envelope.
            want["apiVersion"] = api_version.into();
            want["kind"] = kind.into();
        }
        want
    }

    /// The trees of the three forms, or why there is none.
    fn decoded(&self) -> [(&'static str, Result<Value, String>); 3] {
        let gvk = gvk_of(&self.name);
        let text = |tree: Result<Value, String>| {
            let decoded = crate::schema::decode_value(tree?, self.type_id().unwrap());
            let tree = decoded.map_err(|error| error.to_string())?.value;
            Ok(if without_own_type(&self.name).is_some() { with_type(tree, &gvk) } else { tree })
        };
        let json = serde_json::from_slice(&self.json).map_err(|error| error.to_string());
        let yaml = serde_yaml_ng::from_slice(&self.yaml).map_err(|error| error.to_string());
        let pb = decode_body(&self.pb, &gvk).map(|body| body.value).map_err(|status| status.message);
        [("json", text(json)), ("yaml", text(yaml)), ("pb", pb)]
    }

    fn encoded(&self, tree: &Value) -> Result<Vec<u8>, EncodeError> {
        match without_own_type(&self.name) {
            // Its test data was written without saying what it is.
            Some((_, kind)) => {
                let id = table().type_of("", "v1", kind).unwrap();
                envelope::write(Vec::new(), "", "", |writer| encode::encode(writer, &tree.into(), id))
            }
            None => encode_object(tree),
        }
    }
}

/// Every form of every release's test data turns into every other, byte for byte as upstream's does.
#[test]
fn upstream_fixtures_round_trip() {
    let fixtures = fixtures();
    let mut wrong = Vec::new();
    for fixture in &fixtures {
        let want = fixture.want();
        let at = |form: &str| format!("{} of {} from {form}", fixture.name, fixture.release);
        for (form, tree) in fixture.decoded() {
            match tree {
                Ok(tree) if tree == want => {}
                Ok(tree) => wrong.push(format!("{}: want {want}\n got {tree}", at(form))),
                Err(error) => wrong.push(format!("{}: {error}", at(form))),
            }
        }
        match fixture.encoded(&want) {
            Ok(bytes) if bytes == fixture.pb_after => {}
            Ok(bytes) => {
                let same = bytes.iter().zip(&fixture.pb_after).take_while(|(a, b)| a == b).count();
                wrong.push(format!("{}: encoded differs at {same} of {}", at("tree"), fixture.pb_after.len()));
            }
            Err(error) => wrong.push(format!("{}: {error}", at("tree"))),
        }
    }
    let seen = fixtures.len();
    assert!(wrong.is_empty(), "{} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
    if module_directory("k8s.io/api").is_some() {
        let releases: HashSet<&str> = fixtures.iter().map(|fixture| fixture.release.as_str()).collect();
        assert!(seen > 750 && releases.len() >= 5, "only {seen} objects of {releases:?}");
    }
}

/// What can be read can be written, and is then read as the same.
fn check_stable(bytes: &[u8], gvk: &GroupVersionKind) {
    let Ok(body) = decode_body(bytes, gvk) else { return };
    let Ok(written) = encode_object(&body.value) else { return };
    match decode_body(&written, gvk) {
        Ok(again) => assert_eq!(again.value, body.value, "{bytes:?}"),
        Err(status) => panic!("{}: {bytes:?}", status.message),
    }
}

/// Damage gives another object or an error.
#[test]
fn damaged_fixtures_are_refused_or_read() {
    for Fixture { name, pb, .. } in fixtures().into_iter().filter(|fixture| fixture.release == "HEAD") {
        let gvk = gvk_of(&name);
        let step = (pb.len() / 12).max(1);
        (0..pb.len()).step_by(step).for_each(|end| check_stable(&pb[..end], &gvk));
        for at in (0..pb.len()).step_by(step) {
            for bit in [0, 3, 7] {
                let mut flipped = pb.clone();
                flipped[at] ^= 1 << bit;
                check_stable(&flipped, &gvk);
            }
        }
    }
}

/// Any kind that has a message.
fn any_kind() -> impl Strategy<Value = GroupVersionKind> {
    let kinds: Vec<GroupVersionKind> = table().resources().map(|resource| resource.gvk()).collect();
    proptest::sample::select(kinds)
}

/// Bytes that often are fields: numbers and lengths that fit, nested.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let field = |number: u32, wire: u8, value: &[u8]| {
        let mut writer = Writer::default();
        match wire {
            0 => writer.varint(number, value.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))),
            1 => writer.fixed64(number, value.len() as u64),
            5 => writer.fixed32(number, value.len() as u32),
            _ => writer.bytes(number, value),
        }
        writer.finish()
    };
    let wire = || prop_oneof![Just(0u8), Just(1), Just(2), Just(2), Just(2), Just(5)];
    let leaf =
        (1u32..30, wire(), vec(any::<u8>(), 0..12)).prop_map(move |(number, wire, value)| field(number, wire, &value));
    leaf.prop_recursive(5, 48, 6, move |inner| {
        (1u32..30, vec(inner, 0..6)).prop_map(move |(number, fields)| field(number, 2, &fields.concat()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_refused_or_read(bytes in vec(any::<u8>(), 0..200), kind in any_kind()) {
        check_stable(&bytes, &kind);
        check_stable(&[&MAGIC[..], &bytes].concat(), &kind);
        check_stable(&enveloped(&kind.api_version(), &kind.kind, &bytes), &kind);
    }

    #[test]
    fn any_fields_are_refused_or_read(fields in vec(message(), 0..8), kind in any_kind()) {
        check_stable(&enveloped(&kind.api_version(), &kind.kind, &fields.concat()), &kind);
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
    assert_eq!(encode_list(&gvk, &meta, next).unwrap().concat(), encode_object(&list).unwrap());
    assert_eq!(encode_text(&gvk, list.to_string().as_bytes()).unwrap(), encode_object(&list).unwrap());
}

#[test]
fn long_lists_come_in_pieces_and_lengths_of_any_size_stand_before_what_they_are_of() {
    let item = |bytes: usize| json!({"metadata": {"name": "a"}, "data": {"b": "x".repeat(bytes)}});
    let items: Vec<Value> = [0, 1, 90, 91, 127, 128, 16_300, 16_384, 300_000, 2_200_000, 5].map(item).into();
    let meta = json!({"resourceVersion": "7"});
    let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": meta, "items": items});
    let mut left = items.iter();
    let next = |out: &mut Vec<u8>| left.next().inspect(|item| serde_json::to_writer(out, item).unwrap()).is_some();
    let gvk = GroupVersionKind::new("", "v1", "ConfigMapList");
    let pieces = encode_list(&gvk, &meta, next).unwrap();
    assert!(pieces.len() > 3, "{}", pieces.len());
    let whole = pieces.concat();
    assert_eq!(whole, encode_object(&list).unwrap());
    assert_eq!(decode_body(&whole, &gvk).unwrap().value["items"], list["items"]);
}

#[test]
fn events_are_framed() {
    let mut out = Vec::new();
    write_event(&mut out, "ADDED", b"xyz");
    assert_eq!(out, b"\0\0\0\x0e\x0a\x05ADDED\x12\x05\x0a\x03xyz");
}
