//! A server for one test, and a client that sends exactly what it is told.

use std::sync::Arc;
use std::time::Duration;

use apiserver::{Args, Server};
use bytes::Bytes;
use clap::Parser;
use daemon::Drain;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio_rustls::TlsConnector;

/// A connection after its protocol has been switched.
pub(crate) type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

const READY_TIMEOUT: Duration = Duration::from_secs(30);
const ADMIN_TOKEN: &str = "test-admin";
const USER_TOKEN: &str = "test-user";

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    args: Args,
}

/// A running server; it ends when dropped.
pub(crate) struct Running {
    address: std::net::SocketAddr,
    connector: TlsConnector,
    _directory: tempfile::TempDir,
    _stop: daemon::Trigger,
    served: tokio::task::JoinHandle<()>,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Running {
    /// Starts a server on a free port of 127.0.0.1 and waits for `/readyz`.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, _| Vec::new()).await
    }

    /// The same with further flags, made from the server's authority and a directory for files.
    pub(crate) async fn start_with(more: impl FnOnce(&pki::Authority, &std::path::Path) -> Vec<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        let tokens = format!("{ADMIN_TOKEN},admin,1,\"system:masters\"\n{USER_TOKEN},jane,2,\"readers\"\n");
        std::fs::write(path("tokens.csv"), tokens).unwrap();
        let now = daemon::clock::now();
        let authority = pki::Authority::create("test-authority", now).unwrap();
        let serving = authority.issue(&pki::Profile::server("kube-apiserver", ["127.0.0.1"]), now).unwrap();
        serving.store(path("tls.crt").as_ref(), path("tls.key").as_ref()).unwrap();
        let flags = [
            "apiserver".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            "--secure-port=0".to_owned(),
            format!("--tls-cert-file={}", path("tls.crt")),
            format!("--tls-private-key-file={}", path("tls.key")),
            format!("--data-dir={}", path("store")),
            format!("--token-auth-file={}", path("tokens.csv")),
        ];
        let flags = Flags::parse_from(flags.into_iter().chain(more(&authority, directory.path())));
        let (stop, drain) = Drain::new();
        let mut config = flags.args.into_config().await.unwrap();
        // Endpoints may not name a loopback address or port 0.
        let advertise = if config.advertise.is_ipv4() { "192.0.2.1:6443" } else { "[2001:db8::1]:6443" };
        config.advertise = advertise.parse().unwrap();
        let server = Server::start(config, drain).await.unwrap();
        let address = server.addresses()[0];
        let mut tls = pki::tls::client(authority.certificate_pem(), None).unwrap();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connector = TlsConnector::from(Arc::new(tls));
        let served = tokio::task::spawn(async move { server.serve().await.unwrap() });
        let running = Self { address, connector, _directory: directory, _stop: stop, served };
        running.wait_ready().await;
        running
    }

    async fn wait_ready(&self) {
        let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
        loop {
            let answer = self.send(self.request("GET", "/readyz", ""), Bytes::new()).await;
            if answer.code == StatusCode::OK {
                return;
            }
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(tokio::time::Instant::now() < deadline, "not ready: {text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// A request of the administrator (empty user), of "jane" without rights, or with any other text as token.
    pub(crate) fn request(&self, method: &str, path: &str, user: &str) -> http::request::Builder {
        let token = match user {
            "" => ADMIN_TOKEN,
            "jane" => USER_TOKEN,
            other => other,
        };
        http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1")
            .header("user-agent", "test/1.0")
            .header("authorization", format!("Bearer {token}"))
    }

    /// Sends one request on a connection of its own, and keeps the connection when the server switches protocols.
    pub(crate) async fn upgrade(&self, request: http::request::Builder) -> (StatusCode, HeaderMap, Option<Upgraded>) {
        let mut sender = self.connect(&self.connector).await;
        let mut answer = sender.send_request(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
        let (code, headers) = (answer.status(), answer.headers().clone());
        if code != StatusCode::SWITCHING_PROTOCOLS {
            return (code, headers, None);
        }
        (code, headers, Some(TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap())))
    }

    /// Sends one request on a connection of its own.
    pub(crate) async fn send(&self, request: http::request::Builder, body: Bytes) -> Answer {
        let mut sender = self.connect(&self.connector).await;
        let answer = sender.send_request(request.body(Full::new(body)).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { code: head.status, headers: head.headers, body }
    }

    /// A connection, which ends with its sender, or with what comes of an upgrade.
    pub(crate) async fn connect(&self, connector: &TlsConnector) -> SendRequest<Full<Bytes>> {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn(connection.with_upgrades());
        sender
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.served.abort();
    }
}
