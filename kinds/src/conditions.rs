//! Validation of `status.conditions` of the common shape.

use api::Value;
use api::field::{FieldErrors, Path};

use crate::names::regex_message;
use crate::object_meta::label_key;
use crate::tree::{int, text};

const REASON_MAX: usize = 1024;
const MESSAGE_MAX: usize = 32 * 1024;
const REASON_MESSAGE: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";

/// Validates a list of conditions.
pub fn validate(conditions: &[Value], path: &Path<'_>, errors: &mut FieldErrors) {
    for (i, condition) in conditions.iter().enumerate() {
        let kind = text(condition, "type");
        if conditions[..i].iter().any(|c| text(c, "type") == kind) {
            errors.duplicate(&path.index(i), kind);
        }
        condition_fields(condition, &path.index(i), errors);
    }
}

fn condition_fields(condition: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match text(condition, "type") {
        "" => errors.required(&path.child("type"), "is required"),
        kind => label_key(kind, &path.child("type"), errors),
    }
    match text(condition, "status") {
        "True" | "False" | "Unknown" => {}
        "" => errors.required(&path.child("status"), ""),
        other => errors.not_supported(&path.child("status"), other, &["False", "True", "Unknown"]),
    }
    let observed = int(condition, "observedGeneration");
    if observed < 0 {
        let detail = "must be greater than or equal to zero";
        errors.invalid(&path.child("observedGeneration"), observed, detail);
    }
    if text(condition, "lastTransitionTime").is_empty() {
        errors.required(&path.child("lastTransitionTime"), "");
    }
    reason(text(condition, "reason"), &path.child("reason"), errors);
    if text(condition, "message").len() > MESSAGE_MAX {
        errors.too_long(&path.child("message"), MESSAGE_MAX);
    }
}

fn reason(reason: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if reason.is_empty() {
        errors.required(path, "");
        return;
    }
    let inner = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b',' | b':');
    let well_formed = reason.starts_with(|c: char| c.is_ascii_alphabetic())
        && reason.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && reason.bytes().all(inner);
    if !well_formed {
        let examples = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
        let expression = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?";
        errors.invalid(path, reason, &regex_message(REASON_MESSAGE, expression, &examples));
    }
    if reason.len() > REASON_MAX {
        errors.too_long(path, REASON_MAX);
    }
}
