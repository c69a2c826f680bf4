//! The client against servers on this machine, over TLS.

#![expect(clippy::disallowed_methods, reason = "a test's tasks end with it")]

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt as _, future, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::Bytes;
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::{TlsAcceptor, rustls};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

type Answer = Result<Response<BoxBody<Bytes, Infallible>>, Infallible>;

/// Says by which protocol it was asked, except at `/watch`, whose answer has no end.
async fn answer(request: Request<Incoming>) -> Answer {
    let version = Bytes::from(format!("{:?}", request.version()));
    if request.uri().path() != "/watch" {
        return Ok(Response::new(Full::new(version).boxed()));
    }
    let frames = stream::iter([Ok(Frame::data(version))]).chain(stream::pending());
    Ok(Response::new(BoxBody::new(StreamBody::new(frames))))
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(u32::try_from(STREAMS_MAX).unwrap());
    let service = hyper::service::service_fn(answer);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

struct Server {
    port: u16,
    certificate: Vec<u8>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(protocols: &[&str]) -> Self {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let builder = rustls::ServerConfig::builder().with_no_client_auth();
        let mut tls = builder.with_single_cert(vec![own.cert.der().clone()], key).unwrap();
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(acceptor.clone(), stream));
            }
        });
        Self { port, certificate: own.cert.der().to_vec(), connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn client(&self, port: u16, patience: Patience) -> Client {
        let mut config = Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
        config.root_cert = Some(vec![self.certificate.clone()]);
        with_patience(&config, patience).unwrap()
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("an answer in time")
}

/// An answer that goes on, once it has begun.
async fn watch(client: &Client) -> Body {
    let mut body = in_time(client.send(get("/watch"))).await.unwrap().into_body();
    assert!(in_time(body.frame()).await.unwrap().unwrap().is_data());
    body
}

async fn watches(client: &Client, count: usize) -> Vec<Body> {
    let mut open = Vec::new();
    for _ in 0..count {
        open.push(watch(client).await);
    }
    open
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

async fn protocol(client: &Client) -> String {
    let request = Request::get("/").body(Vec::new()).unwrap();
    in_time(client.request_text(request)).await.unwrap()
}

#[tokio::test]
async fn watches_share_connections_and_hold_up_nothing() {
    let server = Server::start(&["h2", "http/1.1"]).await;
    let client = server.client(server.port, PATIENCE);
    assert_eq!(protocol(&client).await, "HTTP/2.0");
    let open = watches(&client, STREAMS_MAX).await;
    assert_eq!(server.connections(), 1);
    let more = watches(&client, 5).await;
    assert_eq!(protocol(&client).await, "HTTP/2.0");
    assert_eq!(server.connections(), 2, "the first one is full");
    // What has ended makes room.
    drop((open, more));
    let again = watches(&client, STREAMS_MAX).await;
    assert_eq!(server.connections(), 2);
    drop(again);
}

#[tokio::test]
async fn the_first_requests_come_all_at_once() {
    let server = Server::start(&["h2", "http/1.1"]).await;
    let client = server.client(server.port, PATIENCE);
    let open = future::join_all((0..STREAMS_MAX - 1).map(|_| watch(&client))).await;
    let made = server.connections();
    assert_eq!(protocol(&client).await, "HTTP/2.0");
    assert_eq!(server.connections(), made, "one that is there is taken");
    drop(open);
}

#[tokio::test]
async fn a_server_without_http_2_is_spoken_to_as_well() {
    let server = Server::start(&["http/1.1"]).await;
    let client = server.client(server.port, PATIENCE);
    let open = watches(&client, 3).await;
    assert_eq!(protocol(&client).await, "HTTP/1.1");
    assert_eq!(protocol(&client).await, "HTTP/1.1");
    assert_eq!(server.connections(), 4);
    drop(open);
}

/// A way to the server. Once cut, what is on it gets nowhere, and nobody is told.
async fn wire(server: u16) -> (u16, Arc<Notify>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let cut = Arc::new(Notify::new());
    let knife = cut.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let knife = knife.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = knife.notified() => future::pending().await,
                }
            });
        }
    });
    (port, cut)
}

#[tokio::test]
async fn a_dead_connection_is_noticed() {
    let server = Server::start(&["h2", "http/1.1"]).await;
    let (port, cut) = wire(server.port).await;
    let patience = Patience { silence: Duration::from_millis(200), answer: Duration::from_secs(2) };
    let client = server.client(port, patience);
    let open = watch(&client).await;
    cut.notify_waiters();
    assert!(in_time(open.collect()).await.is_err(), "the watch fails");
    assert_eq!(protocol(&client).await, "HTTP/2.0", "by another connection");
    assert_eq!(server.connections(), 2);
}
