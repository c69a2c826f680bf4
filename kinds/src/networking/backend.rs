//! Where an ingress sends its requests.

use api::Value;
use api::field::{FieldErrors, Path};

use crate::names;
use crate::object_meta::invalid_each;
use crate::tree::{at, int, some, text};

/// Validates an `IngressBackend`.
pub(super) fn validate(backend: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match (some(backend, "resource"), some(backend, "service")) {
        (Some(_), Some(_)) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (Some(resource), None) => reference(resource, &path.child("resource"), errors),
        (None, Some(service)) => self::service(service, path, errors),
        (None, None) => errors.invalid(path, "", "resource or service backend is required"),
    }
}

fn service(service: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let below = path.child("service");
    let name = text(service, "name");
    if name.is_empty() {
        errors.required(&below.child("name"), "");
    } else {
        invalid_each(&below.child("name"), name, names::label(name), errors);
    }
    let port = at(service, "port");
    let at_port = below.child("port");
    match (text(port, "name"), int(port, "number")) {
        ("", 0) => errors.required(path, "port name or number is required"),
        ("", number) => {
            for complaint in names::port_number(number) {
                errors.invalid(&at_port.child("number"), number, &complaint);
            }
        }
        (name, 0) => invalid_each(&at_port.child("name"), name, names::port_name(name), errors),
        _ => errors.invalid(path, "", "cannot set both port name & port number"),
    }
}

/// Validates a reference to an object of the same namespace: an optional group, a kind and a name.
pub(super) fn reference(reference: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(group) = some(reference, "apiGroup").and_then(Value::as_str) {
        invalid_each(&path.child("apiGroup"), group, names::subdomain(group), errors);
    }
    for field in ["kind", "name"] {
        segment(reference, field, path, errors);
    }
}

/// Validates a required field that must be able to stand in a URL's path.
pub(super) fn segment(holder: &Value, field: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let (value, path) = (text(holder, field), path.child(field));
    if value.is_empty() {
        errors.required(&path, "");
    } else {
        invalid_each(&path, value, names::path_segment(value, false), errors);
    }
}
