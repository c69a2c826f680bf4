//! Validation of volume sources, one entry of a table each.

use api::Value;
use api::field::{FieldErrors, Path};

use super::{env, paths, projected};
use crate::names::{self, NameRule, in_range};
use crate::object_meta::invalid_each;
use crate::tree::{entries, flag, has, int, list, opt_int, opt_text, some, text};

/// A source: its field, its name in the errors of its own fields and of a second source, its check.
pub(crate) struct Source {
    pub(crate) field: &'static str,
    pub(crate) shown: &'static str,
    pub(crate) shown_extra: &'static str,
    pub(crate) check: Check,
}

pub(crate) type Check = fn(&Value, &Path<'_>, &mut FieldErrors);

const fn source(field: &'static str, check: Check) -> Source {
    Source { field, shown: field, shown_extra: field, check }
}

pub(crate) const LONG_PORTAL: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const DISK_PORT: &str = "must be between 1 and 255, inclusive";

/// In upstream's order, with upstream's slips in two names.
pub(super) static TABLE: [Source; 30] = [
    source("emptyDir", empty_dir),
    source("hostPath", host_path),
    source("gitRepo", git_repo),
    Source { shown: "persistentDisk", ..source("gcePersistentDisk", gce_disk) },
    source("awsElasticBlockStore", aws_disk),
    source("secret", |v, p, e| keyed(v, "secretName", p, e)),
    source("nfs", nfs),
    source("iscsi", iscsi),
    source("glusterfs", |v, p, e| require(v, &["endpoints", "path"], p, e)),
    source("flocker", flocker),
    source("persistentVolumeClaim", |v, p, e| require(v, &["claimName"], p, e)),
    source("rbd", rbd),
    source("cinder", cinder),
    Source { shown_extra: "cephFS", ..source("cephfs", |v, p, e| require_list(v, "monitors", p, e)) },
    source("quobyte", quobyte),
    Source { shown_extra: "downwarAPI", ..source("downwardAPI", downward) },
    source("fc", fibre_channel),
    source("flexVolume", flex),
    source("configMap", |v, p, e| keyed(v, "name", p, e)),
    source("azureFile", |v, p, e| require(v, &["secretName", "shareName"], p, e)),
    source("vsphereVolume", |v, p, e| require(v, &["volumePath"], p, e)),
    source("photonPersistentDisk", |v, p, e| require(v, &["pdID"], p, e)),
    source("portworxVolume", |v, p, e| require(v, &["volumeID"], p, e)),
    source("azureDisk", azure_disk),
    source("storageos", storage_os),
    source("projected", projected::validate),
    source("scaleIO", |v, p, e| require(v, &["gateway", "system", "volumeName"], p, e)),
    source("csi", csi),
    source("ephemeral", ephemeral),
    source("image", image),
];

/// Every named field must be set.
pub(crate) fn require(value: &Value, fields: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    for field in fields.iter().filter(|field| text(value, field).is_empty()) {
        errors.required(&path.child(field), "");
    }
}

pub(crate) fn require_list(value: &Value, field: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if list(value, field).is_empty() {
        errors.required(&path.child(field), "");
    }
}

fn empty_dir(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let limit = crate::resource_name::quantity(value, "sizeLimit");
    if limit.is_some_and(|limit| limit.sign() < 0) {
        let detail = "SizeLimit field must be a valid resource quantity";
        errors.forbidden(&path.child("sizeLimit"), detail);
    }
}

pub(crate) fn host_path(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const TYPES: [&str; 8] =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let target = text(value, "path");
    if target.is_empty() {
        errors.required(&path.child("path"), "");
        return;
    }
    paths::no_backsteps(target, &path.child("path"), errors);
    if let Some(kind) = opt_text(value, "type").filter(|kind| !TYPES.contains(kind)) {
        errors.not_supported(&path.child("type"), kind, &TYPES);
    }
}

fn git_repo(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    require(value, &["repository"], path, errors);
    paths::descending(text(value, "directory"), &path.child("directory"), errors);
}

fn partition(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let partition = int(value, "partition");
    if !(0..=255).contains(&partition) {
        errors.invalid(&path.child("partition"), partition, DISK_PORT);
    }
}

pub(crate) fn gce_disk(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    require(value, &["pdName"], path, errors);
    partition(value, path, errors);
}

pub(crate) fn aws_disk(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    require(value, &["volumeID"], path, errors);
    partition(value, path, errors);
}

/// A source made of keys of a Secret or ConfigMap.
fn keyed(value: &Value, name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    require(value, &[name], path, errors);
    mode(value, "defaultMode", path, errors);
    let items = path.child("items");
    for (i, item) in list(value, "items").iter().enumerate() {
        key_to_path(item, &items.index(i), errors);
    }
}

/// A file mode must be within 0777.
pub(super) fn mode(value: &Value, field: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(mode) = opt_int(value, field).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(&path.child(field), mode, MODE);
    }
}

/// Validates one `key: path` of a source.
pub(super) fn key_to_path(item: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    require(item, &["key", "path"], path, errors);
    paths::local(text(item, "path"), &path.child("path"), errors);
    mode(item, "mode", path, errors);
}

pub(crate) fn nfs(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    require(value, &["server", "path"], path, errors);
    let target = text(value, "path");
    if !target.starts_with('/') {
        errors.invalid(&path.child("path"), target, "must be an absolute path");
    }
}

fn iscsi(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    iscsi_or(value, "must be valid format starting with iqn, eui, or naa", path, errors);
}

/// Validates an iSCSI source; `unknown` is the complaint about a name of no known form.
pub(crate) fn iscsi_or(value: &Value, unknown: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    require(value, &["targetPortal"], path, errors);
    match text(value, "iqn") {
        "" => errors.required(&path.child("iqn"), ""),
        name => iscsi_name(name, unknown, &path.child("iqn"), errors),
    }
    let lun = int(value, "lun");
    for complaint in in_range(lun, 0, 255) {
        errors.invalid(&path.child("lun"), lun, &complaint);
    }
    let chap = flag(value, "chapAuthDiscovery") || flag(value, "chapAuthSession");
    if chap && !has(value, "secretRef") {
        errors.required(&path.child("secretRef"), "");
    }
    if let Some(name) = opt_text(value, "initiatorName") {
        iscsi_name(name, unknown, &path.child("initiatorname"), errors);
    }
}

fn iscsi_name(name: &str, unknown: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let well_formed = match name.get(..3) {
        Some("iqn") => is_iqn(name),
        Some(kind @ ("eui" | "naa")) => {
            let digits = if kind == "eui" { 16 } else { 32 };
            let rest = &name[3..];
            rest.chars().count() == digits + 1 && rest.chars().skip(1).all(|c| c.is_ascii_alphanumeric())
        }
        _ => {
            errors.invalid(path, name, unknown);
            return;
        }
    };
    if !well_formed {
        errors.invalid(path, name, "must be valid format");
    }
}

/// `iqn.2026-01.com.example:target`
fn is_iqn(name: &str) -> bool {
    let Some((authority, target)) = name.split_once(':') else {
        return false;
    };
    let parts: Vec<&str> = authority.splitn(3, '.').collect();
    let [_, date, domain] = parts.as_slice() else {
        return false;
    };
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    let dated = date
        .split_once('-')
        .is_some_and(|(year, month)| year.len() == 4 && month.len() == 2 && digits(year) && digits(month));
    let refused = [',', ';', '*', '&', '$', '|'];
    dated
        && !domain.is_empty()
        && domain.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        && !target.is_empty()
        && !target.contains(refused)
        && !target.contains(char::is_whitespace)
}

pub(crate) fn flocker(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (name, uuid) = (text(value, "datasetName"), text(value, "datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.required(path, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        errors.invalid(path, "resource", detail);
    }
    if name.contains('/') {
        errors.invalid(&path.child("datasetName"), name, "must not contain '/'");
    }
}

pub(crate) fn rbd(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    require_list(value, "monitors", path, errors);
    require(value, &["image"], path, errors);
}

pub(crate) fn cinder(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    require(value, &["volumeID"], path, errors);
    secret_name(value, path, errors);
}

pub(crate) fn secret_name(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if some(value, "secretRef").is_some_and(|secret| text(secret, "name").is_empty()) {
        errors.required(&path.child("secretRef").child("name"), "");
    }
}

pub(crate) fn quobyte(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const REGISTRY: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = text(value, "registry");
    if registry.is_empty() {
        errors.required(&path.child("registry"), REGISTRY);
    } else if text(value, "tenant").len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.required(&path.child("tenant"), detail);
    } else {
        for _ in registry.split(',').filter(|pair| pair.matches(':').count() != 1) {
            errors.invalid(&path.child("registry"), registry, REGISTRY);
        }
    }
    require(value, &["volume"], path, errors);
}

fn downward(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    mode(value, "defaultMode", path, errors);
    for file in list(value, "items") {
        downward_file(file, path, errors);
    }
}

/// Validates one file of a downward API volume.
pub(super) fn downward_file(file: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const FIELDS: [&str; 5] =
        ["metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid"];
    require(file, &["path"], path, errors);
    paths::local(text(file, "path"), &path.child("path"), errors);
    match (some(file, "fieldRef"), some(file, "resourceFieldRef")) {
        (Some(field), resource) => {
            env::field_ref(field, &FIELDS, &path.child("fieldRef"), errors);
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(path, "resource", detail);
            }
        }
        (None, Some(resource)) => {
            env::resource_ref(resource, true, &path.child("resourceFieldRef"), errors);
        }
        (None, None) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(file, "mode", path, errors);
}

pub(crate) fn fibre_channel(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let targets = list(value, "targetWWNs");
    let ids = list(value, "wwids");
    if targets.is_empty() && ids.is_empty() {
        let detail = "must specify either targetWWNs or wwids, but not both";
        errors.required(&path.child("targetWWNs"), detail);
    }
    if !targets.is_empty() && !ids.is_empty() {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        errors.invalid(&path.child("targetWWNs"), targets.to_vec(), detail);
    }
    if targets.is_empty() {
        return;
    }
    match opt_int(value, "lun") {
        None => errors.required(&path.child("lun"), "lun is required if targetWWNs is specified"),
        Some(lun) => {
            for complaint in in_range(lun, 0, 255) {
                errors.invalid(&path.child("lun"), lun, &complaint);
            }
        }
    }
}

pub(crate) fn flex(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    require(value, &["driver"], path, errors);
    let options = path.child("options");
    for (key, _) in entries(value, "options") {
        let namespace = key.split_once('/').map_or(key, |(namespace, _)| namespace);
        let namespace = format!(".{}", namespace.to_lowercase());
        if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&options.key(key), key, detail);
        }
    }
}

pub(crate) fn azure_disk(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.windows.net/{container-name}/{disk-name}.vhd";
    const CACHING: [&str; 3] = ["None", "ReadOnly", "ReadWrite"];
    const KINDS: [&str; 3] = ["Dedicated", "Managed", "Shared"];
    require(value, &["diskName", "diskURI"], path, errors);
    super::security::one_of(value, "cachingMode", &CACHING, path, errors);
    super::security::one_of(value, "kind", &KINDS, path, errors);
    let uri = text(value, "diskURI");
    match opt_text(value, "kind") {
        Some("Managed") if !uri.starts_with("/subscriptions/") => {
            errors.not_supported(&path.child("diskURI"), uri, &[MANAGED]);
        }
        Some(kind) if kind != "Managed" && !uri.starts_with("https://") => {
            errors.not_supported(&path.child("diskURI"), uri, &[BLOB]);
        }
        _ => {}
    }
}

fn storage_os(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match text(value, "volumeName") {
        "" => errors.required(&path.child("volumeName"), ""),
        name => invalid_each(&path.child("volumeName"), name, names::label(name), errors),
    }
    let namespace = text(value, "volumeNamespace");
    if !namespace.is_empty() {
        invalid_each(&path.child("volumeNamespace"), namespace, names::label(namespace), errors);
    }
    secret_name(value, path, errors);
}

/// Validates a CSI driver's name.
pub(crate) fn driver_name(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > names::LABEL_MAX {
        errors.too_long(path, names::LABEL_MAX);
    }
    invalid_each(path, name, names::subdomain(&name.to_lowercase()), errors);
}

fn csi(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    driver_name(text(value, "driver"), &path.child("driver"), errors);
    let Some(secret) = some(value, "nodePublishSecretRef") else {
        return;
    };
    match text(secret, "name") {
        "" => errors.required(&path.child("nodePublishSecretRef").child("name"), ""),
        name => {
            let complaints = NameRule::Dns1123Subdomain.check(name, false);
            invalid_each(&path.child("name"), name, complaints, errors);
        }
    }
}

fn ephemeral(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("volumeClaimTemplate");
    let Some(template) = some(value, "volumeClaimTemplate") else {
        errors.required(&path, "");
        return;
    };
    crate::core::claim_template::validate(template, &path, errors);
}

fn image(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    require(value, &["reference"], path, errors);
    let policy = text(value, "pullPolicy");
    super::containers::pull_policy(policy, &path.child("pullPolicy"), errors);
}
