//! Validation of the annotations that mean something to pods and templates of pods.

use api::Value;
use api::field::{FieldErrors, Path};

use super::has_container;
use crate::core::pod_spec::{paths, scheduling};
use crate::tree::{at, entries, text};

const MIRROR: &str = "kubernetes.io/config.mirror";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Validates a pod's annotations against its specification.
pub(super) fn validate(pod: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    template(at(pod, "metadata"), at(pod, "spec"), path, errors);
}

/// Validates the annotations in some metadata against a specification.
pub(crate) fn template(metadata: &Value, spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let annotations = at(metadata, "annotations");
    if let Some(value) = annotations.get(MIRROR).and_then(Value::as_str)
        && text(spec, "nodeName").is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(&path.key(MIRROR), value, detail);
    }
    let tolerations = text(annotations, TOLERATIONS);
    if !tolerations.is_empty() {
        tolerations_in(tolerations, path, errors);
    }
    if let Some(cost) = annotations.get(DELETION_COST).and_then(Value::as_str)
        && !is_cost(cost)
    {
        errors.invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer");
    }
    seccomp(metadata, path, errors);
    app_armor(metadata, spec, path, errors);
}

/// Validates what may not change about a pod's annotations, then the annotations.
pub(super) fn validate_update(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (new_meta, old_meta) = (at(new, "metadata"), at(old, "metadata"));
    let (new_map, old_map) = (at(new_meta, "annotations"), at(old_meta, "annotations"));
    for (key, value) in entries(old_meta, "annotations") {
        if new_map.get(key) == Some(value) {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&path.key(key), "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for (key, _) in entries(new_meta, "annotations").filter(|(k, _)| old_map.get(k).is_none()) {
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&path.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not add mirror pod annotation");
        }
    }
    validate(new, path, errors);
}

fn tolerations_in(json: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    match serde_json::from_str::<Value>(json) {
        Ok(Value::Array(list)) => {
            scheduling::tolerations(&list, &path.child(TOLERATIONS), errors);
        }
        Ok(_) => {
            errors.invalid(path, TOLERATIONS, "json: cannot unmarshal value into Go value of type []core.Toleration")
        }
        Err(error) => errors.invalid(path, TOLERATIONS, &error.to_string()),
    }
}

/// A 32-bit integer without a leading plus or zeros.
fn is_cost(cost: &str) -> bool {
    let digits = cost.strip_prefix('-').unwrap_or(cost);
    let plain = !digits.starts_with('+') && (digits == "0" || !digits.starts_with('0'));
    plain && cost.parse::<i32>().is_ok()
}

fn seccomp(metadata: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let all = entries(metadata, "annotations");
    for (key, profile) in all.filter(|(k, _)| *k == SECCOMP_POD || k.starts_with(SECCOMP_CONTAINER)) {
        let path = path.child(key);
        match profile.as_str().unwrap_or("") {
            "runtime/default" | "docker/default" | "unconfined" => {}
            local if local.starts_with("localhost/") => {
                paths::descending(&local["localhost/".len()..], &path, errors);
            }
            other => errors.invalid(&path, other, "must be a valid seccomp profile"),
        }
    }
}

fn app_armor(metadata: &Value, spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (key, profile) in entries(metadata, "annotations") {
        let Some(container) = key.strip_prefix(APP_ARMOR) else {
            continue;
        };
        if !has_container(spec, container) {
            errors.invalid(&path.key(key), container, "container not found");
        }
        let profile = profile.as_str().unwrap_or("");
        let known = matches!(profile, "" | "runtime/default" | "unconfined");
        if !known && !profile.starts_with("localhost/") {
            let detail = format!("invalid AppArmor profile name: {profile:?}");
            errors.invalid(&path.key(key), profile, &detail);
        }
    }
}
