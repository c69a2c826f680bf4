//! Persistent volumes.

mod sources;

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::core::claim_template::{access_modes, class, volume_mode};
use crate::core::pod_spec::{defaults, not_supported_unsorted, scheduling};
use crate::object_meta::IMMUTABLE;
use crate::resource_name::{amounts, default_list, positive};
use crate::rows;
use crate::strategy::{Request, Strategy, keep_content, keep_status};
use crate::tree::{
    at, default_text, default_to, dig, enter, enter_some, entry_count, has, opt_text, put, remove, same, same_at, some,
    text, texts,
};
use sources::FIELDS;

/// The persistent volume strategy.
#[derive(Debug)]
pub(crate) struct PersistentVolume;

const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
const RECLAIM: [&str; 3] = ["Delete", "Recycle", "Retain"];
const INLINE: &str = "may not be specified in the context of inline volumes";
const CHANGED: &str = "lastPhaseTransitionTime";

impl Strategy for PersistentVolume {
    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let spec = enter(object, "spec");
        default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
        default_to(spec, "volumeMode", "Filesystem");
        default_spec(spec);
        default_text(enter(object, "status"), "phase", "Pending");
    }

    fn prepare_create(&self, object: &mut Value, request: &Request<'_>) {
        put(object, "status", json!({"phase": "Pending", CHANGED: api::time::seconds(request.now)}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(object, errors);
        mount_options(object, errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, old: &Value, request: &Request<'_>, errors: &mut FieldErrors) {
        self.validate_create(new, request, errors);
        changes(at(new, "spec"), at(old, "spec"), errors);
    }

    fn prepare_subresource(&self, _subresource: &str, new: &mut Value, old: &Value, request: &Request<'_>) {
        keep_content(new, old);
        let was = at(old, "status");
        let status = enter(new, "status");
        let same_phase = same_at(status, was, "phase");
        if same_phase && !has(status, CHANGED) && has(was, CHANGED) {
            put(status, CHANGED, at(was, CHANGED).clone());
        } else if !same_phase && (!has(status, CHANGED) || same_at(status, was, CHANGED)) {
            put(status, CHANGED, api::time::seconds(request.now));
        }
    }

    fn validate_subresource(
        &self,
        _subresource: &str,
        new: &Value,
        _old: &Value,
        _request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        if api::meta::resource_version(new).is_empty() {
            errors.required(&Path::new("resourceVersion"), "");
        }
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        sources::warnings(new)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let spec = at(object, "spec");
        let claim = some(spec, "claimRef")
            .map_or(String::new(), |claim| format!("{}/{}", text(claim, "namespace"), text(claim, "name")));
        let status = at(object, "status");
        Some(vec![
            rows::name(object),
            json!(opt_text(at(spec, "capacity"), "storage").unwrap_or("0")),
            json!(short_modes(spec)),
            json!(text(spec, "persistentVolumeReclaimPolicy")),
            json!(phase(object)),
            json!(claim),
            json!(storage_class(object)),
            json!(opt_text(spec, "volumeAttributesClassName").unwrap_or(rows::UNSET)),
            json!(text(status, "reason")),
            rows::age(object, now),
            json!(opt_text(spec, "volumeMode").unwrap_or(rows::UNSET)),
        ])
    }
}

/// The phase of a volume or a claim, as rows show it.
pub(super) fn phase(object: &Value) -> &str {
    if has(at(object, "metadata"), "deletionTimestamp") { "Terminating" } else { text(at(object, "status"), "phase") }
}

/// The class of a volume or a claim: an old annotation's or the specification's.
pub(super) fn storage_class(object: &Value) -> &str {
    api::meta::annotation(object, CLASS).unwrap_or(text(at(object, "spec"), "storageClassName"))
}

/// The access modes of `holder` as `RWO,ROX,RWX,RWOP`.
pub(super) fn short_modes(holder: &Value) -> String {
    const SHORT: [(&str, &str); 4] =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let modes: Vec<&str> = texts(holder, "accessModes").collect();
    let shown: Vec<&str> = SHORT.iter().filter(|(mode, _)| modes.contains(mode)).map(|(_, short)| *short).collect();
    shown.join(",")
}

/// Defaults of a `PersistentVolumeSpec` wherever it stands.
pub(crate) fn default_spec(spec: &mut Value) {
    default_list(spec.get_mut("capacity"));
    defaults::legacy_volume(spec);
    if let Some(path) = enter_some(spec, "hostPath") {
        default_to(path, "type", "");
    }
}

/// Validates the specification inside a volume attachment.
pub(crate) fn inline(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if has(spec, "claimRef") {
        errors.forbidden(&path.child("claimRef"), INLINE);
    }
    if entry_count(spec, "capacity") > 0 {
        errors.forbidden(&path.child("capacity"), INLINE);
    }
    if !has(spec, "csi") {
        errors.required(&path.child("csi"), "has to be specified in the context of inline volumes");
    }
    modes(spec, path, errors);
    if !matches!(text(spec, "persistentVolumeReclaimPolicy"), "" | "Retain") {
        let detail = "may only be Retain in the context of inline volumes";
        errors.forbidden(&path.child("persistentVolumeReclaimPolicy"), detail);
    }
    if has(spec, "nodeAffinity") {
        errors.forbidden(&path.child("nodeAffinity"), INLINE);
    }
    sources::validate(spec, "", path, errors);
    if !text(spec, "storageClassName").is_empty() {
        errors.forbidden(&path.child("storageClassName"), INLINE);
    }
    if opt_text(spec, "volumeMode").is_some_and(|mode| mode != "Filesystem") {
        let detail = "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.forbidden(&path.child("volumeMode"), detail);
    }
    attributes_class(spec, path, errors);
}

fn validate(object: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (at(object, "spec"), Path::new("spec"));
    modes(spec, &path, errors);
    capacity(spec, &path, errors);
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    if !policy.is_empty() && !RECLAIM.contains(&policy) {
        not_supported_unsorted(&path.child("persistentVolumeReclaimPolicy"), policy, &RECLAIM, errors);
    }
    if let Some(affinity) = some(spec, "nodeAffinity") {
        let path = path.child("nodeAffinity");
        match some(affinity, "required") {
            Some(selector) => scheduling::node_selector(selector, &path.child("required"), errors),
            None => errors.required(&path.child("required"), "must specify required node constraints"),
        }
    }
    sources::validate(spec, api::meta::name(object), &path, errors);
    class(spec, "storageClassName", &path, errors);
    volume_mode(spec, &path, errors);
    attributes_class(spec, &path, errors);
}

fn modes(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("accessModes");
    let modes: Vec<&str> = texts(spec, "accessModes").collect();
    if modes.is_empty() {
        errors.required(&path, "");
    }
    access_modes(&modes, &path, errors);
}

fn capacity(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("capacity");
    let capacity = at(spec, "capacity");
    let count = entry_count(spec, "capacity");
    if count == 0 {
        errors.required(&path, "");
    }
    if !has(capacity, "storage") || count > 1 {
        errors.not_supported(&path, capacity.clone(), &["storage"]);
    }
    for (name, amount) in amounts(capacity) {
        let path = path.key(name);
        if amount.value() < 0 {
            errors.invalid(&path, amount.value(), "must be a valid resource quantity");
        }
        positive(&amount, &path, errors);
    }
}

fn attributes_class(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some(name) = opt_text(spec, "volumeAttributesClassName") else {
        return;
    };
    if name.is_empty() {
        errors.required(&path.child("volumeAttributesClassName"), "an empty string is disallowed");
    }
    class(spec, "volumeAttributesClassName", path, errors);
    if !has(spec, "csi") {
        let detail = "has to be specified when using volumeAttributesClassName";
        errors.required(&path.child("csi"), detail);
    }
}

fn mount_options(object: &Value, errors: &mut FieldErrors) {
    let spec = at(object, "spec");
    let mounted = sources::MOUNTED.iter().any(|field| has(spec, field));
    if !mounted && api::meta::annotation(object, OPTIONS).is_some() {
        let path = Path::new("metadata");
        let path = path.child("annotations");
        errors.forbidden(&path.child(OPTIONS), "may not specify mount options for this volume type");
    }
}

fn changes(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let source = |spec: &Value| -> Value { FIELDS.iter().map(|field| (*field, at(spec, field).clone())).collect() };
    let (before, mut after) = (source(old), source(new));
    let path = Path::new("spec");
    let added = has(at(old, "csi"), "driver") && !has(at(old, "csi"), "controllerExpandSecretRef");
    if let Some(csi) = enter_some(&mut after, "csi").filter(|_| added) {
        remove(csi, "controllerExpandSecretRef");
    }
    if !same(&before, &after) {
        let diff = crate::diff::unified(&before, &after);
        let detail = format!("spec.persistentvolumesource is immutable after creation\n{diff}");
        errors.forbidden(&path.child("persistentvolumesource"), &detail);
    }
    if !same_at(new, old, "volumeMode") {
        errors.invalid(&Path::new("volumeMode"), at(new, "volumeMode").clone(), IMMUTABLE);
    }
    if has(old, "nodeAffinity") && !same_affinity(new, old) {
        let detail = format!("{IMMUTABLE}, except for updating from beta label to GA");
        errors.invalid(&Path::new("nodeAffinity"), at(new, "nodeAffinity").clone(), &detail);
    }
    if has(old, "volumeAttributesClassName") && !has(new, "volumeAttributesClassName") {
        let detail = "update from non-nil value to nil is forbidden";
        errors.forbidden(&path.child("volumeAttributesClassName"), detail);
    }
}

/// The affinity is the old one's, its beta labels perhaps replaced by those that took their place.
fn same_affinity(new: &Value, old: &Value) -> bool {
    const RENAMED: [(&str, &str); 5] = [
        ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
        ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
        ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ];
    let terms = |spec| dig(spec, &["nodeAffinity", "required", "nodeSelectorTerms"]);
    let renamed = |before: &str, after: &str| before == after || RENAMED.contains(&(before, after));
    let (Some(before), Some(after)) = (terms(old).as_array(), terms(new).as_array()) else {
        return same_at(new, old, "nodeAffinity");
    };
    let same_keys = |before: &Value, after: &Value| {
        let (before, after) =
            (crate::tree::list(before, "matchExpressions"), crate::tree::list(after, "matchExpressions"));
        before.len() == after.len()
            && before.iter().zip(after).all(|(before, after)| {
                renamed(text(before, "key"), text(after, "key"))
                    && same_at(before, after, "operator")
                    && same_at(before, after, "values")
            })
    };
    before.len() == after.len()
        && before.iter().zip(after).all(|(b, a)| same_at(b, a, "matchFields") && same_keys(b, a))
}
