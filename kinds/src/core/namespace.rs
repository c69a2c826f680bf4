//! Namespaces.

use api::field::{FieldErrors, Path};
use api::{Value, meta};
use jiff::Timestamp;
use serde_json::json;

use crate::names;
use crate::object_meta::{self, invalid_each};
use crate::rows;
use crate::strategy::{NameRule, Request, Strategy, keep_status};
use crate::tree::{at, default_text, enter, list, put, text, texts};

/// The namespace strategy.
#[derive(Debug)]
pub(crate) struct Namespace;

const KUBERNETES: &str = "kubernetes";
/// The label that carries a namespace's own name, so that selectors can ask for it.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Strategy for Namespace {
    fn name_rule(&self) -> NameRule {
        NameRule::Dns1123Label
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        label_name(object);
        default_text(enter(object, "status"), "phase", "Active");
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        // Again, because a generated name did not exist when defaults were set.
        label_name(object);
        put(object, "status", json!({"phase": "Active"}));
        let spec = enter(object, "spec");
        if !texts(spec, "finalizers").any(|finalizer| finalizer == KUBERNETES) {
            let mut finalizers = list(spec, "finalizers").to_vec();
            finalizers.push(KUBERNETES.into());
            put(spec, "finalizers", finalizers);
        }
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        finalizers(object, &Path::new("spec").child("finalizers"), errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        put(new, "spec", at(old, "spec").clone());
        keep_status(new, old);
        label_name(new);
    }

    fn validate_update(&self, new: &Value, _old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        finalizers(new, &Path::new("spec").child("finalizers"), errors);
    }

    fn prepare_subresource(&self, subresource: &str, new: &mut Value, old: &Value, _: &Request<'_>) {
        if subresource == "finalize" {
            keep_status(new, old);
        } else {
            put(new, "spec", at(old, "spec").clone());
        }
        label_name(new);
    }

    fn validate_subresource(
        &self,
        subresource: &str,
        new: &Value,
        _old: &Value,
        _request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        if subresource == "finalize" {
            let path = Path::new("spec");
            let path = path.child("finalizers");
            for (i, finalizer) in texts(at(new, "spec"), "finalizers").enumerate() {
                self::finalizer(finalizer, &path.index(i), errors);
            }
            return;
        }
        let phase = text(at(new, "status"), "phase");
        let (wanted, detail) = match meta::is_terminating(new) {
            false => ("Active", "may only be 'Active' if `deletionTimestamp` is empty"),
            true => ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty"),
        };
        if phase != wanted {
            errors.invalid(&Path::new("status").child("Phase"), phase, detail);
        }
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.phase", "name"]
    }

    fn selected_paths(&self) -> &'static [&'static str] {
        &["status.phase", "metadata.name"]
    }

    fn selectable_field(&self, object: &Value, field: &str) -> String {
        match field {
            "name" => meta::name(object).to_owned(),
            _ => text(at(object, "status"), "phase").to_owned(),
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let phase = text(at(object, "status"), "phase");
        Some(vec![rows::name(object), json!(phase), rows::age(object, now)])
    }
}

fn label_name(object: &mut Value) {
    let name = meta::name(object).to_owned();
    if !name.is_empty() {
        put(enter(enter(object, "metadata"), "labels"), NAME_LABEL, name);
    }
}

fn finalizers(object: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for finalizer in texts(at(object, "spec"), "finalizers") {
        self::finalizer(finalizer, path, errors);
    }
}

fn finalizer(finalizer: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    invalid_each(path, finalizer, names::label_key(finalizer), errors);
    object_meta::standard_finalizer(finalizer, path, errors);
}
