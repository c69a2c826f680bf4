//! Flow schemas: which requests belong together.

use std::collections::BTreeSet;

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::flow::rules;
use crate::names;
use crate::object_meta::invalid_each;
use crate::rows;
use crate::shown;
use crate::strategy::{Generation, Request, Strategy, keep_all_but_status, keep_status};
use crate::tree::{at, default_nonzero, enter, int, list, put, same, some, text};

/// The flow schema strategy.
#[derive(Debug)]
pub(crate) struct FlowSchema;

const PRECEDENCE_MAX: i64 = 10_000;
const DEFAULT_PRECEDENCE: i64 = 1000;
const METHODS: [&str; 2] = ["ByNamespace", "ByUser"];

impl Strategy for FlowSchema {
    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        default_nonzero(enter(object, "spec"), "matchingPrecedence", DEFAULT_PRECEDENCE);
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        let (name, spec, path) = (api::meta::name(object), at(object, "spec"), Path::new("spec"));
        self::spec(name, spec, &path, errors);
        if mandatory(name).is_some_and(|fixed| !same(spec, &fixed)) {
            errors.invalid(&path, spec.clone(), &format!("spec of '{name}' must equal the fixed value"));
        }
        conditions(object, errors);
    }

    /// As requests meet them.
    fn row_place(&self, object: &Value) -> i64 {
        int(at(object, "spec"), "matchingPrecedence")
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, _old: &Value, request: &Request<'_>, errors: &mut FieldErrors) {
        self.validate_create(new, request, errors);
    }

    fn prepare_subresource(&self, _subresource: &str, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_all_but_status(new, old);
    }

    fn validate_subresource(
        &self,
        _subresource: &str,
        new: &Value,
        _old: &Value,
        _request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        conditions(new, errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let spec = at(object, "spec");
        let method = some(spec, "distinguisherMethod").map_or(rows::NONE, |method| text(method, "type"));
        let mut conditions = list(at(object, "status"), "conditions").iter();
        let dangling = conditions.find(|condition| text(condition, "type") == "Dangling");
        Some(vec![
            rows::name(object),
            json!(text(at(spec, "priorityLevelConfiguration"), "name")),
            json!(int(spec, "matchingPrecedence")),
            json!(method),
            rows::age(object, now),
            json!(dangling.map_or("?", |condition| text(condition, "status"))),
        ])
    }
}

/// The specification that a schema of this name must have.
fn mandatory(name: &str) -> Option<Value> {
    let all = |groups: &[&str]| {
        let subjects: Vec<Value> =
            groups.iter().map(|group| json!({"kind": "Group", "group": {"name": group}})).collect();
        json!([{
            "subjects": subjects,
            "resourceRules": [{
                "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"],
            }],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }])
    };
    match name {
        "exempt" => Some(json!({
            "priorityLevelConfiguration": {"name": "exempt"},
            "matchingPrecedence": 1,
            "rules": all(&["system:masters"]),
        })),
        "catch-all" => Some(json!({
            "priorityLevelConfiguration": {"name": "catch-all"},
            "matchingPrecedence": PRECEDENCE_MAX,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": all(&["system:unauthenticated", "system:authenticated"]),
        })),
        _ => None,
    }
}

fn spec(name: &str, spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (precedence, at_precedence) = (int(spec, "matchingPrecedence"), path.child("matchingPrecedence"));
    if precedence <= 0 {
        errors.invalid(&at_precedence, precedence, "must be a positive value");
    }
    if precedence > PRECEDENCE_MAX {
        errors.invalid(&at_precedence, precedence, &format!("must not be greater than {PRECEDENCE_MAX}"));
    }
    if precedence == 1 && name != "exempt" {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.invalid(&at_precedence, precedence, detail);
    }
    if let Some(method) = some(spec, "distinguisherMethod").filter(|m| !METHODS.contains(&text(m, "type"))) {
        let shown = format!("{{\"Type\":{}}}", json!(text(method, "type")));
        shown::not_supported(&path.child("distinguisherMethod.type"), &shown, &METHODS, errors);
    }
    let at_level = path.child("priorityLevelConfiguration");
    match text(at(spec, "priorityLevelConfiguration"), "name") {
        "" => errors.required(&at_level.child("name"), "must reference a priority level"),
        level => invalid_each(&at_level.child("name"), level, names::subdomain(level), errors),
    }
    for (index, rule) in list(spec, "rules").iter().enumerate() {
        rules::validate(rule, &path.child("rules").index(index), errors);
    }
}

/// Validates the conditions of a status, each of a type of its own.
pub(super) fn conditions(object: &Value, errors: &mut FieldErrors) {
    let status = Path::new("status");
    let path = status.child("conditions");
    let mut seen = BTreeSet::new();
    for (index, condition) in list(at(object, "status"), "conditions").iter().enumerate() {
        let kind = text(condition, "type");
        let path = path.index(index);
        if !seen.insert(kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        if kind.is_empty() {
            errors.required(&path.child("type"), "");
        }
    }
}
