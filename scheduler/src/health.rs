//! `/healthz`, `/livez`, `/readyz` and `/metrics`.

use std::net::SocketAddr;

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use daemon::{Tasks, metrics};
use tokio::net::TcpListener;
use tracing::warn;

use crate::Error;

pub(crate) async fn serve(address: SocketAddr, tasks: &Tasks) -> Result<(), Error> {
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(|| async { "ok" }))
        .route("/metrics", get(|| async { ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render()) }));
    let drain = tasks.drain().clone();
    tasks.spawn("scheduler health", async move {
        let served = axum::serve(listener, routes).with_graceful_shutdown(async move { drain.cancelled().await });
        if let Err(failure) = served.await {
            warn!(%failure, "health is no longer served");
        }
    });
    Ok(())
}
