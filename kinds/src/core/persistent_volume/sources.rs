//! Where a persistent volume's bytes are.

use api::field::{FieldErrors, Path};
use api::{Value, meta};

use crate::core::pod_spec::paths::no_backsteps;
use crate::core::pod_spec::sources as shared;
use crate::core::pod_spec::sources::{driver_name, require, require_list};
use crate::core::pod_warnings::deprecated_node_label;
use crate::names;
use crate::object_meta::invalid_each;
use crate::tree::{at, dig, has, list, opt_text, some, text};

/// A check of a source, which may want the volume's name.
type Check = fn(&Value, &Path<'_>, &mut FieldErrors);

/// A source: its field, its name in the errors of its own fields and of a second source, its check.
struct Source(&'static str, &'static str, &'static str, Check);

/// Whose volumes may have mount options.
pub(super) const MOUNTED: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];

/// Every source's field, in upstream's order.
pub(super) const FIELDS: [&str; 22] = {
    let mut fields = [""; 22];
    let mut index = 0;
    while index < fields.len() {
        fields[index] = TABLE[index].0;
        index += 1;
    }
    fields
};

const TABLE: [Source; 22] = [
    Source("hostPath", "hostPath", "hostPath", shared::host_path),
    Source("gcePersistentDisk", "persistentDisk", "gcePersistentDisk", shared::gce_disk),
    Source("awsElasticBlockStore", "awsElasticBlockStore", "awsElasticBlockStore", shared::aws_disk),
    Source("glusterfs", "glusterfs", "glusterfs", glusterfs),
    Source("flocker", "flocker", "flocker", shared::flocker),
    Source("nfs", "nfs", "nfs", shared::nfs),
    Source("rbd", "rbd", "rbd", shared::rbd),
    Source("quobyte", "quobyte", "quobyte", shared::quobyte),
    Source("cephfs", "cephfs", "cephFS", |v, p, e| require_list(v, "monitors", p, e)),
    Source("iscsi", "iscsi", "iscsi", iscsi),
    Source("cinder", "cinder", "cinder", cinder),
    Source("fc", "fc", "fc", shared::fibre_channel),
    Source("flexVolume", "flexVolume", "flexVolume", shared::flex),
    Source("azureFile", "azureFile", "azureFile", azure_file),
    Source("vsphereVolume", "vsphereVolume", "vsphereVolume", |v, p, e| require(v, &["volumePath"], p, e)),
    Source("photonPersistentDisk", "photonPersistentDisk", "photonPersistentDisk", |v, p, e| {
        require(v, &["pdID"], p, e);
    }),
    Source("portworxVolume", "portworxVolume", "portworxVolume", |v, p, e| require(v, &["volumeID"], p, e)),
    Source("azureDisk", "azureDisk", "azureDisk", shared::azure_disk),
    Source("scaleIO", "scaleIO", "scaleIO", |v, p, e| require(v, &["gateway", "system", "volumeName"], p, e)),
    Source("local", "local", "local", local),
    Source("storageos", "storageos", "storageos", storage_os),
    Source("csi", "csi", "csi", csi),
];

/// Exactly one source must be given, and be well formed.
pub(super) fn validate(spec: &Value, name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut given = 0;
    for Source(field, shown, shown_extra, check) in &TABLE {
        let Some(source) = some(spec, field) else {
            continue;
        };
        given += 1;
        if given > 1 && *field != "flexVolume" {
            errors.forbidden(&path.child(shown_extra), "may not specify more than 1 volume type");
            continue;
        }
        let before = errors.0.len();
        check(source, &path.child(shown), errors);
        if *field == "iscsi" {
            long_portal(source, name, before, &path.child(shown), errors);
        }
        if *field == "local" && !has(spec, "nodeAffinity") {
            errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
        }
    }
    if given == 0 {
        errors.required(path, "must specify a volume type");
    }
    let root = opt_text(at(spec, "hostPath"), "path")
        .is_some_and(|path| path.starts_with('/') && path.split('/').all(|part| matches!(part, "" | "." | "..")));
    if root && text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.forbidden(&path.child("persistentVolumeReclaimPolicy"), detail);
    }
}

fn long_portal(source: &Value, name: &str, before: usize, path: &Path<'_>, errors: &mut FieldErrors) {
    let portal = text(source, "targetPortal");
    if !has(source, "initiatorName") || name.len() + 1 + portal.len() <= 64 {
        return;
    }
    let later = errors.0.split_off(before + usize::from(portal.is_empty()));
    errors.invalid(&path.child("targetportal"), portal, shared::LONG_PORTAL);
    errors.0.extend(later);
}

fn glusterfs(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    require(value, &["endpoints", "path"], path, errors);
    let path = path.child("endpointsNamespace");
    match opt_text(value, "endpointsNamespace") {
        Some("") => {
            errors.invalid(&path, "", "if the endpointnamespace is set, it must be a valid namespace name");
        }
        Some(namespace) => invalid_each(&path, namespace, names::label(namespace), errors),
        None => {}
    }
}

fn iscsi(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    shared::iscsi_or(value, "must be valid format", path, errors);
    shared::secret_name(value, path, errors);
}

fn cinder(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    require(value, &["volumeID"], path, errors);
    full_secret(value, path, errors);
}

fn full_secret(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(secret) = some(value, "secretRef") {
        require(secret, &["name", "namespace"], &path.child("secretRef"), errors);
    }
}

fn azure_file(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    require(value, &["secretName", "shareName"], path, errors);
    if opt_text(value, "secretNamespace").is_some_and(str::is_empty) {
        errors.required(&path.child("secretNamespace"), "");
    }
}

fn local(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    require(value, &["path"], path, errors);
    no_backsteps(text(value, "path"), &path.child("path"), errors);
}

fn storage_os(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    require(value, &["volumeName"], path, errors);
    for field in ["volumeName", "volumeNamespace"] {
        let name = text(value, field);
        if !name.is_empty() {
            invalid_each(&path.child(field), name, names::label(name), errors);
        }
    }
    full_secret(value, path, errors);
}

fn csi(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const SECRETS: [&str; 4] =
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"];
    driver_name(text(value, "driver"), &path.child("driver"), errors);
    require(value, &["volumeHandle"], path, errors);
    for field in SECRETS {
        if let Some(secret) = some(value, field) {
            secret_reference(secret, &path.child(field), errors);
        }
    }
}

fn secret_reference(secret: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (field, is_name) in [("name", true), ("namespace", false)] {
        match text(secret, field) {
            "" => errors.required(&path.child(field), ""),
            name => {
                let complaints = if is_name { names::subdomain(name) } else { names::label(name) };
                invalid_each(&path.child(field), name, complaints, errors);
            }
        }
    }
}

/// What an author should know about a volume that is valid.
pub(super) fn warnings(object: &Value) -> Vec<String> {
    const ANNOTATIONS: [(&str, &str); 2] = [
        (super::CLASS, r#"deprecated since v1.8; use "storageClassName" attribute instead"#),
        (super::OPTIONS, r#"deprecated since v1.31; use "mountOptions" attribute instead"#),
    ];
    const GONE: [(&str, &str, &str); 6] = [
        ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ];
    let spec = at(object, "spec");
    let mut found: Vec<String> = ANNOTATIONS
        .iter()
        .filter(|(key, _)| meta::annotation(object, key).is_some())
        .map(|(key, message)| format!("metadata.annotations[{key}]: {message}"))
        .collect();
    if text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        let advice = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.";
        found.push(format!("spec.persistentVolumeReclaimPolicy: {advice}"));
    }
    let terms = list(dig(spec, &["nodeAffinity", "required"]), "nodeSelectorTerms");
    for (index, term) in terms.iter().enumerate() {
        for (place, expression) in list(term, "matchExpressions").iter().enumerate() {
            if let Some(message) = deprecated_node_label(text(expression, "key")) {
                found.push(format!(
                    "spec.nodeAffinity.required.nodeSelectorTerms[{index}].matchExpressions[{place}].key: {message}"
                ));
            }
        }
    }
    let gone = GONE.iter().filter(|(field, _, _)| has(spec, field));
    found.extend(gone.map(|(_, shown, message)| format!("spec.{shown}: {message}")));
    found
}
