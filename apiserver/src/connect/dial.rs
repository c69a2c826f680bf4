//! One HTTP/1.1 connection for each request: these are long or rare, and an upgraded one cannot be shared.

use std::sync::Arc;
use std::time::Duration;

use api::Status;
use daemon::Tasks;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::unavailable;
use crate::answer::{Body, Request};

/// How long it may take to reach the other side.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a request goes.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    /// None is plain HTTP.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// Opens connections.
#[derive(Clone)]
pub(super) struct Dialer {
    tasks: Tasks,
}

impl Place {
    /// As in a `Host` header.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Dialer {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { tasks }
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Sends a request; its URI is a path with a query.
    pub(super) async fn send(&self, place: &Place, request: Request) -> Result<http::Response<Incoming>, Status> {
        let failed = |error: &dyn std::fmt::Display| {
            let authority = place.authority();
            unavailable(format!("error trying to reach service: dial tcp {authority}: {error}"))
        };
        let opened = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect((place.host.as_str(), place.port))).await;
        let stream = opened.map_err(|_| failed(&"i/o timeout"))?.map_err(|error| failed(&error))?;
        let _ = stream.set_nodelay(true);
        let Some(config) = &place.tls else {
            return self.exchange(stream, request).await.map_err(|error| failed(&error));
        };
        let name = ServerName::try_from(place.host.clone()).map_err(|error| failed(&error))?;
        let connecting = TlsConnector::from(config.clone()).connect(name, stream);
        let stream = tokio::time::timeout(DIAL_TIMEOUT, connecting).await;
        let stream = stream.map_err(|_| failed(&"TLS handshake timeout"))?.map_err(|error| failed(&error))?;
        self.exchange(stream, request).await.map_err(|error| failed(&error))
    }

    async fn exchange<S>(&self, stream: S, request: Request) -> Result<http::Response<Incoming>, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream)).await?;
        self.tasks.spawn("proxied-connection", async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a proxied connection ended");
            }
        });
        sender.send_request(request).await
    }
}
