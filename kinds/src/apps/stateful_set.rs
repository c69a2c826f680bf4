//! StatefulSets.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::{Map, json};

use crate::core::claim_template;
use crate::core::pod_spec::defaults;
use crate::names;
use crate::object_meta::{IMMUTABLE, immutable, invalid_each, label_selector, non_negative};
use crate::rows;
use crate::shown;
use crate::strategy::{Generation, NameRule, Request, Strategy, keep_status};
use crate::tree::{
    at, default_text, default_to, enter, enter_some, has, int, list, list_mut, opt_int, put, remove, same_at, some,
    text,
};
use crate::workload::{self, Selection, immutable_selector};

/// The stateful set strategy.
#[derive(Debug)]
pub(crate) struct StatefulSet;

const COUNTERS: [&str; 7] = [
    "replicas",
    "readyReplicas",
    "currentReplicas",
    "updatedReplicas",
    "availableReplicas",
    "observedGeneration",
    "collisionCount",
];
const BOUNDED: [&str; 4] = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
const STRATEGIES: &str = "must be 'RollingUpdate' or 'OnDelete'";

/// The update strategy as upstream's internal type names it.
const STRATEGY: [(&str, &str); 2] = [("Type", "type"), ("RollingUpdate", "rollingUpdate")];

impl Strategy for StatefulSet {
    fn fill_empty(&self, object: &mut Value) {
        crate::tree::put(crate::tree::enter(object, "spec"), "replicas", 0);
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Dns1123Label
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let spec = enter(object, "spec");
        default_text(spec, "podManagementPolicy", "OrderedReady");
        default_strategy(enter(spec, "updateStrategy"));
        let retention = enter(spec, "persistentVolumeClaimRetentionPolicy");
        default_text(retention, "whenDeleted", "Retain");
        default_text(retention, "whenScaled", "Retain");
        default_to(spec, "replicas", 1);
        default_to(spec, "revisionHistoryLimit", 10);
        workload::default_template(spec);
        for claim in list_mut(spec, "volumeClaimTemplates") {
            default_text(claim, "kind", "PersistentVolumeClaim");
            default_text(claim, "apiVersion", "v1");
            default_text(enter(claim, "status"), "phase", "Pending");
            defaults::claim_spec(enter(claim, "spec"));
        }
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({"replicas": 0, "availableReplicas": 0}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(at(object, "spec"), true, errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        let (new, old, path) = (at(new, "spec"), at(old, "spec"), Path::new("spec"));
        validate(new, false, errors);
        immutable_selector(new, old, &path, errors);
        if !same_at(new, old, "volumeClaimTemplates") {
            let claims = claim_template::shown(list(new, "volumeClaimTemplates"));
            shown::invalid(&path.child("volumeClaimTemplates"), &claims, IMMUTABLE, errors);
        }
        for field in ["serviceName", "podManagementPolicy"] {
            immutable(at(new, field), at(old, field), &path.child(field), errors);
        }
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
        workload::available_are_ready(status, "status.readyReplicas", &path, errors);
        workload::collisions_grow(new, old, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = workload::warnings(new, old, false);
        if opt_int(at(new, "spec"), "revisionHistoryLimit").is_some_and(|limit| limit < 0) {
            warnings.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
        }
        warnings
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let (spec, status) = (at(object, "spec"), at(object, "status"));
        let [names, images] = rows::names_and_images(at(at(spec, "template"), "spec"));
        Some(vec![
            rows::name(object),
            json!(format!("{}/{}", int(status, "readyReplicas"), int(spec, "replicas"))),
            rows::age(object, now),
            names,
            images,
        ])
    }
}

fn default_strategy(strategy: &mut Value) {
    if text(strategy, "type").is_empty() {
        put(strategy, "type", "RollingUpdate");
        enter(strategy, "rollingUpdate");
    }
    let rolls = text(strategy, "type") == "RollingUpdate";
    if let Some(rolling) = enter_some(strategy, "rollingUpdate").filter(|_| rolls) {
        default_to(rolling, "partition", 0);
        default_to(rolling, "maxUnavailable", 1);
    }
}

fn validate(spec: &Value, is_new: bool, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    match text(spec, "podManagementPolicy") {
        "OrderedReady" | "Parallel" => {}
        "" => errors.required(&path.child("podManagementPolicy"), ""),
        other => {
            let detail = "must be 'OrderedReady' or 'Parallel'";
            errors.invalid(&path.child("podManagementPolicy"), other, detail);
        }
    }
    strategy(at(spec, "updateStrategy"), &path.child("updateStrategy"), errors);
    retention(spec, &path.child("persistentVolumeClaimRetentionPolicy"), errors);
    if is_new {
        let at_claims = path.child("volumeClaimTemplates");
        for (i, claim) in list(spec, "volumeClaimTemplates").iter().enumerate() {
            claim_template::spec(at(claim, "spec"), &at_claims.index(i).child("spec"), errors);
        }
    }
    non_negative(int(spec, "replicas"), &path.child("replicas"), errors);
    non_negative(int(spec, "minReadySeconds"), &path.child("minReadySeconds"), errors);
    if let Some(ordinals) = some(spec, "ordinals") {
        non_negative(int(ordinals, "start"), &path.child("ordinals.start"), errors);
    }
    let service = text(spec, "serviceName");
    if is_new && !service.is_empty() {
        invalid_each(&path.child("serviceName"), service, names::label(service), errors);
    }
    selector_and_template(spec, &path, errors);
}

fn selector_and_template(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let at_selector = path.child("selector");
    match some(spec, "selector") {
        None => errors.required(&at_selector, ""),
        Some(selector) => {
            label_selector(selector, &at_selector, errors);
            if workload::is_empty_selector(selector) {
                let detail = "empty selector is invalid for statefulset";
                shown::invalid(&at_selector, &shown::selector(selector), detail, errors);
            }
        }
    }
    let (template, at_template) = (at(spec, "template"), path.child("template"));
    match workload::selection(spec) {
        Selection::Malformed => {
            shown::invalid(&at_selector, &shown::selector(at(spec, "selector")), "", errors);
        }
        selection => {
            if selection == Selection::Mismatch {
                workload::mismatch(template, &at_template, errors);
            }
            workload::template(&with_claims(spec, template), &at_template, errors);
            repeated_metadata(template, &at_template, errors);
        }
    }
    workload::always_restarts(template, "StatefulSet", &at_template, errors);
}

/// Upstream checks a template's labels and annotations twice here.
fn repeated_metadata(template: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let metadata = at(template, "metadata");
    crate::object_meta::labels(at(metadata, "labels"), &path.child("labels"), errors);
    let at_annotations = path.child("annotations");
    crate::object_meta::annotations(at(metadata, "annotations"), &at_annotations, errors);
    crate::core::pod::template_annotations(metadata, at(template, "spec"), &at_annotations, errors);
}

/// The template as its pods will be: with the claims as volumes, and named by the controller.
fn with_claims(spec: &Value, template: &Value) -> Value {
    let claims = list(spec, "volumeClaimTemplates");
    let mut template = template.clone();
    let pod = enter(&mut template, "spec");
    remove(pod, "subdomain");
    remove(pod, "hostname");
    if claims.is_empty() {
        return template;
    }
    let mut volumes: Map<String, Value> = Map::new();
    for claim in claims {
        let name = api::meta::name(claim);
        let volume = json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
        volumes.insert(name.to_owned(), volume);
    }
    let own = list(pod, "volumes").iter().filter(|v| !volumes.contains_key(text(v, "name"))).cloned();
    let own: Vec<Value> = own.collect();
    let all: Vec<Value> = volumes.into_iter().map(|(_, volume)| volume).chain(own).collect();
    put(pod, "volumes", all);
    template
}

fn strategy(strategy: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let rolling = some(strategy, "rollingUpdate");
    let at_rolling = path.child("rollingUpdate");
    match (text(strategy, "type"), rolling) {
        ("", _) => errors.required(path, ""),
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            let fields = [("Partition", "partition"), ("MaxUnavailable", "maxUnavailable")];
            shown::invalid(&at_rolling, &shown::internal(rolling, &fields), detail, errors);
        }
        ("RollingUpdate", Some(rolling)) => {
            non_negative(int(rolling, "partition"), &at_rolling.child("partition"), errors);
            if has(rolling, "maxUnavailable") {
                max_unavailable(at(rolling, "maxUnavailable"), &at_rolling.child("maxUnavailable"), errors);
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => {
            let shown = shown::internal(strategy, &STRATEGY);
            shown::invalid(path, &shown, STRATEGIES, errors);
        }
    }
}

fn max_unavailable(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    workload::int_or_percent(value, path, errors);
    if workload::amount(value) == 0 {
        errors.invalid(path, value.clone(), "cannot be 0");
    }
    workload::at_most_all(value, path, errors);
}

fn retention(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some(policy) = some(spec, "persistentVolumeClaimRetentionPolicy") else {
        return;
    };
    for field in ["whenDeleted", "whenScaled"] {
        let word = text(policy, field);
        if !matches!(word, "Retain" | "Delete") {
            let allowed = ["Retain", "Delete"];
            crate::core::pod_spec::not_supported_unsorted(&path.child(field), word, &allowed, errors);
        }
    }
}
