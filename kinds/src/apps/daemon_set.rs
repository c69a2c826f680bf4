//! DaemonSets.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::object_meta::{label_selector, non_negative};
use crate::rows;
use crate::shown;
use crate::strategy::{Generation, Request, Strategy, keep_status};
use crate::tree::{at, default_text, default_to, enter, has, int, put, same_at, some, text};
use crate::workload::{self, Selection};

/// The daemon set strategy.
#[derive(Debug)]
pub(crate) struct DaemonSet;

const COUNTERS: [&str; 9] = [
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
];
/// The wire has no field for it: it lives in an annotation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// The update strategy as upstream's internal type names it.
const STRATEGY: [(&str, &str); 2] = [("Type", "type"), ("RollingUpdate", "rollingUpdate")];

impl Strategy for DaemonSet {
    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        if api::meta::annotation(object, TEMPLATE_GENERATION).is_none() {
            set_template_generation(object, 0);
        }
        let spec = enter(object, "spec");
        let strategy = enter(spec, "updateStrategy");
        default_text(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate" {
            let rolling = enter(strategy, "rollingUpdate");
            default_to(rolling, "maxUnavailable", 1);
            default_to(rolling, "maxSurge", 0);
        }
        default_to(spec, "revisionHistoryLimit", 10);
        workload::default_template(spec);
    }

    fn fill_empty(&self, object: &mut Value) {
        set_template_generation(object, 0);
    }

    /// Upstream's internal type has a field for it, and shows the metadata of that type.
    fn strip_metadata(&self, object: &mut Value) {
        let annotations = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
        if let Some(annotations) = annotations
            && annotations.remove(TEMPLATE_GENERATION).is_some()
            && annotations.is_empty()
        {
            api::meta::set(object, "annotations", Value::Null);
        }
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        let status = json!({
            "currentNumberScheduled": 0,
            "desiredNumberScheduled": 0,
            "numberMisscheduled": 0,
            "numberReady": 0,
        });
        put(object, "status", status);
        let generation = template_generation(object).max(1);
        set_template_generation(object, generation);
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(at(object, "spec"), errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
        let changed = !same_at(at(new, "spec"), at(old, "spec"), "template");
        set_template_generation(new, template_generation(old) + i64::from(changed));
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        let (new, old) = (at(new, "spec"), at(old, "spec"));
        workload::immutable_selector(new, old, &Path::new("spec"), errors);
        validate(new, errors);
    }

    fn validate_subresource(
        &self,
        _subresource: &str,
        new: &Value,
        old: &Value,
        _request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        workload::counters(at(new, "status"), &COUNTERS, &[], &Path::new("status"), errors);
        workload::collisions_grow(new, old, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(new, old, false)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let (spec, status) = (at(object, "spec"), at(object, "status"));
        let pod = at(at(spec, "template"), "spec");
        let [names, images] = rows::names_and_images(pod);
        Some(vec![
            rows::name(object),
            json!(int(status, "desiredNumberScheduled")),
            json!(int(status, "currentNumberScheduled")),
            json!(int(status, "numberReady")),
            json!(int(status, "updatedNumberScheduled")),
            json!(int(status, "numberAvailable")),
            json!(rows::labels(pod, "nodeSelector")),
            rows::age(object, now),
            names,
            images,
            json!(rows::selector(at(spec, "selector"))),
        ])
    }
}

fn template_generation(object: &Value) -> i64 {
    let text = api::meta::annotation(object, TEMPLATE_GENERATION);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn set_template_generation(object: &mut Value, generation: i64) {
    let annotations = enter(enter(object, "metadata"), "annotations");
    put(annotations, TEMPLATE_GENERATION, generation.to_string());
}

fn validate(spec: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let selector = at(spec, "selector");
    label_selector(selector, &path.child("selector"), errors);
    let (template, at_template) = (at(spec, "template"), path.child("template"));
    if workload::selection(spec) == Selection::Mismatch {
        workload::mismatch(template, &at_template, errors);
    }
    if has(spec, "selector") && workload::is_empty_selector(selector) {
        let detail = "empty selector is invalid for daemonset";
        shown::invalid(&path.child("selector"), &shown::selector(selector), detail, errors);
    }
    workload::restarting_template(template, "DaemonSet", &at_template, errors);
    non_negative(int(spec, "minReadySeconds"), &path.child("minReadySeconds"), errors);
    strategy(at(spec, "updateStrategy"), &path.child("updateStrategy"), errors);
    workload::optional_non_negative(spec, "revisionHistoryLimit", &path, errors);
}

fn strategy(strategy: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let at_rolling = path.child("rollingUpdate");
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => match some(strategy, "rollingUpdate") {
            None => errors.required(&at_rolling, ""),
            Some(rolling) => rolling_update(rolling, &at_rolling, errors),
        },
        _ => {
            let shown = shown::internal(strategy, &STRATEGY);
            shown::not_supported(path, &shown, &["RollingUpdate", "OnDelete"], errors);
        }
    }
}

fn rolling_update(rolling: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (unavailable, surge) = (at(rolling, "maxUnavailable"), at(rolling, "maxSurge"));
    let (at_unavailable, at_surge) = (path.child("maxUnavailable"), path.child("maxSurge"));
    workload::int_or_percent(unavailable, &at_unavailable, errors);
    workload::int_or_percent(surge, &at_surge, errors);
    workload::at_most_all(unavailable, &at_unavailable, errors);
    workload::at_most_all(surge, &at_surge, errors);
    match (workload::amount(unavailable) != 0, workload::amount(surge) != 0) {
        (true, true) => {
            let detail = "may not be set when maxUnavailable is non-zero";
            errors.invalid(&at_surge, surge.clone(), detail);
        }
        (false, false) => errors.required(&at_unavailable, "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}
