//! The pod network between nodes: flannel's job, with flannel's names, so that either can run on a node.
//!
//! A node's pods get addresses of `spec.podCIDR` through the standard CNI plug-ins, whose configuration is written
//! here; packets for another node's pods leave through a VXLAN device. What the other nodes need to know (address and
//! MAC of the device) stands in annotations of the Node.
//!
//! ```text
//! Nodes -> peers (pure) -> plan (pure) -> device: route, neighbour, forwarding entry per peer, over netlink
//! own Node -> CNI configuration, device, masquerading rules, annotations
//! ```
//!
//! Constraints, in order: a peer that has not changed is not touched; a node without a pod network range waits for it;
//! what stood here before a restart is taken over, so that running pods do not notice one.

mod annotations;
mod cni;
mod device;
mod masquerade;
mod plan;

use std::{collections::BTreeSet, net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use daemon::{Drain, Tasks};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use reconcile::{Informer, Informers};
use tokio::{sync::Notify, time::Instant};
use tracing::{info, warn};

use self::{annotations::Peer, device::Device};

/// Flags of the overlay, named as flannel's where it has them.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The range that all pods' addresses come from
    #[arg(long, default_value = "10.244.0.0/16")]
    pub cluster_cidr: Ipv4Net,
    /// The address that other nodes reach this one at; the Node's InternalIP when absent
    #[arg(long)]
    pub public_ip: Option<Ipv4Addr>,
    /// Where the CNI configuration is written
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Leave traffic that leaves the pod network without the node's address
    #[arg(long)]
    pub no_ip_masq: bool,
}

/// The overlay's complete configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The Node that this overlay serves.
    pub node_name: String,
    /// See [`Args`].
    pub cluster_cidr: Ipv4Net,
    /// See [`Args`].
    pub public_ip: Option<Ipv4Addr>,
    /// See [`Args`].
    pub cni_conf_dir: PathBuf,
    /// Traffic from pods to addresses outside of the pod network gets the node's address.
    pub masquerade: bool,
}

impl Config {
    /// The configuration that the flags say.
    pub fn new(node_name: impl Into<String>, args: Args) -> Self {
        Self {
            node_name: node_name.into(),
            cluster_cidr: args.cluster_cidr,
            public_ip: args.public_ip,
            cni_conf_dir: args.cni_conf_dir,
            masquerade: !args.no_ip_masq,
        }
    }
}

/// Why the overlay cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a change.
    #[error("cannot {operation}")]
    Netlink {
        /// What was tried.
        operation: String,
        /// The kernel's answer.
        #[source]
        source: rtnetlink::Error,
    },
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    Socket(#[source] std::io::Error),
    /// No interface has the node's address.
    #[error("no network interface has the address {0}; set --public-ip to an address of this node")]
    NoInterface(Ipv4Addr),
    /// The Node has no address that others could use.
    #[error("node {0} has no IPv4 InternalIP; set --public-ip")]
    NoAddress(String),
    /// The CNI configuration cannot be written.
    #[error("cannot write {path}")]
    Cni {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The firewall refused a change.
    #[error("cannot change the masquerading rules: {0}")]
    Rules(String),
    /// The Node was made again with another range: device, CNI configuration and rules are those of the old one.
    #[error("the pod network range of node {node} is {now} and was {was}; setting up again")]
    Moved {
        /// The Node.
        node: String,
        /// The range that is set up.
        was: Ipv4Net,
        /// The range that the Node has.
        now: Ipv4Net,
    },
    /// The API server refused the annotations.
    #[error("cannot annotate node {node}")]
    Annotate {
        /// The Node.
        node: String,
        /// The API's answer.
        #[source]
        source: Box<kube::Error>,
    },
}

const JOIN: Duration = Duration::from_secs(5);
/// Between looks at the masquerading rules, and between tries of what failed.
const LOOK: Duration = Duration::from_secs(30);

/// Serves until the drain. Device, routes and rules stay when it ends: pods go on over a restart.
///
/// # Errors
/// When the device cannot be made or the Node's own facts cannot be published, or the Node has another range than was
/// set up. A peer that cannot be reached is logged and tried again soon.
pub async fn run(config: Config, client: Client, drain: Drain) -> Result<(), Error> {
    let tasks = Tasks::new(drain.clone());
    let informers = Informers::new(client.clone(), tasks.clone());
    let nodes = informers.of::<Node>();
    let changed = Arc::new(Notify::new());
    let wake = changed.clone();
    nodes.handle(move |_| wake.notify_one());
    let outcome = drain.run(serve(&config, &client, &nodes, &changed)).await.unwrap_or(Ok(()));
    if let Err(late) = tasks.join(JOIN).await {
        warn!(%late, "ending anyway");
    }
    outcome
}

async fn serve(config: &Config, client: &Client, nodes: &Informer<Node>, changed: &Notify) -> Result<(), Error> {
    nodes.synced().await;
    let (own, cidr) = own_node(config, nodes, changed).await;
    let public_ip = config.public_ip.or_else(|| annotations::internal_ip(&own));
    let public_ip = public_ip.ok_or_else(|| Error::NoAddress(config.node_name.clone()))?;
    let device = Device::ensure(public_ip, cidr).await?;
    cni::write(&config.cni_conf_dir, cidr, device.mtu())?;
    if config.masquerade {
        masquerade::ensure(config.cluster_cidr, cidr).await?;
    }
    annotations::publish(client, &config.node_name, public_ip, device.mac()).await?;
    info!(%cidr, %public_ip, mtu = device.mtu(), "the pod network is up");
    Running { config, client, nodes, device, cidr, public_ip }.follow(changed).await
}

async fn own_node(config: &Config, nodes: &Informer<Node>, changed: &Notify) -> (Arc<Node>, Ipv4Net) {
    loop {
        let node = nodes.get("", &config.node_name);
        if let Some((node, cidr)) = node.and_then(|n| annotations::pod_cidr(&n).map(|cidr| (n, cidr))) {
            return (node, cidr);
        }
        changed.notified().await;
    }
}

/// The pod network once it is up.
struct Running<'a> {
    config: &'a Config,
    client: &'a Client,
    nodes: &'a Informer<Node>,
    device: Device,
    cidr: Ipv4Net,
    public_ip: Ipv4Addr,
}

impl Running<'_> {
    async fn follow(&self, changed: &Notify) -> Result<(), Error> {
        let mut applied = self.device.peers().await?;
        let mut due = Instant::now() + LOOK;
        loop {
            self.apply_peers(&mut applied).await;
            if tokio::time::timeout_at(due, changed.notified()).await.is_ok() {
                self.look_at_own().await?;
            }
            // Also when changes never cease.
            if Instant::now() >= due {
                self.look_at_rules().await;
                due = Instant::now() + LOOK;
            }
        }
    }

    async fn apply_peers(&self, applied: &mut BTreeSet<Peer>) {
        let own = &self.config.node_name;
        let others = self.nodes.list().into_iter().filter(|n| n.metadata.name.as_ref() != Some(own));
        let desired: BTreeSet<Peer> = others.filter_map(|n| Peer::of(&n)).collect();
        for action in plan::plan(applied, &desired) {
            match self.device.apply(&action).await {
                Ok(()) => action.note(applied),
                Err(failure) => warn!(error = %with_source(&failure), ?action, "a peer is tried again later"),
            }
        }
    }

    /// A Node that was deleted and made again tells the others nothing, and may have another range.
    async fn look_at_own(&self) -> Result<(), Error> {
        let name = &self.config.node_name;
        let Some(node) = self.nodes.get("", name) else { return Ok(()) };
        match annotations::pod_cidr(&node) {
            // It is on its way.
            None => return Ok(()),
            Some(now) if now != self.cidr => return Err(Error::Moved { node: name.clone(), was: self.cidr, now }),
            Some(_) => {}
        }
        if Peer::of(&node).is_some_and(|told| told.mac == self.device.mac() && told.public_ip == self.public_ip) {
            return Ok(());
        }
        annotations::publish(self.client, name, self.public_ip, self.device.mac()).await
    }

    /// Another program may have emptied the tables.
    async fn look_at_rules(&self) {
        if !self.config.masquerade || masquerade::is_intact(self.config.cluster_cidr, self.cidr).await {
            return;
        }
        warn!("somebody removed the masquerading rules; writing them again");
        if let Err(failure) = masquerade::ensure(self.config.cluster_cidr, self.cidr).await {
            warn!(error = %with_source(&failure), "the masquerading rules are tried again later");
        }
    }
}

fn with_source(error: &Error) -> String {
    let source = std::error::Error::source(error).map(|s| format!(": {s}")).unwrap_or_default();
    format!("{error}{source}")
}
