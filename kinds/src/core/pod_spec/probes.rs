//! Validation of probes and life-cycle hooks.

use api::Value;
use api::field::{FieldErrors, Path};

use super::{Context, containers::port_number};
use crate::names;
use crate::object_meta::{invalid_each, non_negative};
use crate::tree::{at, int, list, opt_int, opt_text, some, text};

const TOO_MANY_HANDLERS: &str = "may not specify more than 1 handler type";
const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

/// Validates the three probes of a container.
pub(super) fn validate(container: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = some(container, name) else {
            continue;
        };
        let path = path.child(name);
        self::probe(probe, &path, errors);
        let threshold = int(probe, "successThreshold");
        if name == "readinessProbe" {
            if let Some(seconds) = opt_int(probe, "terminationGracePeriodSeconds") {
                let detail = "must not be set for readinessProbes";
                errors.invalid(&path.child("terminationGracePeriodSeconds"), seconds, detail);
            }
        } else if threshold != 1 {
            errors.invalid(&path.child("successThreshold"), threshold, "must be 1");
        }
    }
}

fn probe(probe: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    handler(probe, false, None, path, errors);
    let numbers = ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
    for field in numbers {
        non_negative(int(probe, field), &path.child(field), errors);
    }
    if let Some(seconds) = opt_int(probe, "terminationGracePeriodSeconds").filter(|s| *s <= 0) {
        let path = path.child("terminationGracePeriodSeconds");
        errors.invalid(&path, seconds, "must be greater than 0");
    }
}

/// Validates `lifecycle`.
pub(super) fn lifecycle(cx: &Context<'_>, lifecycle: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let grace = opt_int(cx.spec, "terminationGracePeriodSeconds");
    for name in ["postStart", "preStop"] {
        if let Some(hook) = some(lifecycle, name) {
            handler(hook, true, grace, &path.child(name), errors);
        }
    }
}

/// A probe knows `grpc` but not `sleep`, a hook the other way round.
fn handler(handler: &Value, is_hook: bool, grace: Option<i64>, path: &Path<'_>, errors: &mut FieldErrors) {
    let unknown = if is_hook { "grpc" } else { "sleep" };
    let mut count = 0;
    for name in HANDLERS {
        let Some(action) = some(handler, name).filter(|_| name != unknown) else {
            continue;
        };
        let path = path.child(name);
        if count > 0 {
            errors.forbidden(&path, TOO_MANY_HANDLERS);
            continue;
        }
        count += 1;
        match name {
            "exec" => exec(action, &path, errors),
            "httpGet" => http_get(action, &path, errors),
            "tcpSocket" => port(at(action, "port"), &path.child("port"), errors),
            "grpc" => port_number(int(action, "port"), &path.child("port"), errors),
            _ => sleep(action, grace, &path, errors),
        }
    }
    if count == 0 {
        errors.required(path, "must specify a handler type");
    }
}

fn exec(action: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if list(action, "command").is_empty() {
        errors.required(&path.child("command"), "");
    }
}

fn sleep(action: &Value, grace: Option<i64>, path: &Path<'_>, errors: &mut FieldErrors) {
    let seconds = int(action, "seconds");
    let Some(grace) = grace.filter(|grace| !(0..=*grace).contains(&seconds)) else {
        return;
    };
    let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
    errors.invalid(path, seconds, &detail);
}

fn http_get(action: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if text(action, "path").is_empty() {
        errors.required(&path.child("path"), "");
    }
    port(at(action, "port"), &path.child("port"), errors);
    let scheme = text(action, "scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in list(action, "httpHeaders") {
        let name = text(header, "name");
        invalid_each(&path.child("httpHeaders"), name, names::http_header(name), errors);
    }
    if let Some(protocol) = opt_text(action, "protocol")
        && !matches!(protocol, "HTTP1" | "HTTP2")
    {
        errors.not_supported(&path.child("protocol"), protocol, &["HTTP1", "HTTP2"]);
    }
}

/// Validates a port given by number or by name.
pub(crate) fn port(port: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match port {
        Value::String(name) => invalid_each(path, name, names::port_name(name), errors),
        other => port_number(other.as_i64().unwrap_or(0), path, errors),
    }
}
