//! Events, in the core group and in events.k8s.io: one object, two spellings and two strictnesses.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::age;
use crate::object_meta::{IMMUTABLE, label_key};
use crate::rows;
use crate::strategy::{DefaultPropagation, MetadataCheck, Request, Strategy};
use crate::tree::{at, has, int, opt_text, same, same_at, some, text};

/// Events of the core group: `involvedObject`, `message`, `source`.
#[derive(Debug)]
pub(crate) struct CoreEvent;

/// Events of events.k8s.io: `regarding`, `note`, `deprecatedSource`.
#[derive(Debug)]
pub(crate) struct Event;

const SELECTABLE: [&str; 11] = [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// How one group spells what both mean.
struct Spelling {
    object: &'static str,
    message: &'static str,
    source: &'static str,
    controller: &'static str,
    first: &'static str,
    last: &'static str,
    count: &'static str,
}

const CORE: Spelling = Spelling {
    object: "involvedObject",
    message: "message",
    source: "source",
    controller: "reportingComponent",
    first: "firstTimestamp",
    last: "lastTimestamp",
    count: "count",
};
const GROUP: Spelling = Spelling {
    object: "regarding",
    message: "note",
    source: "deprecatedSource",
    controller: "reportingController",
    first: "deprecatedFirstTimestamp",
    last: "deprecatedLastTimestamp",
    count: "deprecatedCount",
};

impl Strategy for CoreEvent {
    fn metadata_check(&self) -> MetadataCheck {
        MetadataCheck::None
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn default_propagation(&self) -> DefaultPropagation {
        DefaultPropagation::Unsupported
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        common(object, &CORE, errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        common(new, &CORE, errors);
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &SELECTABLE
    }

    fn selected_paths(&self) -> &'static [&'static str] {
        &["involvedObject", "source", "reportingComponent", "reason", "type"]
    }

    fn selectable_field(&self, object: &Value, field: &str) -> String {
        selectable(object, field, &CORE)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(row(object, now, &CORE))
    }
}

impl Strategy for Event {
    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn default_propagation(&self) -> DefaultPropagation {
        DefaultPropagation::Unsupported
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        common(object, &GROUP, errors);
        series(object, errors);
        let internal = |field: &'static str| Path::new(field);
        if !has(object, "eventTime") {
            errors.required(&internal("eventTime"), "");
        }
        let kind = text(object, "type");
        if !matches!(kind, "Normal" | "Warning") {
            errors.invalid(&internal("type"), "", &format!("has invalid value: {kind}"));
        }
        let source = at(object, GROUP.source);
        let set = [
            ("firstTimestamp", has(object, GROUP.first)),
            ("lastTimestamp", has(object, GROUP.last)),
            ("count", int(object, GROUP.count) != 0),
            ("source", !text(source, "component").is_empty() || !text(source, "host").is_empty()),
        ];
        for (field, _) in set.into_iter().filter(|(_, set)| *set) {
            errors.invalid(&internal(field), "", "needs to be unset");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        common(new, &GROUP, errors);
        if !same_at(new, old, "series") {
            series(new, errors);
        }
        // The paths are those of upstream's internal type.
        const FIXED: [(&str, &str); 14] = [
            ("regarding", "involvedObject"),
            ("reason", "reason"),
            ("note", "message"),
            ("deprecatedSource", "source"),
            ("deprecatedFirstTimestamp", "firstTimestamp"),
            ("deprecatedLastTimestamp", "lastTimestamp"),
            ("deprecatedCount", "count"),
            ("reason", "reason"),
            ("type", "type"),
            ("eventTime", "eventTime"),
            ("action", "action"),
            ("related", "related"),
            ("reportingController", "reportingController"),
            ("reportingInstance", "reportingInstance"),
        ];
        for (field, shown) in FIXED {
            let (new, old) = (at(new, field), at(old, field));
            if !same(said(new), said(old)) {
                errors.invalid(&Path::new(shown), new.clone(), IMMUTABLE);
            }
        }
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        // The same fields as in the core group: the registry maps the names before it asks.
        &SELECTABLE
    }

    fn selected_paths(&self) -> &'static [&'static str] {
        &["regarding", "deprecatedSource", "reportingController", "reason", "type"]
    }

    fn selectable_field(&self, object: &Value, field: &str) -> String {
        selectable(object, field, &GROUP)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(row(object, now, &GROUP))
    }
}

fn selectable(object: &Value, field: &str, spelling: &Spelling) -> String {
    let component = text(at(object, spelling.source), "component");
    let controller = text(object, spelling.controller);
    let found = match field {
        "source" if component.is_empty() => controller,
        "source" => component,
        "reportingComponent" => controller,
        _ => match field.strip_prefix("involvedObject.") {
            Some(name) => text(at(object, spelling.object), name),
            None => text(object, field),
        },
    };
    found.to_owned()
}

/// What both groups have always asked for.
fn common(object: &Value, spelling: &Spelling, errors: &mut FieldErrors) {
    let namespace = api::meta::namespace(object);
    let involved = text(at(object, spelling.object), "namespace");
    let at_namespace = Path::new("involvedObject");
    let at_namespace = at_namespace.child("namespace");
    const OTHER: &str = "does not match event.namespace";
    if !has(object, "eventTime") {
        let fits = if involved.is_empty() { matches!(namespace, "" | "default") } else { involved == namespace };
        if !fits {
            errors.invalid(&at_namespace, involved, OTHER);
        }
        return;
    }
    if involved.is_empty() && !matches!(namespace, "default" | "kube-system") {
        errors.invalid(&at_namespace, involved, OTHER);
    }
    let controller = text(object, spelling.controller);
    let at_controller = Path::new(spelling.controller);
    if controller.is_empty() {
        errors.required(&at_controller, "");
    }
    label_key(controller, &at_controller, errors);
    bounded(text(object, "reportingInstance"), "reportingInstance", 128, errors);
    bounded(text(object, "action"), "action", 128, errors);
    bounded(text(object, "reason"), "reason", 128, errors);
    if text(object, spelling.message).len() > 1024 {
        errors.invalid(&Path::new("message"), "", "can have at most 1024 characters");
    }
}

/// A field's value; nothing for what says nothing, since upstream's type does not know the two apart.
fn said(value: &Value) -> &Value {
    let is_empty = match value {
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        _ => false,
    };
    if is_empty { &Value::Null } else { value }
}

fn bounded(value: &str, field: &str, max: usize, errors: &mut FieldErrors) {
    let path = Path::new(field);
    if value.is_empty() {
        errors.required(&path, "");
    }
    if value.len() > max {
        errors.invalid(&path, "", &format!("can have at most {max} characters"));
    }
}

fn series(object: &Value, errors: &mut FieldErrors) {
    let Some(series) = some(object, "series") else {
        return;
    };
    if int(series, "count") < 2 {
        errors.invalid(&Path::new("series.count"), "", "should be at least 2");
    }
    if !has(series, "lastObservedTime") {
        errors.required(&Path::new("series.lastObservedTime"), "");
    }
}

fn row(object: &Value, now: Timestamp, spelling: &Spelling) -> Vec<Value> {
    let since = |time: Option<&str>| age::since(time.unwrap_or(""), now);
    let first = opt_text(object, spelling.first).or_else(|| opt_text(object, "eventTime"));
    let first = since(first);
    let last = opt_text(object, spelling.last).map_or_else(|| first.clone(), |last| since(Some(last)));
    let series = some(object, "series");
    let last = series.map_or(last, |series| since(opt_text(series, "lastObservedTime")));
    let count = match series {
        Some(series) => int(series, "count"),
        None => int(object, spelling.count).max(1),
    };
    let involved = at(object, spelling.object);
    let target = match (text(involved, "kind").to_lowercase(), text(involved, "name")) {
        (kind, "") => kind,
        (kind, name) => format!("{kind}/{name}"),
    };
    vec![
        json!(last),
        json!(text(object, "type")),
        json!(text(object, "reason")),
        json!(target),
        json!(text(involved, "fieldPath")),
        json!(source(object, spelling)),
        json!(text(object, spelling.message).trim()),
        json!(first),
        json!(count),
        rows::name(object),
    ]
}

fn source(object: &Value, spelling: &Spelling) -> String {
    let source = at(object, spelling.source);
    let first = |a: &'_ str, b: &'_ str| if a.is_empty() { b.to_owned() } else { a.to_owned() };
    let component = first(text(source, "component"), text(object, spelling.controller));
    let instance = first(text(source, "host"), text(object, "reportingInstance"));
    if instance.is_empty() { component } else { format!("{component}, {instance}") }
}
