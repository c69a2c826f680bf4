//! Validation of resource requests, limits and claims.

use api::Value;
use api::field::{ErrorKind, FieldErrors, Path};

use crate::names;
use crate::object_meta::invalid_each;
use crate::resource_name::{self, amounts};
use crate::tree::{at, list, text};

type NameCheck = fn(&str, &Path<'_>, &mut FieldErrors);

/// Validates a container's `resources`; `claims` are the names in `spec.resourceClaims`.
pub(crate) fn container(requirements: &Value, claims: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    validate(requirements, resource_name::validate_container, claims, path, errors);
}

/// Validates a pod's own `resources`.
pub(super) fn pod(requirements: &Value, claims: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    validate(requirements, resource_name::validate_pod_level, claims, path, errors);
}

fn validate(requirements: &Value, check: NameCheck, claims: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    let (limits, requests) = (at(requirements, "limits"), at(requirements, "requests"));
    let limits_path = path.child("limits");
    amounts_of(limits, check, &limits_path, errors, |_, _, _| {});
    let requests_path = path.child("requests");
    amounts_of(requests, check, &requests_path, errors, |name, amount, errors| {
        let limit = resource_name::quantity(limits, name);
        let free = resource_name::may_overcommit(name);
        let Some(limit) = limit else {
            if !free {
                let detail = "Limit must be set for non overcommitable resources";
                errors.required(&limits_path, detail);
            }
            return;
        };
        if *amount != limit && !free {
            let detail = format!("must be equal to {name} limit of {limit}");
            errors.invalid(&requests_path, amount.to_string(), &detail);
        } else if *amount > limit {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            errors.invalid(&requests_path, amount.to_string(), &detail);
        }
    });
    let any = |wanted: fn(&str) -> bool| {
        [limits, requests].into_iter().any(|list| amounts(list).any(|(name, _)| wanted(name)))
    };
    if any(resource_name::is_huge_page) && !any(|name| matches!(name, "cpu" | "memory")) {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    claim_names(requirements, claims, &path.child("claims"), errors);
}

fn amounts_of(
    list: &Value,
    check: NameCheck,
    path: &Path<'_>,
    errors: &mut FieldErrors,
    compare: impl Fn(&str, &api::quantity::Quantity, &mut FieldErrors),
) {
    for (name, amount) in amounts(list) {
        let path = path.key(name);
        check(name, &path, errors);
        resource_name::validate_amount(name, &amount, &path, errors);
        compare(name, &amount, errors);
        if resource_name::is_huge_page(name) && !resource_name::is_whole_pages(name, &amount) {
            let detail = format!("{amount} is not positive integer multiple of {name}");
            errors.invalid(&path, amount.to_string(), &detail);
        }
    }
}

fn claim_names(requirements: &Value, known: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen: Vec<String> = Vec::new();
    for (i, claim) in list(requirements, "claims").iter().enumerate() {
        let path = path.index(i);
        let (name, request) = (text(claim, "name"), text(claim, "request"));
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        if seen.iter().any(|s| s == name) {
            errors.duplicate(&path, name);
        } else {
            claim_request(name, request, &mut seen, &path, errors);
        }
        if !known.contains(&name) {
            unknown_claim(name, known, &path, errors);
        }
    }
}

fn claim_request(name: &str, request: &str, seen: &mut Vec<String>, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut key = name.to_owned();
    if !request.is_empty() {
        invalid_each(&path.child("request"), request, names::label(request), errors);
        key = format!("{name}/{request}");
    }
    let prefix = format!("{name}/");
    if seen.contains(&key) {
        errors.duplicate(path, key.as_str());
    } else if request.is_empty() {
        for _ in seen.iter().filter(|s| s.starts_with(&prefix)) {
            errors.duplicate(path, name);
        }
    }
    seen.push(key);
}

fn unknown_claim(name: &str, known: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    let mut detail = "must be one of the names in pod.spec.resourceClaims".to_owned();
    if known.is_empty() {
        detail.push_str(" which is empty");
    } else {
        let mut sorted = known.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        detail.push_str(&format!(": {}", sorted.join(", ")));
    }
    errors.push(ErrorKind::NotFound, path, format!("Not found: {name:?}: {detail}"));
}
