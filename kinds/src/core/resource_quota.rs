//! Resource quotas.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::object_meta::IMMUTABLE;
use crate::resource_name::{amounts, default_list, is_standard_quota, quantity, validate_amount, validate_quota};
use crate::rows;
use crate::shown;
use crate::strategy::{Request, Strategy, keep_status};
use crate::tree::{at, enter, entries, list, opt_text, put, some, text, texts};

/// The resource quota strategy.
#[derive(Debug)]
pub(crate) struct ResourceQuota;

const EXISTS_ONLY: [&str; 5] =
    ["BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "Terminating"];
const CONFLICTS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
const COMPUTE: [&str; 6] = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];

impl Strategy for ResourceQuota {
    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        default_list(enter(object, "spec").get_mut("hard"));
        let status = enter(object, "status");
        default_list(status.get_mut("hard"));
        default_list(status.get_mut("used"));
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        spec(at(object, "spec"), errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        spec(at(new, "spec"), errors);
        let scopes = |object| texts(at(object, "spec"), "scopes").collect::<BTreeSet<&str>>();
        if scopes(new) != scopes(old) {
            let path = Path::new("spec");
            errors.invalid(&path.child("scopes"), at(at(new, "spec"), "scopes").clone(), IMMUTABLE);
        }
    }

    fn validate_subresource(
        &self,
        _subresource: &str,
        new: &Value,
        _old: &Value,
        _request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        if api::meta::resource_version(new).is_empty() {
            errors.required(&Path::new("resourceVersion"), "");
        }
        let (status, path) = (at(new, "status"), Path::new("status"));
        for field in ["hard", "used"] {
            limits(at(status, field), &path.child(field), errors);
        }
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let hard = at(at(new, "spec"), "hard");
        let mut found = Vec::new();
        for name in ["cpu", "memory", "storage", "ephemeral-storage"].iter().filter(|_| old.is_none()) {
            let (mut request, limit) = (format!("requests.{name}"), format!("limits.{name}"));
            if some(hard, &request).is_none() && matches!(*name, "cpu" | "memory") {
                request = (*name).to_owned();
            }
            if let (Some(low), Some(high)) = (quantity(hard, &request), quantity(hard, &limit))
                && low > high
            {
                found.push(format!("ResourceQuota {request} ({low}) should be less than {limit} ({high})"));
            }
        }
        found
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let status = at(object, "status");
        let (mut requests, mut limits) = (String::new(), String::new());
        let mut hard: Vec<(&str, &Value)> = entries(status, "hard").collect();
        hard.sort_unstable_by_key(|(name, _)| *name);
        for (name, amount) in hard {
            let column = if name.starts_with("limits.") { &mut limits } else { &mut requests };
            let separator = if column.is_empty() { "" } else { ", " };
            let used = opt_text(at(status, "used"), name).unwrap_or("0");
            let amount = amount.as_str().unwrap_or("0");
            let _ = write!(column, "{separator}{name}: {used}/{amount}");
        }
        Some(vec![rows::name(object), json!(requests), json!(limits), rows::age(object, now)])
    }
}

fn limits(hard: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (name, amount) in amounts(hard) {
        let path = path.key(name);
        validate_quota(name, &path, errors);
        validate_amount(name, &amount, &path, errors);
    }
}

fn spec(spec: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    limits(at(spec, "hard"), &path.child("hard"), errors);
    scopes(spec, &path.child("scopes"), errors);
    if let Some(selector) = some(spec, "scopeSelector") {
        scope_selector(spec, selector, &path.child("scopeSelector"), errors);
    }
}

/// Whether a quota for `resource` can be limited to `scope`.
fn fits(scope: &str, resource: &str) -> bool {
    match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            resource == "pods" || COMPUTE.contains(&resource)
        }
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn is_scope(scope: &str) -> bool {
    EXISTS_ONLY.contains(&scope) || matches!(scope, "PriorityClass" | "VolumeAttributesClass")
}

/// The resources that a quota limits and to which the scope does not apply.
fn misfits<'a>(spec: &'a Value, scope: &str) -> impl Iterator<Item = &'a str> {
    let names = entries(spec, "hard").map(|(name, _)| name);
    names.filter(move |name| is_standard_quota(name) && !fits(scope, name))
}

fn conflicts(scopes: &[&str], shown: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for pair in CONFLICTS {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            errors.invalid(path, shown.clone(), "conflicting scopes");
        }
    }
}

fn scopes(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (all, shown) = (texts(spec, "scopes").collect::<Vec<_>>(), at(spec, "scopes"));
    for scope in &all {
        if !is_scope(scope) {
            errors.invalid(path, shown.clone(), "unsupported scope");
        }
        for _ in misfits(spec, scope) {
            errors.invalid(path, shown.clone(), "unsupported scope applied to resource");
        }
    }
    conflicts(&all, shown, path, errors);
}

fn scope_selector(spec: &Value, selector: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const REQUIREMENT: [(&str, &str); 3] = [("ScopeName", "scopeName"), ("Operator", "operator"), ("Values", "values")];
    let path = path.child("matchExpressions");
    let requirements = list(selector, "matchExpressions");
    let shown = shown::each(requirements, |requirement| shown::internal(requirement, &REQUIREMENT));
    let shown = format!("{{\"MatchExpressions\":{shown}}}");
    for requirement in requirements {
        let (scope, operator) = (text(requirement, "scopeName"), text(requirement, "operator"));
        if !is_scope(scope) {
            errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        for _ in misfits(spec, scope) {
            shown::invalid(&path, &shown, "unsupported scope applied to resource", errors);
        }
        if EXISTS_ONLY.contains(&scope) && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid(&path.child("operator"), operator, detail);
        }
        scope_values(requirement, operator, &path, errors);
    }
    let all: Vec<&str> = requirements.iter().map(|requirement| text(requirement, "scopeName")).collect();
    conflicts(&all, at(spec, "scopes"), &path, errors);
}

fn scope_values(requirement: &Value, operator: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let values = list(requirement, "values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            errors.required(&path.child("values"), detail);
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.invalid(&path.child("values"), values, detail);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
    }
}
