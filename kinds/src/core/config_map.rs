//! ConfigMaps.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::names;
use crate::object_meta::invalid_each;
use crate::rows;
use crate::strategy::{Request, Strategy};
use crate::tree::{at, entries, entry_count, flag, has, same_at};

/// The config map strategy.
#[derive(Debug)]
pub(crate) struct ConfigMap;

/// All values of a ConfigMap or Secret together, in bytes.
pub(super) const DATA_MAX: usize = 1024 * 1024;
const FROZEN: &str = "field is immutable when `immutable` is set";

impl Strategy for ConfigMap {
    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        frozen(new, old, &["data", "binaryData"], errors);
        validate(new, errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let count = entry_count(object, "data") + entry_count(object, "binaryData");
        Some(vec![rows::name(object), json!(count), rows::age(object, now)])
    }
}

/// What was marked immutable stays so, and stays as it is.
pub(super) fn frozen(new: &Value, old: &Value, fields: &[&str], errors: &mut FieldErrors) {
    if !flag(old, "immutable") {
        return;
    }
    if !flag(new, "immutable") {
        errors.forbidden(&Path::new("immutable"), FROZEN);
    }
    for field in fields.iter().filter(|field| !same_at(new, old, field)) {
        errors.forbidden(&Path::new(field), FROZEN);
    }
}

fn validate(object: &Value, errors: &mut FieldErrors) {
    let mut size = 0;
    let binary = at(object, "binaryData");
    let path = Path::new("data");
    for (key, value) in entries(object, "data") {
        let path = path.key(key);
        invalid_each(&path, key, names::config_key(key), errors);
        if has(binary, key) {
            errors.invalid(&path, key, "duplicate of key present in binaryData");
        }
        size += value.as_str().map_or(0, str::len);
    }
    let path = Path::new("binaryData");
    for (key, value) in entries(object, "binaryData") {
        invalid_each(&path.key(key), key, names::config_key(key), errors);
        size += decoded_len(value.as_str().unwrap_or(""));
    }
    if size > DATA_MAX {
        errors.too_long(&Path::ROOT, DATA_MAX);
    }
}

/// The number of bytes that a base64 text stands for.
pub(super) fn decoded_len(base64: &str) -> usize {
    base64.len() / 4 * 3 - base64.bytes().rev().take_while(|c| *c == b'=').count().min(2)
}
