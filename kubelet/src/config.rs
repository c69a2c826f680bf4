//! Everything a node agent is told, complete: no field is decided later.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;

#[derive(Debug, Clone)]
pub struct Config {
    pub node_name: String,
    /// Addresses the node is reached at, the first one being primary.
    pub node_ips: Vec<IpAddr>,
    pub register_node: bool,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,

    /// Volumes and state of pods (`/var/lib/kubelet`).
    pub root_dir: PathBuf,
    /// Container logs (`/var/log/pods`).
    pub pod_logs_dir: PathBuf,
    /// Links to them under another name (`/var/log/containers`).
    pub container_logs_dir: PathBuf,
    /// Manifests of static pods.
    pub manifest_dir: Option<PathBuf>,
    pub seccomp_dir: PathBuf,

    /// containerd's socket.
    pub runtime_socket: PathBuf,
    /// Where named pipes of exec'ed processes are made; a file system that a reboot clears.
    pub exec_dir: PathBuf,

    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// None: pods get no name servers of the host.
    pub resolv_conf: Option<PathBuf>,

    pub cgroups: Cgroups,
    pub max_pods: u32,
    /// Taken off the capacity: resource name to quantity.
    pub reserved: BTreeMap<String, String>,

    pub server: Server,
    /// Plain HTTP `/healthz` on this address; none: not served.
    pub healthz: Option<SocketAddr>,

    pub status_update_frequency: Duration,
    pub status_report_frequency: Duration,
    pub lease_duration: Duration,
    pub thresholds: Thresholds,
    pub images: ImagePolicy,
    pub logs: LogPolicy,
    /// Kernel settings that pods may have beside the safe ones: names, and prefixes that end with `*`.
    pub allowed_unsafe_sysctls: Vec<String>,
    pub max_container_backoff: Duration,
    pub serialize_image_pulls: bool,
}

#[derive(Debug, Clone)]
pub struct Cgroups {
    /// Make one cgroup per class of service and pod. False where the tree cannot be written.
    pub per_qos: bool,
    /// Parent of `kubepods` in every hierarchy, `/` for the top: throw-away hosts have one each.
    pub root: String,
}

#[derive(Debug, Clone)]
pub struct Server {
    pub address: SocketAddr,
    /// Certificate and key; a missing pair is made, self-signed.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Callers with a certificate of this authority are who it says.
    pub client_ca: Option<PathBuf>,
    pub anonymous: bool,
    /// Ask the API server about bearer tokens.
    pub token_review: bool,
    /// Ask the API server whether a caller may; false lets every authenticated caller do everything.
    pub authorize: bool,
}

#[derive(Debug, Clone)]
pub struct ImagePolicy {
    pub gc_high_percent: u8,
    pub gc_low_percent: u8,
    pub min_age: Duration,
}

/// What is kept free on the node. Less of it is pressure, which the node's conditions show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    pub memory_bytes: i64,
    pub disk_percent: u64,
    pub inodes_percent: u64,
    pub pids_percent: i64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { memory_bytes: 100 << 20, disk_percent: 10, inodes_percent: 5, pids_percent: 10 }
    }
}

#[derive(Debug, Clone)]
pub struct LogPolicy {
    pub max_size_bytes: u64,
    pub max_files: u32,
}
