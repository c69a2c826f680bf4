//! Validation of what pods say about Windows.

use api::Value;
use api::field::{FieldErrors, Path};

use super::{Context, each_container};
use crate::names;
use crate::object_meta::invalid_each;
use crate::tree::{at, flag, has, list, opt_flag, opt_text};

const NOT_WINDOWS: &str = "cannot be set for a windows pod";
const GMSA_MAX: usize = 64 * 1024;
const DOMAIN_MAX: usize = 256;
const USER_MAX: usize = 104;

/// Validates `windowsOptions`.
pub(super) fn options(options: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(name) = opt_text(options, "gmsaCredentialSpecName") {
        let path = path.child("gmsaCredentialSpecName");
        invalid_each(&path, name, names::subdomain(name), errors);
    }
    if let Some(spec) = opt_text(options, "gmsaCredentialSpec") {
        let path = path.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.invalid(&path, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > GMSA_MAX {
            errors.invalid(&path, spec, "gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    if let Some(user) = opt_text(options, "runAsUserName") {
        for complaint in user_name(user) {
            errors.invalid(&path.child("runAsUserName"), user, complaint);
        }
    }
}

fn user_name(full: &str) -> Vec<&'static str> {
    if full.is_empty() {
        return vec!["runAsUserName cannot be an empty string"];
    }
    if full.chars().any(|c| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters"];
    }
    if full.matches('\\').count() > 1 {
        return vec!["runAsUserName cannot contain more than one backslash"];
    }
    let (domain, user) = match full.split_once('\\') {
        Some((domain, user)) => (Some(domain), user),
        None => (None, full),
    };
    let mut found = Vec::new();
    let mut complain = |bad: bool, complaint| {
        if bad {
            found.push(complaint);
        }
    };
    let long = domain.is_some_and(|d| d.len() >= DOMAIN_MAX);
    complain(long, "runAsUserName's Domain length must be under 256 characters");
    complain(
        domain.is_some_and(|d| !is_net_bios(d) && !is_dns(d)),
        "runAsUserName's Domain doesn't match the NetBios nor the DNS format",
    );
    complain(user.is_empty(), "runAsUserName's User cannot be empty");
    complain(user.len() > USER_MAX, "runAsUserName's User length must not be longer than 104 characters");
    complain(
        !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')),
        "runAsUserName's User cannot contain only periods or spaces",
    );
    complain(
        user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']),
        r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#,
    );
    found
}

fn is_net_bios(domain: &str) -> bool {
    let refused = ['\\', '/', ':', '*', '?', '"', '<', '>', '|'];
    (1..=15).contains(&domain.chars().count()) && !domain.starts_with('.') && !domain.contains(refused)
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let edge = |c: char| c.is_ascii_alphanumeric();
        (1..=63).contains(&label.len())
            && label.starts_with(edge)
            && label.ends_with(edge)
            && label.chars().all(|c| edge(c) || c == '-')
    })
}

/// Either all containers run in the host's process namespace or none.
pub(super) fn host_process(cx: &Context<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let of = |holder: &Value| opt_flag(at(at(holder, "securityContext"), "windowsOptions"), "hostProcess");
    let pod = of(cx.spec);
    let (mut all, mut host) = (0, 0);
    each_container(cx.spec, path, |container, path| {
        all += 1;
        let own = of(container);
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let detail = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            let path = path.child("securityContext.windowsOptions.hostProcess");
            errors.invalid(&path, own, &detail);
        }
        if own.or(pod) == Some(true) {
            host += 1;
        }
    });
    if host == 0 {
        return;
    }
    if host != all {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid(path, "", detail);
    }
    if !flag(cx.spec, "hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&path.child("hostNetwork"), false, detail);
    }
}

/// What a pod for Windows must not say.
pub(super) fn pod(cx: &Context<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    const POD: [&str; 11] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ];
    const CONTAINER: [&str; 10] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    let security = at(cx.spec, "securityContext");
    for field in POD {
        let set = match field {
            "sysctls" => !list(security, field).is_empty(),
            _ => has(security, field),
        };
        if set {
            errors.forbidden(&path.child("securityContext").child(field), NOT_WINDOWS);
        }
    }
    for field in ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"] {
        let set = match field {
            "hostPID" | "hostIPC" => flag(cx.spec, field),
            _ => has(cx.spec, field),
        };
        if set {
            errors.forbidden(&path.child(field), NOT_WINDOWS);
        }
    }
    each_container(cx.spec, path, |container, path| {
        let security = at(container, "securityContext");
        for field in CONTAINER.into_iter().filter(|field| has(security, field)) {
            errors.forbidden(&path.child("securityContext").child(field), NOT_WINDOWS);
        }
    });
}
