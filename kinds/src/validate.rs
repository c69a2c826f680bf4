//! The whole validation of a write: metadata and the kind's own rules, in upstream's order.
//!
//! The registry calls one of these three and nothing else. Equal errors are reported once, as upstream does.

use api::Value;
use api::field::FieldErrors;

use crate::object_meta;
use crate::strategy::{MetadataCheck, NameRule, Request, Strategy};

/// Every field error of a new object whose name was already generated.
pub fn create(strategy: &dyn Strategy, object: &Value, namespaced: bool, request: &Request<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let check = |name: &str, prefix: bool| strategy.check_name(name, prefix);
    if strategy.metadata_check() != MetadataCheck::None {
        object_meta::validate_with(object, namespaced, check, &mut errors);
    }
    if strategy.metadata_check() == MetadataCheck::Full {
        object_meta::standard_finalizers(object, &mut errors);
    }
    strategy.validate_create(object, request, &mut errors);
    if errors.is_empty() {
        object_meta::validate(object, namespaced, NameRule::PathSegment, &mut errors);
    }
    without_repeats(errors)
}

/// Every field error of a change.
pub fn update(
    strategy: &dyn Strategy,
    new: &Value,
    old: &Value,
    namespaced: bool,
    request: &Request<'_>,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    object_meta::validate_update_common(new, old, namespaced, &mut errors);
    strategy.validate_update(new, old, request, &mut errors);
    without_repeats(errors)
}

/// A change through a subresource: the object before and after it, and the subresource's name.
#[derive(Clone, Copy, Debug)]
pub struct SubresourceChange<'a> {
    /// `status`, `finalize`, `approval`, ...
    pub subresource: &'a str,
    /// The object as it will be stored.
    pub new: &'a Value,
    /// The stored object.
    pub old: &'a Value,
}

/// Every field error of a change through a subresource.
pub fn subresource(
    strategy: &dyn Strategy,
    change: SubresourceChange<'_>,
    namespaced: bool,
    request: &Request<'_>,
) -> FieldErrors {
    let SubresourceChange { subresource, new, old } = change;
    let mut errors = FieldErrors::new();
    object_meta::validate_update_common(new, old, namespaced, &mut errors);
    strategy.validate_subresource(subresource, new, old, request, &mut errors);
    without_repeats(errors)
}

fn without_repeats(mut errors: FieldErrors) -> FieldErrors {
    let mut seen = Vec::with_capacity(errors.0.len());
    errors.0.retain(|error| {
        let is_new = !seen.contains(error);
        if is_new {
            seen.push(error.clone());
        }
        is_new
    });
    errors
}
