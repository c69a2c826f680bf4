//! Cluster DNS: every record of the Kubernetes DNS specification (1.1.0), everything else forwarded.
//!
//! ```text
//! Services, EndpointSlices, Namespaces -> index -> zone (pure: question -> records) -> message -> server (UDP, TCP)
//!                                                        \-> not ours -> forwarder -> upstream servers
//! ```
//!
//! Constraints, in order: a question about the cluster never leaves it; the index follows single changes and is never
//! rebuilt as a whole; nothing is answered before the first complete list; every queue is bounded, and a question that
//! finds it full is dropped, as UDP allows.

mod forward;
mod health;
mod index;
mod message;
mod server;
mod zone;

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use daemon::{Drain, Tasks};
use hickory_proto::rr::Name;
use kube::Client;
use reconcile::Informers;
use tracing::{info, warn};

use self::{forward::Forwarder, index::Index, server::Server};

/// Flags of cluster DNS.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The cluster's domain
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Where questions are answered, on UDP and TCP
    #[arg(long, default_value_t = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 53))]
    pub listen: SocketAddr,
    /// Names the servers that get the questions that are not about the cluster
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// Where /health, /ready and /metrics are served
    #[arg(long, default_value_t = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8181))]
    pub health_listen: SocketAddr,
}

/// Complete configuration of cluster DNS.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's domain, fully qualified.
    pub domain: Name,
    /// Where questions are answered.
    pub listen: SocketAddr,
    /// Servers for other questions; empty answers them with a server failure.
    pub upstreams: Vec<SocketAddr>,
    /// Where health is told.
    pub health_listen: SocketAddr,
}

impl Config {
    /// Reads the flags and the resolver file that they name.
    ///
    /// # Errors
    /// When the domain is not a DNS name or the file cannot be read.
    pub fn new(args: Args) -> Result<Self, Error> {
        let domain = Name::from_ascii(format!("{}.", args.cluster_domain.trim_end_matches('.')));
        let domain = domain.map_err(|source| Error::Domain { domain: args.cluster_domain, source })?;
        let text = std::fs::read_to_string(&args.resolv_conf)
            .map_err(|source| Error::ResolvConf { path: args.resolv_conf, source })?;
        let upstreams = forward::upstreams(&text, args.listen);
        Ok(Self { domain, listen: args.listen, upstreams, health_listen: args.health_listen })
    }
}

/// Why cluster DNS cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--cluster-domain` is not a DNS name.
    #[error("the cluster domain {domain:?} is not a DNS name")]
    Domain {
        /// As given.
        domain: String,
        /// Why.
        #[source]
        source: hickory_proto::ProtoError,
    },
    /// `--resolv-conf` cannot be read.
    #[error("cannot read {path}")]
    ResolvConf {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The address is taken or not ours.
    #[error("cannot listen on {address} ({protocol})")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// `udp` or `tcp`.
        protocol: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

const JOIN: Duration = Duration::from_secs(5);

/// Serves until the drain.
///
/// # Errors
/// When an address cannot be listened on.
pub async fn run(config: Config, client: Client, drain: Drain) -> Result<(), Error> {
    let tasks = Tasks::new(drain.clone());
    let informers = Informers::new(client, tasks.clone());
    let index = Arc::new(Index::default());
    let health = health::Health::serve(config.health_listen, &tasks).await?;
    let server = Server::bind(&config, index.clone()).await?;
    if drain.run(index::follow(&index, &informers)).await.is_some() {
        info!(domain = %config.domain, listen = %config.listen, upstreams = ?config.upstreams, "answering");
        health.ready();
        server.serve(&tasks, Arc::new(Forwarder::new(config.upstreams)));
        drain.cancelled().await;
    }
    if let Err(late) = tasks.join(JOIN).await {
        warn!(%late, "ending anyway");
    }
    Ok(())
}
