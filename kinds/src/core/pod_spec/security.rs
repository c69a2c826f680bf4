//! Validation of security contexts: identities, seccomp, AppArmor, sysctls, capabilities.

use api::Value;
use api::field::{FieldErrors, Path};

use super::{Context, paths, windows};
use crate::names;
use crate::shown;
use crate::tree::{at, flag, has, list, opt_flag, opt_int, opt_text, some, text, texts};

const PROFILE_TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
const APP_ARMOR_MAX: usize = 4095;
const SYSCTL_MAX: usize = 253;

/// Validates a container's `securityContext`.
pub(super) fn container(cx: &Context<'_>, security: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if security.is_null() {
        return;
    }
    id(security, "runAsUser", path, errors);
    id(security, "runAsGroup", path, errors);
    if let Some(mount) = opt_text(security, "procMount") {
        let path = path.child("procMount");
        if !matches!(mount, "Default" | "Unmasked") {
            errors.not_supported(&path, mount, &["Default", "Unmasked"]);
        }
        if mount == "Unmasked" && opt_flag(cx.spec, "hostUsers").unwrap_or(true) {
            errors.invalid(&path, mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(at(security, "seccompProfile"), &path.child("seccompProfile"), errors);
    if opt_flag(security, "allowPrivilegeEscalation") == Some(false) {
        escalation(security, path, errors);
    }
    windows::options(at(security, "windowsOptions"), &path.child("windowsOptions"), errors);
    app_armor(at(security, "appArmorProfile"), &path.child("appArmorProfile"), errors);
}

fn escalation(security: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if flag(security, "privileged") {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        shown::invalid(path, &internal(security), detail, errors);
    }
    let added = texts(at(security, "capabilities"), "add");
    for _ in added.filter(|capability| *capability == "CAP_SYS_ADMIN") {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        shown::invalid(path, &internal(security), detail, errors);
    }
}

/// Upstream shows its internal type here.
fn internal(security: &Value) -> String {
    const FIELDS: [(&str, &str); 12] = [
        ("Capabilities", "capabilities"),
        ("Privileged", "privileged"),
        ("SELinuxOptions", "seLinuxOptions"),
        ("WindowsOptions", "windowsOptions"),
        ("RunAsUser", "runAsUser"),
        ("RunAsGroup", "runAsGroup"),
        ("RunAsNonRoot", "runAsNonRoot"),
        ("ReadOnlyRootFilesystem", "readOnlyRootFilesystem"),
        ("AllowPrivilegeEscalation", "allowPrivilegeEscalation"),
        ("ProcMount", "procMount"),
        ("SeccompProfile", "seccompProfile"),
        ("AppArmorProfile", "appArmorProfile"),
    ];
    let mut named = security.clone();
    if let Some(capabilities) = some(security, "capabilities") {
        let lists = serde_json::json!({"Add": at(capabilities, "add"), "Drop": at(capabilities, "drop")});
        crate::tree::put(&mut named, "capabilities", lists);
    }
    shown::internal(&named, &FIELDS)
}

fn id(security: &Value, field: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some(id) = opt_int(security, field) else {
        return;
    };
    for complaint in names::unix_id(id) {
        errors.invalid(&path.child(field), id, &complaint);
    }
}

/// Validates the pod's `securityContext`.
pub(super) fn pod(cx: &Context<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let security = at(cx.spec, "securityContext");
    if security.is_null() {
        return;
    }
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(security, field, path, errors);
    }
    let groups = path.child("supplementalGroups");
    for (i, group) in list(security, "supplementalGroups").iter().enumerate() {
        let group = group.as_i64().unwrap_or(0);
        for complaint in names::unix_id(group) {
            errors.invalid(&groups.index(i), group, &complaint);
        }
    }
    sysctls(cx, security, &path.child("sysctls"), errors);
    one_of(security, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], path, errors);
    seccomp(at(security, "seccompProfile"), &path.child("seccompProfile"), errors);
    windows::options(at(security, "windowsOptions"), &path.child("windowsOptions"), errors);
    app_armor(at(security, "appArmorProfile"), &path.child("appArmorProfile"), errors);
    one_of(security, "supplementalGroupsPolicy", &["Merge", "Strict"], path, errors);
    one_of(security, "seLinuxChangePolicy", &["MountOption", "Recursive"], path, errors);
}

/// An optional field must hold one of a few words.
pub(super) fn one_of(value: &Value, field: &str, allowed: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(word) = opt_text(value, field).filter(|word| !allowed.contains(word)) {
        errors.not_supported(&path.child(field), word, allowed);
    }
}

fn seccomp(profile: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if profile.is_null() {
        return;
    }
    let kind = text(profile, "type");
    match kind {
        "" => errors.required(&path.child("type"), "type is required when seccompProfile is set"),
        known if PROFILE_TYPES.contains(&known) => {}
        other => errors.not_supported(&path.child("type"), other, &PROFILE_TYPES),
    }
    let path = path.child("localhostProfile");
    match (kind, opt_text(profile, "localhostProfile")) {
        ("Localhost", None) => {
            errors.required(&path, "must be set when seccomp type is Localhost");
        }
        ("Localhost", Some(file)) => paths::descending(file, &path, errors),
        (_, Some(_)) => {
            let shown = shown::internal(profile, &[("Type", "type"), ("LocalhostProfile", "localhostProfile")]);
            let detail = "can only be set when seccomp type is Localhost";
            shown::invalid(&path, &shown, detail, errors);
        }
        (_, None) => {}
    }
}

fn app_armor(profile: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const NEEDED: &str = "must be set when AppArmor type is Localhost";
    if profile.is_null() {
        return;
    }
    let local = opt_text(profile, "localhostProfile");
    let local_path = path.child("localhostProfile");
    match (text(profile, "type"), local) {
        ("Localhost", None) => errors.required(&local_path, NEEDED),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                errors.invalid(&local_path, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                errors.required(&local_path, NEEDED);
            }
            if name.len() > APP_ARMOR_MAX {
                errors.too_long(&local_path, APP_ARMOR_MAX);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            errors.invalid(&local_path, name, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => {
            let detail = "type is required when appArmorProfile is set";
            errors.required(&path.child("type"), detail);
        }
        (other, _) => errors.not_supported(&path.child("type"), other, &PROFILE_TYPES),
    }
}

fn sysctls(cx: &Context<'_>, security: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let sysctls = list(security, "sysctls");
    for (i, sysctl) in sysctls.iter().enumerate() {
        let at_sysctl = path.index(i);
        let path = at_sysctl.child("name");
        let name = text(sysctl, "name");
        if name.is_empty() {
            errors.required(&path, "");
        } else if !is_sysctl(name) {
            let segment = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
            let detail =
                format!("must have at most {SYSCTL_MAX} characters and match regex ^({segment}[\\./])*{segment}$");
            errors.invalid(&path, name, &detail);
        } else if sysctls[..i].iter().any(|s| text(s, "name") == name) {
            errors.duplicate(&path, name);
        }
        match namespace(name) {
            Some("network") if flag(cx.spec, "hostNetwork") => {
                errors.invalid(&path, name, "may not be specified when 'hostNetwork' is true");
            }
            Some("ipc") if flag(cx.spec, "hostIPC") => {
                errors.invalid(&path, name, "may not be specified when 'hostIPC' is true");
            }
            _ => {}
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let segment = |part: &str| {
        let part = part.as_bytes();
        part.first().is_some_and(|c| edge(*c))
            && part.last().is_some_and(|c| edge(*c))
            && part.iter().all(|c| edge(*c) || matches!(c, b'-' | b'_'))
    };
    name.len() <= SYSCTL_MAX && name.split(['.', '/']).all(segment)
}

/// The kernel namespace that a sysctl belongs to.
fn namespace(sysctl: &str) -> Option<&'static str> {
    let separator = sysctl.find(['.', '/']);
    let dotted = match separator {
        Some(at) if sysctl.as_bytes()[at] == b'/' => sysctl.replace('/', "."),
        _ => sysctl.to_owned(),
    };
    const IPC: [&str; 2] = ["kernel.sem", "kernel.shm_rmid_forced"];
    if dotted.starts_with("net.") {
        return Some("network");
    }
    let ipc = IPC.contains(&dotted.as_str())
        || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| dotted.starts_with(p));
    ipc.then_some("ipc")
}

/// With `hostUsers: false`, the host's namespaces and block devices are out of reach.
pub(super) fn host_users(cx: &Context<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    const DETAIL: &str = "when `hostUsers` is false";
    if opt_flag(cx.spec, "hostUsers").unwrap_or(true) {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if flag(cx.spec, field) {
            errors.forbidden(&path.child(shown), DETAIL);
        }
    }
    super::each_container(cx.spec, path, |container, path| {
        if !list(container, "volumeDevices").is_empty() {
            errors.forbidden(&path.child("volumeDevices"), DETAIL);
        }
    });
}

/// `os` and what the other operating system's pods must not say.
pub(super) fn os(cx: &Context<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some(os) = some(cx.spec, "os") else {
        return;
    };
    let at_os = path.child("os");
    match text(os, "name") {
        "" => errors.required(&at_os.child("name"), ""),
        "linux" => linux(cx, path, errors),
        "windows" => windows::pod(cx, path, errors),
        other => errors.not_supported(&at_os, other, &["linux", "windows"]),
    }
}

fn linux(cx: &Context<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    const DETAIL: &str = "windows options cannot be set for a linux pod";
    if has(at(cx.spec, "securityContext"), "windowsOptions") {
        errors.forbidden(&path.child("securityContext").child("windowsOptions"), DETAIL);
    }
    super::each_container(cx.spec, path, |container, path| {
        if has(at(container, "securityContext"), "windowsOptions") {
            errors.forbidden(&path.child("securityContext").child("windowsOptions"), DETAIL);
        }
    });
}
