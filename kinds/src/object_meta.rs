//! Validation of `metadata`: names, labels, annotations, owners, finalizers, managed fields.
//!
//! Order and repetition follow upstream, where the generic layer and most kinds each check the metadata:
//! a client sees the same cause twice on an update, and so it does here.

use api::field::{ErrorKind, FieldErrors, Path};
use api::{Value, meta};

use crate::names::{self, NameRule};
use crate::shown;
use crate::tree::{at, flag, int, list, same_at, text, texts};

#[cfg(test)]
mod tests;

/// All annotations of an object together, in bytes.
pub const ANNOTATIONS_MAX: usize = 256 * 1024;
/// The longest `managedFields[].manager`.
const MANAGER_MAX: usize = 128;
const SUBRESOURCE_MAX: usize = 256;
/// The message of every field that must not change.
pub const IMMUTABLE: &str = "field is immutable";
/// The message of every number that must not be negative.
pub const NON_NEGATIVE: &str = "must be greater than or equal to 0";

/// Validates `metadata` of a new object whose name was already generated.
pub fn validate(object: &Value, namespaced: bool, names: NameRule, errors: &mut FieldErrors) {
    validate_with(object, namespaced, |name, prefix| names.check(name, prefix), errors);
}

/// As [`validate`], with a name check that no [`NameRule`] describes.
pub fn validate_with(
    object: &Value,
    namespaced: bool,
    check: impl Fn(&str, bool) -> names::Complaints,
    errors: &mut FieldErrors,
) {
    let path = Path::new("metadata");
    let generate_name = meta::text(object, "generateName");
    if !generate_name.is_empty() {
        invalid_each(&path.child("generateName"), generate_name, check(generate_name, true), errors);
    }
    match meta::name(object) {
        "" => errors.required(&path.child("name"), "name or generateName is required"),
        name => invalid_each(&path.child("name"), name, check(name, false), errors),
    }
    namespace(object, namespaced, &path, errors);
    let metadata = at(object, "metadata");
    non_negative(int(metadata, "generation"), &path.child("generation"), errors);
    labels(at(metadata, "labels"), &path.child("labels"), errors);
    annotations(at(metadata, "annotations"), &path.child("annotations"), errors);
    owner_references(metadata, &path.child("ownerReferences"), errors);
    finalizers(metadata, &path.child("finalizers"), errors);
}

/// Validates `metadata` of a changed object against what is stored.
pub fn validate_update(object: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("metadata");
    let (new_meta, old_meta) = (at(object, "metadata"), at(old, "metadata"));
    if meta::is_terminating(old) {
        no_new_finalizers(new_meta, old_meta, &path.child("finalizers"), errors);
    }
    if meta::resource_version(object).is_empty() {
        errors.invalid(&path.child("resourceVersion"), "", "must be specified for an update");
    }
    let generation = int(new_meta, "generation");
    non_negative(generation, &path.child("generation"), errors);
    if generation < int(old_meta, "generation") {
        errors.invalid(&path.child("generation"), generation, "must not be decremented");
    }
    for field in ["name", "namespace", "uid"] {
        if text(new_meta, field) != text(old_meta, field) {
            errors.invalid(&path.child(field), text(new_meta, field), IMMUTABLE);
        }
    }
    for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if !same_at(new_meta, old_meta, field) {
            errors.invalid(&path.child(field), at(new_meta, field).clone(), IMMUTABLE);
        }
    }
    labels(at(new_meta, "labels"), &path.child("labels"), errors);
    annotations(at(new_meta, "annotations"), &path.child("annotations"), errors);
    owner_references(new_meta, &path.child("ownerReferences"), errors);
}

/// What is checked of every kind's metadata on an update, before the kind's own errors.
pub fn validate_update_common(object: &Value, old: &Value, namespaced: bool, errors: &mut FieldErrors) {
    validate(object, namespaced, NameRule::PathSegment, errors);
    validate_update(object, old, errors);
    standard_finalizers(object, errors);
}

/// One `Invalid value` for each complaint.
pub fn invalid_each(path: &Path<'_>, value: &str, complaints: names::Complaints, errors: &mut FieldErrors) {
    for complaint in complaints {
        errors.invalid(path, value, &complaint);
    }
}

/// The number must be at least 0.
pub fn non_negative(value: i64, path: &Path<'_>, errors: &mut FieldErrors) {
    if value < 0 {
        errors.invalid(path, value, NON_NEGATIVE);
    }
}

/// The field must not differ from the stored one.
pub fn immutable(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if !crate::tree::same(new, old) {
        errors.invalid(path, new.clone(), IMMUTABLE);
    }
}

/// The same where upstream's generated validation finds it, which does not show the new value.
pub fn immutable_unshown(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if !crate::tree::same(new, old) {
        errors.invalid(path, Value::Null, IMMUTABLE);
    }
}

fn namespace(object: &Value, namespaced: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("namespace");
    match (namespaced, meta::namespace(object)) {
        (true, "") => errors.required(&path, ""),
        (true, namespace) => invalid_each(&path, namespace, names::label(namespace), errors),
        (false, "") => {}
        (false, _) => errors.forbidden(&path, "not allowed on this type"),
    }
}

/// Validates a map of labels.
pub fn labels(map: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (key, value) in map.as_object().into_iter().flatten() {
        label_key(key, path, errors);
        let value = value.as_str().unwrap_or("");
        invalid_each(path, value, names::label_value(value), errors);
    }
}

/// Validates one label key.
pub fn label_key(key: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    invalid_each(path, key, names::label_key(key), errors);
}

/// Validates a map of annotations.
pub fn annotations(map: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut size = 0;
    for (key, value) in map.as_object().into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        invalid_each(path, key, names::label_key(&key.to_lowercase()), errors);
    }
    if size > ANNOTATIONS_MAX {
        errors.too_long(path, ANNOTATIONS_MAX);
    }
}

fn owner_references(metadata: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let owners = list(metadata, "ownerReferences");
    let mut controller: Option<String> = None;
    for (i, owner) in owners.iter().enumerate() {
        owner_reference(owner, &path.index(i), errors);
        if !flag(owner, "controller") {
            continue;
        }
        let this = format!("{}/{}", text(owner, "kind"), text(owner, "name"));
        let Some(first) = &controller else {
            controller = Some(this);
            continue;
        };
        let detail = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
        );
        shown::invalid(path, &shown::each(owners, shown::owner), &detail, errors);
    }
}

fn owner_reference(owner: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let version = text(owner, "apiVersion");
    let well_formed = version.matches('/').count() <= 1 && !version.ends_with('/');
    if version.is_empty() {
        errors.required(&path.child("apiVersion"), "must not be empty");
    } else if !well_formed {
        let detail = "must be <group>/<version> or <version>";
        errors.invalid(&path.child("apiVersion"), version, detail);
    }
    for field in ["kind", "name", "uid"] {
        if text(owner, field).is_empty() {
            errors.required(&path.child(field), "must not be empty");
        }
    }
    if version == "v1" && text(owner, "kind") == "Event" {
        let detail = "/v1, Kind=Event is disallowed from being an owner";
        shown::invalid(path, &shown::owner(owner), detail, errors);
    }
}

fn finalizers(metadata: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (mut orphan, mut foreground) = (false, false);
    for finalizer in texts(metadata, "finalizers") {
        invalid_each(path, finalizer, names::label_key(finalizer), errors);
        orphan |= finalizer == "orphan";
        foreground |= finalizer == "foregroundDeletion";
    }
    if orphan && foreground {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.invalid(path, list(metadata, "finalizers").to_vec(), detail);
    }
}

fn no_new_finalizers(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut extra: Vec<&str> =
        texts(new, "finalizers").filter(|f| !texts(old, "finalizers").any(|o| o == *f)).collect();
    if extra.is_empty() {
        return;
    }
    extra.sort_unstable();
    extra.dedup();
    let quoted: Vec<String> = extra.iter().map(|f| format!("{f:?}")).collect();
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        quoted.join(", ")
    );
    errors.forbidden(path, &detail);
}

/// Validates managed fields that a client has given. They travel apart from their object.
pub fn managed_fields(entries: &[Value], errors: &mut FieldErrors) {
    let path = Path::new("metadata");
    let path = path.child("managedFields");
    for (i, entry) in entries.iter().enumerate() {
        let path = path.index(i);
        match text(entry, "operation") {
            "" => errors.required(&path.child("operation"), "must not be empty"),
            "Apply" | "Update" => {}
            other => errors.not_supported(&path.child("operation"), other, &["Apply", "Update"]),
        }
        let fields_type = text(entry, "fieldsType");
        if !matches!(fields_type, "" | "FieldsV1") {
            errors.invalid(&path.child("fieldsType"), fields_type, "must be `FieldsV1`");
        }
        field_manager(text(entry, "manager"), &path.child("manager"), errors);
        if text(entry, "subresource").len() > SUBRESOURCE_MAX {
            errors.too_long(&path.child("subresource"), SUBRESOURCE_MAX);
        }
    }
}

/// A finalizer without a domain must be one of Kubernetes' own.
pub fn standard_finalizer(finalizer: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    const STANDARD: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
    if !finalizer.contains('/') && !STANDARD.contains(&finalizer) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.invalid(path, finalizer, detail);
    }
}

/// Validates the finalizers of a built-in kind, each at its index.
pub fn standard_finalizers(object: &Value, errors: &mut FieldErrors) {
    let path = Path::new("metadata");
    let path = path.child("finalizers");
    for (i, finalizer) in texts(at(object, "metadata"), "finalizers").enumerate() {
        standard_finalizer(finalizer, &path.index(i), errors);
    }
}

/// Validates a field manager's name.
pub fn field_manager(manager: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if manager.len() > MANAGER_MAX {
        errors.too_long(path, MANAGER_MAX);
    }
    for (at, c) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        errors.invalid(path, manager, &detail);
    }
}

/// Validates a label selector.
pub fn label_selector(selector: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    labels(at(selector, "matchLabels"), &path.child("matchLabels"), errors);
    let expressions = path.child("matchExpressions");
    for (i, requirement) in list(selector, "matchExpressions").iter().enumerate() {
        selector_requirement(requirement, &expressions.index(i), errors);
    }
}

fn selector_requirement(requirement: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let values = list(requirement, "values");
    match text(requirement, "operator") {
        "In" | "NotIn" => {
            if values.is_empty() {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.required(&path.child("values"), detail);
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&path.child("values"), detail);
            }
        }
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    label_key(text(requirement, "key"), &path.child("key"), errors);
    for (i, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or("");
        invalid_each(&path.child("values").index(i), value, names::label_value(value), errors);
    }
}

/// Adds an `Internal error`.
pub fn internal(path: &Path<'_>, detail: &str, errors: &mut FieldErrors) {
    errors.push(ErrorKind::Internal, path, format!("Internal error: {detail}"));
}
