//! What storage classes and volume attributes classes have in common.

use api::Value;
use api::field::{FieldErrors, Path};

use crate::names;
use crate::object_meta::invalid_each;
use crate::tree::{entries, entry_count, text};

const ENTRIES_MAX: usize = 512;
const SIZE_MAX: usize = 256 * 1024;

/// Validates the name of the driver that provides volumes.
pub(super) fn driver(object: &Value, field: &str, errors: &mut FieldErrors) {
    let (driver, path) = (text(object, field), Path::new(field));
    if driver.is_empty() {
        errors.required(&path, "");
        return;
    }
    let lower = driver.to_lowercase();
    invalid_each(&path, &lower, names::label_key(&lower), errors);
}

/// Validates the driver's own parameters.
pub(super) fn validate(object: &Value, required: bool, errors: &mut FieldErrors) {
    let path = Path::new("parameters");
    let count = entry_count(object, "parameters");
    if count > ENTRIES_MAX {
        errors.too_long(&path, ENTRIES_MAX);
        return;
    }
    let mut size = 0;
    for (key, value) in entries(object, "parameters") {
        if key.is_empty() {
            errors.invalid(&path, key, "field can not be empty.");
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > SIZE_MAX {
        errors.too_long(&path, SIZE_MAX);
    }
    if required && count == 0 {
        errors.required(&path, "must contain at least one key/value pair");
    }
}
