//! Storage capacities.

use api::Value;
use api::field::{FieldErrors, Path};

use crate::names;
use crate::object_meta::{IMMUTABLE, invalid_each, label_selector};
use crate::resource_name::{non_negative, quantity};
use crate::shown;
use crate::strategy::{Request, Strategy};
use crate::tree::{at, same_at, text};

/// The storage capacity strategy.
#[derive(Debug)]
pub(crate) struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        label_selector(at(object, "nodeTopology"), &Path::new("nodeTopology"), errors);
        let class = text(object, "storageClassName");
        invalid_each(&Path::new("storageClassName"), class, names::subdomain(class), errors);
        if let Some(capacity) = quantity(object, "capacity") {
            non_negative(&capacity, &Path::new("capacity"), errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, request: &Request<'_>, errors: &mut FieldErrors) {
        self.validate_create(new, request, errors);
        if !same_at(new, old, "nodeTopology") {
            let shown = shown::selector(at(new, "nodeTopology"));
            shown::invalid(&Path::new("nodeTopology"), &shown, IMMUTABLE, errors);
        }
        let class = text(new, "storageClassName");
        if class != text(old, "storageClassName") {
            errors.invalid(&Path::new("storageClassName"), class, IMMUTABLE);
        }
    }
}
