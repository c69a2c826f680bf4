//! HTTP/2 connections to an API server, as a kubeconfig describes it. Nothing here decodes an answer: the generator
//! shares the machine with the server, and should cost little.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

use crate::kubeconfig;

/// As client-go's transport has it, for an answer of several megabytes.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// How objects are encoded, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Protobuf,
}

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Protobuf => "protobuf",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// Of a watch: every event is framed.
    fn stream_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }
}

/// An API server, and who we are to it.
#[derive(Clone)]
pub(crate) struct Target {
    format: Format,
    tls: Arc<ClientConfig>,
    host: String,
    port: u16,
    bearer: Option<String>,
}

impl Target {
    /// From a kubeconfig's current context.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let context = kubeconfig::load(path)?;
        let mut tls = pki::tls::client(&context.ca_pem, context.credential.as_ref())?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let host = context.server.host().context("the server's URL has a host")?.to_owned();
        let bearer = context.token.map(|token| format!("Bearer {token}"));
        Ok(Self {
            format: Format::Json,
            tls: Arc::new(tls),
            host,
            port: context.server.port_u16().unwrap_or(443),
            bearer,
        })
    }

    /// The same server, spoken to in another encoding.
    pub(crate) fn speaking(&self, format: Format) -> Self {
        Self { format, ..self.clone() }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// A connection, driven until the returned owner is dropped.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.host.clone())?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        let mut drivers = JoinSet::new();
        drivers.spawn(async move {
            // Requests see its end themselves.
            let _ = driver.await;
        });
        Ok(Connection { target: self.clone(), sender, _driver: Arc::new(drivers) })
    }
}

/// Carries any number of requests at once; clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    target: Target,
    sender: http2::SendRequest<Full<Bytes>>,
    _driver: Arc<JoinSet<()>>,
}

impl Connection {
    /// Sends; the answer's body is still to be read. A status of failure is an error.
    pub(crate) async fn open(&mut self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let uri = format!("https://{}:{}{path}", self.target.host, self.target.port);
        let format = self.target.format;
        let accept = if path.contains("watch=1") { format.stream_type() } else { format.media_type() };
        let mut request = Request::builder().method(method).uri(uri).header(header::ACCEPT, accept);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, format.media_type());
        }
        if let Some(bearer) = &self.target.bearer {
            request = request.header(header::AUTHORIZATION, bearer);
        }
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(Full::new(body))?).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let text = answer.into_body().collect().await?.to_bytes();
        bail!("{path}: {status}: {}", String::from_utf8_lossy(&text))
    }

    /// Sends and reads the answer to its end; how many bytes it had.
    pub(crate) async fn count(&mut self, method: Method, path: &str, body: Bytes) -> Result<usize> {
        let mut body = self.open(method, path, body).await?.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(bytes)
    }
}
