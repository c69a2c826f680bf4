//! Storage classes and volume attributes classes.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::core::pod_warnings::deprecated_node_label;
use crate::object_meta::{immutable_unshown, label_key};
use crate::rows;
use crate::storage::parameters;
use crate::strategy::{Request, Strategy};
use crate::tree::{at, default_to, flag, list, opt_text, same_at, text, texts};

/// The storage class strategy.
#[derive(Debug)]
pub(crate) struct StorageClass;

/// The volume attributes class strategy.
#[derive(Debug)]
pub(crate) struct VolumeAttributesClass;

const RECLAIM: [&str; 2] = ["Delete", "Retain"];
const DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const BINDING: [&str; 2] = ["Immediate", "WaitForFirstConsumer"];

impl Strategy for StorageClass {
    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        default_to(object, "reclaimPolicy", "Delete");
        default_to(object, "volumeBindingMode", "Immediate");
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(new, errors);
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            immutable_unshown(at(new, field), at(old, field), &Path::new(field), errors);
        }
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let topologies = Path::new("allowedTopologies");
        let mut found = Vec::new();
        for (index, topology) in list(new, "allowedTopologies").iter().enumerate() {
            for (place, expression) in list(topology, "matchLabelExpressions").iter().enumerate() {
                if let Some(message) = deprecated_node_label(text(expression, "key")) {
                    let topology = topologies.index(index);
                    let expressions = topology.child("matchLabelExpressions");
                    found.push(format!("{}: {message}", expressions.index(place).child("key")));
                }
            }
        }
        found
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(vec![
            rows::name(object),
            json!(text(object, "provisioner")),
            json!(opt_text(object, "reclaimPolicy").unwrap_or("Delete")),
            json!(opt_text(object, "volumeBindingMode").unwrap_or("Immediate")),
            json!(flag(object, "allowVolumeExpansion")),
            rows::age(object, now),
        ])
    }

    /// The one that claims without a class get: the newest that says so.
    fn marked(&self, objects: &[Value]) -> Option<(usize, &'static str)> {
        let says_so = |object: &Value| {
            let annotations = at(at(object, "metadata"), "annotations");
            DEFAULT.iter().any(|key| text(annotations, key) == "true")
        };
        let order = |(_, object): &(usize, &Value)| {
            let made: Option<Timestamp> = api::meta::text(object, "creationTimestamp").parse().ok();
            (made, Reverse(api::meta::name(object).to_owned()))
        };
        let defaults = objects.iter().enumerate().filter(|(_, object)| says_so(object));
        defaults.max_by_key(order).map(|(at, _)| (at, " (default)"))
    }
}

fn validate(object: &Value, errors: &mut FieldErrors) {
    parameters::driver(object, "provisioner", errors);
    parameters::validate(object, false, errors);
    one_of(object, "reclaimPolicy", &RECLAIM, errors);
    if opt_text(object, "volumeBindingMode").is_none() {
        errors.required(&Path::new("volumeBindingMode"), "");
    }
    let mode = text(object, "volumeBindingMode");
    if mode.is_empty() && opt_text(object, "volumeBindingMode").is_some() {
        errors.not_supported(&Path::new("volumeBindingMode"), mode, &BINDING);
    }
    one_of(object, "volumeBindingMode", &BINDING, errors);
    topologies(list(object, "allowedTopologies"), errors);
}

fn one_of(object: &Value, field: &str, allowed: &[&str], errors: &mut FieldErrors) {
    let value = text(object, field);
    if !value.is_empty() && !allowed.contains(&value) {
        errors.not_supported(&Path::new(field), value, allowed);
    }
}

/// What a term of topologies selects: each label and its values.
type Term<'a> = Vec<(&'a str, BTreeSet<&'a str>)>;

fn topologies(terms: &[Value], errors: &mut FieldErrors) {
    let path = Path::new("allowedTopologies");
    let mut seen: Vec<Term<'_>> = Vec::new();
    for (index, term) in terms.iter().enumerate() {
        let path = path.index(index);
        let path = path.child("matchLabelExpressions");
        let mut found: Term<'_> = Vec::new();
        for (place, requirement) in list(term, "matchLabelExpressions").iter().enumerate() {
            let path = path.index(place);
            let values = label_values(requirement, &path, errors);
            let key = text(requirement, "key");
            if found.iter().any(|(known, _)| *known == key) {
                errors.duplicate(&path.child("key"), key);
            }
            found.retain(|(known, _)| *known != key);
            found.push((key, values));
        }
        found.sort_unstable();
        if seen.contains(&found) {
            errors.duplicate(&path, "");
        }
        seen.push(found);
    }
}

fn label_values<'a>(requirement: &'a Value, path: &Path<'_>, errors: &mut FieldErrors) -> BTreeSet<&'a str> {
    let at_values = path.child("values");
    let mut values = BTreeSet::new();
    if list(requirement, "values").is_empty() {
        errors.required(&at_values, "");
    }
    for (index, value) in texts(requirement, "values").enumerate() {
        if !values.insert(value) {
            errors.duplicate(&at_values.index(index), value);
        }
    }
    label_key(text(requirement, "key"), &path.child("key"), errors);
    values
}

impl Strategy for VolumeAttributesClass {
    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        parameters::driver(object, "driverName", errors);
        parameters::validate(object, true, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, request: &Request<'_>, errors: &mut FieldErrors) {
        for field in ["driverName", "parameters"] {
            if !same_at(new, old, field) {
                errors.forbidden(&Path::new(field), &format!("updates to {field} are forbidden."));
            }
        }
        self.validate_create(new, request, errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(vec![rows::name(object), json!(text(object, "driverName")), rows::age(object, now)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_marks_the_newest_default() {
        let class = |name: &str, made: &str, default: &str| {
            json!({"metadata": {"name": name, "creationTimestamp": made,
                "annotations": {"storageclass.kubernetes.io/is-default-class": default}}})
        };
        let classes = [
            class("a", "2026-01-01T00:00:00Z", "true"),
            class("b", "2026-01-02T00:00:00Z", "true"),
            class("c", "2026-01-02T00:00:00Z", "true"),
            class("d", "2026-01-03T00:00:00Z", "false"),
        ];
        assert_eq!(StorageClass.marked(&classes), Some((1, " (default)")));
        assert_eq!(StorageClass.marked(&classes[3..]), None);
    }
}
