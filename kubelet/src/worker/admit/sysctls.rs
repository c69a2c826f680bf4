//! Kernel settings that a pod may have: those that no other pod feels.

use k8s_openapi::api::core::v1::Pod;

use crate::pod;

/// Settings that belong to one namespace and are safe, with that namespace; `kubelet` of any kernel since 5.15.
const SAFE: [(&str, Namespace); 14] = [
    ("kernel.shm_rmid_forced", Namespace::Ipc),
    ("net.ipv4.ip_local_port_range", Namespace::Network),
    ("net.ipv4.tcp_syncookies", Namespace::Network),
    ("net.ipv4.ping_group_range", Namespace::Network),
    ("net.ipv4.ip_unprivileged_port_start", Namespace::Network),
    ("net.ipv4.ip_local_reserved_ports", Namespace::Network),
    ("net.ipv4.tcp_keepalive_time", Namespace::Network),
    ("net.ipv4.tcp_fin_timeout", Namespace::Network),
    ("net.ipv4.tcp_keepalive_intvl", Namespace::Network),
    ("net.ipv4.tcp_keepalive_probes", Namespace::Network),
    ("net.ipv4.tcp_rmem", Namespace::Network),
    ("net.ipv4.tcp_wmem", Namespace::Network),
    ("net.ipv4.tcp_slow_start_after_idle", Namespace::Network),
    ("net.ipv4.tcp_notsent_lowat", Namespace::Network),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Namespace {
    Ipc,
    Network,
}

impl Namespace {
    fn name(self) -> &'static str {
        match self {
            Self::Ipc => "IPC",
            Self::Network => "Net",
        }
    }

    /// The namespace of a setting that the kernel keeps per namespace.
    fn of(name: &str) -> Option<Self> {
        let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix));
        match (ipc || name == "kernel.sem", name.starts_with("net.")) {
            (true, _) => Some(Self::Ipc),
            (_, true) => Some(Self::Network),
            _ => None,
        }
    }
}

/// With dots between the parts, whichever way it was written: the first separator tells.
fn normalized(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Why a pod's settings are not allowed here. `allowed` are names, and prefixes that end with `*`, beside the safe ones.
pub(super) fn refusal(pod: &Pod, allowed: &[String]) -> Option<String> {
    let spec = pod::spec(pod);
    let listed = spec.security_context.as_ref().and_then(|context| context.sysctls.as_ref());
    let on_host = |namespace: Namespace| match namespace {
        Namespace::Ipc => spec.host_ipc.unwrap_or(false),
        Namespace::Network => spec.host_network.unwrap_or(false),
    };
    listed.into_iter().flatten().find_map(|sysctl| {
        let name = normalized(&sysctl.name);
        let safe = SAFE.iter().find(|(safe, _)| *safe == name).map(|(_, namespace)| *namespace);
        let named = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(&normalized(prefix)),
            None => normalized(pattern) == name,
        };
        let namespace = safe.or_else(|| allowed.iter().any(named).then(|| Namespace::of(&name)).flatten());
        match namespace {
            None => Some(format!("forbidden sysctl: {name:?} not allowlisted")),
            Some(namespace) if on_host(namespace) => {
                Some(format!("forbidden sysctl: {name:?} not allowed with host {} enabled", namespace.name()))
            }
            Some(_) => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn what_is_allowed() {
        let allowed = ["net.core.somaxconn".to_owned(), "kernel.msg*".to_owned(), "vm.*".to_owned()];
        for (name, host_network, expected) in [
            ("kernel.shm_rmid_forced", false, None),
            ("kernel/shm_rmid_forced", false, None),
            ("net.ipv4.tcp_rmem", false, None),
            ("net.core.somaxconn", false, None),
            ("kernel.msgmax", true, None),
            ("kernel.shmmax", false, Some("forbidden sysctl: \"kernel.shmmax\" not allowlisted")),
            // Not kept per namespace: allowing it would not make it one pod's own.
            ("vm.swappiness", false, Some("forbidden sysctl: \"vm.swappiness\" not allowlisted")),
            (
                "net.ipv4.tcp_rmem",
                true,
                Some("forbidden sysctl: \"net.ipv4.tcp_rmem\" not allowed with host Net enabled"),
            ),
        ] {
            let pod = pod(json!({"containers": [], "hostNetwork": host_network,
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}));
            assert_eq!(refusal(&pod, &allowed).as_deref(), expected, "{name}");
        }
    }
}
