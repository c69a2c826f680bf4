//! Kinds of `storagemigration.k8s.io`.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::conditions;
use crate::object_meta::immutable;
use crate::rows;
use crate::strategy::{Request, Strategy, keep_all_but_status, keep_status};
use crate::tree::{at, list, put, text};

/// The strategy of migrations to another stored version.
#[derive(Debug)]
pub(crate) struct StorageVersionMigration;

impl Strategy for StorageVersionMigration {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        let (resource, spec) = (at(at(object, "spec"), "resource"), Path::new("spec"));
        if text(resource, "resource").is_empty() {
            let path = spec.child("resource");
            errors.required(&path.child("resource"), "resource is required to be set");
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        immutable(at(new, "spec"), at(old, "spec"), &Path::new("spec"), errors);
    }

    fn prepare_subresource(&self, _subresource: &str, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_all_but_status(new, old);
    }

    fn validate_subresource(
        &self,
        _subresource: &str,
        new: &Value,
        _old: &Value,
        _request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        let status = Path::new("status");
        conditions::validate(list(at(new, "status"), "conditions"), &status.child("conditions"), errors);
    }

    fn row(&self, object: &Value, _now: Timestamp) -> Option<Vec<Value>> {
        let resource = at(at(object, "spec"), "resource");
        let (group, name) = (text(resource, "group"), text(resource, "resource"));
        let resource = if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") };
        let conditions = list(at(object, "status"), "conditions").iter();
        let states = conditions.filter(|condition| text(condition, "status") == "True").map(|c| text(c, "type"));
        let state = states.rev().find(|kind| matches!(*kind, "Running" | "Failed" | "Succeeded"));
        Some(vec![rows::name(object), json!(resource), json!(state.unwrap_or("Unknown"))])
    }
}
