//! Which requests a webhook or a policy is about.

use std::collections::BTreeSet;

use api::Value;
use api::field::{FieldErrors, Path};
use serde_json::json;

use crate::names;
use crate::object_meta::{invalid_each, label_selector};
use crate::tree::{at, default_to, has, list, list_mut, opt_text, some, text, texts};

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
pub(super) const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const CONDITIONS_MAX: usize = 64;

/// Defaults of `MatchResources`.
pub(super) fn default_match(resources: &mut Value) {
    default_selectors(resources);
    for field in ["resourceRules", "excludeResourceRules"] {
        default_scopes(resources, field);
    }
}

/// Defaults of what a webhook and `MatchResources` share.
pub(super) fn default_selectors(holder: &mut Value) {
    default_to(holder, "matchPolicy", "Equivalent");
    default_to(holder, "namespaceSelector", json!({}));
    default_to(holder, "objectSelector", json!({}));
}

/// Rules are about every scope.
pub(super) fn default_scopes(holder: &mut Value, field: &str) {
    for rule in list_mut(holder, field) {
        default_to(rule, "scope", "*");
    }
}

/// Validates `MatchResources`, which may be absent.
pub(super) fn match_resources(resources: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if resources.is_null() {
        return;
    }
    match opt_text(resources, "matchPolicy") {
        None => errors.required(&path.child("matchPolicy"), ""),
        Some(policy) if !MATCH_POLICIES.contains(&policy) => {
            errors.not_supported(&path.child("matchPolicy"), policy, &MATCH_POLICIES);
        }
        Some(_) => {}
    }
    for field in ["namespaceSelector", "objectSelector"] {
        match some(resources, field) {
            None => errors.required(&path.child(field), ""),
            Some(selector) => label_selector(selector, &path.child(field), errors),
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (index, rule) in list(resources, field).iter().enumerate() {
            let rules = path.child(field);
            named_rule(rule, &rules.index(index), errors);
        }
    }
}

fn named_rule(rule: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let all = path.child("resourceNames");
    let mut seen = BTreeSet::new();
    for (index, name) in texts(rule, "resourceNames").enumerate() {
        invalid_each(&all.index(index), name, names::path_segment(name, false), errors);
        if !seen.insert(name) {
            errors.duplicate(&all.index(index), name);
        }
    }
    self::rule(rule, path, errors);
}

/// Validates a rule: operations, groups, versions, resources and scope.
pub(super) fn rule(rule: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    alone(rule, "operations", "operations", path, errors);
    let operations = path.child("operations");
    for (index, operation) in texts(rule, "operations").enumerate().filter(|(_, o)| !OPERATIONS.contains(o)) {
        errors.not_supported(&operations.index(index), operation, &OPERATIONS);
    }
    alone(rule, "apiGroups", "API groups", path, errors);
    alone(rule, "apiVersions", "API versions", path, errors);
    let versions = path.child("apiVersions");
    for (index, _) in texts(rule, "apiVersions").enumerate().filter(|(_, version)| version.is_empty()) {
        errors.required(&versions.index(index), "");
    }
    resources(rule, &path.child("resources"), errors);
    if let Some(scope) = opt_text(rule, "scope").filter(|scope| !SCOPES.contains(scope)) {
        errors.not_supported(&path.child("scope"), scope, &SCOPES);
    }
}

/// What is being deleted cannot be changed.
pub(super) fn no_deletes(resources: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const MUTABLE: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
    let path = path.child("resourceRules.operations");
    let rules = list(resources, "resourceRules").iter();
    for operation in rules.flat_map(|rule| texts(rule, "operations")).filter(|o| !MUTABLE.contains(o)) {
        errors.not_supported(&path, operation, &MUTABLE);
    }
}

/// A list must not be empty, and `*` must stand alone in it.
fn alone(rule: &Value, field: &str, others: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let all = list(rule, field);
    if all.is_empty() {
        errors.required(&path.child(field), "");
    }
    if all.len() > 1 && texts(rule, field).any(|value| value == "*") {
        let detail = format!("if '*' is present, must not specify other {others}");
        errors.invalid(&path.child(field), all, &detail);
    }
}

fn resources(rule: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let all: Vec<&str> = texts(rule, "resources").collect();
    if all.is_empty() {
        errors.required(path, "");
    }
    let (mut any_of, mut of_any) = (BTreeSet::new(), BTreeSet::new());
    let mut whole = false;
    for (index, name) in all.iter().enumerate() {
        let path = path.index(index);
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let Some((resource, sub)) = name.split_once('/') else {
            whole = *name != "*";
            continue;
        };
        if any_of.contains(resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {name}");
            errors.invalid(&path, *name, &detail);
        }
        if of_any.contains(sub) {
            errors.invalid(&path, *name, &format!("if '*/{sub}' is present, must not specify {name}"));
        }
        if sub == "*" {
            any_of.insert(resource);
        }
        if resource == "*" {
            of_any.insert(sub);
        }
    }
    if all.len() > 1 && all.contains(&"*/*") {
        errors.invalid(path, all.clone(), "if '*/*' is present, must not specify other resources");
    }
    if all.contains(&"*") && whole {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, all, detail);
    }
}

/// Validates match conditions, expressions apart.
pub(super) fn conditions(holder: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("matchConditions");
    let all = list(holder, "matchConditions");
    if all.len() > CONDITIONS_MAX {
        errors.too_many(&path, all.len(), CONDITIONS_MAX);
    }
    let mut seen = BTreeSet::new();
    for (index, condition) in all.iter().enumerate() {
        let path = path.index(index);
        if text(condition, "expression").trim().is_empty() {
            errors.required(&path.child("expression"), "");
        }
        let (name, path) = (text(condition, "name"), path.child("name"));
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        invalid_each(&path, name, names::label_key(name), errors);
        if !seen.insert(name) {
            errors.duplicate(&path, name);
        }
    }
}

/// Validates a reference to the parameters of a policy.
pub(super) fn param_ref(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const ONE: &str = "name and selector are mutually exclusive";
    let Some(params) = some(spec, "paramRef") else {
        return;
    };
    let path = path.child("paramRef");
    let (name, selected) = (text(params, "name"), has(params, "selector"));
    invalid_each(&path.child("name"), name, names::path_segment(name, false), errors);
    if selected && !name.is_empty() {
        errors.forbidden(&path.child("name"), ONE);
    }
    if selected {
        label_selector(at(params, "selector"), &path.child("selector"), errors);
        if !name.is_empty() {
            errors.forbidden(&path.child("selector"), ONE);
        }
    }
    if name.is_empty() && !selected {
        errors.required(&path, "one of name or selector must be specified");
    }
    let path = path.child("parameterNotFoundAction");
    match text(params, "parameterNotFoundAction") {
        "" => errors.required(&path, ""),
        "Deny" | "Allow" => {}
        action => crate::core::pod_spec::not_supported_unsorted(&path, action, &["Deny", "Allow"], errors),
    }
}

/// Validates the kind of a policy's parameters.
pub(super) fn param_kind(kind: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (version, at_version) = (text(kind, "apiVersion"), path.child("apiVersion"));
    let name = text(kind, "kind");
    let joined = |complaints: names::Complaints| complaints.join(",");
    match version.split_once('/') {
        _ if version.is_empty() => errors.required(&at_version, ""),
        Some((_, rest)) if rest.contains('/') => {
            errors.invalid(&at_version, version, &format!("unexpected GroupVersion string: {version}"));
        }
        parts => {
            let (group, short) = parts.unwrap_or(("", version));
            let complaints = if group.is_empty() { Vec::new() } else { names::subdomain(group) };
            if !complaints.is_empty() {
                errors.invalid(&at_version, group, &joined(complaints));
            }
            let complaints = names::dns1035(short);
            if short.is_empty() {
                errors.invalid(&at_version, version, "version must be specified");
            } else if !complaints.is_empty() {
                errors.invalid(&at_version, short, &joined(complaints));
            }
        }
    }
    let complaints = names::dns1035(&name.to_lowercase());
    if name.is_empty() {
        errors.required(&path.child("kind"), "");
    } else if !complaints.is_empty() {
        let detail = format!("may have mixed case, but should otherwise match: {}", joined(complaints));
        errors.invalid(&path.child("kind"), name, &detail);
    }
}
