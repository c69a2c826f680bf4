//! Flags, under upstream's names.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;

use crate::config::{Cgroups, Config, ImagePolicy, LogPolicy, Server, Thresholds};
use crate::error::Error;

/// Runs pods on this host.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Name of the node; the host's name when not given.
    #[arg(long, default_value = "")]
    pub hostname_override: String,
    /// Addresses of the node, comma separated; found by the default route when not given.
    #[arg(long, value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Register with the API server.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub register_node: bool,
    /// Labels to register with: key=value, comma separated.
    #[arg(long, value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// Taints to register with: key=value:effect, comma separated.
    #[arg(long, value_delimiter = ',')]
    pub register_with_taints: Vec<String>,
    /// Directory of pod state.
    #[arg(long, default_value = "/var/lib/kubelet")]
    pub root_dir: PathBuf,
    /// Directory of container logs.
    #[arg(long, default_value = "/var/log/pods")]
    pub pod_logs_dir: PathBuf,
    /// Directory of static pod manifests.
    #[arg(long)]
    pub pod_manifest_path: Option<PathBuf>,
    /// The container runtime's socket.
    #[arg(long, default_value = "unix:///run/containerd/containerd.sock")]
    pub container_runtime_endpoint: String,
    /// Addresses of the cluster's DNS, comma separated.
    #[arg(long, value_delimiter = ',')]
    pub cluster_dns: Vec<IpAddr>,
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// The host's resolver configuration; empty: none.
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: String,
    /// Make a cgroup per class of service and pod.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub cgroups_per_qos: bool,
    /// Parent of all pods' cgroups.
    #[arg(long, default_value = "/")]
    pub cgroup_root: String,
    #[arg(long, default_value_t = 110)]
    pub max_pods: u32,
    /// Resources kept for the system: cpu=100m,memory=100Mi.
    #[arg(long, value_delimiter = ',')]
    pub system_reserved: Vec<String>,
    /// Resources kept for cluster components.
    #[arg(long, value_delimiter = ',')]
    pub kube_reserved: Vec<String>,
    /// Address to serve on.
    #[arg(long, default_value = "0.0.0.0")]
    pub address: IpAddr,
    #[arg(long, default_value_t = 10250)]
    pub port: u16,
    #[arg(long, default_value = "127.0.0.1")]
    pub healthz_bind_address: IpAddr,
    /// Port of the plain health check; 0: none.
    #[arg(long, default_value_t = 10248)]
    pub healthz_port: u16,
    /// Serving certificate; made, self-signed, in the root directory when not given.
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// Authority of client certificates.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set)]
    pub anonymous_auth: bool,
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub authentication_token_webhook: bool,
    /// AlwaysAllow or Webhook.
    #[arg(long, default_value = "Webhook")]
    pub authorization_mode: String,
    /// What is kept free: memory.available<100Mi,nodefs.available<10%, comma separated.
    #[arg(long, value_delimiter = ',')]
    pub eviction_hard: Vec<String>,
    #[arg(long, default_value_t = 85)]
    pub image_gc_high_threshold: u8,
    #[arg(long, default_value_t = 80)]
    pub image_gc_low_threshold: u8,
    /// Size at which a container's log is rotated, in bytes.
    #[arg(long, default_value_t = 10 * 1024 * 1024)]
    pub container_log_max_size: u64,
    #[arg(long, default_value_t = 5)]
    pub container_log_max_files: u32,
}

impl Args {
    /// # Errors
    /// When a flag's value cannot be used.
    pub fn config(self) -> Result<Config, Error> {
        let node_name = node_name(&self.hostname_override)?;
        let node_ips = match self.node_ip.is_empty() {
            true => vec![crate::node::primary_address()],
            false => self.node_ip.clone(),
        };
        let mut reserved = pairs("system-reserved", &self.system_reserved)?;
        for (name, quantity) in pairs("kube-reserved", &self.kube_reserved)? {
            reserved.entry(name).and_modify(|sum| add(sum, &quantity)).or_insert(quantity);
        }
        let server = self.server();
        let healthz = SocketAddr::new(self.healthz_bind_address, self.healthz_port);
        let endpoint = &self.container_runtime_endpoint;
        Ok(Config {
            node_name,
            node_ips,
            register_node: self.register_node,
            labels: pairs("node-labels", &self.node_labels)?,
            taints: self.register_with_taints.iter().map(|text| taint(text)).collect::<Result<_, _>>()?,
            seccomp_dir: self.root_dir.join("seccomp"),
            root_dir: self.root_dir,
            pod_logs_dir: self.pod_logs_dir,
            container_logs_dir: "/var/log/containers".into(),
            manifest_dir: self.pod_manifest_path,
            runtime_socket: endpoint.strip_prefix("unix://").unwrap_or(endpoint).into(),
            exec_dir: "/run/ironclad/exec".into(),
            cluster_dns: self.cluster_dns,
            cluster_domain: self.cluster_domain,
            resolv_conf: (!self.resolv_conf.is_empty()).then(|| self.resolv_conf.into()),
            cgroups: Cgroups { per_qos: self.cgroups_per_qos, root: self.cgroup_root },
            max_pods: self.max_pods,
            reserved,
            server,
            healthz: (self.healthz_port != 0).then_some(healthz),
            status_update_frequency: Duration::from_secs(10),
            status_report_frequency: Duration::from_secs(300),
            lease_duration: Duration::from_secs(40),
            thresholds: thresholds(&self.eviction_hard)?,
            images: ImagePolicy {
                gc_high_percent: self.image_gc_high_threshold,
                gc_low_percent: self.image_gc_low_threshold,
                min_age: Duration::from_secs(120),
            },
            logs: LogPolicy { max_size_bytes: self.container_log_max_size, max_files: self.container_log_max_files },
            max_container_backoff: Duration::from_secs(300),
            serialize_image_pulls: true,
        })
    }

    fn server(&self) -> Server {
        let own = |name: &str| self.root_dir.join("pki").join(name);
        Server {
            address: SocketAddr::new(self.address, self.port),
            certificate: self.tls_cert_file.clone().unwrap_or_else(|| own("kubelet.crt")),
            key: self.tls_private_key_file.clone().unwrap_or_else(|| own("kubelet.key")),
            client_ca: self.client_ca_file.clone(),
            anonymous: self.anonymous_auth,
            token_review: self.authentication_token_webhook,
            authorize: self.authorization_mode == "Webhook",
        }
    }
}

fn node_name(given: &str) -> Result<String, Error> {
    if !given.is_empty() {
        return Ok(given.to_lowercase());
    }
    let name = nix::unistd::gethostname().map_err(|errno| Error::Flag {
        flag: "hostname-override",
        reason: format!("the host's name cannot be read: {errno}"),
    })?;
    Ok(name.to_string_lossy().trim().to_lowercase())
}

fn pairs(flag: &'static str, list: &[String]) -> Result<BTreeMap<String, String>, Error> {
    let pair = |text: &String| {
        let invalid = || Error::Flag { flag, reason: format!("{text:?} is not key=value") };
        text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).ok_or_else(invalid)
    };
    list.iter().filter(|text| !text.is_empty()).map(pair).collect()
}

fn add(sum: &mut String, quantity: &str) {
    let parsed =
        |text: &str| text.parse::<api::quantity::Quantity>().unwrap_or_else(|_| api::quantity::Quantity::zero());
    let mut total = parsed(sum);
    total.add(&parsed(quantity));
    *sum = total.to_string();
}

/// `signal<value`, a quantity for memory and a percentage for the rest; signals not named keep their defaults.
fn thresholds(list: &[String]) -> Result<Thresholds, Error> {
    let mut thresholds = Thresholds::default();
    for text in list.iter().filter(|text| !text.is_empty()) {
        let invalid = || Error::Flag { flag: "eviction-hard", reason: format!("{text:?} is not understood") };
        let (signal, value) = text.split_once('<').ok_or_else(invalid)?;
        let percent = || value.strip_suffix('%').and_then(|number| number.parse::<u8>().ok()).filter(|n| *n <= 100);
        match signal {
            "memory.available" => {
                let quantity = value.parse::<api::quantity::Quantity>().map_err(|_| invalid())?;
                thresholds.memory_bytes = quantity.value();
            }
            "nodefs.available" => thresholds.disk_percent = percent().ok_or_else(invalid)?.into(),
            "nodefs.inodesFree" => thresholds.inodes_percent = percent().ok_or_else(invalid)?.into(),
            "pid.available" => thresholds.pids_percent = percent().ok_or_else(invalid)?.into(),
            // Images and containers lie on the node's own file system.
            "imagefs.available" | "imagefs.inodesFree" => {}
            _ => return Err(invalid()),
        }
    }
    Ok(thresholds)
}

/// `key=value:effect` or `key:effect`.
fn taint(text: &str) -> Result<Taint, Error> {
    let invalid = || Error::Flag { flag: "register-with-taints", reason: format!("{text:?} is not key=value:effect") };
    let (rest, effect) = text.rsplit_once(':').ok_or_else(invalid)?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) || rest.is_empty() {
        return Err(invalid());
    }
    let (key, value) = rest.split_once('=').map_or((rest, None), |(key, value)| (key, Some(value.to_owned())));
    Ok(Taint { key: key.to_owned(), value, effect: effect.to_owned(), time_added: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints() {
        let parsed = taint("a/b=c:NoSchedule").unwrap();
        assert_eq!(
            (parsed.key.as_str(), parsed.value.as_deref(), parsed.effect.as_str()),
            ("a/b", Some("c"), "NoSchedule")
        );
        assert_eq!(taint("k:NoExecute").unwrap().value, None);
        assert!(taint("k=v").is_err() && taint("k=v:Now").is_err());
    }

    #[test]
    fn what_is_kept_free() {
        let parsed = |list: &[&str]| thresholds(&list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(parsed(&[]).unwrap(), Thresholds::default());
        let relaxed = parsed(&["memory.available<1Mi", "nodefs.available<0%", "imagefs.available<0%"]).unwrap();
        assert_eq!(relaxed, Thresholds { memory_bytes: 1 << 20, disk_percent: 0, ..Thresholds::default() });
        assert!(parsed(&["nodefs.available<101%"]).is_err() && parsed(&["x<1"]).is_err());
    }

    #[test]
    fn reservations_add_up() {
        let mut sum = "100m".to_owned();
        add(&mut sum, "1");
        assert_eq!(sum, "1100m");
    }
}
