//! A client of several servers: it talks to one of them until that one fails, and then to the next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio_rustls::TlsConnector;

use super::{PATIENCE, PAUSE, TOKEN};

/// Where servers are, and how to speak to them.
pub(super) struct Fleet {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) connector: TlsConnector,
}

/// There was no answer, or none that says what came of the request.
pub(super) type Lost = Box<dyn std::error::Error + Send + Sync>;

/// See the module's documentation.
pub(super) struct Client {
    fleet: Arc<Fleet>,
    at: usize,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// An answer that came in the end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: StatusCode,
    pub(super) body: Value,
    /// Whether nobody knows what came of an earlier attempt.
    pub(super) tried: bool,
}

impl Client {
    /// A client that begins with server `first`.
    pub(super) fn new(fleet: Arc<Fleet>, first: usize) -> Self {
        let at = first % fleet.addresses.len();
        Self { fleet, at, connection: None }
    }

    /// Goes over to the next server.
    pub(super) fn leave(&mut self) {
        self.at = (self.at + 1) % self.fleet.addresses.len();
        self.connection = None;
    }

    /// One attempt, of which the body is not read.
    pub(super) async fn open(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<http::Response<Incoming>, Lost> {
        let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.fleet.addresses[self.at]))
            .header("accept", "application/json")
            .header("content-type", media)
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(Full::new(bytes))?;
        let mut connection = match &self.connection {
            Some(connection) => connection.clone(),
            None => self.connect().await?,
        };
        connection.ready().await?;
        Ok(connection.send_request(request).await?)
    }

    async fn connect(&mut self) -> Result<SendRequest<Full<Bytes>>, Lost> {
        let stream = tokio::net::TcpStream::connect(self.fleet.addresses[self.at]).await?;
        let stream = self.fleet.connector.connect(ServerName::try_from("127.0.0.1")?, stream).await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::task::spawn(connection);
        Ok(self.connection.insert(sender).clone())
    }

    /// One attempt, with its answer read to the end.
    pub(super) async fn send(&mut self, method: &str, path: &str, body: &Value) -> Result<(StatusCode, Value), Lost> {
        let whole = async {
            let (head, body) = self.open(method, path, body).await?.into_parts();
            Ok::<_, Lost>((head.status, serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap_or_default()))
        };
        let answer = tokio::time::timeout(PATIENCE, whole).await.unwrap_or_else(|late| Err(late.into()));
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    /// Asks server after server until one answers for good.
    pub(super) async fn answer(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let (mut tried, deadline) = (false, Instant::now() + PATIENCE);
        loop {
            let answer = self.send(method, path, body).await;
            match answer {
                Ok((code, body)) if !is_passing(code) => return Answer { code, body, tried },
                answer => assert!(Instant::now() < deadline, "{method} {path}: {answer:?}"),
            }
            tried = true;
            self.leave();
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What a server says that cannot do its work just then.
fn is_passing(code: StatusCode) -> bool {
    code.is_server_error() || code == StatusCode::TOO_MANY_REQUESTS
}
