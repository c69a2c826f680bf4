//! What an autoscaler measures.

use api::Value;
use api::field::{FieldErrors, Path};

use crate::autoscaling::horizontal::{Reference, reference};
use crate::names;
use crate::object_meta::invalid_each;
use crate::resource_name::{quantity, validate_container};
use crate::tree::{at, has, list, opt_int, some, text};

/// A type of metric and the field that describes it, in the order in which upstream looks at them.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const KINDS: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

/// Validates every metric.
pub(super) fn validate(spec: &Value, objects: Reference, path: &Path<'_>, errors: &mut FieldErrors) {
    let all = list(spec, "metrics");
    for (index, metric) in all.iter().enumerate() {
        self::metric(metric, objects, &path.index(index), errors);
    }
    let outside = all.iter().any(|metric| matches!(text(metric, "type"), "Object" | "External"));
    if opt_int(spec, "minReplicas") == Some(0) && !outside {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.forbidden(path, detail);
    }
}

fn metric(metric: &Value, objects: Reference, path: &Path<'_>, errors: &mut FieldErrors) {
    let kind = text(metric, "type");
    let known = KINDS.contains(&kind);
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric source type");
    }
    if !known {
        errors.not_supported(&path.child("type"), kind, &KINDS);
    }
    let given: Vec<&str> = SOURCES.iter().map(|(_, field)| *field).filter(|field| has(metric, field)).collect();
    if let Some((first, source)) = given.first().and_then(|field| Some((*field, some(metric, field)?))) {
        self::source(first, source, objects, &path.child(first), errors);
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind).map(|(_, field)| *field);
    if let Some(field) = expected.filter(|field| !has(metric, field)) {
        errors.required(&path.child(field), "must populate information for the given metric source");
    }
    for field in given.iter().filter(|field| given.len() != 1 && expected != Some(**field)) {
        errors.forbidden(&path.child(field), "must populate the given metric source only");
    }
}

fn source(field: &str, source: &Value, objects: Reference, path: &Path<'_>, errors: &mut FieldErrors) {
    let at_target = path.child("target");
    match field {
        "object" => reference(at(source, "describedObject"), objects, &path.child("describedObject"), errors),
        "resource" | "containerResource" => resource(field, source, path, errors),
        _ => {}
    }
    if matches!(field, "object" | "external" | "pods") {
        let (name, path) = (text(at(source, "metric"), "name"), path.child("metric"));
        if name.is_empty() {
            errors.required(&path.child("name"), "must specify a metric name");
        }
        invalid_each(&path.child("name"), name, names::path_segment(name, false), errors);
    }
    let goal = at(source, "target");
    target(goal, &at_target, errors);
    let [value, average, share] = ["value", "averageValue", "averageUtilization"].map(|field| has(goal, field));
    let at_average = at_target.child("averageValue");
    match field {
        "object" if !value && !average => {
            errors.required(&at_average, "must set either a target value or averageValue")
        }
        "external" if !value && !average => {
            errors.required(&at_average, "must set either a target value for metric or a per-pod target");
        }
        "external" if value && average => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.forbidden(&at_target.child("value"), detail);
        }
        "pods" if !average => errors.required(&at_average, "must specify a positive target averageValue"),
        "resource" | "containerResource" if !share && !average => {
            let detail = "must set either a target raw value or a target utilization";
            errors.required(&at_target.child("averageUtilization"), detail);
        }
        "resource" | "containerResource" if share && average => {
            errors.forbidden(&at_average, "may not set both a target raw value and a target utilization");
        }
        _ => {}
    }
}

fn resource(field: &str, source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let name = text(source, "name");
    let of_container = field == "containerResource";
    if name.is_empty() {
        errors.required(&path.child("name"), "must specify a resource name");
    } else if of_container {
        validate_container(name, &path.child("name"), errors);
    }
    let container = text(source, "container");
    if of_container && container.is_empty() {
        errors.required(&path.child("container"), "must specify a container");
    } else if of_container {
        invalid_each(&path.child("container"), container, names::label(container), errors);
    }
}

fn target(target: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let kind = text(target, "type");
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric target type");
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        errors.invalid(&path.child("type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"] {
        if let Some(amount) = quantity(target, field).filter(|amount| amount.sign() <= 0) {
            errors.invalid(&path.child(field), amount.to_string(), "must be positive");
        }
    }
    if let Some(share) = opt_int(target, "averageUtilization").filter(|share| *share < 1) {
        errors.invalid(&path.child("averageUtilization"), share, "must be greater than 0");
    }
}
