//! `ironclad server`: a control plane and a node on this host.

use std::net::IpAddr;

use anyhow::{Context, Result};
use daemon::Tasks;

use crate::node::{self, NodeArgs, credentials};
use crate::{environment, server};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Run the control plane only, no node
    #[arg(long)]
    disable_agent: bool,
    /// Port of the API server
    #[arg(long, default_value_t = 6443)]
    secure_port: u16,
    /// Address that others reach the API server at; the node's when absent
    #[arg(long)]
    advertise_address: Option<IpAddr>,
    /// A further name or address of the API server, for its certificate
    #[arg(long)]
    tls_san: Vec<String>,
    /// Range of service addresses
    #[arg(long, default_value = "10.96.0.0/16")]
    service_cluster_ip_range: ipnet::IpNet,
    /// URLs of an etcd cluster to use instead of the embedded store
    #[arg(long, value_delimiter = ',')]
    etcd_servers: Vec<String>,
    /// How many DNS pods to run
    #[arg(long, default_value_t = 1)]
    dns_replicas: u32,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let sockets = environment::handed_in()?;
    let drain = daemon::signals::drain().context("cannot install signal handlers")?;
    let tasks = Tasks::new(drain.clone());
    let settings = server::Settings {
        paths: crate::paths::ServerPaths::new(&args.node.state_dir),
        node_name: args.node.name()?,
        node_address: args.node.address()?,
        advertise_address: args.advertise_address.map_or_else(|| args.node.address(), Ok)?,
        port: args.secure_port,
        sockets: sockets.into_iter().map(|(_, listener)| listener).collect(),
        names: args.tls_san.clone(),
        service_range: args.service_cluster_ip_range,
        cluster_range: args.node.cluster_cidr.parse().context("--cluster-cidr is not a range of addresses")?,
        cluster_dns: args.node.cluster_dns,
        domain: args.node.cluster_domain.clone(),
        etcd_servers: args.etcd_servers.clone(),
        dns_replicas: args.dns_replicas,
    };
    let authority = server::identities::authority(&settings.paths.pki())?;
    if !args.disable_agent {
        let node = args.node.settings(format!("https://127.0.0.1:{}", settings.port), None)?;
        credentials::issue(&authority, &node.paths, &node.name, node.address)?;
        let stop = drain.clone();
        tasks.supervise("node", move || node::run(node.clone(), stop.clone()));
    }
    server::run(settings, tasks).await
}
