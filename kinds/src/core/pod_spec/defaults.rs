//! What a pod's specification says when it says nothing.
//!
//! Controllers compare templates by hash, so these must be upstream's to the byte. [`spec`] applies to templates too;
//! what only a pod itself gets is in [`super::super::pod`].

use api::Value;
use serde_json::json;

use crate::resource_name::default_list;
use crate::tree::{at, default_nonzero, default_text, default_to, enter, enter_some, has, list_mut, put, text};

const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Defaults of a `PodSpec`.
pub(crate) fn spec(spec: &mut Value) {
    let account = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if !account.is_empty() {
        for field in ["serviceAccountName", "serviceAccount"] {
            if text(spec, field) != account {
                put(spec, field, account.as_str());
            }
        }
    } else if let Some(map) = spec.as_object_mut() {
        map.remove("serviceAccount");
    }
    default_text(spec, "dnsPolicy", "ClusterFirst");
    default_text(spec, "restartPolicy", "Always");
    default_to(spec, "securityContext", json!({}));
    default_to(spec, "terminationGracePeriodSeconds", 30);
    default_text(spec, "schedulerName", "default-scheduler");
    for volume in list_mut(spec, "volumes") {
        self::volume(volume);
    }
    for containers in CONTAINER_LISTS {
        for container in list_mut(spec, containers) {
            self::container(container);
        }
    }
    default_list(spec.get_mut("overhead"));
    if let Some(resources) = enter_some(spec, "resources") {
        self::resources(resources);
    }
}

fn container(container: &mut Value) {
    let policy = pull_policy(text(container, "image"));
    default_text(container, "imagePullPolicy", policy);
    default_text(container, "terminationMessagePath", "/dev/termination-log");
    default_text(container, "terminationMessagePolicy", "File");
    for port in list_mut(container, "ports") {
        default_text(port, "protocol", "TCP");
    }
    for variable in list_mut(container, "env") {
        let Some(source) = enter_some(variable, "valueFrom") else {
            continue;
        };
        field_ref(source);
        if let Some(file) = enter_some(source, "fileKeyRef") {
            default_to(file, "optional", false);
        }
    }
    resources(enter(container, "resources"));
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = enter_some(container, name) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = enter_some(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = enter_some(lifecycle, hook) {
                http_get(hook);
            }
        }
    }
}

/// Rounds and writes canonically the amounts of `requests` and `limits`.
pub(crate) fn resources(resources: &mut Value) {
    default_list(resources.get_mut("limits"));
    default_list(resources.get_mut("requests"));
}

fn probe(probe: &mut Value) {
    default_nonzero(probe, "timeoutSeconds", 1);
    default_nonzero(probe, "periodSeconds", 10);
    default_nonzero(probe, "successThreshold", 1);
    default_nonzero(probe, "failureThreshold", 3);
    http_get(probe);
    if let Some(grpc) = enter_some(probe, "grpc") {
        default_to(grpc, "service", "");
    }
}

fn http_get(handler: &mut Value) {
    if let Some(action) = enter_some(handler, "httpGet") {
        default_text(action, "path", "/");
        default_text(action, "scheme", "HTTP");
    }
}

fn field_ref(holder: &mut Value) {
    if let Some(reference) = enter_some(holder, "fieldRef") {
        default_text(reference, "apiVersion", "v1");
    }
}

/// Defaults of a volume; one without a source is an empty directory.
pub(crate) fn volume(volume: &mut Value) {
    let sourced = volume.as_object().is_some_and(|map| map.iter().any(|(k, v)| k != "name" && !v.is_null()));
    if !sourced {
        put(volume, "emptyDir", json!({}));
    }
    if let Some(image) = enter_some(volume, "image") {
        let policy = pull_policy(text(image, "reference"));
        default_text(image, "pullPolicy", policy);
    }
    if let Some(path) = enter_some(volume, "hostPath") {
        default_to(path, "type", "");
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = enter_some(volume, source) {
            default_to(source, "defaultMode", 420);
            downward_items(source);
        }
    }
    if let Some(projected) = enter_some(volume, "projected") {
        for source in list_mut(projected, "sources") {
            projection(source);
        }
    }
    if let Some(ephemeral) = enter_some(volume, "ephemeral")
        && let Some(template) = enter_some(ephemeral, "volumeClaimTemplate")
    {
        claim_spec(enter(template, "spec"));
    }
    legacy_volume(volume);
}

fn downward_items(source: &mut Value) {
    for item in list_mut(source, "items") {
        field_ref(item);
    }
}

fn projection(source: &mut Value) {
    if let Some(downward) = enter_some(source, "downwardAPI") {
        downward_items(downward);
    }
    if let Some(token) = enter_some(source, "serviceAccountToken") {
        default_to(token, "expirationSeconds", 3600);
    }
}

/// Defaults of a `PersistentVolumeClaimSpec`.
pub(crate) fn claim_spec(spec: &mut Value) {
    default_to(spec, "volumeMode", "Filesystem");
    resources(enter(spec, "resources"));
}

/// Defaults of sources that in-tree drivers served.
pub(crate) fn legacy_volume(volume: &mut Value) {
    const TEXTS: [(&str, &str, &str); 8] = [
        ("iscsi", "iscsiInterface", "default"),
        ("rbd", "pool", "rbd"),
        ("rbd", "user", "admin"),
        ("rbd", "keyring", "/etc/ceph/keyring"),
        ("scaleIO", "storageMode", "ThinProvisioned"),
        ("scaleIO", "fsType", "xfs"),
        ("azureDisk", "cachingMode", "ReadWrite"),
        ("azureDisk", "fsType", "ext4"),
    ];
    for (source, field, value) in TEXTS {
        if let Some(source) = enter_some(volume, source) {
            default_text(source, field, value);
        }
    }
    if let Some(disk) = enter_some(volume, "azureDisk") {
        default_to(disk, "readOnly", false);
        default_to(disk, "kind", "Shared");
    }
}

fn pull_policy(image: &str) -> &'static str {
    if is_latest(image) { "Always" } else { "IfNotPresent" }
}

/// Whether the image's tag is `latest`, written or implied. A malformed reference has no tag.
fn is_latest(image: &str) -> bool {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    if !is_repository(path) {
        return false;
    }
    match (tag, digest) {
        (Some(tag), _) => tag == "latest",
        (None, digest) => digest.is_none(),
    }
}

/// The part before tag and digest: an optional registry and lower-case path components.
fn is_repository(name: &str) -> bool {
    let is_id = name.len() == 64 && name.bytes().all(|c| c.is_ascii_hexdigit());
    let path = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        Some((host, path)) if host.bytes().any(|c| c.is_ascii_uppercase()) => path,
        _ => name,
    };
    let component = |part: &str| {
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(edge) && part.ends_with(edge) && part.chars().all(|c| edge(c) || matches!(c, '.' | '_' | '-'))
    };
    !is_id && path.split('/').all(component)
}

/// Copies limits to requests where requests are silent: a pod's containers only, never a template's.
pub(crate) fn requests_from_limits(spec: &mut Value) {
    for containers in ["containers", "initContainers"] {
        for container in list_mut(spec, containers) {
            let Some(resources) = enter_some(container, "resources") else {
                continue;
            };
            let Some(limits) = resources.get("limits").and_then(Value::as_object) else {
                continue;
            };
            let requests = at(resources, "requests");
            if !limits.is_empty() && limits.keys().all(|name| has(requests, name)) {
                continue;
            }
            let limits = limits.clone();
            let requests = enter(resources, "requests");
            for (name, amount) in limits {
                default_to(requests, &name, amount);
            }
            if requests.as_object().is_some_and(|r| r.is_empty()) {
                crate::tree::remove(resources, "requests");
            }
        }
    }
}

/// With the host's network, a container's ports are the host's.
pub(crate) fn host_ports(spec: &mut Value) {
    for containers in ["containers", "initContainers"] {
        for container in list_mut(spec, containers) {
            for port in list_mut(container, "ports") {
                if has(port, "containerPort") {
                    let number = crate::tree::int(port, "containerPort");
                    default_nonzero(port, "hostPort", number);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policies() {
        let always = ["nginx", "nginx:latest", "a.b/c", "localhost:5000/x", "a:latest@sha256:00"];
        let if_not_present = ["nginx:1", "a.b:80/c:2", "a@sha256:00", "Nginx", "", " nginx"];
        for image in always {
            assert_eq!(pull_policy(image), "Always", "{image}");
        }
        for image in if_not_present {
            assert_eq!(pull_policy(image), "IfNotPresent", "{image}");
        }
    }
}
