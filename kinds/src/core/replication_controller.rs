//! ReplicationControllers, the older form of replica sets.

use api::Value;
use api::field::{FieldErrors, Path};
use api::selector::LabelSelector;
use jiff::Timestamp;
use serde_json::json;

use crate::object_meta::non_negative;
use crate::rows;
use crate::strategy::{DefaultPropagation, Generation, Request, Strategy, keep_status};
use crate::tree::{at, default_to, enter, entry_count, int, is_empty, opt_int, put, some};
use crate::workload;

/// The replication controller strategy.
#[derive(Debug)]
pub(crate) struct ReplicationController;

const COUNTERS: [&str; 5] =
    ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"];
const BOUNDED: [&str; 3] = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];

impl Strategy for ReplicationController {
    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default_propagation(&self) -> DefaultPropagation {
        DefaultPropagation::Orphan
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let labels = at(at(at(at(object, "spec"), "template"), "metadata"), "labels").clone();
        let spec = enter(object, "spec");
        if !labels.is_null() && is_empty(at(spec, "selector")) {
            put(spec, "selector", labels.clone());
        }
        default_to(spec, "replicas", 1);
        if some(spec, "template").is_some() {
            workload::default_template(spec);
        }
        let metadata = enter(object, "metadata");
        if !labels.is_null() && is_empty(at(metadata, "labels")) {
            put(metadata, "labels", labels);
        }
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

    fn validate_update(&self, new: &Value, _old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        validate(at(new, "spec"), errors);
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

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn selectable_field(&self, object: &Value, _field: &str) -> String {
        int(at(object, "status"), "replicas").to_string()
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
            json!(rows::labels(spec, "selector")),
        ])
    }
}

fn validate(spec: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    if entry_count(spec, "selector") == 0 {
        errors.required(&path.child("selector"), "");
    }
    template(spec, &path.child("template"), errors);
    // Declarative rules come last upstream.
    if let Some(replicas) = opt_int(spec, "replicas") {
        non_negative(replicas, &path.child("replicas"), errors);
    }
    non_negative(int(spec, "minReadySeconds"), &path.child("minReadySeconds"), errors);
}

fn template(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some(template) = some(spec, "template") else {
        errors.required(path, "");
        return;
    };
    let selector = LabelSelector::from_map(spec.get("selector"));
    if !selector.matches_object(template) {
        workload::mismatch(template, path, errors);
    }
    workload::restarting_template(template, "ReplicationController", path, errors);
}
