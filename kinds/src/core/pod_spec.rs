//! `PodSpec`: what pods and every template of pods share.
//!
//! The order of the checks is upstream's `ValidatePodSpec`; each module holds one part of a specification.

pub(crate) mod containers;
pub(crate) mod defaults;
mod env;
mod mounts;
mod network;
pub(crate) mod paths;
mod pod_resources;
pub(crate) mod probes;
pub(crate) mod projected;
pub(crate) mod resources;
pub(crate) mod scheduling;
pub(crate) mod security;
pub(crate) mod sources;
mod volumes;
mod windows;

pub(crate) use pod_resources::total;

use api::Value;
use api::field::{ErrorKind, FieldErrors, Path};

use crate::names::{self, Complaints, NameRule};
use crate::object_meta::{invalid_each, labels};
use crate::tree::{at, flag, has, list, opt_flag, opt_int, opt_text, some, text};

/// Whose specification it is: a pod's, with its metadata, or a template's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Meta<'a> {
    /// A pod of its own.
    Pod(&'a Value),
    /// A template; its metadata has no name.
    Template,
}

impl<'a> Meta<'a> {
    fn pod_name(self) -> Option<&'a str> {
        match self {
            Self::Pod(pod) => Some(api::meta::name(pod)).filter(|name| !name.is_empty()),
            Self::Template => None,
        }
    }
}

/// What the checks of the parts look up in the whole.
pub(crate) struct Context<'a> {
    spec: &'a Value,
    volumes: Vec<(&'a str, &'a Value)>,
    claims: Vec<&'a str>,
}

impl<'a> Context<'a> {
    fn volume(&self, name: &str) -> Option<&'a Value> {
        let found = self.volumes.iter().find(|(known, _)| *known == name);
        found.map(|(_, volume)| *volume)
    }
}

/// Calls `visit` for init, regular and ephemeral containers, in that order, with their paths.
pub(crate) fn each_container<'a>(spec: &'a Value, path: &Path<'_>, mut visit: impl FnMut(&'a Value, &Path<'_>)) {
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        let path = path.child(field);
        for (i, container) in list(spec, field).iter().enumerate() {
            visit(container, &path.index(i));
        }
    }
}

/// Validates a `PodSpec`.
pub(crate) fn validate(spec: &Value, meta: Meta<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    if !has(spec, "terminationGracePeriodSeconds") {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = volumes::validate(spec, meta, &path.child("volumes"), errors);
    let claims = list(spec, "resourceClaims").iter().map(|c| text(c, "name"));
    let claims = claims.filter(|name| !name.is_empty()).collect();
    let cx = Context { spec, volumes, claims };
    pod_resources::claims(spec, meta, &path.child("resourceClaims"), errors);
    containers::regular(&cx, &path.child("containers"), errors);
    containers::init(&cx, &path.child("initContainers"), errors);
    containers::ephemeral(&cx, &path.child("ephemeralContainers"), errors);
    pod_resources::validate(&cx, path, errors);
    network::host_ports(spec, meta, path, errors);
    policies(spec, path, errors);
    labels(at(spec, "nodeSelector"), &path.child("nodeSelector"), errors);
    security::pod(&cx, &path.child("securityContext"), errors);
    share_process_namespace(spec, path, errors);
    pull_secrets(spec, &path.child("imagePullSecrets"), errors);
    scheduling::affinity(at(spec, "affinity"), &path.child("affinity"), errors);
    network::dns_config(spec, &path.child("dnsConfig"), errors);
    scheduling::gates(spec, path, errors);
    let spread = path.child("topologySpreadConstraints");
    scheduling::topology_spread(spec, &spread, errors);
    windows::host_process(&cx, path, errors);
    security::host_users(&cx, path, errors);
    network::hostname_override(spec, path, errors);
    names_and_numbers(spec, path, errors);
    let at_tolerations = path.child("tolerations");
    scheduling::tolerations(list(spec, "tolerations"), &at_tolerations, errors);
    network::host_aliases(spec, &path.child("hostAliases"), errors);
    classes(spec, path, errors);
    security::os(&cx, path, errors);
    file_keys(spec, path, errors);
}

fn policies(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const RESTART: [&str; 3] = ["Always", "OnFailure", "Never"];
    const DNS: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    for (field, allowed) in [("restartPolicy", &RESTART[..]), ("dnsPolicy", &DNS[..])] {
        match text(spec, field) {
            "" => errors.required(&path.child(field), ""),
            known if allowed.contains(&known) => {}
            other => not_supported_unsorted(&path.child(field), other, allowed, errors),
        }
    }
}

fn share_process_namespace(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if opt_flag(spec, "shareProcessNamespace") == Some(true) && flag(spec, "hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, detail);
    }
}

fn pull_secrets(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (i, secret) in list(spec, "imagePullSecrets").iter().enumerate() {
        let extra = secret.as_object().is_some_and(|s| s.keys().any(|k| k != "name"));
        if extra {
            errors.invalid(&path.index(i), secret.clone(), "only name may be set");
        }
    }
}

fn names_and_numbers(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let subdomain: fn(&str) -> Complaints = |name| NameRule::Dns1123Subdomain.check(name, false);
    let named = |field: &str, check: fn(&str) -> Complaints, errors: &mut FieldErrors| {
        let name = text(spec, field);
        if !name.is_empty() {
            invalid_each(&path.child(field), name, check(name), errors);
        }
    };
    named("serviceAccountName", subdomain, errors);
    named("nodeName", subdomain, errors);
    const MAX: i64 = i32::MAX as i64;
    if let Some(seconds) = opt_int(spec, "activeDeadlineSeconds") {
        for complaint in names::in_range(seconds, 1, MAX) {
            errors.invalid(&path.child("activeDeadlineSeconds"), seconds, &complaint);
        }
    }
    named("hostname", names::label, errors);
    named("subdomain", names::label, errors);
}

fn classes(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let subdomain = |name: &str| NameRule::Dns1123Subdomain.check(name, false);
    let class = text(spec, "priorityClassName");
    if !class.is_empty() {
        invalid_each(&path.child("priorityClassName"), class, subdomain(class), errors);
    }
    if let Some(class) = opt_text(spec, "runtimeClassName") {
        invalid_each(&path.child("runtimeClassName"), class, subdomain(class), errors);
    }
    preemption_policy(spec, path, errors);
    if let Some(overhead) = some(spec, "overhead") {
        let limits = serde_json::json!({"limits": overhead});
        resources::container(&limits, &[], &path.child("overhead"), errors);
    }
}

/// Validates an optional `preemptionPolicy`.
pub(crate) fn preemption_policy(holder: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("preemptionPolicy");
    match opt_text(holder, "preemptionPolicy") {
        None | Some("PreemptLowerPriority" | "Never") => {}
        Some("") => errors.required(&path, ""),
        Some(other) => {
            let allowed = ["PreemptLowerPriority", "Never"];
            not_supported_unsorted(&path, other, &allowed, errors);
        }
    }
}

/// A variable read from a file needs an empty directory to read it from.
fn file_keys(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    each_container(spec, path, |container, path| {
        let at_env = path.child("env");
        for (i, variable) in list(container, "env").iter().enumerate() {
            let Some(key) = some(at(variable, "valueFrom"), "fileKeyRef") else {
                continue;
            };
            let at_variable = at_env.index(i);
            let at_source = at_variable.child("valueFrom");
            let at_key = at_source.child("fileKeyRef");
            let path = at_key.child("volumeName");
            let name = text(key, "volumeName");
            match list(spec, "volumes").iter().rev().find(|v| text(v, "name") == name) {
                None => errors.not_found(&path, name),
                Some(volume) if !has(volume, "emptyDir") => {
                    errors.invalid(&path, name, "referenced volume must be of type emptyDir");
                }
                Some(_) => {}
            }
        }
    });
}

/// `Unsupported value` with the allowed ones in the order given, where upstream does not sort them.
pub(crate) fn not_supported_unsorted(path: &Path<'_>, value: &str, allowed: &[&str], errors: &mut FieldErrors) {
    let quoted: Vec<String> = allowed.iter().map(|word| format!("{word:?}")).collect();
    let message = format!("Unsupported value: {value:?}: supported values: {}", quoted.join(", "));
    errors.push(ErrorKind::NotSupported, path, message);
}
