//! How fast an autoscaler scales.

use api::Value;
use api::field::{FieldErrors, Path};
use serde_json::json;

use crate::resource_name::{non_negative, quantity};
use crate::tree::{default_to, enter, int, list, opt_int, opt_text, some, text};

const PERIOD_MAX: i64 = 1800;
const WINDOW_MAX: i64 = 3600;
const POLICIES: [&str; 2] = ["Percent", "Pods"];
const SELECTIONS: [&str; 3] = ["Disabled", "Max", "Min"];

/// Fills the rules of both directions.
pub(super) fn default(behavior: &mut Value) {
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    let up = enter(behavior, "scaleUp");
    default_to(up, "stabilizationWindowSeconds", 0);
    default_to(up, "selectPolicy", "Max");
    default_to(up, "policies", json!([pods, percent]));
    let down = enter(behavior, "scaleDown");
    default_to(down, "selectPolicy", "Max");
    default_to(down, "policies", json!([percent]));
    for direction in ["scaleUp", "scaleDown"] {
        let rules = enter(behavior, direction);
        if let Some(tolerance) = quantity(rules, "tolerance") {
            crate::tree::put(rules, "tolerance", tolerance.to_string());
        }
    }
}

/// Validates the rules of both directions.
pub(super) fn validate(behavior: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = some(behavior, direction) {
            self::rules(rules, &path.child(direction), errors);
        }
    }
}

fn rules(rules: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let at_window = path.child("stabilizationWindowSeconds");
    match opt_int(rules, "stabilizationWindowSeconds") {
        Some(window) if window < 0 => errors.invalid(&at_window, window, "must be greater than or equal to zero"),
        Some(window) if window > WINDOW_MAX => {
            errors.invalid(&at_window, window, &format!("must be less than or equal to {WINDOW_MAX}"));
        }
        _ => {}
    }
    if let Some(selection) = opt_text(rules, "selectPolicy").filter(|s| !SELECTIONS.contains(s)) {
        errors.not_supported(&path.child("selectPolicy"), selection, &SELECTIONS);
    }
    let at_policies = path.child("policies");
    let policies = list(rules, "policies");
    if policies.is_empty() {
        errors.required(&at_policies, "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        self::policy(policy, &at_policies.index(index), errors);
    }
    if let Some(tolerance) = quantity(rules, "tolerance") {
        non_negative(&tolerance, &path.child("tolerance"), errors);
    }
}

fn policy(policy: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let kind = text(policy, "type");
    if !POLICIES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, &POLICIES);
    }
    for field in ["value", "periodSeconds"] {
        let value = int(policy, field);
        if value <= 0 {
            errors.invalid(&path.child(field), value, "must be greater than zero");
        }
    }
    let period = int(policy, "periodSeconds");
    if period > PERIOD_MAX {
        let detail = format!("must be less than or equal to {PERIOD_MAX}");
        errors.invalid(&path.child("periodSeconds"), period, &detail);
    }
}
