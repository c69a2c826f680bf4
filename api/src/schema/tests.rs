//! The table against facts that everyone knows, and decoding against what upstream does.

use serde_json::{Value, json};

use super::*;

fn pod() -> TypeId {
    table().type_of("", "v1", "Pod").unwrap()
}

#[test]
fn the_table_loads_and_is_whole() {
    let table = table();
    assert!(table.types().len() > 1_000);
    assert_eq!(table.groups()[0].name, "");
    assert_eq!(table.groups()[1].name, "apiregistration.k8s.io");
    let missing: Vec<_> = table.resources().filter(|one| one.type_id.is_none()).map(|one| one.name).collect();
    assert!(missing.is_empty(), "no type for {missing:?}");
    let pods = table.resource("", "v1", "pods").unwrap();
    assert_eq!((pods.kind, pods.list_kind, pods.short_names.as_slice()), ("Pod", "PodList", ["po"].as_slice()));
    assert_eq!(pods.subresource("eviction").unwrap().group, "policy");
    assert_eq!(table.resource_of_kind("apps", "v1", "Deployment").unwrap().name, "deployments");
    assert!(!recorded::rbac().is_empty() && !recorded::flow_control().is_empty() && !recorded::bootstrap().is_empty());
}

#[test]
fn fields_carry_their_facts() {
    let ports = table().field_at(pod(), "spec.containers.ports").unwrap();
    assert_eq!(ports.patch_merge_key(), Some("containerPort"));
    assert_eq!(ports.list_map_keys().collect::<Vec<_>>(), ["containerPort", "protocol"]);
    let volume = table().field_at(pod(), "spec.volumes.emptyDir").unwrap();
    let (numbers, wire) = volume.protobuf().unwrap();
    assert_eq!((numbers.collect::<Vec<_>>(), wire), (vec![2, 2], 'b'));
    assert_eq!(volume.inlined_in(), Some("VolumeSource"));
    let protocol = table().field_at(pod(), "spec.containers.ports.protocol").unwrap();
    assert_eq!(protocol.default(), Some("\"TCP\""));
    assert_eq!(protocol.enumeration().collect::<Vec<_>>(), ["SCTP", "TCP", "UDP"]);
}

#[test]
fn absent_and_empty_values_become_what_go_writes() {
    let deployment = table().type_of("apps", "v1", "Deployment").unwrap();
    let text = br#"{"metadata":{"name":"x","creationTimestamp":null,"labels":{}},
        "spec":{"selector":null,"template":{"spec":{"containers":[{"name":"a","resources":{"limits":{"cpu":0.5}}}],
        "nodeName":"","securityContext":{}}}}}"#;
    let decoded = decode(text, deployment).unwrap();
    assert!(decoded.strict.is_empty());
    assert_eq!(
        decoded.value,
        json!({
            "metadata": {"name": "x"},
            "spec": {
                "selector": null, "strategy": {},
                "template": {"metadata": {}, "spec": {
                    "containers": [{"name": "a", "resources": {"limits": {"cpu": "500m"}}}],
                    "securityContext": {},
                }},
            },
            "status": {},
        })
    );
}

#[test]
fn an_empty_list_is_kept_where_go_writes_it_until_it_is_stored() {
    let node = table().type_of("storage.k8s.io", "v1", "CSINode").unwrap();
    let said = decode(br#"{"metadata":{"finalizers":[]},"spec":{"drivers":[]}}"#, node).unwrap().value;
    assert_eq!(said, json!({"metadata": {}, "spec": {"drivers": []}, "status": {}}));
    let stored = decode_value(said, node).unwrap().value;
    assert_eq!(stored, json!({"metadata": {}, "spec": {"drivers": null}, "status": {}}));
}

#[test]
fn strict_problems_come_in_document_order() {
    let text = br#"{"spec":{"zoo":1,"containers":[{"name":"a","nme":2,"name":"b"}],"foo":{}},
        "metadata":{"labels":{"a":"b","a":"c"},"name":"x","name":"x"}}"#;
    let decoded = decode(text, pod()).unwrap();
    assert_eq!(
        decoded.strict,
        [
            r#"unknown field "spec.zoo""#,
            r#"unknown field "spec.containers[0].nme""#,
            r#"duplicate field "spec.containers[0].name""#,
            r#"unknown field "spec.foo""#,
            r#"duplicate field "metadata.labels.a""#,
            r#"duplicate field "metadata.name""#,
        ]
    );
}

#[test]
fn type_errors_have_gos_words() {
    let quantity = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    let cases: &[(&str, &str)] = &[
        (
            r#"{"spec":{"containers":"x"}}"#,
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":{"containers":[{"ports":[{"containerPort":"80"}]}]}}"#,
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            r#"{"spec":{"dnsPolicy":5}}"#,
            "json: cannot unmarshal number into Go struct field PodSpec.spec.dnsPolicy of type v1.DNSPolicy",
        ),
        (
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            r#"{"spec":{"priority":3000000000}}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            r#"{"metadata":{"creationTimestamp":"yesterday"}}"#,
            r#"parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006""#,
        ),
        (r#"{"spec":{"hostPID":1,"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#, quantity),
    ];
    for (text, want) in cases {
        assert_eq!(decode(text.as_bytes(), pod()).unwrap_err().to_string(), *want, "{text}");
    }
}

#[test]
fn syntax_errors_have_gos_words() {
    let cases: &[(&str, &str)] = &[
        ("", "unexpected end of JSON input"),
        ("{", "unexpected end of JSON input"),
        ("{a", "invalid character 'a' looking for beginning of object key string"),
        (r#"{"a" 1}"#, "invalid character '1' after object key"),
        (r#"{"a":1 "b"}"#, "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ("[01]", "invalid character '1' after array element"),
        ("{} x", "invalid character 'x' after top-level value"),
        ("tru3", "invalid character '3' in literal true (expecting 'e')"),
        ("{\"a\":\"\n\"}", "invalid character '\\n' in string literal"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ("[-x]", "invalid character 'x' in numeric literal"),
    ];
    for (text, want) in cases {
        assert_eq!(check_syntax(text.as_bytes()).unwrap_err(), *want, "{text}");
    }
    assert_eq!(check_syntax(br#" {"a":[1.5e3,-0,"\u00e4",null,{}]} "#), Ok(()));
}

#[test]
fn half_characters_are_replaced() {
    let decoded = decode(br#"{"metadata":{"name":"a\ud800b"}}"#, pod()).unwrap();
    assert_eq!(decoded.value["metadata"]["name"], "a\u{fffd}b");
}

#[test]
fn bodies_get_upstreams_answers() {
    let want = GroupVersionKind::new("", "v1", "Pod");
    let cases: &[(&str, &str)] = &[
        (
            "{",
            "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: unexpected end of JSON input ({)",
        ),
        (
            r#"{"kind":"Foo","apiVersion":"v1"}"#,
            r#"Foo in version "v1" cannot be handled as a Pod: no kind "Foo" is registered for version "v1" in scheme "pkg/runtime/scheme.go:111""#,
        ),
    ];
    for (text, message) in cases {
        assert_eq!(decode_body(text.as_bytes(), &want).unwrap_err().message, *message);
    }
    let body = decode_body(br#"{"metadata":{"name":"x"}}"#, &want).unwrap();
    assert_eq!((body.gvk, body.value["metadata"]["name"].as_str()), (want, Some("x")));
}

#[test]
fn declared_defaults_are_applied() {
    let mut value =
        json!({"spec": {"containers": [{"ports": [{"containerPort": 80, "protocol": ""}, {"protocol": "UDP"}]}]}});
    apply_defaults(pod(), &mut value);
    assert_eq!(value["spec"]["containers"][0]["ports"][0]["protocol"], "TCP");
    assert_eq!(value["spec"]["containers"][0]["ports"][1]["protocol"], "UDP");
}

/// Every JSON fixture of `k8s.io/api` decodes without a complaint and comes back as it was.
#[test]
fn upstream_fixtures_round_trip() {
    let Some(dir) = fixtures() else { return };
    let (mut seen, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read(&path).unwrap();
        let original: Value = serde_json::from_slice(&text).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let (rest, kind) = name.rsplit_once('.').unwrap();
        let (group, version) = rest.rsplit_once('.').unwrap();
        let group = if group == "core" { "" } else { group };
        let Some(id) = table().type_of(group, version, kind) else {
            wrong.push(format!("{name}: no type"));
            continue;
        };
        seen += 1;
        match decode(&text, id) {
            Ok(decoded) if decoded.strict.is_empty() && decoded.value == original => {}
            Ok(decoded) if decoded.strict.is_empty() => {
                wrong.push(format!("{name}: {}", difference(&original, &decoded.value)))
            }
            Ok(decoded) => wrong.push(format!("{name}: {:?}", decoded.strict)),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(seen > 150, "only {seen} fixtures in {}", dir.display());
}

/// The Go module cache's copy of the fixtures; CI downloads the module first.
fn fixtures() -> Option<std::path::PathBuf> {
    let output = std::process::Command::new("go")
        .args(["list", "-m", "-f", "{{.Dir}}", "k8s.io/api"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../conformance"))
        .output()
        .ok()?;
    let dir = std::path::Path::new(std::str::from_utf8(&output.stdout).ok()?.trim()).join("testdata/HEAD");
    (output.status.success() && dir.is_dir()).then_some(dir)
}

fn difference(want: &Value, got: &Value) -> String {
    match (want, got) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            let at = keys.into_iter().find(|key| a.get(*key) != b.get(*key)).unwrap();
            let none = Value::String("<absent>".into());
            format!(".{at}{}", difference(a.get(at).unwrap_or(&none), b.get(at).unwrap_or(&none)))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let at = (0..a.len()).find(|&index| a[index] != b[index]).unwrap();
            format!("[{at}]{}", difference(&a[at], &b[at]))
        }
        _ => format!(": want {want}, got {got}"),
    }
}
