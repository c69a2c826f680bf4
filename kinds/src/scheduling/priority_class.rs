//! PriorityClasses.

use api::field::{FieldErrors, Path};
use api::{Value, meta};
use jiff::Timestamp;
use serde_json::json;

use crate::core::pod_spec::preemption_policy;
use crate::object_meta::immutable;
use crate::rows;
use crate::strategy::{Request, Strategy};
use crate::tree::{at, default_to, flag, int, text};

/// The priority class strategy.
#[derive(Debug)]
pub(crate) struct PriorityClass;

const USER_MAX: i64 = 1_000_000_000;
const SYSTEM: [(&str, i64); 2] = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

impl Strategy for PriorityClass {
    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        default_to(object, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        // It never moves: what counts cannot be changed.
        meta::set(object, "generation", json!(1));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        let (name, value) = (meta::name(object), int(object, "value"));
        if name.starts_with("system-") {
            if let Err(problem) = known_system_class(object) {
                let path = Path::new("metadata");
                let detail = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {problem}"
                );
                errors.forbidden(&path.child("name"), &detail);
            }
        } else if value > USER_MAX {
            let detail = format!("maximum allowed value of a user defined priority is {USER_MAX}");
            errors.forbidden(&Path::new("value"), &detail);
        }
        preemption_policy(object, &Path::ROOT, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        if int(new, "value") != int(old, "value") {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        let path = Path::new("preemptionPolicy");
        immutable(at(new, "preemptionPolicy"), at(old, "preemptionPolicy"), &path, errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(vec![
            rows::name(object),
            json!(int(object, "value")),
            json!(flag(object, "globalDefault")),
            rows::age(object, now),
            json!(text(object, "preemptionPolicy")),
        ])
    }
}

fn known_system_class(object: &Value) -> Result<(), String> {
    let name = meta::name(object);
    let Some((_, value)) = SYSTEM.iter().find(|(known, _)| *known == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if int(object, "value") != *value {
        return Err(format!("value of {name} PriorityClass must be {value}"));
    }
    if flag(object, "globalDefault") {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}
