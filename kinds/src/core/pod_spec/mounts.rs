//! Validation of volume mounts and block devices.

use api::Value;
use api::field::{FieldErrors, Path};

use super::{Context, paths};
use crate::tree::{at, flag, has, list, opt_text, text};

const PROPAGATIONS: [&str; 3] = ["Bidirectional", "HostToContainer", "None"];

/// Validates `volumeMounts`.
pub(super) fn validate(cx: &Context<'_>, container: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let devices = list(container, "volumeDevices");
    let mounts = list(container, "volumeMounts");
    for (i, mount) in mounts.iter().enumerate() {
        let at_mount = path.index(i);
        let (name, target) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.required(&at_mount.child("name"), "");
        }
        if cx.volume(name).is_none() {
            errors.not_found(&at_mount.child("name"), name);
        }
        if target.is_empty() {
            errors.required(&at_mount.child("mountPath"), "");
        }
        if mounts[..i].iter().any(|m| text(m, "mountPath") == target) {
            errors.invalid(&at_mount.child("mountPath"), target, "must be unique");
        }
        if devices.iter().any(|d| text(d, "name") == name) {
            let detail = "must not already exist in volumeDevices";
            errors.invalid(&at_mount.child("name"), name, detail);
        }
        if devices.iter().any(|d| text(d, "devicePath") == target) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.invalid(&at_mount.child("mountPath"), target, detail);
        }
        // Upstream names the list, not the mount, for the sub-paths and the modes.
        sub_paths(mount, path, &at_mount, errors);
        propagation(container, mount, &path.child("mountPropagation"), errors);
        recursive_read_only(mount, &path.child("recursiveReadOnly"), errors);
    }
}

fn sub_paths(mount: &Value, path: &Path<'_>, at_mount: &Path<'_>, errors: &mut FieldErrors) {
    let (sub_path, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
    if !sub_path.is_empty() {
        paths::descending(sub_path, &path.child("subPath"), errors);
    }
    if expression.is_empty() {
        return;
    }
    if !sub_path.is_empty() {
        let detail = "subPathExpr and subPath are mutually exclusive";
        errors.invalid(&at_mount.child("subPathExpr"), expression, detail);
    }
    paths::descending(expression, &path.child("subPathExpr"), errors);
}

fn propagation(container: &Value, mount: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some(propagation) = opt_text(mount, "mountPropagation") else {
        return;
    };
    if !PROPAGATIONS.contains(&propagation) {
        errors.not_supported(path, propagation, &PROPAGATIONS);
    }
    let privileged = flag(at(container, "securityContext"), "privileged");
    if propagation == "Bidirectional" && !privileged {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.forbidden(path, detail);
    }
}

fn recursive_read_only(mount: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some(mode) = opt_text(mount, "recursiveReadOnly") else {
        return;
    };
    match mode {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !flag(mount, "readOnly") {
                errors.forbidden(path, "may only be specified when readOnly is true");
            }
            if opt_text(mount, "mountPropagation").is_some_and(|p| p != "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.forbidden(path, detail);
            }
        }
        other => errors.not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

/// Validates `volumeDevices`.
pub(super) fn validate_devices(cx: &Context<'_>, container: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let devices = list(container, "volumeDevices");
    let mounts = list(container, "volumeMounts");
    for (i, device) in devices.iter().enumerate() {
        let path = path.index(i);
        let (name, target) = (text(device, "name"), text(device, "devicePath"));
        let mut invalid = |bad: bool, field: &str, value: &str, detail: &str| {
            if bad {
                errors.invalid(&path.child(field), value, detail);
            }
        };
        let volume = cx.volume(name);
        let block = volume.is_some_and(|v| has(v, "persistentVolumeClaim") || has(v, "ephemeral"));
        let earlier = &devices[..i];
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            let repeated = earlier.iter().any(|d| text(d, "name") == name);
            invalid(repeated, "name", name, "must be unique");
        }
        if volume.is_none() {
            errors.not_found(&path.child("name"), name);
        } else if !block {
            let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            errors.invalid(&path.child("name"), name, detail);
        }
        if target.is_empty() {
            errors.required(&path.child("devicePath"), "");
        }
        let mut invalid = |bad: bool, field: &str, value: &str, detail: &str| {
            if bad {
                errors.invalid(&path.child(field), value, detail);
            }
        };
        let repeated = earlier.iter().any(|d| text(d, "devicePath") == target);
        invalid(repeated, "devicePath", target, "must be unique");
        let climbs = paths::has_backsteps(target);
        invalid(climbs, "devicePath", target, "can not contain backsteps ('..')");
        let mounted = mounts.iter().any(|m| text(m, "name") == name);
        invalid(mounted, "name", name, "must not already exist in volumeMounts");
        let mounted = mounts.iter().any(|m| text(m, "mountPath") == target);
        let detail = "must not already exist as a path in volumeMounts";
        invalid(mounted, "devicePath", target, detail);
    }
}
