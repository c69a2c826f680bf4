//! Flags, under upstream's names, and the complete configuration they become.

use std::{path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;
use pki::TokenSigner;

use crate::Error;

/// The flags of the controller manager.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Controllers to run: names, `-name` to leave one out, `*` for all that run by default.
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    pub controllers: Vec<String>,
    /// Take part in leader election before running.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Name of the lease to hold.
    #[arg(long, default_value = "kube-controller-manager")]
    pub leader_elect_resource_name: String,
    /// Namespace of the lease to hold.
    #[arg(long, default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
    /// Give each controller the identity of its own service account.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub use_service_account_credentials: bool,
    /// Address ranges of pods, one per family.
    #[arg(long, value_delimiter = ',')]
    pub cluster_cidr: Vec<IpNet>,
    /// Address ranges of services, one per family.
    #[arg(long, value_delimiter = ',')]
    pub service_cluster_ip_range: Vec<IpNet>,
    /// Allocate pod address ranges to nodes.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub allocate_node_cidrs: bool,
    /// Prefix length of a node's IPv4 range.
    #[arg(long, default_value_t = 24)]
    pub node_cidr_mask_size_ipv4: u8,
    /// Prefix length of a node's IPv6 range.
    #[arg(long, default_value_t = 64)]
    pub node_cidr_mask_size_ipv6: u8,
    /// Between checks of node health.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub node_monitor_period: Duration,
    /// How long a node may be silent before it is marked unhealthy.
    #[arg(long, default_value = "50s", value_parser = duration)]
    pub node_monitor_grace_period: Duration,
    /// The same for a node that has just started.
    #[arg(long, default_value = "1m0s", value_parser = duration)]
    pub node_startup_grace_period: Duration,
    /// Nodes per second that may be marked for eviction in a healthy zone.
    #[arg(long, default_value_t = 0.1)]
    pub node_eviction_rate: f64,
    /// The same in an unhealthy zone.
    #[arg(long, default_value_t = 0.01)]
    pub secondary_node_eviction_rate: f64,
    /// Share of nodes that must be unhealthy for a zone to be.
    #[arg(long, default_value_t = 0.55)]
    pub unhealthy_zone_threshold: f64,
    /// Up to this many nodes a zone is small, and evicts nothing while unhealthy.
    #[arg(long, default_value_t = 50)]
    pub large_cluster_size_threshold: usize,
    /// Ended pods that may exist before the oldest are deleted.
    #[arg(long, default_value_t = 12500)]
    pub terminated_pod_gc_threshold: usize,
    /// File with the certificates to publish in every namespace.
    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    /// File with the key that signs service accounts' tokens that are kept in secrets.
    #[arg(long)]
    pub service_account_private_key_file: Option<PathBuf>,
    /// How long such a token that was made unasked stays unused before it is taken out of use, and then before it is deleted.
    #[arg(long, default_value = "8760h0m0s", value_parser = duration)]
    pub legacy_service_account_token_clean_up_period: Duration,
    /// File with the certificate that signs requests.
    #[arg(long, requires = "cluster_signing_key_file")]
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// File with its key.
    #[arg(long, requires = "cluster_signing_cert_file")]
    pub cluster_signing_key_file: Option<PathBuf>,
    /// How long signed certificates hold at most.
    #[arg(long, default_value = "8760h0m0s", value_parser = duration)]
    pub cluster_signing_duration: Duration,
    /// How long controllers may take to end.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub controller_shutdown_timeout: Duration,
}

/// Everything the controllers need to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// As `--controllers`.
    pub controllers: Vec<String>,
    /// Without it the controllers run at once.
    pub leader_election: Option<LeaderElection>,
    /// Ranges to give nodes parts of; empty when node ranges are not allocated here.
    pub node_cidrs: Vec<IpNet>,
    /// Service ranges, which node ranges must not overlap.
    pub service_cidrs: Vec<IpNet>,
    /// Prefix length of a node's IPv4 range.
    pub node_mask_ipv4: u8,
    /// Prefix length of a node's IPv6 range.
    pub node_mask_ipv6: u8,
    /// See the flags of the same names.
    pub node_monitor_period: Duration,
    /// How long a node may be silent.
    pub node_monitor_grace_period: Duration,
    /// The same for a node that has just started.
    pub node_startup_grace_period: Duration,
    /// Nodes per second.
    pub node_eviction_rate: f64,
    /// Nodes per second.
    pub secondary_node_eviction_rate: f64,
    /// A share between 0 and 1.
    pub unhealthy_zone_threshold: f64,
    /// Nodes.
    pub large_cluster_size_threshold: usize,
    /// Pods.
    pub terminated_pod_gc_threshold: usize,
    /// PEM certificates to publish; without them the publisher does not run.
    pub root_ca: Option<String>,
    /// What signs certificate requests; without it none are signed.
    pub signing: Option<Signing>,
    /// What signs tokens that are kept in secrets; without it secrets get none.
    pub service_account_key: Option<ServiceAccountKey>,
    /// How long a token that was made unasked may be unused.
    pub token_clean_up_period: Duration,
    /// How long controllers may take to end.
    pub shutdown_timeout: Duration,
}

/// Which lease to hold, as whom.
#[derive(Clone, Debug)]
pub struct LeaderElection {
    /// Usually `kube-system`.
    pub namespace: String,
    /// Usually `kube-controller-manager`.
    pub name: String,
    /// Unique per candidate. One that stays the same over restarts takes its own lease back at once.
    pub identity: String,
}

/// The cluster's signing certificate.
#[derive(Clone)]
pub struct Signing {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
    /// How long signed certificates hold at most.
    pub duration: Duration,
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signing").field("duration", &self.duration).finish_non_exhaustive()
    }
}

/// The key of service accounts' tokens.
#[derive(Clone)]
pub struct ServiceAccountKey(pub Arc<TokenSigner>);

impl std::fmt::Debug for ServiceAccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ServiceAccountKey").field(&self.0.key_id()).finish()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            controllers: vec!["*".to_owned()],
            leader_election: None,
            node_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            node_mask_ipv4: 24,
            node_mask_ipv6: 64,
            node_monitor_period: Duration::from_secs(5),
            node_monitor_grace_period: Duration::from_secs(50),
            node_startup_grace_period: Duration::from_secs(60),
            node_eviction_rate: 0.1,
            secondary_node_eviction_rate: 0.01,
            unhealthy_zone_threshold: 0.55,
            large_cluster_size_threshold: 50,
            terminated_pod_gc_threshold: 12500,
            root_ca: None,
            signing: None,
            service_account_key: None,
            token_clean_up_period: Duration::from_hours(8760),
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

impl Args {
    /// Reads the files that flags name. `identity` is this candidate's in the leader election.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn into_config(self, identity: String) -> Result<Config, Error> {
        let election = LeaderElection {
            namespace: self.leader_elect_resource_namespace,
            name: self.leader_elect_resource_name,
            identity,
        };
        let signing = match (self.cluster_signing_cert_file, self.cluster_signing_key_file) {
            (Some(certificate), Some(key)) => Some(Signing {
                certificate: read(&certificate)?,
                key: read(&key)?,
                duration: self.cluster_signing_duration,
            }),
            _ => None,
        };
        let key = self.service_account_private_key_file.as_deref().map(TokenSigner::load).transpose();
        let key = key.map_err(Error::ServiceAccountKey)?;
        Ok(Config {
            controllers: self.controllers,
            leader_election: self.leader_elect.then_some(election),
            node_cidrs: if self.allocate_node_cidrs { self.cluster_cidr } else { Vec::new() },
            service_cidrs: self.service_cluster_ip_range,
            node_mask_ipv4: self.node_cidr_mask_size_ipv4,
            node_mask_ipv6: self.node_cidr_mask_size_ipv6,
            node_monitor_period: self.node_monitor_period,
            node_monitor_grace_period: self.node_monitor_grace_period,
            node_startup_grace_period: self.node_startup_grace_period,
            node_eviction_rate: self.node_eviction_rate,
            secondary_node_eviction_rate: self.secondary_node_eviction_rate,
            unhealthy_zone_threshold: self.unhealthy_zone_threshold,
            large_cluster_size_threshold: self.large_cluster_size_threshold,
            terminated_pod_gc_threshold: self.terminated_pod_gc_threshold,
            root_ca: self.root_ca_file.as_ref().map(read).transpose()?,
            signing,
            service_account_key: key.map(|key| ServiceAccountKey(Arc::new(key))),
            token_clean_up_period: self.legacy_service_account_token_clean_up_period,
            shutdown_timeout: self.controller_shutdown_timeout,
        })
    }
}

fn read(path: &PathBuf) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::File { path: path.display().to_string(), source })
}

fn duration(text: &str) -> Result<Duration, String> {
    api::time::go_duration(text).ok_or_else(|| format!("invalid duration {text:?}"))
}
