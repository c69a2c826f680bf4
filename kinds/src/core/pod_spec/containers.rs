//! Validation of containers: regular, init and ephemeral.

use api::Value;
use api::field::{FieldErrors, Path};

use super::{Context, env, mounts, probes, resources, security};
use crate::names;
use crate::object_meta::invalid_each;
use crate::tree::{at, has, int, list, opt_text, some, text};

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const RESTART_POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const ONLY_SIDECARS: &str = "may not be set for init containers without restartPolicy=Always";
const NOT_EPHEMERAL: &str = "cannot be set for an Ephemeral Container";

/// Validates `containers`.
pub(super) fn regular(cx: &Context<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let containers = list(cx.spec, "containers");
    if containers.is_empty() {
        errors.required(path, "");
        return;
    }
    for (i, container) in containers.iter().enumerate() {
        let path = path.index(i);
        common(cx, container, &path, errors);
        let name = text(container, "name");
        if containers[..i].iter().any(|c| text(c, "name") == name) {
            errors.duplicate(&path.child("name"), name);
        }
        hooks_and_probes(cx, container, &path, errors);
        restart_policy(container, &path, errors);
    }
    host_port_conflicts(containers, path, errors);
}

/// Validates `initContainers`.
pub(super) fn init(cx: &Context<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen: Vec<&str> = list(cx.spec, "containers").iter().map(|c| text(c, "name")).collect();
    for (i, container) in list(cx.spec, "initContainers").iter().enumerate() {
        let at_container = path.index(i);
        common(cx, container, &at_container, errors);
        if has(container, "restartPolicy") {
            restart_policy(container, &at_container, errors);
        } else if !list(container, "restartPolicyRules").is_empty() {
            missing_restart_policy(&at_container, errors);
        }
        let name = text(container, "name");
        if seen.contains(&name) {
            errors.duplicate(&at_container.child("name"), name);
        } else if !name.is_empty() {
            seen.push(name);
        }
        host_port_conflicts(std::slice::from_ref(container), path, errors);
        if is_sidecar(container) {
            hooks_and_probes(cx, container, &at_container, errors);
        } else {
            plain_init(container, &at_container, errors);
        }
    }
}

/// An init container that keeps running.
pub(crate) fn is_sidecar(container: &Value) -> bool {
    text(container, "restartPolicy") == "Always"
}

fn plain_init(container: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if has(container, field) {
            errors.forbidden(&path.child(field), ONLY_SIDECARS);
        }
    }
    let policies = path.child("resizePolicy");
    for (i, policy) in list(container, "resizePolicy").iter().enumerate() {
        if text(policy, "restartPolicy") == "RestartContainer" {
            let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            let at_policy = policies.index(i);
            errors.invalid(&at_policy.child("restartPolicy"), "RestartContainer", detail);
        }
    }
}

/// Validates `ephemeralContainers`.
pub(super) fn ephemeral(cx: &Context<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let others: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|field| list(cx.spec, field))
        .map(|c| text(c, "name"))
        .collect();
    let mut seen = others.clone();
    for (i, container) in list(cx.spec, "ephemeralContainers").iter().enumerate() {
        let path = path.index(i);
        common(cx, container, &path, errors);
        image_is_trimmed(container, &path, errors);
        let name = text(container, "name");
        if seen.contains(&name) {
            errors.duplicate(&path.child("name"), name);
        } else {
            seen.push(name);
        }
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !others.contains(&target) {
            errors.not_found(&path.child("targetContainerName"), target);
        }
        ephemeral_fields(container, &path, errors);
    }
}

fn ephemeral_fields(container: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    // Go's comparison with zero values: an empty object counts as unset only for the struct `resources`.
    const REFUSED: [&str; 8] = [
        "ports",
        "resources",
        "resizePolicy",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "restartPolicy",
    ];
    for field in REFUSED {
        let set = match field {
            "resources" => !crate::tree::is_empty(at(container, field)),
            _ => has(container, field),
        };
        if set {
            errors.forbidden(&path.child(field), NOT_EPHEMERAL);
        }
    }
    let mounts = path.child("volumeMounts");
    for (i, mount) in list(container, "volumeMounts").iter().enumerate() {
        for field in ["subPath", "subPathExpr"] {
            if !text(mount, field).is_empty() {
                errors.forbidden(&mounts.index(i).child(field), NOT_EPHEMERAL);
            }
        }
    }
}

/// An image must not be padded; pods only, not templates.
pub(crate) fn image_is_trimmed(container: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let image = text(container, "image");
    if image.len() != image.trim().len() {
        let detail = "must not have leading or trailing whitespace";
        errors.invalid(&path.child("image"), image, detail);
    }
}

fn common(cx: &Context<'_>, container: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match text(container, "name") {
        "" => errors.required(&path.child("name"), ""),
        name => invalid_each(&path.child("name"), name, names::label(name), errors),
    }
    if text(container, "image").is_empty() {
        errors.required(&path.child("image"), "");
    }
    let policy_path = path.child("terminationMessagePolicy");
    match text(container, "terminationMessagePolicy") {
        "File" | "FallbackToLogsOnError" => {}
        "" => errors.required(&policy_path, ""),
        other => {
            super::not_supported_unsorted(&policy_path, other, &["File", "FallbackToLogsOnError"], errors);
        }
    }
    ports(container, &path.child("ports"), errors);
    env::validate(container, &path.child("env"), errors);
    env::validate_from(container, &path.child("envFrom"), errors);
    mounts::validate(cx, container, &path.child("volumeMounts"), errors);
    mounts::validate_devices(cx, container, &path.child("volumeDevices"), errors);
    pull_policy(text(container, "imagePullPolicy"), &path.child("imagePullPolicy"), errors);
    let requirements = at(container, "resources");
    resources::container(requirements, &cx.claims, &path.child("resources"), errors);
    resize_policy(cx, container, &path.child("resizePolicy"), errors);
    security::container(cx, at(container, "securityContext"), &path.child("securityContext"), errors);
}

pub(super) fn pull_policy(policy: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    match policy {
        "" => errors.required(path, ""),
        known if PULL_POLICIES.contains(&known) => {}
        other => errors.not_supported(path, other, &PULL_POLICIES),
    }
}

fn ports(container: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, port) in list(container, "ports").iter().enumerate() {
        let path = path.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            let complaints = names::port_name(name);
            if complaints.is_empty() && seen.contains(&name) {
                errors.duplicate(&path.child("name"), name);
            } else if complaints.is_empty() {
                seen.push(name);
            }
            invalid_each(&path.child("name"), name, complaints, errors);
        }
        match int(port, "containerPort") {
            0 => errors.required(&path.child("containerPort"), ""),
            number => port_number(number, &path.child("containerPort"), errors),
        }
        match int(port, "hostPort") {
            0 => {}
            number => port_number(number, &path.child("hostPort"), errors),
        }
        protocol(text(port, "protocol"), &path.child("protocol"), errors);
    }
}

/// Validates a transport protocol.
pub(crate) fn protocol(protocol: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    match protocol {
        "TCP" | "UDP" | "SCTP" => {}
        "" => errors.required(path, ""),
        other => errors.not_supported(path, other, &["SCTP", "TCP", "UDP"]),
    }
}

/// Validates a port number.
pub(crate) fn port_number(number: i64, path: &Path<'_>, errors: &mut FieldErrors) {
    for complaint in names::port_number(number) {
        errors.invalid(path, number, &complaint);
    }
}

fn host_port_conflicts(containers: &[Value], path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen: Vec<String> = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        let at_container = path.index(i);
        let ports = at_container.child("ports");
        for (j, port) in list(container, "ports").iter().enumerate() {
            let number = int(port, "hostPort");
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if seen.contains(&key) {
                errors.duplicate(&ports.index(j).child("hostPort"), key);
            } else {
                seen.push(key);
            }
        }
    }
}

fn hooks_and_probes(cx: &Context<'_>, container: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(lifecycle) = some(container, "lifecycle") {
        probes::lifecycle(cx, lifecycle, &path.child("lifecycle"), errors);
    }
    probes::validate(container, path, errors);
}

fn missing_restart_policy(path: &Path<'_>, errors: &mut FieldErrors) {
    let detail = "must specify restartPolicy when restart rules are used";
    errors.required(&path.child("restartPolicy"), detail);
}

fn restart_policy(container: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let rules = list(container, "restartPolicyRules");
    match opt_text(container, "restartPolicy") {
        None if rules.is_empty() => return,
        None => missing_restart_policy(path, errors),
        Some(policy) if RESTART_POLICIES.contains(&policy) => {}
        Some(other) => {
            errors.not_supported(&path.child("restartPolicy"), other, &RESTART_POLICIES);
        }
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > RULES_MAX {
        errors.too_many(&path, rules.len(), RULES_MAX);
    }
    for (i, rule) in rules.iter().enumerate() {
        restart_rule(rule, &path.index(i), errors);
    }
}

fn restart_rule(rule: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const ACTIONS: [&str; 2] = ["Restart", "RestartAllContainers"];
    let action = text(rule, "action");
    if !ACTIONS.contains(&action) {
        errors.not_supported(&path.child("action"), action, &ACTIONS);
    }
    let codes_path = path.child("exitCodes");
    let Some(codes) = some(rule, "exitCodes") else {
        errors.required(&codes_path, "must be specified");
        return;
    };
    let operator = text(codes, "operator");
    if !matches!(operator, "In" | "NotIn") {
        errors.not_supported(&codes_path.child("operator"), operator, &["In", "NotIn"]);
    }
    let count = list(codes, "values").len();
    if count > EXIT_CODES_MAX {
        errors.too_many(&codes_path.child("values"), count, EXIT_CODES_MAX);
    }
}

fn resize_policy(cx: &Context<'_>, container: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let policies = list(container, "resizePolicy");
    for (i, policy) in policies.iter().enumerate() {
        let resource = text(policy, "resourceName");
        if policies[..i].iter().any(|p| text(p, "resourceName") == resource) {
            errors.duplicate(&path.index(i), resource);
        }
        match resource {
            "cpu" | "memory" => {}
            "" => errors.required(path, ""),
            other => errors.not_supported(path, other, &["cpu", "memory"]),
        }
        let restart = text(policy, "restartPolicy");
        match restart {
            "NotRequired" | "RestartContainer" => {}
            "" => errors.required(path, ""),
            other => errors.not_supported(path, other, &["NotRequired", "RestartContainer"]),
        }
        if text(cx.spec, "restartPolicy") == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.invalid(path, restart, detail);
        }
    }
}
