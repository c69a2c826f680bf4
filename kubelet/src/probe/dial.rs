//! Requests and connections to containers, for probes and hooks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

pub(super) const USER_AGENT: &str = "kube-probe/1.37";
/// Answers are read so far.
const MAX_BODY_BYTES: usize = 10 * 1024;
const MAX_REDIRECTS: usize = 10;

pub(crate) struct HttpTarget {
    url: Url,
    headers: Vec<(String, String)>,
}

pub(crate) struct Answer {
    pub status: u16,
    pub body: String,
    location: Option<String>,
}

/// A number, or the name of one of the container's ports.
fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|p| p.name.as_deref() == Some(name)).map(|p| p.container_port);
            named.or_else(|| name.parse().ok())
        }
    };
    let number = number.ok_or_else(|| format!("port name not found for container {}", container.name))?;
    u16::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

pub(super) fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

pub(crate) fn http_target(get: &HTTPGetAction, container: &Container, ip: Option<&str>) -> Result<HttpTarget, String> {
    let scheme = get.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let host = get.host.as_deref().filter(|host| !host.is_empty()).or(ip).unwrap_or_default();
    let port = port(&get.port, container)?;
    let base = format!("{scheme}://{}", join(host, port));
    let path = get.path.as_deref().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let url = Url::parse(&format!("{base}{path}")).map_err(|error| format!("{base}{path}: {error}"))?;
    let headers = get.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect();
    Ok(HttpTarget { url, headers })
}

pub(crate) fn tcp_target(
    socket: &TCPSocketAction,
    container: &Container,
    ip: Option<&str>,
) -> Result<(String, u16), String> {
    let host = socket.host.as_deref().filter(|host| !host.is_empty()).or(ip).unwrap_or_default();
    Ok((host.to_owned(), port(&socket.port, container)?))
}

/// Errors read as Go's.
pub(crate) async fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let address = join(host, port);
    match tokio::time::timeout(timeout, TcpStream::connect(&address)).await {
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
        Ok(Err(error)) => Err(format!("dial tcp {address}: connect: {}", reason(&error))),
        Ok(Ok(stream)) => Ok(stream),
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        _ => error.to_string(),
    }
}

/// A GET that follows redirects on the same host only.
pub(crate) async fn get(target: &HttpTarget, timeout: Duration) -> Result<Answer, String> {
    let late = |url: &Url| {
        format!("Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)", url.as_str())
    };
    let follow = async {
        let mut url = target.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let answer = once(&url, &target.headers, timeout)
                .await
                .map_err(|error| format!("Get {:?}: {error}", url.as_str()))?;
            let next = answer.location.as_deref().and_then(|location| url.join(location).ok());
            match next.filter(|next| (300..400).contains(&answer.status) && next.host() == url.host()) {
                Some(next) => url = next,
                None => return Ok(answer),
            }
        }
        Err(format!("Get {:?}: stopped after {MAX_REDIRECTS} redirects", url.as_str()))
    };
    tokio::time::timeout(timeout, follow).await.unwrap_or_else(|_| Err(late(&target.url)))
}

async fn once(url: &Url, headers: &[(String, String)], timeout: Duration) -> Result<Answer, String> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let stream = connect(host, url.port_or_known_default().unwrap_or(80), timeout).await?;
    if url.scheme() == "https" {
        let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let stream = tls_connector().connect(name, stream).await.map_err(|error| error.to_string())?;
        return exchange(stream, url, headers).await;
    }
    exchange(stream, url, headers).await
}

async fn exchange<S>(stream: S, url: &Url, headers: &[(String, String)]) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let request = request(url, headers)?;
    let talk = async {
        let answer = sender.send_request(request).await.map_err(text)?;
        let status = answer.status().as_u16();
        let location = answer.headers().get(http::header::LOCATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let mut body = answer.into_body();
        let mut read = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            read.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
            if read.len() >= MAX_BODY_BYTES {
                read.truncate(MAX_BODY_BYTES);
                break;
            }
        }
        Ok(Answer { status, body: String::from_utf8_lossy(&read).into_owned(), location })
    };
    // The connection moves the bytes; the exchange ends first.
    tokio::pin!(talk);
    tokio::select! {
        answer = &mut talk => answer,
        ended = connection => match ended {
            Ok(()) => talk.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

fn request(url: &Url, headers: &[(String, String)]) -> Result<http::Request<Empty<Bytes>>, String> {
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let has = |wanted: &str| headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
    let mut builder = http::Request::get(path).header(http::header::CONNECTION, "close");
    for (name, value) in
        headers.iter().filter(|(name, value)| !(value.is_empty() && name.eq_ignore_ascii_case("accept")))
    {
        builder = builder.header(name, value);
    }
    if !has("host") {
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        builder = builder.header(http::header::HOST, host);
    }
    if !has("user-agent") {
        builder = builder.header(http::header::USER_AGENT, USER_AGENT);
    }
    if !has("accept") {
        builder = builder.header(http::header::ACCEPT, "*/*");
    }
    builder.body(Empty::new()).map_err(|error| error.to_string())
}

/// A probe asks whether something answers, not who: the certificate is not checked, as upstream does not.
fn tls_connector() -> TlsConnector {
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[derive(Debug)]
struct AnyCertificate;

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn container() -> Container {
        serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]})).unwrap()
    }

    #[test]
    fn targets() {
        for (get, expected) in [
            (json!({"port": 80}), Ok("http://10.0.0.1/")),
            (json!({"port": "web", "path": "/h?x=1"}), Ok("http://10.0.0.1:8080/h?x=1")),
            (json!({"port": 1, "path": "h", "scheme": "HTTPS", "host": "h"}), Ok("https://h:1/h")),
            (json!({"port": "none"}), Err("port name not found for container c")),
        ] {
            let action: HTTPGetAction = serde_json::from_value(get.clone()).unwrap();
            let target = http_target(&action, &container(), Some("10.0.0.1")).map(|t| t.url.to_string());
            assert_eq!(target, expected.map(str::to_owned).map_err(str::to_owned), "{get}");
        }
    }

    #[tokio::test]
    async fn a_request() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let read = stream.read(&mut head).await.unwrap();
            stream.write_all(b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
            String::from_utf8_lossy(&head[..read]).into_owned()
        };
        let action: HTTPGetAction = serde_json::from_value(json!({"port": port, "path": "/h"})).unwrap();
        let target = http_target(&action, &container(), Some("127.0.0.1")).unwrap();
        let (head, answer) = tokio::join!(serve, get(&target, Duration::from_secs(5)));
        assert!(head.starts_with("GET /h HTTP/1.1"), "{head}");
        assert!(head.to_lowercase().contains("user-agent: kube-probe/"), "{head}");
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "no"));
    }

    #[tokio::test]
    async fn a_refused_connection_reads_as_gos() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = connect("127.0.0.1", port, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error, format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
    }
}
