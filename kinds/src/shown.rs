//! How upstream shows a structure inside a field error: in the order of its Go type, sometimes under Go's names.

use api::Value;
use api::field::{ErrorKind, FieldErrors, Path};

use crate::tree::{at, list};

/// The fields of a wire type in Go's order; absent ones are left out.
const OWNER: [&str; 6] = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
const REQUIREMENT: [&str; 3] = ["key", "operator", "values"];

/// `Invalid value` of a structure that is shown as `shown`.
pub(crate) fn invalid(path: &Path<'_>, shown: &str, detail: &str, errors: &mut FieldErrors) {
    let separator = if detail.is_empty() { "" } else { ": " };
    errors.push(ErrorKind::Invalid, path, format!("Invalid value: {shown}{separator}{detail}"));
}

/// `Unsupported value` of a structure; the supported words in the order given.
pub(crate) fn not_supported(path: &Path<'_>, shown: &str, supported: &[&str], errors: &mut FieldErrors) {
    let quoted: Vec<String> = supported.iter().map(|word| format!("{word:?}")).collect();
    let message = format!("Unsupported value: {shown}: supported values: {}", quoted.join(", "));
    errors.push(ErrorKind::NotSupported, path, message);
}

/// An internal type: each field under Go's name, null when absent.
pub(crate) fn internal(value: &Value, fields: &[(&str, &str)]) -> String {
    let shown = fields.iter().map(|(go, wire)| format!("{go:?}:{}", at(value, wire)));
    format!("{{{}}}", shown.collect::<Vec<_>>().join(","))
}

/// A wire type whose empty fields are left out.
fn ordered(value: &Value, fields: &[&str]) -> String {
    let present = fields.iter().filter_map(|field| Some((field, value.get(*field)?)));
    let shown: Vec<String> = present.map(|(field, value)| format!("{field:?}:{value}")).collect();
    format!("{{{}}}", shown.join(","))
}

/// An owner reference.
pub(crate) fn owner(owner: &Value) -> String {
    ordered(owner, &OWNER)
}

/// A list, each element shown by `element`.
pub(crate) fn each(values: &[Value], element: impl Fn(&Value) -> String) -> String {
    let shown: Vec<String> = values.iter().map(element).collect();
    format!("[{}]", shown.join(","))
}

/// A label selector.
pub(crate) fn selector(selector: &Value) -> String {
    if selector.is_null() {
        return "null".to_owned();
    }
    let mut shown = Vec::new();
    if let Some(labels) = selector.get("matchLabels") {
        shown.push(format!("\"matchLabels\":{labels}"));
    }
    let expressions = list(selector, "matchExpressions");
    if !expressions.is_empty() {
        let all = each(expressions, |requirement| ordered(requirement, &REQUIREMENT));
        shown.push(format!("\"matchExpressions\":{all}"));
    }
    format!("{{{}}}", shown.join(","))
}
