//! Validation of file paths inside volumes.

use api::field::{FieldErrors, Path};

/// No element of the path may be `..`.
pub(crate) fn no_backsteps(target: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if has_backsteps(target) {
        errors.invalid(path, target, "must not contain '..'");
    }
}

/// Whether an element of the path is `..`.
pub(crate) fn has_backsteps(target: &str) -> bool {
    target.split('/').any(|part| part == "..")
}

/// A relative path that does not climb.
pub(crate) fn descending(target: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if target.starts_with('/') {
        errors.invalid(path, target, "must be a relative path");
    }
    no_backsteps(target, path, errors);
}

/// A relative path that does not climb and whose first element is not reserved for the atomic writer.
pub(crate) fn local(target: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    descending(target, path, errors);
    if target.starts_with("..") && !target.starts_with("../") {
        errors.invalid(path, target, "must not start with '..'");
    }
}
