//! The sandbox of a pod: names, network, name resolution, cgroup.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cri::v1::{DnsConfig, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol};
use k8s_openapi::api::core::v1::Pod;

use super::{hosts, security};
use crate::observed::{LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID};
use crate::pod;

pub(crate) struct Inputs<'a> {
    pub pod: &'a Pod,
    pub attempt: u32,
    pub dns: DnsConfig,
    pub cluster_domain: &'a str,
    pub cgroup_parent: String,
    pub logs_root: &'a Path,
}

/// `<root>/<namespace>_<name>_<uid>`.
pub(crate) fn log_directory(root: &Path, pod: &Pod) -> PathBuf {
    root.join(format!("{}_{}_{}", pod::namespace(pod), pod::name(pod), pod::uid(pod)))
}

pub(crate) fn pod_labels(pod: &Pod) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> = pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    labels.insert(LABEL_POD_NAME.into(), pod::name(pod).to_owned());
    labels.insert(LABEL_POD_NAMESPACE.into(), pod::namespace(pod).to_owned());
    labels.insert(LABEL_POD_UID.into(), pod::uid(pod).to_owned());
    labels
}

/// # Errors
/// A message when the host name cannot be formed.
pub(crate) fn build(inputs: Inputs<'_>) -> Result<PodSandboxConfig, String> {
    let pod = inputs.pod;
    let hostname = match pod::is_host_network(pod) {
        true => String::new(),
        false => hosts::kernel_name(pod, inputs.cluster_domain)?,
    };
    let linux = LinuxPodSandboxConfig {
        cgroup_parent: inputs.cgroup_parent,
        security_context: Some(security::sandbox(pod)),
        sysctls: sysctls(pod),
        ..LinuxPodSandboxConfig::default()
    };
    Ok(PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: pod::name(pod).to_owned(),
            uid: pod::uid(pod).to_owned(),
            namespace: pod::namespace(pod).to_owned(),
            attempt: inputs.attempt,
        }),
        hostname,
        log_directory: log_directory(inputs.logs_root, pod).display().to_string(),
        dns_config: Some(inputs.dns),
        port_mappings: port_mappings(pod),
        labels: pod_labels(pod),
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(linux),
        ..PodSandboxConfig::default()
    })
}

/// With dots between the parts: runc refuses slashes.
fn sysctls(pod: &Pod) -> HashMap<String, String> {
    let listed = pod::spec(pod).security_context.as_ref().and_then(|context| context.sysctls.as_ref());
    listed.into_iter().flatten().map(|s| (s.name.replace('/', "."), s.value.clone())).collect()
}

fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    let sidecars = pod::init_containers(pod).iter().filter(|c| pod::is_sidecar(c));
    let containers = pod::spec(pod).containers.iter().chain(sidecars);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let mapping = |port: &k8s_openapi::api::core::v1::ContainerPort| PortMapping {
        protocol: match port.protocol.as_deref() {
            Some("UDP") => Protocol::Udp as i32,
            Some("SCTP") => Protocol::Sctp as i32,
            _ => Protocol::Tcp as i32,
        },
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or(0),
        host_ip: port.host_ip.clone().unwrap_or_default(),
    };
    ports.map(mapping).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn a_sandbox() {
        let pod = pod(json!({"securityContext": {"sysctls": [{"name": "net/core/somaxconn", "value": "9"}]},
            "containers": [{"name": "c", "ports": [{"containerPort": 53, "hostPort": 5353, "protocol": "UDP"}]}]}));
        let config = build(Inputs {
            pod: &pod,
            attempt: 2,
            dns: DnsConfig::default(),
            cluster_domain: "cluster.local",
            cgroup_parent: "/kubepods/x".into(),
            logs_root: Path::new("/var/log/pods"),
        })
        .unwrap();
        assert_eq!(config.log_directory, "/var/log/pods/ns_p_u1");
        assert_eq!(config.hostname, "p");
        assert_eq!(config.labels[LABEL_POD_UID], "u1");
        assert_eq!(config.port_mappings[0].host_port, 5353);
        assert_eq!(config.linux.unwrap().sysctls["net.core.somaxconn"], "9");
    }
}
