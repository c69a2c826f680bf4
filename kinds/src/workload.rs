//! What workloads share: their template, their selector, their counters, percentages.

use api::Value;
use api::field::{FieldErrors, Path};
use api::selector::LabelSelector;

use crate::core::pod::template_annotations;
use crate::core::pod_spec::{self, Meta, defaults};
use crate::names;
use crate::object_meta::{annotations, label_selector, labels, non_negative};
use crate::shown;
use crate::tree::{at, enter, entry_count, has, int, list, opt_int, some, text};

/// Fills the template under `spec`, which Go has even when the client did not send one.
pub(crate) fn default_template(spec: &mut Value) {
    let template = enter(spec, "template");
    enter(template, "metadata");
    defaults::spec(enter(template, "spec"));
}

/// Validates a `PodTemplateSpec`.
pub(crate) fn template(template: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let metadata = at(template, "metadata");
    let spec = at(template, "spec");
    labels(at(metadata, "labels"), &path.child("labels"), errors);
    let at_annotations = path.child("annotations");
    annotations(at(metadata, "annotations"), &at_annotations, errors);
    template_annotations(metadata, spec, &at_annotations, errors);
    pod_spec::validate(spec, Meta::Template, &path.child("spec"), errors);
    if !list(spec, "ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.forbidden(&path.child("spec.ephemeralContainers"), detail);
    }
}

/// Validates a template that must always restart and has no deadline; `kind` is named when it has.
pub(crate) fn restarting_template(template: &Value, kind: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    self::template(template, path, errors);
    always_restarts(template, kind, path, errors);
}

/// The template's pods are replaced, so they restart for ever.
pub(crate) fn always_restarts(template: &Value, kind: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let spec = at(template, "spec");
    let policy = text(spec, "restartPolicy");
    if policy != "Always" {
        errors.not_supported(&path.child("spec.restartPolicy"), policy, &["Always"]);
    }
    if has(spec, "activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.forbidden(&path.child("spec.activeDeadlineSeconds"), &detail);
    }
}

/// A selector must be there and select something; `empty` is the complaint when it does not.
pub(crate) fn required_selector(spec: &Value, empty: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("selector");
    let Some(selector) = some(spec, "selector") else {
        errors.required(&path, "");
        return;
    };
    label_selector(selector, &path, errors);
    if is_empty_selector(selector) {
        shown::invalid(&path, &shown::selector(selector), empty, errors);
    }
}

pub(crate) fn is_empty_selector(selector: &Value) -> bool {
    entry_count(selector, "matchLabels") == 0 && list(selector, "matchExpressions").is_empty()
}

/// A workload's selector never changes.
pub(crate) fn immutable_selector(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if !crate::tree::same_at(new, old, "selector") {
        let shown = shown::selector(at(new, "selector"));
        shown::invalid(&path.child("selector"), &shown, crate::object_meta::IMMUTABLE, errors);
    }
}

/// How `spec.selector` and the template's labels go together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    /// The selector cannot be read.
    Malformed,
    /// The selector is absent, so it selects nothing, or it does not match.
    Mismatch,
    /// The selector matches, or is empty and selects everything.
    Match,
}

/// Compares `spec.selector` with the labels of `spec.template`.
pub(crate) fn selection(spec: &Value) -> Selection {
    let Some(selector) = some(spec, "selector") else {
        return Selection::Mismatch;
    };
    let mut found = FieldErrors::new();
    label_selector(selector, &Path::ROOT, &mut found);
    let parsed = LabelSelector::from_object(selector).ok().filter(|_| found.is_empty());
    match parsed {
        None => Selection::Malformed,
        Some(parsed) if parsed.matches_object(at(spec, "template")) => Selection::Match,
        Some(_) => Selection::Mismatch,
    }
}

/// `selector` does not match the template's labels.
pub(crate) fn mismatch(template: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let labels = at(at(template, "metadata"), "labels").clone();
    let detail = "`selector` does not match template `labels`";
    errors.invalid(&path.child("metadata.labels"), labels, detail);
}

/// Counters of a status: none negative, and those of `bounded` at most `replicas`.
pub(crate) fn counters(status: &Value, all: &[&str], bounded: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    for field in all {
        if let Some(count) = opt_int(status, field) {
            non_negative(count, &path.child(field), errors);
        }
    }
    let replicas = int(status, "replicas");
    for field in bounded {
        let count = int(status, field);
        if count > replicas {
            errors.invalid(&path.child(field), count, "cannot be greater than status.replicas");
        }
    }
}

/// No more replicas are available than ready; `ready` is how upstream names those here.
pub(crate) fn available_are_ready(status: &Value, ready: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let available = int(status, "availableReplicas");
    if available > int(status, "readyReplicas") {
        let detail = format!("cannot be greater than {ready}");
        errors.invalid(&path.child("availableReplicas"), available, &detail);
    }
}

/// `status.collisionCount` only grows.
pub(crate) fn collisions_grow(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status");
    let count = |object| opt_int(at(object, "status"), "collisionCount");
    let shrinks = match (count(new), count(old)) {
        (None, Some(_)) => true,
        (Some(new), Some(old)) => new < old,
        _ => false,
    };
    if shrinks {
        let shown = count(new).unwrap_or(0);
        errors.invalid(&path.child("collisionCount"), shown, "cannot be decremented");
    }
}

/// A whole number or a percentage, not negative.
pub(crate) fn int_or_percent(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match value {
        Value::String(text) => {
            for complaint in names::percent(text) {
                errors.invalid(path, text.as_str(), &complaint);
            }
        }
        other => non_negative(other.as_i64().unwrap_or(0), path, errors),
    }
}

/// The number before `%`; None when the value is no percentage.
pub(crate) fn percent(value: &Value) -> Option<i64> {
    let text = value.as_str().filter(|text| names::percent(text).is_empty())?;
    text.trim_end_matches('%').parse().ok()
}

/// The number, with or without `%`.
pub(crate) fn amount(value: &Value) -> i64 {
    percent(value).or_else(|| value.as_i64()).unwrap_or(0)
}

/// A percentage must be at most 100.
pub(crate) fn at_most_all(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if percent(value).is_some_and(|percent| percent > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// An optional number must not be negative.
pub(crate) fn optional_non_negative(holder: &Value, field: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(number) = opt_int(holder, field) {
        non_negative(number, &path.child(field), errors);
    }
}

/// Warnings about an object whose pods carry its name, and about its template.
pub(crate) fn warnings(new: &Value, old: Option<&Value>, name_matters: bool) -> Vec<String> {
    let spec = at(new, "spec");
    let mut warnings = Vec::new();
    if let Some(old) = old {
        if crate::tree::same(at(old, "spec"), spec) {
            return warnings;
        }
    } else if name_matters {
        let complaints = names::label(api::meta::name(new));
        if !complaints.is_empty() {
            warnings.push(format!(
                "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
                complaints.join(" ")
            ));
        }
    }
    let path = Path::new("spec");
    warnings.extend(crate::core::pod_warnings::of_template(at(spec, "template"), &path.child("template")));
    warnings
}
