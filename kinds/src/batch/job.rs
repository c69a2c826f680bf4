//! Jobs.

mod failure_policy;
mod indexes;
mod spec;
mod status;

use api::field::{FieldErrors, Path};
use api::{Value, meta, time};
use jiff::Timestamp;
use serde_json::json;

use crate::age;
use crate::names;
use crate::rows;
use crate::strategy::{DefaultPropagation, Generation, Request, Strategy, keep_status};
use crate::tree::{
    at, default_text, default_to, enter, enter_some, flag, has, int, is_empty, list_mut, opt_int, put, text,
};
use crate::workload;

pub(super) use spec::template_spec;

/// The job strategy.
#[derive(Debug)]
pub(crate) struct Job;

const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

impl Strategy for Job {
    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default_propagation(&self) -> DefaultPropagation {
        DefaultPropagation::Orphan
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let labels = at(at(at(at(object, "spec"), "template"), "metadata"), "labels").clone();
        default_spec(enter(object, "spec"));
        let metadata = enter(object, "metadata");
        if !is_empty(&labels) && is_empty(at(metadata, "labels")) {
            put(metadata, "labels", labels);
        }
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        // Upstream's defaults make the job share its template's map of labels, so that it gets the generated ones too.
        let template = |object: &Value| at(at(at(at(object, "spec"), "template"), "metadata"), "labels").clone();
        let shared = template(object);
        let shares = !is_empty(&shared) && shared == *at(at(object, "metadata"), "labels");
        generate_selector(object);
        if shares {
            let labels = template(object);
            put(enter(object, "metadata"), "labels", labels);
        }
        put(object, "status", json!({}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        generated_selector(object, errors);
        spec::validate(at(object, "spec"), errors);
        pod_host_names(object, errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        spec::validate(at(new, "spec"), errors);
        spec::validate_change(new, old, errors);
        pod_host_names(new, errors);
    }

    fn validate_subresource(
        &self,
        _subresource: &str,
        new: &Value,
        old: &Value,
        _request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        status::validate(new, old, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(new, old, true)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.successful"]
    }

    fn unknown_field(&self, field: &str) -> String {
        format!("field label {field:?} not supported for Job")
    }

    fn selected_paths(&self) -> &'static [&'static str] {
        &["status.succeeded"]
    }

    fn selectable_field(&self, object: &Value, _field: &str) -> String {
        int(at(object, "status"), "succeeded").to_string()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(row(object, now))
    }
}

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (at(object, "spec"), at(object, "status"));
    let succeeded = int(status, "succeeded");
    let completions = match (opt_int(spec, "completions"), int(spec, "parallelism")) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let start = time::parse(text(status, "startTime"));
    let end = time::parse(text(status, "completionTime")).unwrap_or(now);
    let duration = start.map_or(String::new(), |start| age::between(start, end));
    let [names, images] = rows::names_and_images(at(at(spec, "template"), "spec"));
    vec![
        rows::name(object),
        json!(state(object)),
        json!(completions),
        json!(duration),
        rows::age(object, now),
        names,
        images,
        json!(rows::selector(at(spec, "selector"))),
    ]
}

fn state(object: &Value) -> &'static str {
    let holds = |kind: &str| status::condition(at(object, "status"), kind);
    let terminating = meta::is_terminating(object);
    match () {
        () if holds("Complete") => "Complete",
        () if holds("Failed") => "Failed",
        () if terminating => "Terminating",
        () if holds("Suspended") => "Suspended",
        () if holds("FailureTarget") => "FailureTarget",
        () if holds("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

/// Defaults of a job's specification.
fn default_spec(spec: &mut Value) {
    if !has(spec, "completions") && !has(spec, "parallelism") {
        put(spec, "completions", 1);
    }
    default_to(spec, "parallelism", 1);
    let limit = if has(spec, "backoffLimitPerIndex") { i64::from(i32::MAX) } else { 6 };
    default_to(spec, "backoffLimit", limit);
    default_to(spec, "completionMode", "NonIndexed");
    default_to(spec, "suspend", false);
    let policy = if has(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    default_to(spec, "podReplacementPolicy", policy);
    default_to(spec, "manualSelector", false);
    default_nested(spec);
}

/// Defaults below a job's specification: what templates of jobs get too.
pub(super) fn default_nested(spec: &mut Value) {
    workload::default_template(spec);
    if let Some(policy) = enter_some(spec, "podFailurePolicy") {
        for rule in list_mut(policy, "rules") {
            for pattern in list_mut(rule, "onPodConditions") {
                default_text(pattern, "status", "True");
            }
        }
    }
}

/// Unless the client chose a selector, the job selects its pods by its own UID.
fn generate_selector(object: &mut Value) {
    let (name, uid) = (meta::name(object).to_owned(), meta::uid(object).to_owned());
    let spec = enter(object, "spec");
    if flag(spec, "manualSelector") {
        return;
    }
    let labels = enter(enter(enter(spec, "template"), "metadata"), "labels");
    for label in NAME_LABELS {
        default_to(labels, label, name.as_str());
    }
    for label in UID_LABELS {
        default_to(labels, label, uid.as_str());
    }
    let wanted = enter(enter(spec, "selector"), "matchLabels");
    default_to(wanted, UID_LABELS[1], uid);
}

fn generated_selector(object: &Value, errors: &mut FieldErrors) {
    let spec = at(object, "spec");
    if flag(spec, "manualSelector") || !has(spec, "selector") {
        return;
    }
    let (name, uid) = (meta::name(object), meta::uid(object));
    if uid.is_empty() {
        errors.required(&Path::new("metadata").child("uid"), "");
    }
    let path = Path::new("spec");
    let at_template = path.child("template");
    let at_metadata = at_template.child("metadata");
    let labels = at(at(at(spec, "template"), "metadata"), "labels");
    let wanted = [(UID_LABELS[0], uid), (NAME_LABELS[0], name), (UID_LABELS[1], uid), (NAME_LABELS[1], name)];
    for (label, value) in wanted {
        let path = at_metadata.child("labels");
        let detail = format!("must be '{value}'");
        match labels.get(label).and_then(Value::as_str) {
            None => errors.required(&path.key(label), &detail),
            Some(found) if found != value => {
                errors.invalid(&path.key(label), labels.clone(), &detail);
            }
            Some(_) => {}
        }
    }
    let generated: serde_json::Map<String, Value> =
        wanted.iter().map(|(label, value)| ((*label).to_owned(), json!(value))).collect();
    let holder = json!({"metadata": {"labels": generated}});
    let selector = at(spec, "selector");
    if api::selector::LabelSelector::from_object(selector).is_ok_and(|s| !s.matches_object(&holder)) {
        let shown = crate::shown::selector(selector);
        crate::shown::invalid(&path.child("selector"), &shown, "`selector` not auto-generated", errors);
    }
}

/// An indexed job's pods carry the index in their host names.
fn pod_host_names(object: &Value, errors: &mut FieldErrors) {
    let spec = at(object, "spec");
    let completions = int(spec, "completions");
    if text(spec, "completionMode") != "Indexed" || completions <= 0 {
        return;
    }
    let longest = format!("{}-{}", meta::name(object), completions - 1);
    if !names::label(&longest).is_empty() {
        let detail = format!("will not able to create pod with invalid DNS label: {longest}");
        errors.invalid(&Path::new("metadata").child("name"), meta::name(object), &detail);
    }
}
