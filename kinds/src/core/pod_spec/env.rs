//! Validation of environment variables and their sources.

use api::Value;
use api::field::{FieldErrors, Path};
use api::quantity::Quantity;

use super::paths;
use crate::names::{self, NameRule};
use crate::object_meta::invalid_each;
use crate::tree::{list, some, text};

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const POD_FIELDS: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCE_FIELDS: [&str; 6] = [
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
];
const BYTE_DIVISORS: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
const ONE_SOURCE: &str = "may not have more than one field specified at a time";

/// Validates `env`.
pub(super) fn validate(container: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (i, variable) in list(container, "env").iter().enumerate() {
        let path = path.index(i);
        match text(variable, "name") {
            "" => errors.required(&path.child("name"), ""),
            name => invalid_each(&path.child("name"), name, names::relaxed_env_var(name), errors),
        }
        if let Some(source) = some(variable, "valueFrom") {
            value_from(variable, source, &path.child("valueFrom"), errors);
        }
    }
}

type SourceCheck = fn(&Value, &Path<'_>, &mut FieldErrors);

const SOURCES: [(&str, SourceCheck); 5] = [
    ("fieldRef", |source, path, errors| field_ref(source, &ENV_FIELDS, path, errors)),
    ("resourceFieldRef", |source, path, errors| resource_ref(source, false, path, errors)),
    ("configMapKeyRef", key_ref),
    ("secretKeyRef", key_ref),
    ("fileKeyRef", file_ref),
];

fn value_from(variable: &Value, source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut count = 0;
    for (field, check) in SOURCES {
        if let Some(source) = some(source, field) {
            count += 1;
            check(source, &path.child(field), errors);
        }
    }
    if count == 0 {
        let detail =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid(path, "", detail);
    } else if !text(variable, "value").is_empty() {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if count > 1 {
        errors.invalid(path, "", ONE_SOURCE);
    }
}

/// Validates a reference to a field of the pod itself.
pub(super) fn field_ref(reference: &Value, allowed: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    let version = text(reference, "apiVersion");
    let field = text(reference, "fieldPath");
    if version.is_empty() {
        errors.required(&path.child("apiVersion"), "");
        return;
    }
    if field.is_empty() {
        errors.required(&path.child("fieldPath"), "");
        return;
    }
    if let Err(problem) = pod_field(version, field) {
        let detail = format!("error converting fieldPath: {problem}");
        errors.invalid(&path.child("fieldPath"), field, &detail);
        return;
    }
    let Some((map, key)) = subscript(field) else {
        let field = if field == "spec.host" { "spec.nodeName" } else { field };
        if !allowed.contains(&field) {
            errors.not_supported(&path.child("fieldPath"), field, allowed);
        }
        return;
    };
    match map {
        "metadata.annotations" => {
            let key = key.to_lowercase();
            invalid_each(path, &key, names::label_key(&key), errors);
        }
        _ => invalid_each(path, key, names::label_key(key), errors),
    }
}

/// `metadata.labels['x']` as (`metadata.labels`, `x`).
fn subscript(field: &str) -> Option<(&str, &str)> {
    let inner = field.strip_suffix("']")?;
    let (map, key) = inner.split_once("['")?;
    (!map.is_empty()).then_some((map, key))
}

fn pod_field(version: &str, field: &str) -> Result<(), String> {
    if version != "v1" {
        return Err(format!("unsupported pod version: {version}"));
    }
    if let Some((map, _)) = subscript(field) {
        return match map {
            "metadata.annotations" | "metadata.labels" => Ok(()),
            _ => Err(format!("field label does not support subscript: {field}")),
        };
    }
    if POD_FIELDS.contains(&field) || field == "spec.host" {
        return Ok(());
    }
    Err(format!("field label not supported: {field}"))
}

/// Validates a reference to a container's request or limit; in a volume it must name the container.
pub(super) fn resource_ref(reference: &Value, in_volume: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let resource = text(reference, "resource");
    let pages = resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if in_volume && text(reference, "containerName").is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCE_FIELDS.contains(&resource) && !pages {
        errors.not_supported(&path.child("resource"), resource, &RESOURCE_FIELDS);
    }
    let divisor = some(reference, "divisor").and_then(|d| Quantity::from_value(d).ok());
    if let Some(divisor) = divisor.filter(|d| !d.is_zero()) {
        self::divisor(resource, &divisor.to_string(), &path.child("divisor"), errors);
    }
}

fn divisor(resource: &str, divisor: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let kind = match resource.split_once('.').map(|(_, name)| name) {
        Some("cpu") => {
            if !matches!(divisor, "1" | "1m") {
                let detail = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.invalid(path, resource, detail);
            }
            return;
        }
        Some("memory") => "memory",
        Some("ephemeral-storage") => "local ephemeral storage",
        Some(name) if name.starts_with("hugepages-") => "hugepages",
        _ => return,
    };
    if !BYTE_DIVISORS.contains(&divisor) {
        let detail = format!(
            "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the {kind} resource"
        );
        errors.invalid(path, resource, &detail);
    }
}

fn key_ref(reference: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let name = text(reference, "name");
    let complaints = NameRule::Dns1123Subdomain.check(name, false);
    invalid_each(&path.child("name"), name, complaints, errors);
    match text(reference, "key") {
        "" => errors.required(&path.child("key"), ""),
        key => invalid_each(&path.child("key"), key, names::config_key(key), errors),
    }
}

fn file_ref(reference: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match text(reference, "key") {
        "" => errors.required(&path.child("key"), ""),
        key => invalid_each(&path.child("key"), key, names::relaxed_env_var(key), errors),
    }
    match text(reference, "volumeName") {
        "" => errors.required(&path.child("volumeName"), ""),
        name => invalid_each(&path.child("volumeName"), name, names::label(name), errors),
    }
    match text(reference, "path") {
        "" => errors.required(&path.child("path"), ""),
        file => paths::no_backsteps(file, &path.child("path"), errors),
    }
}

/// Validates `envFrom`.
pub(super) fn validate_from(container: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (i, source) in list(container, "envFrom").iter().enumerate() {
        let at_source = path.index(i);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            let complaints = names::relaxed_env_var(prefix);
            invalid_each(&at_source.child("prefix"), prefix, complaints, errors);
        }
        let mut count = 0;
        for field in ["configMapRef", "secretRef"] {
            let Some(reference) = some(source, field) else {
                continue;
            };
            count += 1;
            let at_reference = at_source.child(field);
            match text(reference, "name") {
                "" => errors.required(&at_reference.child("name"), ""),
                name => {
                    let complaints = NameRule::Dns1123Subdomain.check(name, true);
                    invalid_each(&at_reference.child("name"), name, complaints, errors);
                }
            }
        }
        match count {
            0 => errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(path, "", ONE_SOURCE),
        }
    }
}
