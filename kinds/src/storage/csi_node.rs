//! CSI nodes: which drivers run on a node.

use std::collections::BTreeSet;

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::core::pod_spec::sources::driver_name;
use crate::names;
use crate::object_meta::{IMMUTABLE, invalid_each, non_negative};
use crate::rows;
use crate::shown;
use crate::strategy::{Request, Strategy, keep_all_but_status, keep_status};
use crate::tree::{at, dig, list, opt_int, remove, same, text, texts};

/// The CSI node strategy.
#[derive(Debug)]
pub(crate) struct CsiNode;

const ID_MAX: usize = 256;

impl Strategy for CsiNode {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        remove(object, "status");
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(new, errors);
        let spec = Path::new("spec");
        for before in drivers(old) {
            for after in drivers(new).iter().filter(|after| text(after, "name") == text(before, "name")) {
                let [before, after] = [before, after].map(|driver| {
                    let mut fixed = driver.clone();
                    remove(&mut fixed, "allocatable");
                    fixed
                });
                if !same(&before, &after) {
                    const FIELDS: [(&str, &str); 4] = [
                        ("Name", "name"),
                        ("NodeID", "nodeID"),
                        ("TopologyKeys", "topologyKeys"),
                        ("Allocatable", "allocatable"),
                    ];
                    let shown = shown::internal(&after, &FIELDS);
                    shown::invalid(&spec.child("drivers"), &shown, IMMUTABLE, errors);
                }
            }
        }
    }

    fn prepare_subresource(&self, _subresource: &str, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_all_but_status(new, old);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(vec![rows::name(object), json!(drivers(object).len()), rows::age(object, now)])
    }
}

fn drivers(object: &Value) -> &[Value] {
    list(at(object, "spec"), "drivers")
}

fn validate(object: &Value, errors: &mut FieldErrors) {
    let spec = Path::new("spec");
    let all = spec.child("drivers");
    let mut seen = BTreeSet::new();
    for (index, driver) in drivers(object).iter().enumerate() {
        let path = all.index(index);
        let name = text(driver, "name");
        driver_name(name, &path.child("name"), errors);
        let (id, at_id) = (text(driver, "nodeID"), path.child("nodeID"));
        if id.is_empty() {
            errors.required(&at_id, "");
        }
        if id.len() > ID_MAX {
            errors.invalid(&at_id, id, "must be 256 characters or less");
        }
        if let Some(count) = opt_int(dig(driver, &["allocatable"]), "count") {
            non_negative(count, &path.child("allocatable").child("count"), errors);
        }
        if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        topology_keys(driver, &path, errors);
    }
}

fn topology_keys(driver: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for key in texts(driver, "topologyKeys") {
        if key.is_empty() {
            errors.required(path, "");
        }
        if !seen.insert(key) {
            errors.duplicate(path, key);
        }
        invalid_each(path, key, names::label_key(key), errors);
    }
}
