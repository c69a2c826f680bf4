//! What may change in a pod that exists.

use api::field::{FieldErrors, Path};
use api::{Value, meta};

use super::{annotations, qos};
use crate::core::pod_spec::containers::is_sidecar;
use crate::names::in_range;
use crate::tree::{at, enter, has, int, is_empty, list, list_mut, opt_int, put, remove, same, same_at, some, text};

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const COMPUTE_ONLY: &str = "only cpu and memory resources are mutable";
const MAX_SECONDS: i64 = i32::MAX as i64;

/// Validates a change of the pod itself.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut FieldErrors) {
    super::validate(new, errors);
    annotations::validate_update(new, old, &Path::new("metadata").child("annotations"), errors);
    let path = Path::new("spec");
    let (new_spec, old_spec) = (at(new, "spec"), at(old, "spec"));
    for field in ["containers", "initContainers"] {
        if !images(new_spec, old_spec, field, &path, errors) {
            return;
        }
    }
    deadline(new_spec, old_spec, &path.child("activeDeadlineSeconds"), errors);
    tolerations(new_spec, old_spec, &path.child("tolerations"), errors);
    gates(new_spec, old_spec, &path.child("schedulingGates"), errors);
    if same(new_spec, old_spec) {
        return;
    }
    let mut munged = munge(new_spec, old_spec);
    if !list(old_spec, "schedulingGates").is_empty() {
        gated(&mut munged, old_spec, &path, errors);
    }
    if !same(&munged, old_spec) {
        let diff = crate::diff::unified(old_spec, &munged);
        errors.forbidden(&path, &format!("{UPDATABLE}\n{diff}"));
    }
}

/// Containers may change their images, not their number.
fn images(new: &Value, old: &Value, field: &str, path: &Path<'_>, errors: &mut FieldErrors) -> bool {
    let path = path.child(field);
    let containers = list(new, field);
    if containers.len() != list(old, field).len() {
        errors.forbidden(&path, "pod updates may not add or remove containers");
        return false;
    }
    for (i, container) in containers.iter().enumerate() {
        let path = path.index(i);
        let image = text(container, "image");
        if image.is_empty() {
            errors.required(&path.child("image"), "");
        }
        if image.trim().len() != image.len() {
            let detail = "must not have leading or trailing whitespace";
            errors.invalid(&path.child("image"), image, detail);
        }
    }
    true
}

fn deadline(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let before = opt_int(old, "activeDeadlineSeconds");
    let Some(now) = opt_int(new, "activeDeadlineSeconds") else {
        if before.is_some() {
            let detail = "must not update from a positive integer to nil value";
            errors.invalid(path, Value::Null, detail);
        }
        return;
    };
    for complaint in in_range(now, 0, MAX_SECONDS) {
        errors.invalid(path, now, &complaint);
    }
    if before.is_some_and(|before| before < now) {
        errors.invalid(path, now, "must be less than or equal to previous value");
    }
}

/// Tolerations may be added; an existing one may only change its seconds.
fn tolerations(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let bare = |toleration: &Value| {
        let mut bare = toleration.clone();
        remove(&mut bare, "tolerationSeconds");
        bare
    };
    let kept = list(new, "tolerations");
    for old in list(old, "tolerations") {
        if !kept.iter().any(|new| same(&bare(new), &bare(old))) {
            let detail = "existing toleration can not be modified except its tolerationSeconds";
            errors.forbidden(path, detail);
        }
    }
    crate::core::pod_spec::scheduling::tolerations(kept, path, errors);
}

fn gates(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let known = list(old, "schedulingGates");
    for (i, gate) in list(new, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        if !known.iter().any(|g| text(g, "name") == name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&path.index(i).child("name"), &detail);
        }
    }
}

/// The new specification with everything that may change taken from the old one.
fn munge(new: &Value, old: &Value) -> Value {
    let mut munged = new.clone();
    for field in ["containers", "initContainers"] {
        for (container, old) in list_mut(&mut munged, field).zip(list(old, field)) {
            put(container, "image", text(old, "image"));
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        restore(&mut munged, old, field);
    }
    let repaired =
        int(old, "terminationGracePeriodSeconds") < 0 && opt_int(&munged, "terminationGracePeriodSeconds") == Some(1);
    if repaired {
        restore(&mut munged, old, "terminationGracePeriodSeconds");
    }
    munged
}

fn restore(value: &mut Value, old: &Value, field: &str) {
    match some(old, field) {
        Some(kept) => put(value, field, kept.clone()),
        None => {
            remove(value, field);
        }
    }
}

/// While gates stand, node selector and node affinity may be narrowed.
fn gated(munged: &mut Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if !same_at(munged, old, "nodeSelector") {
        let selector = at(munged, "nodeSelector");
        for (key, value) in crate::tree::entries(old, "nodeSelector") {
            if selector.get(key) != Some(value) {
                let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
                errors.invalid(&path.child("nodeSelector"), selector.clone(), detail);
            }
        }
        restore(munged, old, "nodeSelector");
    }
    let node = |spec: &Value| at(at(spec, "affinity"), "nodeAffinity").clone();
    let (new_node, old_node) = (node(munged), node(old));
    if same(&new_node, &old_node) {
        return;
    }
    let at_affinity = path.child("affinity");
    node_affinity(&new_node, &old_node, &at_affinity.child("nodeAffinity"), errors);
    restore(enter(munged, "affinity"), at(old, "affinity"), "nodeAffinity");
    if !has(old, "affinity") && is_empty(at(munged, "affinity")) {
        remove(munged, "affinity");
    }
}

fn node_affinity(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let at_required = path.child(REQUIRED);
    let path = at_required.child("nodeSelectorTerms");
    let new_terms = list(at(new, REQUIRED), "nodeSelectorTerms");
    let old_terms = list(at(old, REQUIRED), "nodeSelectorTerms");
    if !old_terms.is_empty() && old_terms.len() != new_terms.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid(&path, new_terms.to_vec(), detail);
        return;
    }
    for (i, (new, old)) in new_terms.iter().zip(old_terms).enumerate() {
        if !only_adds(new, old) {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.invalid(&path.index(i), new.clone(), detail);
        }
    }
}

fn only_adds(new: &Value, old: &Value) -> bool {
    let fields = ["matchExpressions", "matchFields"];
    if fields.iter().all(|field| list(old, field).is_empty()) {
        return fields.iter().all(|field| list(new, field).is_empty());
    }
    fields.iter().all(|field| {
        let (new, old) = (list(new, field), list(old, field));
        new.len() >= old.len() && new.iter().zip(old).all(|(new, old)| same(new, old))
    })
}

/// Through `ephemeralcontainers` only those change.
pub(super) fn keep_all_but_ephemeral(new: &mut Value, old: &Value) {
    let containers = at(at(new, "spec"), "ephemeralContainers").clone();
    keep_all_but(new, old, |spec| {
        if containers.is_null() {
            remove(spec, "ephemeralContainers");
        } else {
            put(spec, "ephemeralContainers", containers);
        }
    });
}

/// Through `resize` only the containers' resources and resize policies change.
pub(super) fn keep_all_but_resources(new: &mut Value, old: &Value) {
    let spec = at(new, "spec").clone();
    let comparable = ["containers", "initContainers"].iter().all(|field| {
        let (new, old) = (list(&spec, field), list(at(old, "spec"), field));
        new.len() == old.len() && new.iter().zip(old).all(|(n, o)| same_at(n, o, "name"))
    });
    if !comparable {
        return;
    }
    keep_all_but(new, old, |kept| {
        for field in ["containers", "initContainers"] {
            for (container, new) in list_mut(kept, field).zip(list(&spec, field)) {
                restore(container, new, "resources");
                restore(container, new, "resizePolicy");
            }
        }
        if has(&spec, "resources") {
            restore(kept, &spec, "resources");
        }
    });
}

fn keep_all_but(new: &mut Value, old: &Value, change: impl FnOnce(&mut Value)) {
    let mut kept = old.clone();
    change(enter(&mut kept, "spec"));
    for field in ["resourceVersion", "managedFields"] {
        let value = at(at(new, "metadata"), field).clone();
        meta::set(&mut kept, field, value);
    }
    *new = kept;
}

/// Validates a change through `ephemeralcontainers`.
pub(super) fn validate_ephemeral(new: &Value, old: &Value, errors: &mut FieldErrors) {
    super::validate(new, errors);
    annotations::validate_update(new, old, &Path::new("metadata").child("annotations"), errors);
    if meta::annotation(old, "kubernetes.io/config.mirror").is_some() {
        *errors = FieldErrors::new();
        errors.forbidden(&Path::ROOT, "static pods do not support ephemeral containers");
        return;
    }
    let path = Path::new("spec");
    let path = path.child("ephemeralContainers");
    let now = list(at(new, "spec"), "ephemeralContainers");
    for old in list(at(old, "spec"), "ephemeralContainers") {
        let name = text(old, "name");
        match now.iter().find(|c| text(c, "name") == name) {
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.forbidden(&path, &detail);
            }
            Some(new) if !same(new, old) => {
                let diff = crate::diff::unified(old, new);
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n{diff}");
                errors.forbidden(&path, &detail);
            }
            Some(_) => {}
        }
    }
}

/// Validates a change through `resize`.
pub(super) fn validate_resize(new: &Value, old: &Value, errors: &mut FieldErrors) {
    super::validate(new, errors);
    let refused = if meta::annotation(old, "kubernetes.io/config.mirror").is_some() {
        Some("static pods cannot be resized")
    } else if text(at(at(old, "spec"), "os"), "name") == "windows" {
        Some("windows pods cannot be resized")
    } else {
        None
    };
    if let Some(detail) = refused {
        *errors = FieldErrors::new();
        errors.forbidden(&Path::ROOT, detail);
        return;
    }
    let path = Path::new("spec");
    let class = text(at(old, "status"), "qosClass");
    if qos::class(new) != class && !class.is_empty() {
        let shown = text(at(new, "status"), "qosClass");
        errors.invalid(&path, shown, "Pod QOS Class may not change as a result of resizing");
    }
    resized_containers(at(new, "spec"), at(old, "spec"), &path, errors);
}

fn resized_containers(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for field in ["containers", "initContainers"] {
        let (now, before) = (list(new, field), list(old, field));
        if now.len() != before.len() {
            errors.forbidden(&path.child(field), "containers may not be added or removed on resize");
            return;
        }
    }
    for field in ["initContainers", "containers"] {
        let at_list = path.child(field);
        for (i, (now, before)) in list(new, field).iter().zip(list(old, field)).enumerate() {
            let resizable = field == "containers" || is_sidecar(before);
            if !resizable {
                if !same(now, before) {
                    let detail = "resources for non-sidecar init containers are immutable";
                    errors.forbidden(path, detail);
                }
                continue;
            }
            removed_resources(now, before, &at_list.index(i).child("resources"), errors);
            if !same(&without_compute(now), &without_compute(before)) {
                errors.forbidden(path, COMPUTE_ONLY);
            }
        }
    }
    if errors.is_empty() && !same(&without_containers(new), &without_containers(old)) {
        errors.forbidden(path, COMPUTE_ONLY);
    }
}

fn removed_resources(now: &Value, before: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (field, detail) in
        [("requests", "resource requests cannot be removed"), ("limits", "resource limits cannot be removed")]
    {
        let (now, before) = (at(at(now, "resources"), field), at(before, "resources"));
        let gone = crate::tree::entries(before, field)
            .any(|(name, _)| matches!(name, "cpu" | "memory") && now.get(name).is_none());
        if gone {
            errors.forbidden(&path.child(field), detail);
        }
    }
}

fn without_compute(container: &Value) -> Value {
    let mut bare = container.clone();
    remove(&mut bare, "resizePolicy");
    let resources = enter(&mut bare, "resources");
    for field in ["requests", "limits"] {
        if let Some(list) = resources.get_mut(field).and_then(Value::as_object_mut) {
            list.remove("cpu");
            list.remove("memory");
        }
    }
    bare
}

fn without_containers(spec: &Value) -> Value {
    let mut bare = spec.clone();
    remove(&mut bare, "containers");
    remove(&mut bare, "initContainers");
    bare
}
