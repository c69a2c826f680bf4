//! Persistent volume claims.

use api::field::{FieldErrors, Path};
use api::{Value, meta};
use jiff::Timestamp;
use serde_json::json;

use crate::core::claim_template;
use crate::core::persistent_volume::{phase, short_modes, storage_class};
use crate::core::pod_spec::{defaults, not_supported_unsorted};
use crate::names;
use crate::object_meta::{IMMUTABLE, invalid_each};
use crate::resource_name::{amounts, default_list, is_native, quantity, validate_amount};
use crate::rows;
use crate::strategy::{Request, Strategy, keep_content, keep_status};
use crate::tree::{at, default_text, dig, enter, entries, has, list, opt_text, put, remove, same, same_at, some, text};

/// The persistent volume claim strategy.
#[derive(Debug)]
pub(crate) struct PersistentVolumeClaim;

const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const RESIZE: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

impl Strategy for PersistentVolumeClaim {
    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        defaults::claim_spec(enter(object, "spec"));
        let status = enter(object, "status");
        default_text(status, "phase", "Pending");
        for field in ["capacity", "allocatedResources"] {
            default_list(status.get_mut(field));
        }
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({"phase": "Pending"}));
        data_sources(enter(object, "spec"), &Value::Null);
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        claim_template::spec(at(object, "spec"), &Path::new("spec"), errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
        data_sources(enter(new, "spec"), at(old, "spec"));
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        claim_template::spec(at(new, "spec"), &Path::new("spec"), errors);
        changes(new, old, errors);
    }

    fn prepare_subresource(&self, _subresource: &str, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_content(new, old);
        if !has(at(old, "status"), "healthStatus") {
            remove(enter(new, "status"), "healthStatus");
        }
    }

    fn validate_subresource(
        &self,
        _subresource: &str,
        new: &Value,
        _old: &Value,
        _request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        if meta::resource_version(new).is_empty() {
            errors.required(&Path::new("resourceVersion"), "");
        }
        if list(at(new, "spec"), "accessModes").is_empty() {
            errors.required(&Path::new("Spec.accessModes"), "");
        }
        status(at(new, "status"), errors);
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut found = Vec::new();
        if meta::annotation(new, CLASS).is_some() {
            let advice = r#"deprecated since v1.8; use "storageClassName" attribute instead"#;
            found.push(format!("metadata.annotations[{CLASS}]: {advice}"));
        }
        for amounts in ["requests", "limits"] {
            let list = dig(new, &["spec", "resources", amounts]);
            if let Some(amount) = quantity(list, "storage").filter(|amount| amount.milli_value() % 1000 != 0) {
                let shown = amount.to_string();
                found.push(format!(
                    "spec.resources.{amounts}[storage]: fractional byte value {shown:?} is invalid, must be an integer"
                ));
            }
        }
        found
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let (spec, status) = (at(object, "spec"), at(object, "status"));
        let volume = text(spec, "volumeName");
        let bound = !volume.is_empty();
        let capacity = opt_text(at(status, "capacity"), "storage").unwrap_or("0");
        Some(vec![
            rows::name(object),
            json!(phase(object)),
            json!(volume),
            json!(if bound { capacity } else { "" }),
            json!(if bound { short_modes(status) } else { String::new() }),
            json!(storage_class(object)),
            json!(opt_text(spec, "volumeAttributesClassName").unwrap_or(rows::UNSET)),
            rows::age(object, now),
            json!(opt_text(spec, "volumeMode").unwrap_or(rows::UNSET)),
        ])
    }
}

/// Drops sources that the server does not follow, and writes the rest in both of their fields.
fn data_sources(spec: &mut Value, old: &Value) {
    let foreign = some(spec, "dataSourceRef").is_some_and(|source| !text(source, "namespace").is_empty());
    if foreign && !has(old, "dataSourceRef") {
        remove(spec, "dataSourceRef");
    }
    let in_use = has(old, "dataSource") || has(old, "dataSourceRef");
    if !in_use && !has(spec, "dataSourceRef") && !is_volume_source(at(spec, "dataSource")) {
        remove(spec, "dataSource");
    }
    let copy = |source: &Value| -> Value {
        let fields = ["apiGroup", "kind", "name"];
        fields.iter().filter(|f| has(source, f)).map(|f| ((*f).to_owned(), at(source, f).clone())).collect()
    };
    match (some(spec, "dataSource").map(copy), some(spec, "dataSourceRef").map(|r| (copy(r), text(r, "namespace")))) {
        (Some(source), None) => put(spec, "dataSourceRef", source),
        (None, Some((source, ""))) => put(spec, "dataSource", source),
        _ => {}
    }
}

fn is_volume_source(source: &Value) -> bool {
    matches!(
        (text(source, "apiGroup"), text(source, "kind")),
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    )
}

fn changes(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let (before, after) = comparable(new, old, errors);
    if !same(&before, &after) {
        let diff = crate::diff::unified(&before, &after);
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{diff}"
        );
        errors.forbidden(&path, &detail);
    }
    let storage = |list: &Value| quantity(list, "storage").unwrap_or_else(api::quantity::Quantity::zero);
    let requests = |object| storage(dig(object, &["spec", "resources", "requests"]));
    if requests(new) < requests(old) && requests(new) <= storage(dig(old, &["status", "capacity"])) {
        let path = path.child("resources.requests.storage");
        errors.forbidden(&path, "field can not be less than status.capacity");
    }
    let (spec, was) = (at(new, "spec"), at(old, "spec"));
    if !same_at(spec, was, "volumeMode") {
        errors.invalid(&Path::new("volumeMode"), at(spec, "volumeMode").clone(), IMMUTABLE);
    }
    let class = opt_text(spec, "volumeAttributesClassName");
    let current = has(at(old, "status"), "currentVolumeAttributesClassName");
    if class != opt_text(was, "volumeAttributesClassName") && current && class.is_none_or(str::is_empty) {
        let to = if class.is_none() { "nil" } else { "empty string" };
        let detail = format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.forbidden(&path.child("volumeAttributesClassName"), &detail);
    }
}

/// Both specifications, without the differences that are allowed.
fn comparable(new: &Value, old: &Value, errors: &mut FieldErrors) -> (Value, Value) {
    let (mut before, mut after) = (at(old, "spec").clone(), at(new, "spec").clone());
    let keep = |from: &Value, into: &mut Value, field: &str| match some(from, field) {
        Some(value) => put(into, field, value.clone()),
        None => {
            remove(into, field);
        }
    };
    data_sources(&mut before, at(old, "spec"));
    if text(&before, "volumeName").is_empty() {
        keep(&after, &mut before, "volumeName");
    }
    let (annotated, now) = (meta::annotation(old, CLASS), meta::annotation(new, CLASS));
    let (was, is) = (opt_text(&before, "storageClassName"), opt_text(&after, "storageClassName"));
    let moves = annotated.is_some() && was.is_none() && is == annotated && now.is_none_or(|now| Some(now) == annotated);
    let fills = was.is_none() && is.is_some() && annotated.is_none_or(|annotated| Some(annotated) == is);
    if !moves && now.unwrap_or("") != annotated.unwrap_or("") {
        let path = Path::new("metadata");
        errors.invalid(&path.child("annotations").key(CLASS), now.unwrap_or(""), IMMUTABLE);
    }
    if moves || fills {
        remove(&mut after, "storageClassName");
    }
    if text(at(new, "status"), "phase") == "Bound" {
        if has(at(&after, "resources"), "requests") {
            let requests = dig(&before, &["resources", "requests"]).clone();
            keep(&requests, enter(enter(&mut after, "resources"), "requests"), "storage");
        }
        let old = before.clone();
        keep(&old, &mut after, "volumeAttributesClassName");
    }
    (before, after)
}

fn status(status: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status");
    let at_capacity = path.child("capacity");
    for (name, amount) in amounts(at(status, "capacity")) {
        basic(&amount, &at_capacity.key(name), errors);
    }
    let at_statuses = path.child("allocatedResourceStatuses");
    for (name, state) in entries(status, "allocatedResourceStatuses") {
        resource_key(name, &at_statuses, errors);
        if !RESIZE.contains(&state.as_str().unwrap_or("")) {
            not_supported_unsorted(&at_statuses, name, &RESIZE, errors);
        }
    }
    let at_allocated = path.child("allocatedResources");
    for (name, amount) in amounts(at(status, "allocatedResources")) {
        let path = at_allocated.key(name);
        if resource_key(name, &at_allocated, errors) && basic(&amount, &path, errors) {
            validate_amount("storage", &amount, &path, errors);
        }
    }
}

fn basic(amount: &api::quantity::Quantity, path: &Path<'_>, errors: &mut FieldErrors) -> bool {
    let negative = amount.value() < 0;
    if negative {
        errors.invalid(path, amount.value(), "must be a valid resource quantity");
    }
    !negative
}

fn resource_key(name: &str, path: &Path<'_>, errors: &mut FieldErrors) -> bool {
    let complaints = names::label_key(name);
    if !complaints.is_empty() {
        invalid_each(path, name, complaints, errors);
        return false;
    }
    let foreign = is_native(name) && name != "storage";
    if foreign {
        errors.not_supported(path, name, &["storage"]);
    }
    !foreign
}
