//! Flags of a node, shared by `server` and `agent`.

use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::environment;
use crate::paths::{NodePaths, STATE};

/// What a node may be told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NodeArgs {
    /// Where this program keeps its state
    #[arg(long, default_value = STATE)]
    pub(crate) state_dir: PathBuf,
    /// Name of the node; the host's name when absent
    #[arg(long)]
    pub(crate) node_name: Option<String>,
    /// Address of the node; that of the default route when absent
    #[arg(long)]
    pub(crate) node_ip: Option<IpAddr>,
    /// Socket of a running containerd; one is started when absent and none runs
    #[arg(long)]
    pub(crate) containerd: Option<PathBuf>,
    /// Range of pod addresses
    #[arg(long, default_value = "10.244.0.0/16")]
    pub(crate) cluster_cidr: String,
    /// Address of cluster DNS
    #[arg(long, default_value = "10.96.0.10")]
    pub(crate) cluster_dns: IpAddr,
    /// The cluster's domain
    #[arg(long, default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// Directory of static pods' manifests
    #[arg(long, default_value = "/etc/ironclad/manifests")]
    pub(crate) pod_manifest_path: PathBuf,
    /// A flag for the kubelet, without dashes: max-pods=50
    #[arg(long)]
    pub(crate) kubelet_arg: Vec<String>,
    /// A flag for kube-proxy, without dashes
    #[arg(long)]
    pub(crate) proxy_arg: Vec<String>,
}

/// A node, complete.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    /// URL of the API server.
    pub(crate) server: String,
    pub(crate) token: Option<pki::JoinToken>,
    pub(crate) paths: NodePaths,
    /// Where containerd listens.
    pub(crate) socket: PathBuf,
    /// Whether a containerd of our own may be started.
    pub(crate) own_containerd: bool,
    pub(crate) cluster_cidr: String,
    pub(crate) cluster_dns: IpAddr,
    pub(crate) cluster_domain: String,
    pub(crate) manifests: PathBuf,
    pub(crate) kubelet_args: Vec<String>,
    pub(crate) proxy_args: Vec<String>,
}

impl NodeArgs {
    /// Fills in what was not given.
    pub(crate) fn settings(&self, server: String, token: Option<pki::JoinToken>) -> Result<Settings> {
        Ok(Settings {
            name: self.name()?,
            address: self.address()?,
            server,
            token,
            paths: NodePaths::new(&self.state_dir),
            socket: self.containerd.clone().unwrap_or_else(|| super::containerd::SOCKET.into()),
            own_containerd: self.containerd.is_none(),
            cluster_cidr: self.cluster_cidr.clone(),
            cluster_dns: self.cluster_dns,
            cluster_domain: self.cluster_domain.clone(),
            manifests: self.pod_manifest_path.clone(),
            kubelet_args: self.kubelet_arg.clone(),
            proxy_args: self.proxy_arg.clone(),
        })
    }

    pub(crate) fn name(&self) -> Result<String> {
        self.node_name.clone().map_or_else(environment::host_name, Ok)
    }

    pub(crate) fn address(&self) -> Result<IpAddr> {
        self.node_ip.map_or_else(default_address, Ok)
    }
}

/// The address that packets to elsewhere leave with. Nothing is sent: connecting a UDP socket only looks up the route.
fn default_address() -> Result<IpAddr> {
    let look_up = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    };
    let address = look_up().context("cannot find this host's address (no default route?); give --node-ip")?;
    Ok(address.ip())
}
