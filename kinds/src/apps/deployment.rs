//! Deployments.

use api::field::{FieldErrors, Path};
use api::{Value, meta};
use jiff::Timestamp;
use serde_json::json;

use super::replica_set::selected_template;
use crate::object_meta::non_negative;
use crate::rows;
use crate::shown;
use crate::strategy::{Generation, Request, Strategy, keep_content, keep_status};
use crate::tree::{at, default_text, default_to, enter, has, int, opt_int, put, same_at, some, text};
use crate::workload;

/// The deployment strategy.
#[derive(Debug)]
pub(crate) struct Deployment;

const COUNTERS: [&str; 8] = [
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "terminatingReplicas",
    "collisionCount",
];
const BOUNDED: [&str; 3] = ["updatedReplicas", "readyReplicas", "availableReplicas"];

/// The update strategy as upstream's internal type names it.
const STRATEGY: [(&str, &str); 2] = [("Type", "type"), ("RollingUpdate", "rollingUpdate")];

impl Strategy for Deployment {
    fn fill_empty(&self, object: &mut Value) {
        crate::tree::put(crate::tree::enter(object, "spec"), "replicas", 0);
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let spec = enter(object, "spec");
        default_to(spec, "replicas", 1);
        let strategy = enter(spec, "strategy");
        default_text(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate" {
            let rolling = enter(strategy, "rollingUpdate");
            default_to(rolling, "maxUnavailable", "25%");
            default_to(rolling, "maxSurge", "25%");
        }
        default_to(spec, "revisionHistoryLimit", 10);
        default_to(spec, "progressDeadlineSeconds", 600);
        workload::default_template(spec);
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(at(object, "spec"), errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
        // A rollout's annotations belong to the generation that the controller has to observe.
        if !same_at(at(new, "metadata"), at(old, "metadata"), "annotations") {
            meta::set(new, "generation", json!(meta::generation(old) + 1));
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        let (new, old) = (at(new, "spec"), at(old, "spec"));
        validate(new, errors);
        workload::immutable_selector(new, old, &Path::new("spec"), errors);
    }

    fn prepare_subresource(&self, _subresource: &str, new: &mut Value, old: &Value, _: &Request<'_>) {
        keep_content(new, old);
        meta::set(new, "labels", at(at(old, "metadata"), "labels").clone());
    }

    fn validate_subresource(
        &self,
        _subresource: &str,
        new: &Value,
        old: &Value,
        _request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        let (status, path) = (at(new, "status"), Path::new("status"));
        workload::counters(status, &COUNTERS, &BOUNDED, &path, errors);
        workload::available_are_ready(status, "readyReplicas", &path, errors);
        workload::collisions_grow(new, old, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(new, old, true)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let (spec, status) = (at(object, "spec"), at(object, "status"));
        let [names, images] = rows::names_and_images(at(at(spec, "template"), "spec"));
        Some(vec![
            rows::name(object),
            json!(format!("{}/{}", int(status, "readyReplicas"), int(spec, "replicas"))),
            json!(int(status, "updatedReplicas")),
            json!(int(status, "availableReplicas")),
            rows::age(object, now),
            names,
            images,
            json!(rows::selector_text(at(spec, "selector"))),
        ])
    }
}

fn validate(spec: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    non_negative(int(spec, "replicas"), &path.child("replicas"), errors);
    selected_template(spec, &path, errors);
    strategy(at(spec, "strategy"), &path.child("strategy"), errors);
    let min_ready = int(spec, "minReadySeconds");
    non_negative(min_ready, &path.child("minReadySeconds"), errors);
    workload::optional_non_negative(spec, "revisionHistoryLimit", &path, errors);
    if let Some(deadline) = opt_int(spec, "progressDeadlineSeconds") {
        let path = path.child("progressDeadlineSeconds");
        non_negative(deadline, &path, errors);
        if deadline <= min_ready {
            errors.invalid(&path, deadline, "must be greater than minReadySeconds");
        }
    }
}

fn strategy(strategy: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let at_rolling = path.child("rollingUpdate");
    match text(strategy, "type") {
        "Recreate" => {
            if has(strategy, "rollingUpdate") {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.forbidden(&at_rolling, detail);
            }
        }
        "RollingUpdate" => match some(strategy, "rollingUpdate") {
            None => errors.required(&at_rolling, "this should be defaulted and never be nil"),
            Some(rolling) => rolling_update(rolling, &at_rolling, errors),
        },
        _ => {
            // Upstream shows its internal type here.
            let shown = shown::internal(strategy, &STRATEGY);
            shown::not_supported(path, &shown, &["Recreate", "RollingUpdate"], errors);
        }
    }
}

fn rolling_update(rolling: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (unavailable, surge) = (at(rolling, "maxUnavailable"), at(rolling, "maxSurge"));
    let at_unavailable = path.child("maxUnavailable");
    workload::int_or_percent(unavailable, &at_unavailable, errors);
    workload::int_or_percent(surge, &path.child("maxSurge"), errors);
    if workload::amount(unavailable) == 0 && workload::amount(surge) == 0 {
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.invalid(&at_unavailable, unavailable.clone(), detail);
    }
    workload::at_most_all(unavailable, &at_unavailable, errors);
}
