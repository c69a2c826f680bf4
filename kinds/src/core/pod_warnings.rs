//! Warnings about pods and templates of pods: accepted, but probably not meant.

use api::field::Path;
use api::{Value, meta};

use crate::core::pod_spec::each_container;
use crate::names;
use crate::resource_name::quantity;
use crate::tree::{at, dig, entries, has, int, list, text};

/// Warnings about a new pod.
pub(crate) fn of_pod(pod: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    let complaints = names::label(meta::name(pod));
    if !complaints.is_empty() {
        warnings.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
            complaints.join(" ")
        ));
    }
    warnings.extend(of_template(pod, &Path::ROOT));
    warnings
}

/// Warnings about something with `metadata` and a pod's `spec` at a path.
pub(crate) fn of_template(template: &Value, path: &Path<'_>) -> Vec<String> {
    let spec = at(template, "spec");
    let path = path.child("spec");
    let mut warnings = Vec::new();
    node_labels(spec, &path, &mut warnings);
    volumes(spec, &path, &mut warnings);
    pull_secrets(spec, &path, &mut warnings);
    each_container(spec, &path, |container, path| {
        fractional_bytes(container, path, &mut warnings);
        hidden_variables(container, path, &mut warnings);
    });
    ports(spec, &path, &mut warnings);
    selectors(spec, &path, &mut warnings);
    warnings
}

/// What to do about a node label that is going away.
pub(crate) fn deprecated_node_label(key: &str) -> Option<String> {
    let replacement = match key {
        "app.kubernetes.io/created-by" => return Some("deprecated since v1.9".to_owned()),
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            return Some("deprecated since v1.22; use Taints and Tolerations instead".to_owned());
        }
        "node-role.kubernetes.io/master" => {
            return Some("use \"node-role.kubernetes.io/control-plane\" instead".to_owned());
        }
        "failure-domain.beta.kubernetes.io/zone" => "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region" => "topology.kubernetes.io/region",
        "beta.kubernetes.io/instance-type" => "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/os" => "kubernetes.io/os",
        "beta.kubernetes.io/arch" => "kubernetes.io/arch",
        _ => return None,
    };
    let since = if key.starts_with("beta.kubernetes.io/") && !key.ends_with("type") { "v1.14" } else { "v1.17" };
    Some(format!("deprecated since {since}; use {replacement:?} instead"))
}

fn node_labels(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let at_selector = path.child("nodeSelector");
    for (key, _) in entries(spec, "nodeSelector") {
        if let Some(message) = deprecated_node_label(key) {
            warnings.push(format!("{}: {message}", at_selector.key(key)));
        }
    }
    let spread = path.child("topologySpreadConstraints");
    for (i, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let path = spread.index(i);
        let key = text(constraint, "topologyKey");
        if let Some(message) = deprecated_node_label(key) {
            warnings.push(format!("{}: {key} is {message}", path.child("topologyKey")));
        }
        null_selector(constraint, &path, warnings);
    }
}

fn null_selector(term: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    if !has(term, "labelSelector") {
        let path = path.child("labelSelector");
        warnings.push(format!("{path}: a null labelSelector results in matching no pod"));
    }
}

fn volumes(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    const DEPRECATED: [(&str, &str, &str); 9] = [
        ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
        ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
        ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
        ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ];
    let at_volumes = path.child("volumes");
    for (i, volume) in list(spec, "volumes").iter().enumerate() {
        for (field, shown, message) in DEPRECATED {
            if has(volume, field) {
                warnings.push(format!("{}: {message}", at_volumes.index(i).child(shown)));
            }
        }
    }
}

fn pull_secrets(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let secrets = list(spec, "imagePullSecrets");
    let at_secrets = path.child("imagePullSecrets");
    for (i, secret) in secrets.iter().enumerate() {
        let name = text(secret, "name");
        if secrets[..i].iter().any(|s| text(s, "name") == name) {
            let path = at_secrets.index(i);
            warnings.push(format!("{}: duplicate name {name:?}", path.child("name")));
        }
    }
    for (i, _) in secrets.iter().enumerate().filter(|(_, s)| text(s, "name").is_empty()) {
        let path = at_secrets.index(i);
        warnings.push(format!("{}: invalid empty name \"\"", path.child("name")));
    }
}

fn fractional_bytes(container: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let path = path.child("resources");
    for name in ["memory", "ephemeral-storage"] {
        for field in ["limits", "requests"] {
            let amount = quantity(dig(container, &["resources", field]), name);
            let Some(amount) = amount.filter(|amount| amount.milli_value() % 1000 != 0) else {
                continue;
            };
            let text = amount.to_string();
            let path = path.child(field);
            warnings.push(format!("{}: fractional byte value {text:?} is invalid, must be an integer", path.key(name)));
        }
    }
}

fn hidden_variables(container: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let variables = list(container, "env");
    let at_env = path.child("env");
    for (i, variable) in variables.iter().enumerate() {
        let (name, value) = (text(variable, "name"), text(variable, "value"));
        if !variables[..i].iter().any(|v| text(v, "name") == name) {
            continue;
        }
        let reference = format!("$({name})");
        let extends = value.contains(&reference) && value != reference;
        if has(variable, "valueFrom") || !extends {
            warnings.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                at_env.index(i)
            ));
        }
    }
}

fn ports(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let mut seen: Vec<(String, &Value)> = Vec::new();
    let mut named: Vec<(&str, String)> = Vec::new();
    let mut names = Vec::new();
    each_container(spec, path, |container, path| {
        let at_ports = path.child("ports");
        for (i, port) in list(container, "ports").iter().enumerate() {
            let here = at_ports.index(i).to_string();
            for (there, other) in &seen {
                if let Some(kind) = overlap(port, other) {
                    warnings.push(format!("{here}: {kind} port definition with {there}"));
                }
            }
            seen.push((here.clone(), port));
            let name = text(port, "name");
            match named.iter().find(|(known, _)| !name.is_empty() && *known == name) {
                Some((_, there)) => names.push(format!(
                    "{here}: duplicate port name {name:?} with {there}, services and probes that select ports by name will use {there}"
                )),
                None => named.push((name, here)),
            }
        }
    });
    warnings.extend(names);
}

fn overlap(port: &Value, other: &Value) -> Option<&'static str> {
    let same = |field: &str| at(port, field) == at(other, field);
    if !same("containerPort") || !same("protocol") {
        return None;
    }
    let (host, other_host) = (int(port, "hostPort"), int(other, "hostPort"));
    let (ip, other_ip) = (text(port, "hostIP"), text(other, "hostIP"));
    if ip == other_ip && host == other_host {
        return Some("duplicate");
    }
    if host == 0 || other_host == 0 {
        return Some("overlapping");
    }
    (host == other_host && ip.is_empty() != other_ip.is_empty()).then_some("dangerously ambiguous")
}

fn selectors(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let path = path.child("affinity");
    for kind in ["podAffinity", "podAntiAffinity"] {
        let terms = dig(spec, &["affinity", kind]);
        let path = path.child(kind);
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let at_terms = path.child(required);
        for (i, term) in list(terms, required).iter().enumerate() {
            null_selector(term, &at_terms.index(i), warnings);
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        let at_terms = path.child(preferred);
        for (i, term) in list(terms, preferred).iter().enumerate() {
            let at_term = at_terms.index(i);
            null_selector(at(term, "podAffinityTerm"), &at_term.child("podAffinityTerm"), warnings);
        }
    }
}
