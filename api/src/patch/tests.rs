//! Cases by format; the strategic ones follow what upstream's own tests hold true.

use serde_json::{Value, json};

use super::*;
use crate::schema::table;

fn pod() -> TypeId {
    table().type_of("", "v1", "Pod").unwrap()
}

fn strategic(original: Value, patch: &Value) -> Result<Value, Error> {
    strategic::apply(&original, strategic::object(patch.clone())?, pod())
}

/// (what it shows, field of the pod's spec, before, patch, after)
type Case = (&'static str, Value, Value, Value);

fn check(cases: Vec<Case>) {
    for (name, original, patch, want) in cases {
        let got = strategic(json!({"spec": original}), &json!({"spec": patch})).unwrap();
        assert_eq!(got["spec"], want, "{name}");
    }
}

#[test]
fn objects_merge_and_nulls_delete() {
    check(vec![
        ("set", json!({"a": 1}), json!({"nodeName": "n"}), json!({"a": 1, "nodeName": "n"})),
        ("delete", json!({"nodeName": "n"}), json!({"nodeName": null}), json!({})),
        ("delete what is not there", json!({}), json!({"nodeName": null}), json!({})),
        (
            "new object loses nulls",
            json!({}),
            json!({"securityContext": {"a": null, "b": 1}}),
            json!({"securityContext": {"b": 1}}),
        ),
        ("replace", json!({"a": 1, "b": 2}), json!({"$patch": "replace", "c": 3}), json!({"c": 3})),
        ("empty", json!({"a": 1}), json!({"$patch": "delete"}), json!({})),
        (
            "nested",
            json!({"securityContext": {"runAsUser": 1, "fsGroup": 2}}),
            json!({"securityContext": {"runAsUser": 5}}),
            json!({"securityContext": {"runAsUser": 5, "fsGroup": 2}}),
        ),
        ("directive in a new value", json!({}), json!({"securityContext": {"$patch": "delete"}}), json!({})),
        (
            "plain maps merge by key",
            json!({"nodeSelector": {"a": "1", "b": "2"}}),
            json!({"nodeSelector": {"b": null, "c": "3"}}),
            json!({"nodeSelector": {"a": "1", "c": "3"}}),
        ),
    ]);
}

#[test]
fn lists_of_objects_merge_by_key() {
    let two = || json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]});
    check(vec![
        (
            "change one",
            two(),
            json!({"containers": [{"name": "b", "image": "9"}]}),
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "9"}]}),
        ),
        (
            "add one",
            two(),
            json!({"containers": [{"name": "c"}]}),
            json!({"containers": [{"name": "c"}, {"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}),
        ),
        (
            "delete one",
            two(),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [{"name": "b", "image": "2"}]}),
        ),
        (
            "replace all",
            two(),
            json!({"containers": [{"name": "z"}, {"$patch": "replace"}]}),
            json!({"containers": [{"name": "z"}]}),
        ),
        (
            "atomic lists are replaced",
            json!({"tolerations": [{"key": "a"}]}),
            json!({"tolerations": [{"key": "b"}]}),
            json!({"tolerations": [{"key": "b"}]}),
        ),
        (
            "key inside a key",
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 81}]}]}),
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 81, "name": "x"}]}]}),
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 81, "name": "x"}]}]}),
        ),
    ]);
}

#[test]
fn set_element_order_rules_the_result() {
    let names = |list: &[&str]| -> Value { list.iter().map(|name| json!({"name": name})).collect() };
    // live, changed, order, result
    type Names = &'static [&'static str];
    let cases: [(Names, Names, Names, Names); 4] = [
        (&["a", "b", "c"], &["b"], &["c", "b", "a"], &["c", "b", "a"]),
        (&["a", "s", "b"], &["c"], &["b", "a", "c"], &["s", "b", "a", "c"]),
        (&["s", "a", "b"], &["c"], &["a", "b", "c"], &["s", "a", "b", "c"]),
        (&["a", "b"], &[], &["b", "a"], &["b", "a"]),
    ];
    for (live, changed, order, want) in cases {
        let mut patch = json!({"$setElementOrder/containers": names(order)});
        if !changed.is_empty() {
            patch["containers"] = names(changed);
        }
        let got = strategic(json!({"spec": {"containers": names(live)}}), &json!({"spec": patch})).unwrap();
        assert_eq!(got["spec"]["containers"], names(want), "{live:?} {changed:?} {order:?}");
    }
}

#[test]
fn lists_of_values_are_sets() {
    let cases = [
        (json!({"finalizers": ["b", "c"]}), json!(["b", "c", "a"])),
        (json!({"$deleteFromPrimitiveList/finalizers": ["a"]}), json!([])),
        (json!({"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["b"]}), json!(["b"])),
        (json!({"$setElementOrder/finalizers": ["b", "a"], "finalizers": ["b"]}), json!(["b", "a"])),
    ];
    for (patch, want) in cases {
        let got = strategic(json!({"metadata": {"finalizers": ["a"]}}), &json!({"metadata": patch})).unwrap();
        assert_eq!(got["metadata"]["finalizers"], want, "{patch}");
    }
}

#[test]
fn retain_keys_clears_the_rest() {
    check(vec![(
        "another volume source",
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}]}),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
    )]);
    let patch = json!({"spec": {"volumes": [{"name": "v", "hostPath": {}, "$retainKeys": ["name"]}]}});
    let error = strategic(json!({"spec": {"volumes": [{"name": "v"}]}}), &patch).unwrap_err();
    assert_eq!(error, Error::Malformed("invalid patch format of retainKeys".to_owned()));
}

#[test]
fn refused_strategic_patches() {
    let live = json!({"spec": {"containers": [{"name": "a"}]}, "metadata": {"finalizers": ["a"]}});
    let cases = [
        (
            json!({"spec": {"containers": [{"image": "x"}]}}),
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (json!({"spec": {"$patch": "bad"}}), "unknown patch type: bad in map: map[$patch:bad]"),
        (json!({"metadata": {"$deleteFromPrimitiveListfinalizers": ["a"]}}), "invalid patch format of primitive list"),
        (
            json!({"spec": {"containers": [{"name": "b", "$patch": "merge"}]}}),
            "merging lists cannot yet be specified in the patch",
        ),
        (
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "z"}]}}),
            "The order in patch list:\n[map[name:z]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n",
        ),
        (json!({"metadata": {"finalizers": [1]}}), "list element types are not identical: [[a] [1]]"),
    ];
    for (patch, want) in cases {
        assert_eq!(strategic(live.clone(), &patch).unwrap_err().to_string(), want, "{patch}");
    }
}

#[test]
fn merge_patches_follow_the_rfc() {
    let cases = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        (json!({"a": {"b": 1}}), json!({"a": "c"}), json!({"a": "c"})),
    ];
    for (original, patch, want) in cases {
        assert_eq!(merge::apply(&original, patch.clone(), true).unwrap(), want, "{patch}");
    }
    let error = merge::apply(&json!({}), json!([]), true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
    );
}

#[test]
fn json_patches_apply_or_fail_as_one() {
    let live = json!({"metadata": {"name": "x", "finalizers": ["a", "b"]}, "spec": {"containers": [{"name": "c"}]}, "status": {}});
    let apply_text = |patch: Value, strict| apply(PatchType::Json, &live, patch.to_string().as_bytes(), pod(), strict);
    let done = apply_text(
        json!([{"op": "test", "path": "/metadata/name", "value": "x"}, {"op": "test", "path": "/metadata/uid", "value": null},
               {"op": "remove", "path": "/metadata/finalizers/-1"}, {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]),
        true,
    );
    let done = done.unwrap();
    assert_eq!(done.value["metadata"], json!({"name": "x", "finalizers": ["a"], "labels": {"a": "b"}}));
    assert!(done.strict.is_empty());
    for (patch, code, message) in [
        (
            json!([{"op": "test", "path": "/metadata/name", "value": "y"}]),
            422,
            "the server rejected our request due to an error in our request",
        ),
        (
            json!([{"op": "remove", "path": "/spec/nothing"}]),
            422,
            "the server rejected our request due to an error in our request",
        ),
        (
            json!([{"op": "fly", "path": "/spec"}]),
            422,
            "the server rejected our request due to an error in our request",
        ),
        (
            json!({}),
            400,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            json!([{"op": 5}]),
            400,
            "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string",
        ),
    ] {
        let status = Status::from(apply_text(patch, true).unwrap_err());
        assert_eq!((status.reason.code(), status.message.as_str()), (code, message));
    }
    let odd = apply_text(json!([{"op": "add", "path": "/spec/foo", "value": 1, "x": 1}]), true).unwrap();
    assert_eq!(odd.strict, [r#"json patch unknown field "[0].x""#, r#"unknown field "spec.foo""#]);
    let many: Value =
        (0..=MAX_JSON_PATCH_OPERATIONS).map(|_| json!({"op": "test", "path": "/status", "value": {}})).collect();
    assert!(matches!(apply_text(many, false), Err(Error::TooLarge(_))));
}

#[test]
fn a_patched_object_must_fit_its_type() {
    let live = json!({"spec": {"containers": null}, "status": {}});
    let error = apply(PatchType::Merge, &live, br#"{"spec":{"containers":5}}"#, pod(), true).unwrap_err();
    let status = Status::from(error);
    assert_eq!(status.reason.code(), 422);
    assert!(status.message.starts_with(" \"\" is invalid: patch: Invalid value: "), "{}", status.message);
    let syntax = apply(PatchType::Merge, &live, b"{", pod(), true).unwrap_err();
    assert_eq!(syntax, Error::Malformed("invalid JSON patch".to_owned()));
}

#[test]
fn strategic_results_are_read_by_the_converter() {
    let live = json!({"metadata": {}, "spec": {"containers": [{"name": "c"}]}, "status": {}});
    let run = |patch: Value| apply(PatchType::Strategic, &live, patch.to_string().as_bytes(), pod(), true);
    for (patch, shown, error) in [
        (json!({"spec": {"containers": "x"}}), "map[spec:map[containers:x]]", "cannot restore slice from string"),
        (
            json!({"metadata": {"labels": {"a": 5}}}),
            "map[metadata:map[labels:map[a:5]]]",
            "cannot convert int64 to string",
        ),
    ] {
        let want = Error::Undecodable { patched: shown.to_owned(), error: error.to_owned() };
        assert_eq!(run(patch).unwrap_err(), want);
    }
    let odd = run(json!({"spec": {"foo": "bar", "containers": [{"name": "c", "zoo": 1}]}})).unwrap();
    assert_eq!(odd.strict, [r#"unknown field "spec.containers[0].zoo""#, r#"unknown field "spec.foo""#]);
    let message = odd.strict_error().message;
    assert!(message.contains("map[spec:map[containers:[map[name:c zoo:1]] foo:bar]]"), "{message}");
}

#[test]
fn a_patch_may_not_change_what_an_object_is() {
    let map = table().type_of("", "v1", "ConfigMap").unwrap();
    let live = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "b"}});
    for (patch, want) in [
        (json!({"kind": "Secret"}), "illegal base64 data at input byte 0"),
        (json!({"kind": "Pod", "data": null}), "converting (v1.Pod) to (core.ConfigMap): unknown conversion"),
        (
            json!({"kind": "Foo"}),
            r#"no kind "Foo" is registered for version "v1" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
        ),
        (json!({"apiVersion": "a/b/c"}), "unexpected GroupVersion string: a/b/c"),
    ] {
        let error = apply(PatchType::Merge, &live, patch.to_string().as_bytes(), map, false).unwrap_err();
        assert_eq!(error.to_string(), want, "{patch}");
    }
}
