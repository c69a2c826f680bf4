//! Sends exactly what it is told, and reads what comes back to its end or for as many events as are asked for.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tokio_rustls::{TlsConnector, rustls::ClientConfig};

/// As client-go's transport has it, for an answer of several megabytes.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// A server that says nothing for this long has hung; what came until then is its answer.
const SILENCE: Duration = Duration::from_secs(5);

/// An answer, read as far as it was asked for.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A connection to a server on this machine.
#[derive(Clone)]
pub(crate) struct Client {
    authority: String,
    sender: http2::SendRequest<Full<Bytes>>,
    _driver: Arc<JoinSet<()>>,
}

impl Client {
    pub(crate) async fn connect(port: u16, ca_pem: &str) -> Result<Self> {
        let mut tls: ClientConfig = pki::tls::client(ca_pem, None)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        let name = "127.0.0.1".try_into()?;
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
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
        Ok(Self { authority: format!("127.0.0.1:{port}"), sender, _driver: Arc::new(drivers) })
    }

    /// Whether the server has ended it.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request whose URI is a path. `lines` bounds what is read of the body.
    pub(crate) async fn send(&mut self, mut request: Request<Bytes>, lines: Option<usize>) -> Result<Answer> {
        let path = request.uri().to_string();
        *request.uri_mut() = format!("https://{}{path}", self.authority).parse()?;
        self.sender.ready().await?;
        let sent = self.sender.send_request(request.map(Full::new));
        let answer = timeout(12 * SILENCE, sent).await.with_context(|| format!("{path}: no answer"))??;
        let (head, body) = answer.into_parts();
        let body = match lines {
            Some(count) => read_lines(body, count).await,
            None => body.collect().await.with_context(|| format!("{path}: the answer broke off"))?.to_bytes(),
        };
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

async fn read_lines(mut body: Incoming, count: usize) -> Bytes {
    let mut read = Vec::new();
    let lines = |read: &[u8]| read.iter().filter(|byte| **byte == b'\n').count();
    while lines(&read) < count {
        match timeout(SILENCE, body.frame()).await {
            Ok(Some(Ok(frame))) => read.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
            _ => break,
        }
    }
    let ends = read.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    if let Some(end) = ends.take(count).last() {
        read.truncate(end);
    }
    read.into()
}
