//! `/health`, `/ready` and `/metrics` for the pod's probes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use daemon::{Tasks, metrics};
use tokio::net::TcpListener;
use tracing::error;

use crate::Error;

/// Tells whether questions are answered.
#[derive(Clone, Default)]
pub(crate) struct Health(Arc<AtomicBool>);

impl Health {
    /// Serves at once; ready comes later.
    pub(crate) async fn serve(address: SocketAddr, tasks: &Tasks) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address, protocol: "tcp", source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let health = Self::default();
        let ready = health.clone();
        let routes = Router::new()
            .route("/health", get(|| async { "OK" }))
            .route("/ready", get(move || async move { ready.status() }))
            .route("/metrics", get(|| async { ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render()) }));
        let drain = tasks.drain().clone();
        tasks.spawn("dns health", async move {
            let served = axum::serve(listener, routes).with_graceful_shutdown(async move { drain.cancelled().await });
            if let Err(failure) = served.await {
                error!(%failure, "health is no longer served");
            }
        });
        Ok(health)
    }

    /// Questions are answered from now on.
    pub(crate) fn ready(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn status(&self) -> (StatusCode, &'static str) {
        if self.0.load(Ordering::Relaxed) {
            return (StatusCode::OK, "OK");
        }
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for the API server's lists")
    }
}
