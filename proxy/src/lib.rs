//! kube-proxy in iptables mode: Services become rules, with upstream's chains and flags.
//!
//! ```text
//! Services, EndpointSlices, this Node -> dirty keys -> track (pure: a Service and its slices -> ports with endpoints)
//!   -> rules (pure: -> chains) -> transaction (pure: what differs) -> one iptables-restore -> conntrack, health checks
//! ```
//!
//! Constraints, in order: traffic is never without rules (a change is one transaction); a change carries what differs
//! and nothing else; before the first complete lists nothing is written, so that a restart changes nothing; what
//! another program removed is put back.

mod conntrack;
mod health;
mod iptables;
mod rules;
mod sync;
mod track;
mod transaction;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use daemon::{Drain, Tasks};
use ipnet::Ipv4Net;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Client, runtime::watcher};
use reconcile::{Change, Index, Informers, Queue};
use tracing::warn;

use self::{
    health::Health,
    sync::{Caches, Proxier},
    track::ServiceKey,
};

/// kube-proxy's flags, as far as they have an effect in iptables mode.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The range that all pods' addresses come from; traffic from elsewhere to a cluster IP is masqueraded
    #[arg(long)]
    pub cluster_cidr: Option<Ipv4Net>,
    /// Masquerade all traffic to cluster IPs
    #[arg(long)]
    pub masquerade_all: bool,
    /// Where /healthz and /livez are served
    #[arg(long, default_value = "0.0.0.0:10256")]
    pub healthz_bind_address: SocketAddr,
    /// Let node ports be reached on 127.0.0.1
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub iptables_localhost_nodeports: bool,
    /// Accept node port traffic only on addresses in these ranges; all local addresses when empty
    #[arg(long, value_delimiter = ',')]
    pub nodeport_addresses: Vec<Ipv4Net>,
}

/// The proxy's complete configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The Node that this proxy serves: its endpoints are the local ones.
    pub node_name: String,
    /// See [`Args`].
    pub cluster_cidr: Option<Ipv4Net>,
    /// See [`Args`].
    pub masquerade_all: bool,
    /// See [`Args`].
    pub healthz_bind_address: SocketAddr,
    /// See [`Args`].
    pub localhost_nodeports: bool,
    /// See [`Args`].
    pub nodeport_addresses: Vec<Ipv4Net>,
}

impl Config {
    /// The configuration that the flags say.
    pub fn new(node_name: impl Into<String>, args: Args) -> Self {
        Self {
            node_name: node_name.into(),
            cluster_cidr: args.cluster_cidr,
            masquerade_all: args.masquerade_all,
            healthz_bind_address: args.healthz_bind_address,
            localhost_nodeports: args.iptables_localhost_nodeports,
            nodeport_addresses: args.nodeport_addresses,
        }
    }
}

/// Why the proxy cannot serve, or a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is missing or cannot be started.
    #[error("cannot run {program}; is the package {package} installed?")]
    Start {
        /// The program.
        program: &'static str,
        /// Debian's package.
        package: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel's tables refused a change.
    #[error("{program} refused the change: {message}")]
    Refused {
        /// The program.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

const JOIN: Duration = Duration::from_secs(5);
/// How long the start waits for the Node.
const PATIENCE: Duration = Duration::from_secs(5);
const ZONE: &str = "topology.kubernetes.io/zone";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Serves until the drain. Rules stay when it ends: traffic goes on over a restart.
///
/// # Errors
/// When the health address cannot be listened on. Changes that fail are logged and tried again.
pub async fn run(config: Config, client: Client, drain: Drain) -> Result<(), Error> {
    let tasks = Tasks::new(drain.clone());
    let informers = Informers::new(client, tasks.clone());
    let health = Health::serve(config.healthz_bind_address, &tasks).await?;
    let services = informers.of::<Service>();
    let slices = informers.of::<EndpointSlice>();
    let slices_of = Index::new(&slices, |slice: &EndpointSlice| service_of(slice).into_iter().collect());
    let own = watcher::Config::default().fields(&format!("metadata.name={}", config.node_name));
    let node = informers.of_selected::<Node>(own, None);
    let queue = Arc::new(Queue::new());
    let changed = queue.clone();
    services.handle(move |change| changed.add(key_of(change.object())));
    let changed = queue.clone();
    slices.handle(move |change| slice_changed(change, &changed));
    let (changed, all) = (queue.clone(), services.clone());
    node.handle(move |change| {
        if moved(change) {
            all.list().iter().for_each(|service| changed.add(key_of(service)));
        }
    });
    let work = async {
        services.synced().await;
        slices.synced().await;
        // Without the node nothing is known to be near; services work all the same.
        if tokio::time::timeout(PATIENCE, node.synced()).await.is_err() {
            warn!(node = config.node_name, "the node is not known yet, so neither is its zone");
        }
        let look = |key: &ServiceKey| services.get(&key.0, &key.1).map(|s| (s, slices_of.get(key)));
        let name = config.node_name.clone();
        let zone = || node.get("", &name).map(|node| zone_of(&node)).unwrap_or_default();
        Proxier::new(config, health, tasks.clone()).follow(&queue, Caches { look, zone }).await;
    };
    drain.run(work).await;
    if let Err(late) = tasks.join(JOIN).await {
        warn!(%late, "ending anyway");
    }
    Ok(())
}

/// Another zone may have other endpoints near.
fn moved(change: &Change<Node>) -> bool {
    match change {
        Change::Updated { old, new } => zone_of(old) != zone_of(new),
        Change::Added(node) | Change::Deleted(node) => !zone_of(node).is_empty(),
    }
}

fn zone_of(node: &Node) -> String {
    node.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE)).cloned().unwrap_or_default()
}

fn slice_changed(change: &Change<EndpointSlice>, queue: &Queue<ServiceKey>) {
    if let Change::Updated { old, .. } = change {
        service_of(old).into_iter().for_each(|key| queue.add(key));
    }
    service_of(change.object()).into_iter().for_each(|key| queue.add(key));
}

fn key_of(service: &Service) -> ServiceKey {
    let meta = &service.metadata;
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn service_of(slice: &EndpointSlice) -> Option<ServiceKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some((slice.metadata.namespace.clone()?, name.clone()))
}
