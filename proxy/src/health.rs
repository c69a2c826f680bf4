//! `/healthz` and `/livez` of the proxy, and the health check ports of Services whose traffic stays local.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use daemon::{Tasks, metrics};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::{
    Error,
    track::{ServiceKey, ServicePort},
};

#[derive(Debug, Default)]
struct State {
    /// The last time that the tables were as wanted.
    updated: Option<Timestamp>,
    failing: bool,
}

/// The proxy's own health. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Arc<Mutex<State>>);

impl Health {
    pub(crate) async fn serve(address: SocketAddr, tasks: &Tasks) -> Result<Self, Error> {
        let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        let health = Self::default();
        let (healthz, livez) = (health.clone(), health.clone());
        let routes = Router::new()
            .route("/healthz", get(move || async move { healthz.answer() }))
            .route("/livez", get(move || async move { livez.answer() }))
            .route("/metrics", get(|| async { ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render()) }));
        let drain = tasks.drain().clone();
        tasks.spawn("proxy health", async move {
            let served = axum::serve(listener, routes).with_graceful_shutdown(async move { drain.cancelled().await });
            if let Err(failure) = served.await {
                warn!(%failure, "health is no longer served");
            }
        });
        Ok(health)
    }

    /// The tables are as wanted, or a change to them failed.
    pub(crate) fn report(&self, good: bool) {
        let mut state = self.0.lock();
        state.failing = !good;
        if good {
            state.updated = Some(daemon::clock::now());
        }
    }

    fn answer(&self) -> (StatusCode, Json<Value>) {
        let state = self.0.lock();
        let good = state.updated.is_some() && !state.failing;
        let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let updated = state.updated.map(|at| at.to_string());
        let body =
            json!({"lastUpdated": updated, "currentTime": daemon::clock::now().to_string(), "nodeEligible": true});
        (code, Json(body))
    }
}

/// One Service's health check.
struct Check {
    port: u16,
    local: Arc<AtomicUsize>,
    _server: AbortOnDropHandle<()>,
}

/// The health check ports that are open.
pub(crate) struct Checks {
    tasks: Tasks,
    open: HashMap<ServiceKey, Check>,
    /// Ports, with their numbers of endpoints, that could not be opened: perhaps another service had them until just now.
    closed: HashMap<ServiceKey, (u16, usize)>,
}

impl Checks {
    pub(crate) fn new(tasks: Tasks) -> Self {
        Self { tasks, open: HashMap::new(), closed: HashMap::new() }
    }

    /// Tries again to open what could not be opened.
    pub(crate) async fn retry(&mut self) {
        for (key, (port, local)) in std::mem::take(&mut self.closed) {
            self.open(&key, port, local).await;
        }
    }

    /// Opens, updates or closes a Service's port.
    pub(crate) async fn set(&mut self, key: &ServiceKey, ports: &[ServicePort]) {
        let wanted = ports.iter().find_map(|p| p.health_check_node_port);
        let local = ports.iter().map(|p| p.local_ready).max().unwrap_or(0);
        self.closed.remove(key);
        let Some(port) = wanted else {
            self.open.remove(key);
            return;
        };
        if let Some(check) = self.open.get(key).filter(|c| c.port == port) {
            check.local.store(local, Ordering::Relaxed);
            return;
        }
        self.open.remove(key);
        self.open(key, port, local).await;
    }

    async fn open(&mut self, key: &ServiceKey, port: u16, local: usize) {
        match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await {
            Ok(listener) => {
                let check = self.start(key, port, local, listener);
                self.open.insert(key.clone(), check);
            }
            Err(error) => {
                warn!(%error, port, service = ?key, "the health check port cannot be opened, trying again later");
                self.closed.insert(key.clone(), (port, local));
            }
        }
    }

    fn start(&self, key: &ServiceKey, port: u16, local: usize, listener: TcpListener) -> Check {
        let local = Arc::new(AtomicUsize::new(local));
        let (count, (namespace, name)) = (local.clone(), key.clone());
        let answer = get(move || async move {
            let local = count.load(Ordering::Relaxed);
            let code = if local > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let service = json!({"namespace": namespace, "name": name});
            (code, Json(json!({"service": service, "localEndpoints": local, "serviceProxyHealthy": true})))
        });
        let routes = Router::new().fallback_service(answer);
        let server = self.tasks.spawn_owned("service health check", async move {
            if let Err(failure) = axum::serve(listener, routes).await {
                warn!(%failure, "a service's health check ended");
            }
        });
        Check { port, local, _server: server }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use daemon::Drain;
    use serde_json::json;

    use super::*;
    use crate::track::{ports, tests::service};

    #[tokio::test]
    async fn a_port_that_was_taken_is_opened_later() {
        let other = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = other.local_addr().unwrap().port();
        let spec = json!({"clusterIP": "10.96.0.7", "healthCheckNodePort": port, "ports": [{"port": 80}]});
        let (key, mut checks) = (("n".to_owned(), "s".to_owned()), Checks::new(Tasks::new(Drain::never())));
        checks.set(&key, &ports(&service(spec), &[], "a")).await;
        assert!(!checks.open.contains_key(&key));
        drop(other);
        // A program that another test has just forked may still hold the listener.
        let opened = async {
            while !checks.closed.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                checks.retry().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), opened).await.expect("the port is free");
        assert!(checks.open.contains_key(&key));
    }
}
