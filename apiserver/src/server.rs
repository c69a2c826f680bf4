//! A server from its configuration: parts made, wired, filled, then served.
//!
//! ```text
//! store -> registry <- plug-ins, authorizers, tokens (through a handle on the registry's objects)
//!             ^-- front <- connections, in-process clients
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::Status;
use daemon::{Drain, Tasks};
use futures::FutureExt as _;
use rustls::ServerConfig;
use store::Store;
use tokio::net::TcpListener;

use crate::addresses::{self, keep_default_block};
use crate::admission::{Chain, plugins};
use crate::authenticate::{self, Authenticator, ServiceAccounts};
use crate::authorize::{AlwaysAllow, AlwaysDeny, Authorizer, Masters, Rule, Union, node, rbac};
use crate::bootstrap::{Bootstrap, keep_token_tracking};
use crate::config::{AuthorizationMode, Config, Listen};
use crate::connect::Connects;
use crate::discovery::Discovery;
use crate::front::{Flows, Front, Limits, Routes, keep_flow_conditions};
use crate::health::{Check, Flag, Health};
use crate::metrics::Metrics;
use crate::node_ports;
use crate::objects::{self, Handle};
use crate::registry::Registry;
use crate::request::User;
use crate::reviews::Reviews;
use crate::serve::{self, InProcess};

/// How long connections may take to end once they have been asked to.
const CONNECTIONS_END_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the server's own tasks may take after that. The caches' drivers have no end of their own, because they serve open
/// requests to the last, and nothing to finish either.
const TASKS_END_TIMEOUT: Duration = Duration::from_millis(50);
/// How long the first look at all service addresses and node ports may take; upstream's.
const FIRST_REPAIR_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// As configured.
        address: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The serving certificate or the client authority cannot be used.
    #[error("cannot set up TLS")]
    Tls(#[source] pki::Error),
    /// The stored objects cannot be read.
    #[error("cannot load what is stored")]
    Load(#[source] Status),
    /// Addresses or ports of services are in use that are recorded nowhere: they could be given out twice.
    #[error("cannot repair the records of service addresses and node ports within {limit:?}")]
    Repair {
        /// How long it was tried.
        limit: Duration,
    },
    /// A flag names an admission plug-in that does not exist.
    #[error("unknown admission plugin {name:?}")]
    UnknownPlugin {
        /// As given.
        name: String,
    },
}

/// A server that is ready to serve, and already answers in-process clients.
pub struct Server {
    front: Arc<Front>,
    listeners: Vec<TcpListener>,
    tls: Arc<ServerConfig>,
    tasks: Tasks,
}

/// Makes clients inside of this process, see [`Server::client`].
#[derive(Clone)]
pub struct Clients {
    front: Arc<Front>,
}

impl Clients {
    /// A client of one identity. Has to be called on a runtime.
    pub fn client(&self, user: User) -> kube::Client {
        kube::Client::new(InProcess::new(self.front.clone(), user), "default")
    }
}

/// What follows the registry's objects.
struct Followers {
    rbac: rbac::Rbac,
    node: node::Node,
    flows: Flows,
}

impl Server {
    /// Opens the listener, loads what is stored and starts what follows it. `drain` ends [`Server::serve`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start(config: Config, drain: Drain) -> Result<Self, Error> {
        let tls = pki::tls::server(&config.serving, config.client_authority_pem.as_deref()).map_err(Error::Tls)?;
        // `/readyz` fails from the drain on; what looks at it gets time to go elsewhere before anything ends.
        let (stop, stopped) = Drain::new();
        let tasks = Tasks::new(stopped);
        let stopping = tasks.drain().clone();
        tasks.spawn("memory", async move {
            stopping.run(daemon::memory::give_back()).await;
        });
        let (draining, delay) = (drain.clone(), config.shutdown_delay);
        tasks.spawn("shutdown", async move {
            draining.cancelled().await;
            tokio::time::sleep(delay).await;
            stop.start();
        });
        let followers =
            Followers { rbac: rbac::Rbac::default(), node: node::Node::new(node_rules()), flows: Flows::default() };
        let authorizer = authorizer(&config, &followers);
        let handle = Handle::default();
        let plugins = plugins(&config.admission, &handle, &authorizer, &followers.rbac, &tasks)
            .map_err(|name| Error::UnknownPlugin { name })?;
        let chain = Chain::new(plugins);
        let shared = Arc::new(authorizer.clone());
        let registry =
            Registry::new(config.store.clone(), config.registry.clone(), tasks.clone(), shared, chain.clone());
        handle.bind(registry.clone());
        registry.start().await.map_err(Error::Load)?;
        followers.rbac.follow(handle.get(), &tasks);
        followers.node.follow(handle.get(), &tasks);
        followers.flows.follow(handle.get(), &tasks);
        keep_flow_conditions(handle.clone(), &tasks);
        let steps = Steps::default();
        keep_addresses(&config, &handle, &steps, &tasks).await?;
        keep_token_tracking(handle.clone(), steps.token_tracking.clone(), &tasks);
        let bootstrap = Bootstrap::new(&config, handle.clone(), steps.clone());
        let health = health(config.store.clone(), &followers.rbac, &steps, &drain);
        let mut listeners = Vec::new();
        for place in &config.listen {
            listeners.push(listen(place).await?);
        }
        let parts = Parts { authorizer, handle, registry, chain, tasks: tasks.clone(), flows: followers.flows, health };
        let front = Arc::new(front(config, parts)?);
        bootstrap.start(&tasks);
        Ok(Self { front, listeners, tls: Arc::new(tls), tasks })
    }

    /// The addresses that are served.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// A client inside of this process: no socket and no TLS, and the same authorization and admission as any other.
    /// Has to be called on a runtime.
    pub fn client(&self, user: User) -> kube::Client {
        kube::Client::new(InProcess::new(self.front.clone(), user), "default")
    }

    /// What makes such clients while the server serves.
    pub fn clients(&self) -> Clients {
        Clients { front: self.front.clone() }
    }

    /// The server as a service, for tests that look at headers and bodies.
    pub fn service(&self, user: User) -> InProcess {
        InProcess::new(self.front.clone(), user)
    }

    /// Serves until the drain, then lets open requests end.
    ///
    /// # Errors
    /// None at present.
    pub async fn serve(self) -> Result<(), Error> {
        let connections = Tasks::new(self.tasks.drain().clone());
        let serving = self
            .listeners
            .into_iter()
            .map(|listener| serve::serve(listener, self.tls.clone(), self.front.clone(), &connections));
        futures::future::join_all(serving).await;
        if let Err(error) = connections.join(CONNECTIONS_END_TIMEOUT).await {
            tracing::warn!(%error, "ended connections that were still open");
        }
        if let Err(error) = self.tasks.join(TASKS_END_TIMEOUT).await {
            tracing::debug!(%error, "ended the server's tasks");
        }
        Ok(())
    }
}

/// Puts the records of services' addresses and ports right before anybody asks for one, and keeps them so. Upstream serves
/// meanwhile without being ready, and ends when it takes too long; here nothing is served until then, because what is in
/// use and not recorded could be given out a second time.
async fn keep_addresses(config: &Config, handle: &Handle, steps: &Steps, tasks: &Tasks) -> Result<(), Error> {
    let ranges = config.registry.service_ips;
    let alone = !config.shares_store;
    let mut addresses = addresses::Repair::new(handle.clone(), ranges, alone);
    let mut ports =
        node_ports::Repair::new(handle.clone(), config.store.clone(), config.registry.node_ports.clone(), alone);
    let first = async { tokio::join!(addresses.catch_up(), ports.catch_up()) };
    if within(FIRST_REPAIR_TIMEOUT, first, tasks.drain()).await? {
        steps.service_ips.set();
    }
    tasks.spawn("service-address-repair", addresses.run(tasks.drain().clone()));
    tasks.spawn("node-port-repair", ports.run(tasks.drain().clone()));
    keep_default_block(handle.clone(), ranges, steps.service_cidr.clone(), tasks);
    Ok(())
}

/// True when the first repair has come to its end; false when the drain has begun before.
async fn within<T>(limit: Duration, first: impl Future<Output = T>, drain: &Drain) -> Result<bool, Error> {
    match drain.run(tokio::time::timeout(limit, first)).await {
        Some(Ok(_)) => Ok(true),
        Some(Err(_)) => Err(Error::Repair { limit }),
        None => Ok(false),
    }
}

/// Steps of the start that health checks look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps {
    pub(crate) roles: Flag,
    pub(crate) priority_classes: Flag,
    pub(crate) namespaces: Flag,
    pub(crate) flow_control: Flag,
    pub(crate) service: Flag,
    pub(crate) service_ips: Flag,
    pub(crate) service_cidr: Flag,
    pub(crate) token_tracking: Flag,
}

struct Parts {
    authorizer: Union,
    handle: Handle,
    registry: Arc<Registry>,
    chain: Chain,
    tasks: Tasks,
    flows: Flows,
    health: Health,
}

fn front(config: Config, parts: Parts) -> Result<Front, Error> {
    let authenticator = Arc::new(Authenticator::new(
        authenticate::Config {
            anonymous: config.anonymous,
            bootstrap_tokens: config.bootstrap_tokens,
            token_file: config.token_file,
            service_accounts: ServiceAccounts::new(config.service_accounts, config.advertise),
        },
        parts.handle.clone(),
    ));
    let metrics = Arc::new(Metrics::register());
    let reviews = Reviews {
        authenticator: authenticator.clone(),
        authorizer: parts.authorizer.clone(),
        objects: parts.handle.clone(),
        admission: parts.chain.clone(),
    };
    let routes = Routes {
        registry: parts.registry,
        reviews,
        connects: Connects::new(config.kubelet, parts.handle, parts.authorizer.clone(), parts.chain, parts.tasks)
            .map_err(Error::Tls)?,
        discovery: Discovery::new(api::schema::table(), &config.advertise.to_string()),
        health: parts.health,
        authenticator: authenticator.clone(),
    };
    let limits = Limits::new(config.limits, metrics.clone());
    Ok(Front { authenticator, authorizer: parts.authorizer, limits, flows: parts.flows, routes, metrics })
}

fn authorizer(config: &Config, followers: &Followers) -> Union {
    let mut all: Vec<(&'static str, Arc<dyn Authorizer>)> = vec![("masters", Arc::new(Masters))];
    for mode in &config.authorization {
        all.push(match mode {
            AuthorizationMode::Node => ("node", Arc::new(followers.node.clone())),
            AuthorizationMode::Rbac => ("rbac", Arc::new(followers.rbac.clone())),
            AuthorizationMode::AlwaysAllow => ("alwaysallow", Arc::new(AlwaysAllow)),
            AuthorizationMode::AlwaysDeny => ("alwaysdeny", Arc::new(AlwaysDeny)),
        });
    }
    Union::new(all)
}

/// The rules of the recorded `system:node` role.
fn node_rules() -> Vec<Rule> {
    let roles = api::schema::recorded::rbac();
    let is_node = |role: &&api::Value| role["kind"] == "ClusterRole" && api::meta::name(role) == "system:node";
    roles.iter().find(is_node).map(Rule::all_of).unwrap_or_default()
}

async fn listen(listen: &Listen) -> Result<TcpListener, Error> {
    let failed = |address: String| move |source| Error::Listen { address, source };
    match listen {
        Listen::Address(address) => TcpListener::bind(address).await.map_err(failed(address.to_string())),
        Listen::Given(listener) => {
            let failed = || failed("the given socket".to_owned());
            let listener = listener.try_clone().map_err(failed())?;
            listener.set_nonblocking(true).map_err(failed())?;
            TcpListener::from_std(listener).map_err(failed())
        }
    }
}

fn health(store: Arc<dyn Store>, rbac: &rbac::Rbac, steps: &Steps, drain: &Drain) -> Health {
    let ok = |name| Check::new(name, || std::future::ready(Ok(())).boxed());
    let ask_store = move || {
        let store = store.clone();
        async move { store.health().await.map_err(|error| error.to_string()) }.boxed()
    };
    let (rbac, drain) = (rbac.clone(), drain.clone());
    let synced = move || {
        let outcome = if rbac.is_synced() { Ok(()) } else { Err("objects are still being read".to_owned()) };
        std::future::ready(outcome).boxed()
    };
    let running = move || {
        let outcome = if drain.is_draining() { Err("process is shutting down".to_owned()) } else { Ok(()) };
        std::future::ready(outcome).boxed()
    };
    let hook = |name, flag: &Flag| Check::when(name, flag);
    Health::new(vec![
        ok("ping"),
        ok("log"),
        Check::new("etcd", ask_store.clone()),
        Check::new("etcd-readiness", ask_store).only_ready(),
        Check::new("informer-sync", synced).only_ready(),
        hook("poststarthook/start-system-namespaces-controller", &steps.namespaces),
        hook("poststarthook/start-service-ip-repair-controllers", &steps.service_ips),
        hook("poststarthook/rbac/bootstrap-roles", &steps.roles),
        hook("poststarthook/scheduling/bootstrap-system-priority-classes", &steps.priority_classes),
        hook("poststarthook/priority-and-fairness-config-producer", &steps.flow_control),
        hook("poststarthook/bootstrap-controller", &steps.service),
        hook("poststarthook/start-kubernetes-service-cidr-controller", &steps.service_cidr),
        hook("poststarthook/start-legacy-token-tracking-controller", &steps.token_tracking),
        Check::new("shutdown", running).only_ready(),
    ])
}

/// Who the server is to itself, in clients made by [`Server::client`].
pub fn system() -> User {
    objects::system()
}
