//! The status of pods: what a kubelet may write and what it must not take back.

use api::field::{FieldErrors, Path};
use api::{Value, meta};

use super::annotations;
use crate::core::pod_spec::containers::is_sidecar;
use crate::ip;
use crate::names::NameRule;
use crate::object_meta::{IMMUTABLE, invalid_each, label_key};
use crate::shown;
use crate::tree::{at, enter, has, int, keep, list, list_mut, put, remove, some, text};

const NEGATIVE: &str = "must be a non-negative integer";

/// Keeps what a status update does not decide.
pub(super) fn prepare(new: &mut Value, old: &Value) {
    keep(new, old, "spec");
    for field in ["deletionTimestamp", "ownerReferences"] {
        meta::set(new, field, at(at(old, "metadata"), field).clone());
    }
    let old_status = at(old, "status");
    let status = enter(new, "status");
    for field in ["qosClass", "resourceClaimStatuses", "extendedResourceClaimStatus"] {
        if let Some(kept) = some(old_status, field).filter(|_| !has(status, field)) {
            put(status, field, kept.clone());
        }
    }
    if int(status, "observedGeneration") == 0 && int(old_status, "observedGeneration") != 0 {
        put(status, "observedGeneration", int(old_status, "observedGeneration"));
    }
    for condition in list_mut(status, "conditions") {
        let known = list(old_status, "conditions").iter().find(|c| text(c, "type") == text(condition, "type"));
        let generation = known.map_or(0, |c| int(c, "observedGeneration"));
        if int(condition, "observedGeneration") == 0 && generation != 0 {
            put(condition, "observedGeneration", generation);
        }
    }
    if list(status, "conditions").is_empty() {
        remove(status, "conditions");
    }
}

/// Validates a status update.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut FieldErrors) {
    annotations::validate_update(new, old, &Path::new("metadata").child("annotations"), errors);
    let path = Path::new("status");
    let (status, old_status, spec) = (at(new, "status"), at(old, "status"), at(old, "spec"));
    conditions(status, &path.child("conditions"), errors);
    nominated_node(status, old, &path.child("nominatedNodeName"), errors);
    let generation = int(status, "observedGeneration");
    if generation < 0 {
        errors.invalid(&path.child("observedGeneration"), generation, NEGATIVE);
    }
    let class = text(status, "qosClass");
    if class != text(old_status, "qosClass") {
        errors.invalid(&path.child("qosClass"), class, IMMUTABLE);
    }
    if !everything_restarts(spec) {
        for (field, containers) in [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")] {
            let may_restart = |name: &str, code: i64| {
                let found = list(spec, containers).iter().find(|c| text(c, "name") == name);
                found.is_some_and(|container| restarts(container, spec, code))
            };
            no_resurrection(status, old_status, field, may_restart, &path, errors);
        }
    }
    let field = "ephemeralContainerStatuses";
    no_resurrection(status, old_status, field, |_, _| false, &path, errors);
    addresses(status, old_status, "podIPs", "podIP", &path, errors);
    host_addresses(status, old_status, &path, errors);
}

fn conditions(status: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (i, condition) in list(status, "conditions").iter().enumerate() {
        let path = path.index(i);
        let generation = int(condition, "observedGeneration");
        if generation < 0 {
            errors.invalid(&path.child("observedGeneration"), generation, NEGATIVE);
        }
        let kind = text(condition, "type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            label_key(kind, &path.child("Type"), errors);
        }
    }
}

fn nominated_node(status: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let node = text(status, "nominatedNodeName");
    if node.is_empty() || node == text(at(old, "status"), "nominatedNodeName") {
        return;
    }
    let complaints = NameRule::Dns1123Subdomain.check(node, false);
    invalid_each(path, node, complaints, errors);
    if !text(at(old, "spec"), "nodeName").is_empty() {
        errors.forbidden(path, "may not be set on pods that are already bound to a node");
    }
}

/// A rule that restarts all containers lets any terminated one come back.
fn everything_restarts(spec: &Value) -> bool {
    ["containers", "initContainers"].iter().flat_map(|field| list(spec, field)).any(|container| {
        let mut rules = list(container, "restartPolicyRules").iter();
        rules.any(|rule| text(rule, "action") == "RestartAllContainers")
    })
}

/// Whether a container that ended with `code` is started again.
fn restarts(container: &Value, spec: &Value, code: i64) -> bool {
    let matched = list(container, "restartPolicyRules").iter().any(|rule| {
        let codes = at(rule, "exitCodes");
        let listed = list(codes, "values").iter().any(|v| v.as_i64() == Some(code));
        text(rule, "action") == "Restart" && listed == (text(codes, "operator") == "In")
    });
    if matched {
        return true;
    }
    let policy = match text(container, "restartPolicy") {
        "" => text(spec, "restartPolicy"),
        own => own,
    };
    is_sidecar(container) || policy == "Always" || (policy == "OnFailure" && code != 0)
}

fn no_resurrection(
    status: &Value,
    old: &Value,
    field: &str,
    may_restart: impl Fn(&str, i64) -> bool,
    path: &Path<'_>,
    errors: &mut FieldErrors,
) {
    let path = path.child(field);
    for (i, before) in list(old, field).iter().enumerate() {
        let Some(ended) = some(at(before, "state"), "terminated") else {
            continue;
        };
        let name = text(before, "name");
        let now = list(status, field).iter().find(|c| text(c, "name") == name);
        let alive = now.is_some_and(|c| !has(at(c, "state"), "terminated"));
        if alive && !may_restart(name, int(ended, "exitCode")) {
            let detail = "may not be transitioned to non-terminated state";
            errors.forbidden(&path.index(i).child("state"), detail);
        }
    }
}

fn addresses(status: &Value, old: &Value, plural: &str, single: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child(plural);
    let texts = |status| list(status, plural).iter().map(|ip| text(ip, "ip")).collect::<Vec<_>>();
    let (now, before) = (texts(status), texts(old));
    if plural == "podIPs" {
        each_address(&now, &before, status, &path, errors);
    }
    let own = text(status, single);
    let shown = shown_ips(status, plural);
    match now.first() {
        None if !own.is_empty() => {
            let detail = "podIP and podIPs must either both be set or both be unset";
            shown::invalid(&path, &shown, detail, errors);
        }
        Some(_) if own.is_empty() => {
            let detail = "podIP and podIPs must either both be set or both be unset";
            shown::invalid(&path, &shown, detail, errors);
        }
        Some(first) if *first != own => {
            errors.invalid(&path.index(0).child("ip"), *first, "must be equal to `podIP`");
        }
        _ => {}
    }
}

fn host_addresses(status: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("hostIPs");
    let texts = |status| list(status, "hostIPs").iter().map(|ip| text(ip, "ip")).collect::<Vec<_>>();
    let (now, before) = (texts(status), texts(old));
    let Some(first) = now.first() else {
        return;
    };
    if *first != text(status, "hostIP") {
        errors.invalid(&path.index(0).child("ip"), *first, "must be equal to `hostIP`");
    }
    each_address(&now, &before, status, &path, errors);
}

fn each_address(now: &[&str], before: &[&str], status: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (i, address) in now.iter().enumerate() {
        ip::validate_lenient(address, before, &path.index(i), errors);
    }
    if now.len() > 1 && (now.len() > 2 || !ip::is_dual_stack(now.iter().copied())) {
        let field = if path.to_string().ends_with("hostIPs") { "hostIPs" } else { "podIPs" };
        let detail = "may specify no more than one IP for each IP family";
        shown::invalid(path, &shown_ips(status, field), detail, errors);
    }
}

/// Upstream shows its internal type, and null for none.
fn shown_ips(status: &Value, field: &str) -> String {
    match list(status, field) {
        [] => "null".to_owned(),
        ips => shown::each(ips, |ip| shown::internal(ip, &[("IP", "ip")])),
    }
}
