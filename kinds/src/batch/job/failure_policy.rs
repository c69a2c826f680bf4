//! Validation of a job's pod failure policy.

use api::Value;
use api::field::{ErrorKind, FieldErrors, Path};

use crate::object_meta::label_key;
use crate::tree::{at, has, list, opt_text, some, text};

const RULES_MAX: usize = 20;
const PATTERNS_MAX: usize = 20;
const VALUES_MAX: usize = 255;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

/// Validates `podFailurePolicy`.
pub(super) fn validate(spec: &Value, policy: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (rules, path) = (list(policy, "rules"), path.child("rules"));
    if rules.len() > RULES_MAX {
        errors.too_many(&path, rules.len(), RULES_MAX);
    }
    let pod = at(at(spec, "template"), "spec");
    let names: Vec<&str> =
        ["containers", "initContainers"].iter().flat_map(|f| list(pod, f)).map(|c| text(c, "name")).collect();
    for (i, rule) in rules.iter().enumerate() {
        self::rule(spec, rule, &names, &path.index(i), errors);
    }
}

/// Go's `%q` of a list of words.
fn quoted(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("valid values: [{}]", words.join(" "))
}

fn rule(spec: &Value, rule: &Value, names: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    let at_action = path.child("action");
    match text(rule, "action") {
        "" => errors.required(&at_action, &quoted(&ACTIONS)),
        "FailIndex" => {
            if !has(spec, "backoffLimitPerIndex") {
                let detail = "requires the backoffLimitPerIndex to be set";
                errors.invalid(&at_action, "FailIndex", detail);
            }
        }
        known if ACTIONS.contains(&known) => {}
        other => errors.not_supported(&at_action, other, &ACTIONS),
    }
    let (codes, patterns) = (some(rule, "onExitCodes"), list(rule, "onPodConditions"));
    if let Some(codes) = codes {
        exit_codes(codes, names, &path.child("onExitCodes"), errors);
    }
    let at_patterns = path.child("onPodConditions");
    if patterns.len() > PATTERNS_MAX {
        errors.too_many(&at_patterns, patterns.len(), PATTERNS_MAX);
    }
    for (i, pattern) in patterns.iter().enumerate() {
        condition(pattern, &at_patterns.index(i), errors);
    }
    let wrong = match (codes.is_some(), patterns.is_empty()) {
        (true, false) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, true) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    errors.push(ErrorKind::Invalid, path, format!("Invalid value: {wrong}"));
}

fn condition(pattern: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    label_key(text(pattern, "type"), &path.child("type"), errors);
    match text(pattern, "status") {
        "" => errors.required(&path.child("status"), &quoted(&STATUSES)),
        known if STATUSES.contains(&known) => {}
        other => errors.not_supported(&path.child("status"), other, &STATUSES),
    }
}

fn exit_codes(codes: &Value, names: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    let operator = text(codes, "operator");
    match operator {
        "" => errors.required(&path.child("operator"), &quoted(&OPERATORS)),
        known if OPERATORS.contains(&known) => {}
        other => errors.not_supported(&path.child("operator"), other, &OPERATORS),
    }
    if let Some(name) = opt_text(codes, "containerName").filter(|name| !names.contains(name)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&path.child("containerName"), name, detail);
    }
    let path = path.child("values");
    let all = list(codes, "values");
    let values: Vec<i64> = all.iter().map(|v| v.as_i64().unwrap_or(0)).collect();
    if values.is_empty() {
        errors.invalid(&path, at(codes, "values").clone(), "at least one value is required");
    } else if values.len() > VALUES_MAX {
        errors.too_many(&path, values.len(), VALUES_MAX);
    }
    for (i, value) in values.iter().enumerate() {
        if operator == "In" && *value == 0 {
            errors.invalid(&path.index(i), *value, "must not be 0 for the In operator");
        }
        if values[..i].contains(value) {
            errors.duplicate(&path.index(i), *value);
        }
    }
    if values.windows(2).any(|pair| pair[0] > pair[1]) {
        errors.invalid(&path, all.to_vec(), "must be ordered");
    }
}
