//! The generic registry: every built-in resource through one engine, driven by the schema table and a strategy.
//!
//! Architecture invariant: nothing here names a kind; what a kind does on its own lives in `special/`.

use std::{net::Ipv4Addr, ops::RangeInclusive, sync::Arc, time::Duration};

use api::Status;
use axum::body::Body;
use daemon::Tasks;
use ipnet::Ipv4Net;
use store::Store;

use crate::admission::Plugin;
use crate::request::{Context, ResourcePath};

/// What the registry has to be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where cluster IPs come from.
    pub service_ips: Ipv4Net,
    /// Where node ports come from.
    pub node_ports: RangeInclusive<u16>,
    /// How long events live.
    pub event_ttl: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service_ips: Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16),
            node_ports: 30_000..=32_767,
            event_ttl: Duration::from_secs(60 * 60),
        }
    }
}

/// The registry of every built-in resource.
pub struct Registry {
    #[expect(dead_code, reason = "the engine lands in the next step")]
    store: Arc<dyn Store>,
    #[expect(dead_code, reason = "the engine lands in the next step")]
    plugins: Vec<Arc<dyn Plugin>>,
}

impl Registry {
    /// A registry over a store. Plug-ins run in the order given; one that reads objects holds an `objects::Handle`,
    /// which its owner binds to the registry.
    pub fn new(store: Arc<dyn Store>, _config: Config, _tasks: Tasks, plugins: Vec<Arc<dyn Plugin>>) -> Arc<Self> {
        Arc::new(Self { store, plugins })
    }

    /// Fills the caches and rebuilds the allocators; requests wait for it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start(&self) -> Result<(), Status> {
        Ok(())
    }

    /// Answers an authorized request on a resource. Errors are answered in the form the client asked for; warnings are
    /// left in the context for the caller to send.
    pub async fn handle(
        &self,
        _context: Context,
        _path: ResourcePath,
        _request: http::Request<Body>,
    ) -> http::Response<Body> {
        let mut response = http::Response::new(Body::empty());
        *response.status_mut() = http::StatusCode::NOT_IMPLEMENTED;
        response
    }
}
