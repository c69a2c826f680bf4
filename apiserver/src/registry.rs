//! The generic registry: every built-in resource through one engine, driven by the schema table and a strategy.
//!
//! ```text
//! handle -> Call (request + Endpoint) -> read | watch | create | update | patch | delete
//!                         |                              |
//!                         v                              v
//!                    Collection: cache, keys        admission, strategy, store
//! ```
//! An [`Endpoint`](resource::Endpoint) is a resource in one version; its `Collection` is what is stored, cached and
//! watched, whatever the version. The type is erased here: all kinds run the same code.
//!
//! Architecture invariant: nothing here names a kind; what a kind does on its own lives in `special/`.

mod call;
mod create;
mod delete;
mod errors;
mod fields;
mod index;
mod matcher;
mod object;
mod options;
mod page;
mod read;
mod resource;
mod route;
mod server;
mod special;
mod table;
mod trees;
mod update;
mod watch;
mod write;
pub(crate) mod yaml;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::{Status, schema};
use daemon::{Drain, Tasks};
use ipnet::IpNet;
use store::Store;

pub use crate::addresses::ServiceRanges;
use crate::admission::Chain;
use crate::answer::{self, Request, Response};
use crate::authorize::Authorizer;
use crate::negotiate;
use crate::objects::Objects;
use crate::request::{Context, ResourcePath};

pub(crate) use fields::manager_of;
pub(crate) use object::Head;
use resource::Endpoint;

#[cfg(test)]
pub(crate) mod tests;

/// What the registry has to be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where cluster IPs come from.
    pub service_ips: ServiceRanges,
    /// Where node ports come from.
    pub node_ports: RangeInclusive<u16>,
    /// How long events live.
    pub event_ttl: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service_ips: IpNet::new_assert(Ipv4Addr::new(10, 96, 0, 0).into(), 16).into(),
            node_ports: 30_000..=32_767,
            event_ttl: Duration::from_secs(60 * 60),
        }
    }
}

/// The registry of every built-in resource.
pub struct Registry {
    store: Arc<dyn Store>,
    plugins: Chain,
    authorizer: Arc<dyn Authorizer>,
    drain: Drain,
    /// By plural resource; a few entries share one.
    endpoints: HashMap<&'static str, Vec<Arc<Endpoint>>>,
}

impl Registry {
    /// A registry over a store. A plug-in that reads objects holds an `objects::Handle`, which its owner binds to the
    /// registry. `authorizer` is asked about a PUT that creates.
    pub fn new(
        store: Arc<dyn Store>,
        config: Config,
        tasks: Tasks,
        authorizer: Arc<dyn Authorizer>,
        plugins: Chain,
    ) -> Arc<Self> {
        let mut endpoints: HashMap<&'static str, Vec<Arc<Endpoint>>> = HashMap::new();
        for endpoint in resource::endpoints(schema::table(), &store, &config, &tasks) {
            endpoints.entry(endpoint.table.name).or_default().push(endpoint);
        }
        let registry = Arc::new(Self { store, plugins, authorizer, drain: tasks.drain().clone(), endpoints });
        let objects: Weak<dyn Objects> = Arc::<Self>::downgrade(&registry);
        for endpoint in registry.endpoints.values().flatten() {
            endpoint.collection.hooks.bind(objects.clone());
        }
        registry
    }

    /// Waits until every cache holds what is stored. Requests before that would find nothing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start(&self) -> Result<(), Status> {
        for endpoint in self.endpoints.values().flatten() {
            endpoint.collection.cache.ready().await;
        }
        Ok(())
    }

    /// Answers an authorized request on a resource. Errors are answered as a `Status`; warnings are left in the context
    /// for the caller to send.
    pub async fn handle(&self, context: &Context, path: &ResourcePath, request: Request) -> Response {
        let pretty = answer::is_pretty(request.uri().query(), request.headers());
        let style = negotiate::style(request.headers(), pretty);
        answer::unless_refused(self.answer(context, path, request, pretty).await, style)
    }

    /// The endpoint that serves a resource in a version.
    fn endpoint(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Endpoint>> {
        let found = self.endpoints.get(resource)?;
        found.iter().find(|endpoint| endpoint.table.group == group && endpoint.table.version == version)
    }

    /// The endpoint of a resource in its stored version.
    fn preferred(&self, group: &str, resource: &str) -> Option<&Arc<Endpoint>> {
        let found = self.endpoints.get(resource)?;
        found.iter().find(|endpoint| endpoint.table.group == group && endpoint.conversion.is_none())
    }
}
