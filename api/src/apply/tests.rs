//! Sets, merging and ownership without a server. What upstream answers is compared in the API server's replay test.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::element::Element;
use super::form::Form;
use super::set::Set;
use super::{Applied, Error, Given, Reset, Tracker, Versions, managers, merge, prune};
use crate::GroupVersionKind;
use crate::schema::{self, TypeId};

fn set(fields: &Value) -> Set<'static> {
    let text: &'static str = fields.to_string().leak();
    super::set::read_set(&mut serde_json::Deserializer::from_str(text)).unwrap()
}

fn fields(set: &Set<'_>) -> Value {
    let mut out = Vec::new();
    set.write(&mut out);
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn sets_have_the_form_of_the_wire() {
    let form = json!({
        "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
        "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}, "f:set": {"v:\"x\"": {}, "v:1": {}, "i:3": {}}},
    });
    assert_eq!(fields(&set(&form)), form);
    let later = json!({"f:a": {"q:new": {}}, "f:b": {".": {}}, "z:x": {"f:y": {}}});
    assert_eq!(fields(&set(&later)), json!({"f:a": {}, "f:b": {}}));
    for bad in [json!({"a": {}}), json!({"f": {}}), json!({"v:": {}}), json!({"i:x": {}}), json!({"k:[]": {}})] {
        let text = bad.to_string();
        assert!(super::set::read_set(&mut serde_json::Deserializer::from_str(&text)).is_err(), "{bad}");
    }
}

#[test]
fn items_are_sorted_by_their_keys_values() {
    let form = json!({"k:{\"port\":8080}": {}, "k:{\"port\":80}": {}, "v:\"b\"": {}, "f:z": {}, "f:a": {}});
    let mut out = Vec::new();
    set(&form).write(&mut out);
    let expected = r#"{"f:a":{},"f:z":{},"k:{\"port\":80}":{},"k:{\"port\":8080}":{},"v:\"b\"":{}}"#;
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn large_sets_are_read_and_parted_in_any_order() {
    // With a step moved for each other step, either would move terabytes.
    const STEPS: usize = 300_000;
    let steps: Vec<String> = (0..STEPS).map(|at| format!("\"v:{}\":{{}}", -(at as i64))).collect();
    let text: &'static str = format!("{{{}}}", steps.join(",")).leak();
    let read = |text| super::set::read_set(&mut serde_json::Deserializer::from_str(text)).unwrap();
    let mut all: Set<'static> = read(text);
    assert_eq!(all.nodes().len(), STEPS);
    assert!(all.nodes().is_sorted_by(|a, b| a.element < b.element));
    let kept = set(&json!({"v:-7": {}}));
    let taken = all.difference(&kept);
    all.subtract(&taken);
    assert_eq!(all, kept);
    let twice = read(r#"{"f:b":{"f:x":{}},"f:a":{},"f:b":{".":{},"f:y":{}}}"#);
    assert_eq!(fields(&twice), json!({"f:a": {}, "f:b": {".": {}, "f:y": {}}}));
}

#[test]
fn sets_are_joined_and_parted_as_sets() {
    let one = set(&json!({"f:a": {".": {}, "f:x": {}, "f:y": {}}, "f:b": {}}));
    let two = set(&json!({"f:a": {"f:y": {}, "f:z": {}}, "f:b": {"f:c": {}}}));
    let all = json!({"f:a": {".": {}, "f:x": {}, "f:y": {}, "f:z": {}}, "f:b": {".": {}, "f:c": {}}});
    assert_eq!(fields(&one.union(&two)), all);
    assert_eq!(fields(&one.intersection(&two)), json!({"f:a": {"f:y": {}}}));
    assert_eq!(fields(&one.difference(&two)), json!({"f:a": {".": {}, "f:x": {}}, "f:b": {}}));
    let mut rest = one.clone();
    rest.subtract(&two);
    assert_eq!(rest, one.difference(&two));
    assert_eq!(fields(&one.clone().joined(two.clone())), all);
    assert_eq!(fields(&one.clone().without(&[&["a"], &["b", "c"]], true)), json!({"f:b": {}}));
    let cut: [&[&str]; 3] = [&["a"], &["a", "x"], &["b"]];
    assert_eq!(fields(&one.clone().without(&cut, false)), json!({"f:a": {"f:y": {}}}));
    let patterns: [&[Option<&'static str>]; 1] = [&[Some("a"), None]];
    assert_eq!(fields(&two.matching(&patterns)), json!({"f:a": {"f:y": {}, "f:z": {}}}));
    assert!(one.difference(&one).is_empty());
}

struct OneVersion;

impl Versions for OneVersion {
    fn convert(&self, _: &Value, _: &str) -> Option<(Value, TypeId)> {
        None
    }
}

fn gvk(kind: &str) -> GroupVersionKind {
    GroupVersionKind::new(if kind == "Deployment" { "apps" } else { "" }, "v1", kind)
}

fn with<T>(kind: &str, manager: &str, work: impl FnOnce(&Tracker<'_>) -> T) -> T {
    let gvk = gvk(kind);
    work(&Tracker {
        type_id: schema::table().kind(&gvk).unwrap(),
        gvk: &gvk,
        subresource: "",
        manager,
        now: Timestamp::UNIX_EPOCH,
        reset: Reset::Below(&[&["status"]]),
        versions: &OneVersion,
    })
}

fn apply(kind: &str, manager: &str, live: (&Value, &str), config: &Value, force: bool) -> Result<Applied, Error> {
    with(kind, manager, |tracker| tracker.apply(live.0, config, live.1, force))
}

fn empty(kind: &str) -> Value {
    let mut object = schema::empty_object(schema::table().kind(&gvk(kind)).unwrap());
    object["kind"] = kind.into();
    object["apiVersion"] = gvk(kind).api_version().into();
    object
}

fn text(managed: &[u8]) -> String {
    String::from_utf8(managed.to_vec()).unwrap()
}

fn config_map(data: &Value) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": data})
}

#[test]
fn what_a_manager_no_longer_says_goes_unless_others_own_it() {
    let first = apply("ConfigMap", "one", (&empty("ConfigMap"), ""), &config_map(&json!({"k": "v", "l": "w"})), false);
    let first = first.unwrap();
    let live = first.object.unwrap();
    let shared = apply("ConfigMap", "two", (&live, &text(&first.managed)), &config_map(&json!({"l": "w"})), false);
    let shared = shared.unwrap();
    assert_eq!(shared.object, None, "the values are the same");
    let left = apply("ConfigMap", "one", (&live, &text(&shared.managed)), &config_map(&json!({})), false).unwrap();
    assert_eq!(left.object.unwrap()["data"], json!({"l": "w"}));
    assert!(text(&left.managed).contains("two"));
}

#[test]
fn another_value_is_a_conflict_that_force_ends() {
    let first = apply("ConfigMap", "one", (&empty("ConfigMap"), ""), &config_map(&json!({"k": "v"})), false).unwrap();
    let (live, managed) = (first.object.unwrap(), text(&first.managed));
    let config = config_map(&json!({"k": "other"}));
    let refused = apply("ConfigMap", "two", (&live, &managed), &config, false).unwrap_err();
    assert_eq!(refused.to_string(), "Apply failed with 1 conflict: conflict with \"one\": .data.k");
    let status = crate::Status::from(refused).to_value();
    assert_eq!(status["details"]["causes"][0]["reason"], "FieldManagerConflict");
    assert_eq!(status["code"], 409);
    let forced = apply("ConfigMap", "two", (&live, &managed), &config, true).unwrap();
    assert_eq!(forced.object.unwrap()["data"]["k"], "other");
    assert!(!text(&forced.managed).contains("one"));
}

#[test]
fn an_update_takes_what_it_changed() {
    let live = config_map(&json!({"k": "v", "l": "w"}));
    let created = with("ConfigMap", "maker", |tracker| text(&tracker.create(&live, "")));
    let same = with("ConfigMap", "other", |tracker| tracker.update(&live, &live, &created));
    assert_eq!(same, None, "nothing changed");
    let new = config_map(&json!({"k": "x", "m": "n"}));
    let managed = with("ConfigMap", "other", |tracker| tracker.update(&live, &new, &created)).unwrap();
    let managed: Value = serde_json::from_slice(&managed).unwrap();
    let of =
        |name: &str| managed.as_array().unwrap().iter().find(|e| e["manager"] == name).unwrap()["fieldsV1"].clone();
    assert_eq!(of("other"), json!({"f:data": {"f:k": {}, "f:m": {}}}));
    assert_eq!(of("maker"), json!({"f:data": {}}));
    assert_eq!(with("ConfigMap", "other", |tracker| tracker.update(&live, &new, "")), None, "not followed so far");
}

#[test]
fn the_oldest_updaters_become_one() {
    let mut live = config_map(&json!({}));
    let mut managed = with("ConfigMap", "m0", |tracker| text(&tracker.create(&live, "")));
    for number in 0..14 {
        let mut new = live.clone();
        new["data"][format!("k{number}")] = "v".into();
        let manager = format!("m{number}");
        managed = with("ConfigMap", &manager, |tracker| {
            let changed =
                if number == 0 { Some(tracker.create(&new, "")) } else { tracker.update(&live, &new, &managed) };
            text(&changed.unwrap())
        });
        live = new;
    }
    let entries = managers::decode(&managed).unwrap();
    assert_eq!(entries.len(), 10);
    assert_eq!(entries.iter().filter(|entry| entry.manager == "ancient-changes").count(), 1);
}

#[test]
fn lists_merge_by_key_in_the_configurations_order() {
    let form = Form::object(schema::table().kind(&gvk("Service")).unwrap());
    let ports = |ports: Value| json!({"spec": {"ports": ports}});
    let port = |port: u16, name: &str| json!({"port": port, "name": name, "protocol": "TCP"});
    let live = ports(json!([port(1, "a"), port(2, "b"), port(3, "c")]));
    let config = ports(json!([{"port": 3, "name": "z"}, {"port": 4, "name": "d"}, {"port": 1}]));
    let merged = merge::merge(form, Some(&live), Some(&config)).unwrap().unwrap();
    let names: Vec<&str> =
        merged["spec"]["ports"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["b", "z", "d", "a"]);
    let owned = prune::field_set(form, &config);
    let key = json!({"spec": {"ports": [{"port": 3}]}});
    assert!(fields(&owned)["f:spec"]["f:ports"].get("k:{\"port\":3,\"protocol\":\"TCP\"}").is_some(), "{key}");
}

#[test]
fn a_configuration_has_to_fit_its_kind() {
    let cases = [
        (json!({"datum": {}}), ".datum: field not declared in schema"),
        (json!({"data": {"a": 1}}), ".data.a: expected string, got &value.valueUnstructured{Value:1}"),
        (json!({"data": "text"}), ".data: expected map, got &{text}"),
        (json!({"immutable": "yes"}), ".immutable: expected boolean, got &{yes}"),
    ];
    for (more, expected) in cases {
        let mut config = config_map(&json!({}));
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let refused = apply("ConfigMap", "one", (&empty("ConfigMap"), ""), &config, false).unwrap_err();
        let start = "failed to create typed patch object (/a; /v1, Kind=ConfigMap): ";
        assert_eq!(refused.to_string(), format!("{start}{expected}"));
    }
}

#[test]
fn a_client_may_say_who_owns_what() {
    let entry = json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}});
    assert_eq!(Given::read(None), Given::Nothing);
    assert_eq!(Given::read(Some(&json!([]))), Given::Reset);
    assert_eq!(Given::read(Some(&json!([{"operation": ""}]))), Given::Reset);
    assert!(matches!(Given::read(Some(&json!([entry]))), Given::Entries(_)));
    assert_eq!(Given::read(Some(&json!([{"operation": "Delete"}]))), Given::Nothing);
}

#[test]
fn messages_name_items_by_their_keys() {
    let element = Element::parse("k:{\"name\":\"c\",\"port\":80}".into()).unwrap().unwrap();
    assert_eq!(element.to_string(), "[name=\"c\",port=80]");
    assert_eq!(Element::parse("v:\"x\"".into()).unwrap().unwrap().to_string(), "[=\"x\"]");
}
