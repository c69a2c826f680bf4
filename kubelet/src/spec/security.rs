//! Security contexts: the container's over the pod's, as the runtime wants them.

use std::path::Path;

use cri::v1::{
    self, Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, SeLinuxOption, SecurityProfile, security_profile::ProfileType,
};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
};

use crate::pod;

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Who an image runs as.
#[derive(Debug, Clone, Default)]
pub(crate) struct ImageUser {
    pub uid: Option<i64>,
    pub name: String,
}

pub(crate) fn namespaces(pod: &Pod) -> NamespaceOption {
    let spec = pod::spec(pod);
    let host = |on: Option<bool>, otherwise: NamespaceMode| {
        if on.unwrap_or(false) { NamespaceMode::Node as i32 } else { otherwise as i32 }
    };
    let shared = spec.share_process_namespace.unwrap_or(false);
    let pid = if shared { NamespaceMode::Pod } else { NamespaceMode::Container };
    NamespaceOption {
        network: host(spec.host_network, NamespaceMode::Pod),
        pid: host(spec.host_pid, pid),
        ipc: host(spec.host_ipc, NamespaceMode::Pod),
        ..NamespaceOption::default()
    }
}

fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|context| context.privileged).unwrap_or(false)
}

fn int(value: Option<i64>) -> Option<Int64Value> {
    value.map(|value| Int64Value { value })
}

fn supplemental_groups(context: &PodSecurityContext) -> Vec<i64> {
    context.fs_group.iter().chain(context.supplemental_groups.iter().flatten()).copied().collect()
}

fn groups_policy(context: &PodSecurityContext) -> i32 {
    let strict = context.supplemental_groups_policy.as_deref() == Some("Strict");
    if strict { v1::SupplementalGroupsPolicy::Strict as i32 } else { v1::SupplementalGroupsPolicy::Merge as i32 }
}

fn selinux(options: &SELinuxOptions) -> SeLinuxOption {
    SeLinuxOption {
        user: options.user.clone().unwrap_or_default(),
        role: options.role.clone().unwrap_or_default(),
        r#type: options.type_.clone().unwrap_or_default(),
        level: options.level.clone().unwrap_or_default(),
    }
}

pub(crate) fn sandbox(pod: &Pod) -> LinuxSandboxSecurityContext {
    let context = pod::spec(pod).security_context.clone().unwrap_or_default();
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        privileged: pod::all_containers(pod).any(is_privileged),
        seccomp: Some(SecurityProfile { profile_type: ProfileType::RuntimeDefault as i32, ..Default::default() }),
        run_as_user: int(context.run_as_user),
        run_as_group: int(context.run_as_group),
        supplemental_groups: supplemental_groups(&context),
        supplemental_groups_policy: groups_policy(&context),
        selinux_options: context.se_linux_options.as_ref().map(selinux),
        ..LinuxSandboxSecurityContext::default()
    }
}

/// Checks that a container that must not run as root does not.
///
/// # Errors
/// The message that goes into the container's waiting state.
pub(crate) fn verify_non_root(pod: &Pod, container: &Container, image: &ImageUser) -> Result<(), String> {
    let own = container.security_context.clone().unwrap_or_default();
    let of_pod = pod::spec(pod).security_context.clone().unwrap_or_default();
    if !own.run_as_non_root.or(of_pod.run_as_non_root).unwrap_or(false) {
        return Ok(());
    }
    let what = format!("(pod: {:?}, container: {})", pod::describe(pod), container.name);
    match (own.run_as_user.or(of_pod.run_as_user), image.uid) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {what}")),
        (None, Some(0)) => Err(format!("container has runAsNonRoot and image will run as root {what}")),
        (None, None) if !image.name.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {what}",
            image.name
        )),
        _ => Ok(()),
    }
}

pub(crate) fn container(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    seccomp_root: &Path,
) -> Result<LinuxContainerSecurityContext, String> {
    let own = container.security_context.clone().unwrap_or_default();
    let of_pod = pod::spec(pod).security_context.clone().unwrap_or_default();
    let user = own.run_as_user.or(of_pod.run_as_user);
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|p| (*p).to_owned()).collect() };
    let selinux_options = own.se_linux_options.as_ref().or(of_pod.se_linux_options.as_ref());
    Ok(LinuxContainerSecurityContext {
        capabilities: capabilities(&own),
        privileged: own.privileged.unwrap_or(false),
        namespace_options: Some(namespaces(pod)),
        selinux_options: selinux_options.map(selinux),
        run_as_user: int(user.or(image.uid)),
        run_as_group: int(own.run_as_group.or(of_pod.run_as_group)),
        run_as_username: if user.is_some() { String::new() } else { image.name.clone() },
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: supplemental_groups(&of_pod),
        supplemental_groups_policy: groups_policy(&of_pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref()), seccomp_root)?),
        apparmor: own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref()).map(apparmor),
        ..LinuxContainerSecurityContext::default()
    })
}

fn capabilities(own: &SecurityContext) -> Option<Capability> {
    let capabilities = own.capabilities.as_ref()?;
    Some(Capability {
        add_capabilities: capabilities.add.clone().unwrap_or_default(),
        drop_capabilities: capabilities.drop.clone().unwrap_or_default(),
        ..Capability::default()
    })
}

/// Asked for only where the host has it: a pod that needs it is refused elsewhere.
fn apparmor(profile: &AppArmorProfile) -> SecurityProfile {
    let kind = match profile.type_.as_str() {
        "RuntimeDefault" => ProfileType::RuntimeDefault,
        "Localhost" => ProfileType::Localhost,
        _ => ProfileType::Unconfined,
    };
    SecurityProfile { profile_type: kind as i32, localhost_ref: profile.localhost_profile.clone().unwrap_or_default() }
}

fn seccomp(profile: Option<&SeccompProfile>, root: &Path) -> Result<SecurityProfile, String> {
    let of =
        |kind: ProfileType, reference: String| SecurityProfile { profile_type: kind as i32, localhost_ref: reference };
    Ok(match profile.map(|p| p.type_.as_str()) {
        Some("RuntimeDefault") => of(ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let file = profile.and_then(|p| p.localhost_profile.as_deref()).filter(|file| !file.is_empty());
            let file = file.ok_or("localhostProfile must be set if seccompProfile type is Localhost.")?;
            of(ProfileType::Localhost, root.join(file).display().to_string())
        }
        _ => of(ProfileType::Unconfined, String::new()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn the_containers_settings_win() {
        let pod = pod(
            json!({"securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]},
            "shareProcessNamespace": true,
            "containers": [{"name": "c", "securityContext": {"runAsUser": 9, "allowPrivilegeEscalation": false,
                "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}}]}),
        );
        let context = container(&pod, &pod::spec(&pod).containers[0], &ImageUser::default(), Path::new("/s")).unwrap();
        assert_eq!(context.run_as_user, int(Some(9)));
        assert_eq!(context.run_as_group, int(Some(2)));
        assert_eq!(context.supplemental_groups, [3, 4]);
        assert!(context.no_new_privs);
        assert_eq!(context.capabilities.unwrap().add_capabilities, ["NET_ADMIN"]);
        assert_eq!(context.namespace_options.unwrap().pid, NamespaceMode::Pod as i32);
        assert_eq!(context.seccomp.unwrap().profile_type, ProfileType::RuntimeDefault as i32);
    }

    #[test]
    fn non_root() {
        let user = |uid: Option<i64>, name: &str| ImageUser { uid, name: name.into() };
        for (context, image, ok) in [
            (json!({}), user(Some(0), ""), true),
            (json!({"runAsNonRoot": true}), user(Some(0), ""), false),
            (json!({"runAsNonRoot": true}), user(None, "www"), false),
            (json!({"runAsNonRoot": true}), user(Some(5), ""), true),
            (json!({"runAsNonRoot": true, "runAsUser": 5}), user(Some(0), ""), true),
            (json!({"runAsNonRoot": true, "runAsUser": 0}), user(Some(5), ""), false),
        ] {
            let pod = pod(json!({"containers": [{"name": "c", "securityContext": context}]}));
            assert_eq!(verify_non_root(&pod, &pod::spec(&pod).containers[0], &image).is_ok(), ok, "{context}");
        }
    }
}
