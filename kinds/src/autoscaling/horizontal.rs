//! HorizontalPodAutoscalers.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::autoscaling::{behavior, metrics, row};
use crate::names;
use crate::object_meta::{invalid_each, non_negative};
use crate::resource_name::quantity;
use crate::strategy::{Generation, Request, Strategy, keep_status};
use crate::tree::{at, default_to, enter, enter_some, int, list, list_mut, opt_int, put, same_at, text};

/// The horizontal autoscaler strategy.
#[derive(Debug)]
pub(crate) struct HorizontalPodAutoscaler;

/// How the API version of a referenced object is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reference {
    /// It must name a group.
    Grouped,
    /// The core group will do.
    AnyGroup,
    /// It was stored as it is.
    Unchecked,
}

impl Strategy for HorizontalPodAutoscaler {
    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let spec = enter(object, "spec");
        default_to(spec, "minReplicas", 1);
        if list(spec, "metrics").is_empty() {
            let target = json!({"type": "Utilization", "averageUtilization": 80});
            put(spec, "metrics", json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]));
        }
        if let Some(rules) = enter_some(spec, "behavior") {
            behavior::default(rules);
        }
        for metric in list_mut(spec, "metrics") {
            canonical_targets(metric);
        }
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({"desiredReplicas": 0, "currentMetrics": null}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        let spec = at(object, "spec");
        let reference = target_reference(spec);
        validate(spec, reference, Reference::AnyGroup, errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        let (spec, was) = (at(new, "spec"), at(old, "spec"));
        let (target, before) = (at(spec, "scaleTargetRef"), at(was, "scaleTargetRef"));
        let same_target = ["apiVersion", "kind"].iter().all(|field| same_at(target, before, field));
        let reference = if same_target { Reference::Unchecked } else { target_reference(spec) };
        let was_bad = list(was, "metrics").iter().any(|metric| {
            let version = text(at(at(metric, "object"), "describedObject"), "apiVersion");
            text(metric, "type") == "Object" && version.matches('/').count() > 1
        });
        let metrics = if was_bad { Reference::Unchecked } else { Reference::AnyGroup };
        validate(spec, reference, metrics, errors);
    }

    fn validate_subresource(
        &self,
        _subresource: &str,
        new: &Value,
        _old: &Value,
        _request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        let (status, path) = (at(new, "status"), Path::new("status"));
        for (index, condition) in list(status, "conditions").iter().enumerate() {
            if let Some(generation) = opt_int(condition, "observedGeneration") {
                let conditions = path.child("conditions");
                non_negative(generation, &conditions.index(index).child("observedGeneration"), errors);
            }
        }
        for field in ["currentReplicas", "desiredReplicas"] {
            non_negative(int(status, field), &path.child(field), errors);
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(row::cells(object, now))
    }
}

fn canonical_targets(metric: &mut Value) {
    for source in ["object", "pods", "resource", "containerResource", "external"] {
        let Some(target) = enter_some(metric, source).and_then(|source| enter_some(source, "target")) else {
            continue;
        };
        for field in ["value", "averageValue"] {
            if let Some(amount) = quantity(target, field) {
                put(target, field, amount.to_string());
            }
        }
    }
}

fn target_reference(spec: &Value) -> Reference {
    let core = text(at(spec, "scaleTargetRef"), "kind") == "ReplicationController";
    if core { Reference::AnyGroup } else { Reference::Grouped }
}

fn validate(spec: &Value, target: Reference, objects: Reference, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let (low, high) = (opt_int(spec, "minReplicas"), int(spec, "maxReplicas"));
    let at_high = path.child("maxReplicas");
    if let Some(low) = low.filter(|low| *low < 0) {
        errors.invalid(&path.child("minReplicas"), low, "must be greater than or equal to 0");
    }
    if high == 0 {
        errors.required(&at_high, "");
    } else if high < 0 {
        errors.invalid(&at_high, high, "must be greater than or equal to 1");
    }
    if low.is_some_and(|low| high < low) {
        errors.invalid(&at_high, high, "must be greater than or equal to `minReplicas`");
    }
    reference(at(spec, "scaleTargetRef"), target, &path.child("scaleTargetRef"), errors);
    metrics::validate(spec, objects, &path.child("metrics"), errors);
    behavior::validate(at(spec, "behavior"), &path.child("behavior"), errors);
}

/// Validates a reference to an object: kind, name and API version.
pub(super) fn reference(object: &Value, rule: Reference, path: &Path<'_>, errors: &mut FieldErrors) {
    for field in ["kind", "name"] {
        match text(object, field) {
            "" => errors.required(&path.child(field), ""),
            value => invalid_each(&path.child(field), value, names::path_segment(value, false), errors),
        }
    }
    let version = text(object, "apiVersion");
    let grouped = version.split_once('/').is_some_and(|(group, _)| !group.is_empty());
    let path = path.child("apiVersion");
    if rule == Reference::Unchecked {
        return;
    }
    if version.matches('/').count() > 1 {
        errors.invalid(&path, version, &format!("unexpected GroupVersion string: {version}"));
    } else if !grouped && rule == Reference::Grouped {
        errors.invalid(&path, version, "apiVersion must specify API group");
    }
}
