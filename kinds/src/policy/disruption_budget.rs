//! PodDisruptionBudgets.

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::conditions;
use crate::object_meta::{label_selector, non_negative};
use crate::rows;
use crate::shown;
use crate::strategy::{Generation, MetadataCheck, Request, Strategy, keep_status};
use crate::tree::{at, has, int, list, opt_text, put};
use crate::workload;

/// The disruption budget strategy.
#[derive(Debug)]
pub(crate) struct PodDisruptionBudget;

const POLICIES: [&str; 2] = ["AlwaysAllow", "IfHealthyBudget"];

impl Strategy for PodDisruptionBudget {
    fn metadata_check(&self) -> MetadataCheck {
        MetadataCheck::None
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        let status = json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
        put(object, "status", status);
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        spec(at(object, "spec"), errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, _old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        spec(at(new, "spec"), errors);
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
        conditions::validate(list(status, "conditions"), &path.child("conditions"), errors);
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            non_negative(int(status, field), &path.child(field), errors);
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let (spec, status) = (at(object, "spec"), at(object, "status"));
        let bound = |field: &str| match at(spec, field) {
            Value::Null => json!("N/A"),
            Value::String(text) => json!(text),
            number => json!(number.to_string()),
        };
        Some(vec![
            rows::name(object),
            bound("minAvailable"),
            bound("maxUnavailable"),
            json!(int(status, "disruptionsAllowed")),
            rows::age(object, now),
        ])
    }
}

fn spec(spec: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    if has(spec, "minAvailable") && has(spec, "maxUnavailable") {
        let fields = [
            ("MinAvailable", "minAvailable"),
            ("Selector", "selector"),
            ("MaxUnavailable", "maxUnavailable"),
            ("UnhealthyPodEvictionPolicy", "unhealthyPodEvictionPolicy"),
        ];
        let detail = "minAvailable and maxUnavailable cannot be both set";
        shown::invalid(&path, &shown::internal(spec, &fields), detail, errors);
    }
    for field in ["minAvailable", "maxUnavailable"] {
        if has(spec, field) {
            workload::int_or_percent(at(spec, field), &path.child(field), errors);
            workload::at_most_all(at(spec, field), &path.child(field), errors);
        }
    }
    label_selector(at(spec, "selector"), &path.child("selector"), errors);
    if let Some(policy) = opt_text(spec, "unhealthyPodEvictionPolicy").filter(|p| !POLICIES.contains(p)) {
        errors.not_supported(&path.child("unhealthyPodEvictionPolicy"), policy, &POLICIES);
    }
}
