//! ControllerRevisions: immutable snapshots of a workload's template.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::object_meta::{immutable, non_negative};
use crate::rows;
use crate::strategy::{Request, Strategy};
use crate::tree::{at, flag, has, int, list, text};

/// The controller revision strategy.
#[derive(Debug)]
pub(crate) struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        revision(object, errors);
        let path = Path::new("data");
        if !has(object, "data") {
            errors.required(&path, "data is mandatory");
        } else if !at(object, "data").is_object() {
            errors.required(&path, "data must be a valid JSON object");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        revision(new, errors);
        immutable(at(new, "data"), at(old, "data"), &Path::new("data"), errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let owners = list(at(object, "metadata"), "ownerReferences");
        let owner = owners.iter().find(|owner| flag(owner, "controller"));
        let owner = owner.map_or(rows::NONE.to_owned(), |owner| {
            let group = text(owner, "apiVersion").split_once('/').map_or("", |(group, _)| group);
            let separator = if group.is_empty() { "" } else { "." };
            let kind = format!("{}{separator}{group}", text(owner, "kind")).to_lowercase();
            format!("{kind}/{}", text(owner, "name"))
        });
        Some(vec![rows::name(object), json!(owner), json!(int(object, "revision")), rows::age(object, now)])
    }
}

fn revision(object: &Value, errors: &mut FieldErrors) {
    non_negative(int(object, "revision"), &Path::new("revision"), errors);
}
