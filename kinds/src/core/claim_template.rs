//! Specifications of persistent volume claims, in claims and in templates of claims.

use api::Value;
use api::field::{FieldErrors, Path};

use crate::core::pod_spec::not_supported_unsorted;
use crate::names::{self, NameRule};
use crate::object_meta::{annotations, invalid_each, label_selector, labels};
use crate::resource_name::{positive, quantity, validate_amount};
use crate::shown;
use crate::tree::{at, is_empty, opt_text, same_at, some, text, texts};

pub(crate) const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Validates a template of a claim, which may have labels and annotations only.
pub(crate) fn validate(template: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let metadata = at(template, "metadata");
    let at_metadata = path.child("metadata");
    annotations(at(metadata, "annotations"), &at_metadata.child("annotations"), errors);
    labels(at(metadata, "labels"), &at_metadata.child("labels"), errors);
    const REFUSED: [(&str, &str); 13] = [
        ("name", "name"),
        ("generateName", "generateName"),
        ("namespace", "namespace"),
        ("selfLink", "selfLink"),
        ("uid", "uID"),
        ("resourceVersion", "resourceVersion"),
        ("generation", "generation"),
        ("creationTimestamp", "creationTimestamp"),
        ("deletionTimestamp", "deletionTimestamp"),
        ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
        ("ownerReferences", "ownerReferences"),
        ("finalizers", "finalizers"),
        ("managedFields", "managedFields"),
    ];
    for (field, shown) in REFUSED {
        let value = at(metadata, field);
        if !is_empty(value) && value.as_str() != Some("") {
            errors.forbidden(&at_metadata.child(shown), "cannot be set");
        }
    }
    spec(at(template, "spec"), &path.child("spec"), errors);
}

/// Validates a `PersistentVolumeClaimSpec`.
pub(crate) fn spec(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let at_modes = path.child("accessModes");
    let modes: Vec<&str> = texts(spec, "accessModes").collect();
    if modes.is_empty() {
        errors.required(&at_modes, "at least 1 access mode is required");
    }
    label_selector(at(spec, "selector"), &path.child("selector"), errors);
    access_modes(&modes, &at_modes, errors);
    storage(spec, &path.child("resources").key("storage"), errors);
    class(spec, "storageClassName", path, errors);
    volume_mode(spec, path, errors);
    data_source(spec, "dataSource", path, errors);
    data_source(spec, "dataSourceRef", path, errors);
    let (source, reference) = (some(spec, "dataSource"), some(spec, "dataSourceRef"));
    let namespace = reference.map_or("", |r| text(r, "namespace"));
    if !namespace.is_empty() {
        invalid_each_name(namespace, &path.child("dataSourceRef").child("namespace"), errors);
    }
    if let (Some(source), Some(reference)) = (source, reference) {
        let same = ["apiGroup", "kind", "name"].iter().all(|f| same_at(source, reference, f));
        let shown = serde_json::json!({});
        if !namespace.is_empty() {
            let detail = "may not be specified when dataSourceRef.namespace is specified";
            errors.invalid(path, shown, detail);
        } else if !same {
            errors.invalid(path, shown, "must match dataSourceRef");
        }
    }
    class(spec, "volumeAttributesClassName", path, errors);
}

fn invalid_each_name(namespace: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    invalid_each(path, namespace, names::label(namespace), errors);
}

/// Validates access modes, which must be known and not mix the exclusive one with others.
pub(crate) fn access_modes(modes: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    for mode in modes.iter().filter(|mode| !ACCESS_MODES.contains(mode)) {
        errors.not_supported(path, *mode, &ACCESS_MODES);
    }
    let exclusive = modes.contains(&"ReadWriteOncePod");
    let others = modes.iter().any(|m| *m != "ReadWriteOncePod" && ACCESS_MODES.contains(m));
    if exclusive && others {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.forbidden(path, detail);
    }
}

fn storage(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let requests = at(at(spec, "resources"), "requests");
    let Some(amount) = quantity(requests, "storage") else {
        errors.required(path, "");
        return;
    };
    let before = errors.0.len();
    positive(&amount, path, errors);
    if errors.0.len() == before {
        validate_amount("storage", &amount, path, errors);
    }
}

/// An optional name of a class.
pub(crate) fn class(spec: &Value, field: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let class = text(spec, field);
    if !class.is_empty() {
        let complaints = NameRule::Dns1123Subdomain.check(class, false);
        invalid_each(&path.child(field), class, complaints, errors);
    }
}

/// Validates an optional `volumeMode`.
pub(crate) fn volume_mode(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(mode) = opt_text(spec, "volumeMode").filter(|m| !matches!(*m, "Block" | "Filesystem")) {
        let path = path.child("volumeMode");
        not_supported_unsorted(&path, mode, &["Block", "Filesystem"], errors);
    }
}

fn data_source(spec: &Value, field: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some(source) = some(spec, field) else {
        return;
    };
    let path = path.child(field);
    for required in ["name", "kind"] {
        if text(source, required).is_empty() {
            errors.required(&path.child(required), "");
        }
    }
    let (group, kind) = (text(source, "apiGroup"), text(source, "kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.invalid(&path, kind, detail);
    }
    if !group.is_empty() {
        invalid_each(&path.child("apiGroup"), group, names::subdomain(group), errors);
    }
}

/// A list of claims as upstream's internal type shows it.
pub(crate) fn shown(claims: &[Value]) -> String {
    const SPEC: [(&str, &str); 9] = [
        ("AccessModes", "accessModes"),
        ("Selector", "selector"),
        ("Resources", "resources"),
        ("VolumeName", "volumeName"),
        ("StorageClassName", "storageClassName"),
        ("VolumeMode", "volumeMode"),
        ("DataSource", "dataSource"),
        ("DataSourceRef", "dataSourceRef"),
        ("VolumeAttributesClassName", "volumeAttributesClassName"),
    ];
    const STATUS: [(&str, &str); 9] = [
        ("Phase", "phase"),
        ("AccessModes", "accessModes"),
        ("Capacity", "capacity"),
        ("Conditions", "conditions"),
        ("AllocatedResources", "allocatedResources"),
        ("AllocatedResourceStatuses", "allocatedResourceStatuses"),
        ("CurrentVolumeAttributesClassName", "currentVolumeAttributesClassName"),
        ("ModifyVolumeStatus", "modifyVolumeStatus"),
        ("HealthStatus", "healthStatus"),
    ];
    shown::each(claims, |claim| {
        let mut spec = at(claim, "spec").clone();
        let resources = at(&spec, "resources");
        let lists = serde_json::json!({"Limits": at(resources, "limits"), "Requests": at(resources, "requests")});
        crate::tree::put(&mut spec, "resources", lists);
        crate::tree::default_to(&mut spec, "volumeName", "");
        let metadata = at(claim, "metadata");
        let inline: String = ["name", "generateName", "namespace", "labels", "annotations"]
            .iter()
            .filter_map(|field| Some(format!("{field:?}:{},", metadata.get(*field)?)))
            .collect();
        let (spec, status) = (shown::internal(&spec, &SPEC), shown::internal(at(claim, "status"), &STATUS));
        format!("{{{inline}\"Spec\":{spec},\"Status\":{status}}}")
    })
}
