//! Flags, under upstream's names, and the configuration file that they can name.

mod file;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;

use self::file::File;
use crate::config::{Cgroups, Config, ImagePolicy, LogPolicy, Server, Thresholds};
use crate::error::Error;

/// Runs pods on this host.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A KubeletConfiguration file. Flags win over it.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Name of the node; the host's name when not given.
    #[arg(long, default_value = "")]
    pub hostname_override: String,
    /// Addresses of the node, comma separated; found by the default route when not given.
    #[arg(long, value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Register with the API server.
    #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub register_node: Option<bool>,
    /// Labels to register with: key=value, comma separated.
    #[arg(long, value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// Taints to register with: key=value:effect, comma separated.
    #[arg(long, value_delimiter = ',')]
    pub register_with_taints: Vec<String>,
    /// Directory of pod state.
    #[arg(long, default_value = "/var/lib/kubelet")]
    pub root_dir: PathBuf,
    /// Directory of container logs (default /var/log/pods).
    #[arg(long)]
    pub pod_logs_dir: Option<PathBuf>,
    /// Directory of static pod manifests.
    #[arg(long)]
    pub pod_manifest_path: Option<PathBuf>,
    /// The container runtime's socket (default unix:///run/containerd/containerd.sock).
    #[arg(long)]
    pub container_runtime_endpoint: Option<String>,
    /// Addresses of the cluster's DNS, comma separated.
    #[arg(long, value_delimiter = ',')]
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's domain (default cluster.local).
    #[arg(long)]
    pub cluster_domain: Option<String>,
    /// The host's resolver configuration; empty: none (default /etc/resolv.conf).
    #[arg(long)]
    pub resolv_conf: Option<String>,
    /// Make a cgroup per class of service and pod (default true).
    #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub cgroups_per_qos: Option<bool>,
    /// Parent of all pods' cgroups (default /).
    #[arg(long)]
    pub cgroup_root: Option<String>,
    /// Pods on this node at most (default 110).
    #[arg(long)]
    pub max_pods: Option<u32>,
    /// Resources kept for the system: cpu=100m,memory=100Mi.
    #[arg(long, value_delimiter = ',')]
    pub system_reserved: Vec<String>,
    /// Resources kept for cluster components.
    #[arg(long, value_delimiter = ',')]
    pub kube_reserved: Vec<String>,
    /// Address to serve on (default 0.0.0.0).
    #[arg(long)]
    pub address: Option<IpAddr>,
    /// Port to serve on (default 10250).
    #[arg(long)]
    pub port: Option<u16>,
    /// Address of the plain health check (default 127.0.0.1).
    #[arg(long)]
    pub healthz_bind_address: Option<IpAddr>,
    /// Port of the plain health check; 0: none (default 10248).
    #[arg(long)]
    pub healthz_port: Option<u16>,
    /// Serving certificate; made, self-signed, in the root directory when not given.
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// Authority of client certificates.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Let callers without credentials be system:anonymous (default false).
    #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub anonymous_auth: Option<bool>,
    /// Ask the API server about bearer tokens (default true).
    #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub authentication_token_webhook: Option<bool>,
    /// AlwaysAllow or Webhook (default Webhook).
    #[arg(long)]
    pub authorization_mode: Option<String>,
    /// What is kept free: memory.available<100Mi,nodefs.available<10%, comma separated.
    #[arg(long, value_delimiter = ',')]
    pub eviction_hard: Vec<String>,
    /// Kernel settings that pods may have beside the safe ones, comma separated; a name may end with *.
    #[arg(long, value_delimiter = ',')]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Percent of the disk at which unused images go (default 85).
    #[arg(long)]
    pub image_gc_high_threshold: Option<u8>,
    /// Percent of the disk until which they go (default 80).
    #[arg(long)]
    pub image_gc_low_threshold: Option<u8>,
    /// Size at which a container's log is rotated: 10Mi (default).
    #[arg(long)]
    pub container_log_max_size: Option<String>,
    /// Files of a container's log, rotated ones too (default 5).
    #[arg(long)]
    pub container_log_max_files: Option<u32>,
}

/// What a node agent that is told nothing does.
const LOG_BYTES: &str = "10Mi";
const ENDPOINT: &str = "unix:///run/containerd/containerd.sock";

impl Args {
    /// # Errors
    /// When the file cannot be used, or a value of it or of a flag.
    pub fn config(self) -> Result<Config, Error> {
        let file = self.config.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let node_name = node_name(&self.hostname_override)?;
        let node_ips = match self.node_ip.is_empty() {
            true => vec![crate::node::primary_address()],
            false => self.node_ip.clone(),
        };
        let endpoint = self.container_runtime_endpoint.clone().or(file.container_runtime_endpoint.clone());
        let endpoint = endpoint.unwrap_or_else(|| ENDPOINT.into());
        let healthz_port = self.healthz_port.or(file.healthz_port).unwrap_or(10248);
        let healthz_address = self.healthz_bind_address.or(file.healthz_bind_address);
        let healthz = SocketAddr::new(healthz_address.unwrap_or([127, 0, 0, 1].into()), healthz_port);
        let resolv_conf = self.resolv_conf.clone().or(file.resolv_conf.clone());
        let resolv_conf = resolv_conf.unwrap_or_else(|| "/etc/resolv.conf".into());
        Ok(Config {
            node_name,
            node_ips,
            register_node: self.register_node.or(file.register_node).unwrap_or(true),
            labels: pairs("node-labels", &self.node_labels)?,
            taints: self.taints(&file)?,
            reserved: self.reserved(&file)?,
            server: self.server(&file)?,
            thresholds: self.thresholds(&file)?,
            images: self.images(&file)?,
            logs: self.logs(&file)?,
            cgroups: Cgroups {
                per_qos: self.cgroups_per_qos.or(file.cgroups_per_qos).unwrap_or(true),
                root: self.cgroup_root.or(file.cgroup_root).unwrap_or_else(|| "/".into()),
            },
            seccomp_dir: self.root_dir.join("seccomp"),
            root_dir: self.root_dir,
            pod_logs_dir: self.pod_logs_dir.or(file.pod_logs_dir).unwrap_or_else(|| "/var/log/pods".into()),
            container_logs_dir: "/var/log/containers".into(),
            manifest_dir: self.pod_manifest_path.or(file.static_pod_path).filter(|path| !path.as_os_str().is_empty()),
            runtime_socket: endpoint.strip_prefix("unix://").unwrap_or(&endpoint).into(),
            exec_dir: "/run/ironclad/exec".into(),
            cluster_dns: given(self.cluster_dns).or(file.cluster_dns).unwrap_or_default(),
            cluster_domain: self.cluster_domain.or(file.cluster_domain).unwrap_or_else(|| "cluster.local".into()),
            resolv_conf: (!resolv_conf.is_empty()).then(|| resolv_conf.into()),
            max_pods: self.max_pods.or(file.max_pods).unwrap_or(110),
            healthz: (healthz_port != 0).then_some(healthz),
            status_update_frequency: file.node_status_update_frequency.unwrap_or(Duration::from_secs(10)),
            status_report_frequency: file.node_status_report_frequency.unwrap_or(Duration::from_secs(300)),
            lease_duration: Duration::from_secs(file.node_lease_duration_seconds.unwrap_or(40).into()),
            allowed_unsafe_sysctls: given(self.allowed_unsafe_sysctls)
                .or(file.allowed_unsafe_sysctls)
                .unwrap_or_default(),
            max_container_backoff: file
                .crash_loop_back_off
                .max_container_restart_period
                .unwrap_or(Duration::from_secs(300)),
            serialize_image_pulls: file.serialize_image_pulls.unwrap_or(true),
        })
    }

    fn taints(&self, file: &File) -> Result<Vec<Taint>, Error> {
        match given(self.register_with_taints.clone()) {
            Some(list) => list.iter().map(|text| taint(text)).collect(),
            None => Ok(file.register_with_taints.clone().unwrap_or_default()),
        }
    }

    /// For the system and for the cluster's components together.
    fn reserved(&self, file: &File) -> Result<BTreeMap<String, String>, Error> {
        let one = |flag: &'static str, list: &[String], file: &Option<BTreeMap<String, String>>| {
            if list.is_empty() { Ok(file.clone().unwrap_or_default()) } else { pairs(flag, list) }
        };
        let mut reserved = one("system-reserved", &self.system_reserved, &file.system_reserved)?;
        for (name, quantity) in one("kube-reserved", &self.kube_reserved, &file.kube_reserved)? {
            reserved.entry(name).and_modify(|sum| add(sum, &quantity)).or_insert(quantity);
        }
        for (name, quantity) in &reserved {
            let parsed = quantity.parse::<api::quantity::Quantity>();
            parsed.map_err(|_| Error::Flag {
                flag: "system-reserved",
                reason: format!("{name}={quantity} is no quantity"),
            })?;
        }
        Ok(reserved)
    }

    fn thresholds(&self, file: &File) -> Result<Thresholds, Error> {
        if !self.eviction_hard.is_empty() {
            return thresholds(&self.eviction_hard);
        }
        let list: Vec<String> =
            file.eviction_hard.iter().flatten().map(|(signal, value)| format!("{signal}<{value}")).collect();
        thresholds(&list)
    }

    fn images(&self, file: &File) -> Result<ImagePolicy, Error> {
        let policy = ImagePolicy {
            gc_high_percent: self.image_gc_high_threshold.or(file.image_gc_high_threshold_percent).unwrap_or(85),
            gc_low_percent: self.image_gc_low_threshold.or(file.image_gc_low_threshold_percent).unwrap_or(80),
            min_age: file.image_minimum_gc_age.unwrap_or(Duration::from_secs(120)),
        };
        if policy.gc_high_percent > 100 || policy.gc_low_percent >= policy.gc_high_percent {
            return Err(Error::Flag {
                flag: "image-gc-high-threshold",
                reason: "it must be above image-gc-low-threshold, and at most 100".into(),
            });
        }
        Ok(policy)
    }

    fn logs(&self, file: &File) -> Result<LogPolicy, Error> {
        let size = self.container_log_max_size.clone().or(file.container_log_max_size.clone());
        let size = size.unwrap_or_else(|| LOG_BYTES.into());
        let bytes = size.parse::<api::quantity::Quantity>().ok().and_then(|q| u64::try_from(q.value()).ok());
        let bytes = bytes
            .filter(|bytes| *bytes > 0)
            .ok_or_else(|| Error::Flag { flag: "container-log-max-size", reason: format!("{size:?} is no size") })?;
        let max_files = self.container_log_max_files.or(file.container_log_max_files).unwrap_or(5);
        if max_files < 2 {
            let reason = "it must be at least 2: one file is written, one was".into();
            return Err(Error::Flag { flag: "container-log-max-files", reason });
        }
        Ok(LogPolicy { max_size_bytes: bytes, max_files })
    }

    fn server(&self, file: &File) -> Result<Server, Error> {
        let own = |name: &str| self.root_dir.join("pki").join(name);
        let pick = |flag: &Option<PathBuf>, file: &Option<PathBuf>| {
            flag.clone().or_else(|| file.clone()).filter(|path| !path.as_os_str().is_empty())
        };
        let mode = self.authorization_mode.clone().or(file.authorization.mode.clone());
        let authorize = match mode.as_deref().unwrap_or("Webhook") {
            "Webhook" => true,
            "AlwaysAllow" => false,
            other => {
                let reason = format!("{other:?} is neither Webhook nor AlwaysAllow");
                return Err(Error::Flag { flag: "authorization-mode", reason });
            }
        };
        let authentication = &file.authentication;
        Ok(Server {
            address: SocketAddr::new(
                self.address.or(file.address).unwrap_or([0, 0, 0, 0].into()),
                self.port.or(file.port).unwrap_or(10250),
            ),
            certificate: pick(&self.tls_cert_file, &file.tls_cert_file).unwrap_or_else(|| own("kubelet.crt")),
            key: pick(&self.tls_private_key_file, &file.tls_private_key_file).unwrap_or_else(|| own("kubelet.key")),
            client_ca: pick(&self.client_ca_file, &authentication.x509.client_ca_file),
            anonymous: self.anonymous_auth.or(authentication.anonymous.enabled).unwrap_or(false),
            token_review: self.authentication_token_webhook.or(authentication.webhook.enabled).unwrap_or(true),
            authorize,
        })
    }
}

/// A list that was given at all.
fn given<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
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

    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }

    fn config(flags: &[&str]) -> Result<Config, Error> {
        use clap::Parser as _;
        let all = ["kubelet", "--hostname-override=n", "--node-ip=192.0.2.1"].iter().chain(flags);
        Alone::parse_from(all).args.config()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nport: 1111\nmaxPods: 7\n\
            clusterDNS: [192.0.2.53]\nevictionHard: {memory.available: 5Mi}\ncontainerLogMaxSize: 1Ki\n\
            authentication: {x509: {clientCAFile: /ca}, anonymous: {enabled: true}}\n\
            authorization: {mode: AlwaysAllow}\nsystemReserved: {cpu: 100m}\n";
        std::fs::write(file.path(), text).unwrap();
        let named = format!("--config={}", file.path().display());
        let config = super::tests::config;
        let from_file = config(&[&named]).unwrap();
        assert_eq!((from_file.server.address.port(), from_file.max_pods), (1111, 7));
        assert!(from_file.server.anonymous && !from_file.server.authorize && from_file.server.token_review);
        assert_eq!(from_file.server.client_ca.as_deref(), Some("/ca".as_ref()));
        assert_eq!((from_file.thresholds.memory_bytes, from_file.logs.max_size_bytes), (5 << 20, 1024));
        assert_eq!((from_file.cluster_dns.len(), from_file.reserved["cpu"].as_str()), (1, "100m"));
        let flags = [&named, "--port=2222", "--anonymous-auth=false", "--eviction-hard=memory.available<6Mi"];
        let both = config(&flags).unwrap();
        assert_eq!((both.server.address.port(), both.max_pods, both.thresholds.memory_bytes), (2222, 7, 6 << 20));
        assert!(!both.server.anonymous);
        let neither = config(&[]).unwrap();
        assert_eq!((neither.server.address.port(), neither.max_pods), (10250, 110));
        assert!(neither.server.authorize && neither.register_node && !neither.server.anonymous);
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for wrong in [
            "--config=/nonexistent",
            "--authorization-mode=Perhaps",
            "--container-log-max-size=big",
            "--container-log-max-files=1",
            "--image-gc-low-threshold=90",
            "--system-reserved=cpu=much",
        ] {
            assert!(config(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn reservations_add_up() {
        let mut sum = "100m".to_owned();
        add(&mut sum, "1");
        assert_eq!(sum, "1100m");
    }
}
