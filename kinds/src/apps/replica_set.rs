//! ReplicaSets.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::object_meta::non_negative;
use crate::rows;
use crate::shown;
use crate::strategy::{Generation, Request, Strategy, keep_status};
use crate::tree::{at, default_to, enter, int, put};
use crate::workload::{self, Selection};

/// The replica set strategy.
#[derive(Debug)]
pub(crate) struct ReplicaSet;

const COUNTERS: [&str; 6] = [
    "replicas",
    "fullyLabeledReplicas",
    "readyReplicas",
    "availableReplicas",
    "observedGeneration",
    "terminatingReplicas",
];
const BOUNDED: [&str; 3] = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];

impl Strategy for ReplicaSet {
    fn fill_empty(&self, object: &mut Value) {
        crate::tree::put(crate::tree::enter(object, "spec"), "replicas", 0);
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let spec = enter(object, "spec");
        default_to(spec, "replicas", 1);
        workload::default_template(spec);
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({"replicas": 0}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(at(object, "spec"), errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        let (new, old) = (at(new, "spec"), at(old, "spec"));
        validate(new, errors);
        workload::immutable_selector(new, old, &Path::new("spec"), errors);
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
        workload::counters(status, &COUNTERS, &BOUNDED, &path, errors);
        workload::available_are_ready(status, "readyReplicas", &path, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(new, old, true)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let (spec, status) = (at(object, "spec"), at(object, "status"));
        let [names, images] = rows::names_and_images(at(at(spec, "template"), "spec"));
        Some(vec![
            rows::name(object),
            json!(int(spec, "replicas")),
            json!(int(status, "replicas")),
            json!(int(status, "readyReplicas")),
            rows::age(object, now),
            names,
            images,
            json!(rows::selector(at(spec, "selector"))),
        ])
    }
}

fn validate(spec: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    non_negative(int(spec, "replicas"), &path.child("replicas"), errors);
    non_negative(int(spec, "minReadySeconds"), &path.child("minReadySeconds"), errors);
    selected_template(spec, &path, errors);
}

/// A selector and the template it selects, as ReplicaSets and Deployments have them.
pub(super) fn selected_template(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    workload::required_selector(spec, "empty selector is invalid for deployment", path, errors);
    let template = path.child("template");
    match workload::selection(spec) {
        Selection::Malformed => {
            let selector = shown::selector(at(spec, "selector"));
            shown::invalid(&path.child("selector"), &selector, "invalid label selector", errors);
            return;
        }
        Selection::Mismatch => workload::mismatch(at(spec, "template"), &template, errors),
        Selection::Match => {}
    }
    workload::restarting_template(at(spec, "template"), "ReplicaSet", &template, errors);
}
