//! Replays the recorded requests: defaults, preparation, validation, and the object that would be stored.

use std::path::Path;

use api::field::FieldErrors;
use api::{Value, meta, time};
use kinds::Request;
use kinds::strategy::Strategy;
use kinds::validate::{self, SubresourceChange};
use serde_json::json;

/// One recorded request and its answer.
struct Case {
    name: String,
    value: Value,
}

impl Case {
    fn text(&self, field: &str) -> &str {
        self.value.get(field).and_then(Value::as_str).unwrap_or("")
    }

    fn strategy(&self) -> &'static dyn Strategy {
        kinds::strategy(self.text("group"), self.text("resource"))
    }

    fn request(&self) -> Request<'_> {
        Request {
            now: time::parse("2026-01-01T00:00:00Z").expect("a time"),
            namespace: self.text("namespace"),
            version: self.text("version"),
            user: "admin",
            groups: &[],
            user_uid: "admin",
        }
    }

    /// The object as it would be stored, and what is wrong with it.
    fn replay(&self) -> (Value, FieldErrors) {
        let strategy = self.strategy();
        let request = self.request();
        let namespaced = !request.namespace.is_empty();
        let mut new = self.value["new"].clone();
        if namespaced {
            meta::set(&mut new, "namespace", json!(request.namespace));
        }
        strategy.default(&mut new, &request);
        let Some(old) = self.value.get("old") else {
            name_generated(&mut new);
            allocate(&mut new, self.text("resource"));
            strategy.prepare_create(&mut new, &request);
            let errors = validate::create(strategy, &new, namespaced, &request);
            return (new, errors);
        };
        let errors = match self.text("subresource") {
            "" => {
                strategy.prepare_update(&mut new, old, &request);
                validate::update(strategy, &new, old, namespaced, &request)
            }
            subresource => {
                strategy.prepare_subresource(subresource, &mut new, old, &request);
                let change = SubresourceChange { subresource, new: &new, old };
                validate::subresource(strategy, change, namespaced, &request)
            }
        };
        (new, errors)
    }
}

/// What the registry does before a strategy prepares an object.
fn name_generated(object: &mut Value) {
    let prefix = meta::text(object, "generateName").to_owned();
    if meta::name(object).is_empty() && !prefix.is_empty() {
        meta::set(object, "name", json!(format!("{prefix}xxxxx")));
    }
}

/// What the registry's allocators do to a service before it is validated.
fn allocate(object: &mut Value, resource: &str) {
    let spec = &mut object["spec"];
    if resource == "services" && spec["clusterIPs"].is_null() && !spec["clusterIP"].is_null() {
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
    }
    if resource == "services" && kinds_needs_health_check(spec) && spec["healthCheckNodePort"].is_null() {
        spec["healthCheckNodePort"] = json!(30_000);
    }
}

fn kinds_needs_health_check(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recorded");
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("recorded answers").flatten().map(|f| f.path()).collect();
    files.sort();
    let texts = files.iter().map(|file| std::fs::read_to_string(file).expect("readable"));
    let lines: Vec<String> = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines
        .iter()
        .map(|line| {
            let value: Value = serde_json::from_str(line).expect("JSON");
            Case { name: value["name"].as_str().expect("a name").to_owned(), value }
        })
        .collect()
}

/// Takes out what only a server knows, and what Go does not write.
fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    let dropped = [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "managedFields",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "name",
    ];
    for field in dropped {
        meta::set(&mut object, field, Value::Null);
    }
    if object["kind"] == "Service" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort", "ports"] {
            if let Some(spec) = object["spec"].as_object_mut() {
                spec.remove(field);
            }
        }
    }
    prune(&mut object, true);
    object
}

fn prune(value: &mut Value, top: bool) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(|v| prune(v, false));
            map.retain(|k, v| {
                let time = matches!(k.as_str(), "lastTransitionTime" | "lastProbeTime" | "metadata" | "timeAdded")
                    && !top
                    && k != "metadata";
                let zero = match v {
                    Value::Null => true,
                    Value::Object(map) => map.is_empty(),
                    Value::Array(list) => list.is_empty(),
                    Value::String(text) => text.is_empty(),
                    Value::Bool(flag) => !*flag,
                    Value::Number(number) => number.as_i64() == Some(0),
                };
                !zero && !time
            });
        }
        Value::Array(list) => list.iter_mut().for_each(|v| prune(v, false)),
        _ => {}
    }
}

fn lines(errors: &FieldErrors) -> Vec<String> {
    errors.0.iter().map(|e| format!("{} | {} | {}", e.kind.reason(), e.field, e.message)).collect()
}

fn expected(case: &Case) -> Vec<String> {
    let causes = case.value["causes"].as_array();
    let cause = |c: &Value| {
        let part = |i: usize| c[i].as_str().unwrap_or("").to_owned();
        format!("{} | {} | {}", part(0), part(1), part(2))
    };
    causes.into_iter().flatten().map(cause).collect()
}

/// Upstream walks maps in random order; a diff of internal types is not compared.
fn normal(lines: &[String]) -> Vec<String> {
    let first = |line: &String| line.split('\n').next().unwrap_or("").to_owned();
    let mut lines: Vec<String> = lines.iter().map(first).collect();
    lines.sort();
    lines
}

#[test]
fn causes_and_objects_are_upstreams() {
    let mut failures = Vec::new();
    for case in cases() {
        let (object, errors) = case.replay();
        match case.value["code"].as_i64() {
            Some(422) => {
                let (ours, theirs) = (lines(&errors), expected(&case));
                if normal(&ours) != normal(&theirs) {
                    let (a, b) = (normal(&ours), normal(&theirs));
                    let missing: Vec<_> = b.iter().filter(|l| !a.contains(l)).collect();
                    let extra: Vec<_> = a.iter().filter(|l| !b.contains(l)).collect();
                    failures.push(format!(
                        "{}: missing {missing:#?} extra {extra:#?} ({} / {})",
                        case.name,
                        a.len(),
                        b.len()
                    ));
                }
            }
            Some(200 | 201) => {
                if !errors.is_empty() {
                    failures.push(format!("{}: accepted upstream, here {:#?}", case.name, lines(&errors)));
                    continue;
                }
                let (ours, theirs) = (comparable(&object), comparable(&case.value["object"]));
                if ours != theirs {
                    failures.push(format!("{}:\nours   {ours}\ntheirs {theirs}", case.name));
                }
            }
            _ => {}
        }
    }
    assert!(failures.is_empty(), "{} differ\n{}", failures.len(), failures.join("\n"));
}
