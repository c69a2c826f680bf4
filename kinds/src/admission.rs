//! Kinds of `admissionregistration.k8s.io`. Expressions are checked where they are compiled, not here.

pub(crate) mod bindings;
pub(crate) mod policies;
pub(crate) mod rules;
pub(crate) mod webhooks;

use api::Value;
use api::field::{FieldErrors, Path};

const STATIC_SUFFIX: &str = ".static.k8s.io";

fn static_name(name: &str) -> Option<String> {
    name.ends_with(STATIC_SUFFIX).then(|| {
        format!(
            "names ending with {STATIC_SUFFIX:?} are reserved for static manifest-based configurations and cannot be managed via the API"
        )
    })
}

/// A name that the server's own files use cannot be created.
fn refuse_static_name(object: &Value, errors: &mut FieldErrors) {
    let name = api::meta::name(object);
    if let Some(detail) = static_name(name) {
        let metadata = Path::new("metadata");
        errors.invalid(&metadata.child("name"), name, &detail);
    }
}

/// The same, as a warning on update.
fn static_name_warning(new: &Value, old: Option<&Value>) -> Vec<String> {
    let found = old.and_then(|_| static_name(api::meta::name(new)));
    found.map(|detail| format!("metadata.name: {detail}")).into_iter().collect()
}
