//! The node's HTTPS server: logs, exec, attach, port-forward, pods, statistics.
//!
//! Every request is authenticated (certificate or token) and authorized (by the API server) before its handler runs.
//! Connections are HTTP/1.1: streams upgrade, and nothing here needs more than one request at a time.

mod auth;
mod channels;
mod exec;
mod forward;
mod info;
mod logs;
mod session;
mod spdy;
mod tls;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use self::auth::{Access, Peer};
use crate::error::Error;
use crate::kubelet::Kubelet;

/// Connections being shaken hands with at a time, and open at a time.
const MAX_CONNECTIONS: usize = 1024;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Also the life of an idle connection: the API server keeps its own for 90 seconds.
const HEADER_READ: Duration = Duration::from_secs(120);

/// What handlers are given.
#[derive(Clone)]
struct Context {
    kubelet: Arc<Kubelet>,
    access: Arc<Access>,
}

/// An answer in plain text, as upstream's node agent gives them.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

fn not_found(message: impl Into<String>) -> Failure {
    Failure(StatusCode::NOT_FOUND, message.into())
}

fn bad_request(message: impl Into<String>) -> Failure {
    Failure(StatusCode::BAD_REQUEST, message.into())
}

fn internal(message: impl Into<String>) -> Failure {
    Failure(StatusCode::INTERNAL_SERVER_ERROR, message.into())
}

/// Listens; serves as tasks of the node agent.
pub(crate) async fn start(kubelet: &Arc<Kubelet>) -> Result<(), Error> {
    let settings = &kubelet.config.server;
    let acceptors = tls::Acceptors::new(&kubelet.config)?;
    let address = settings.address;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    let context = Context { access: Arc::new(Access::new(kubelet)), kubelet: kubelet.clone() };
    let shared = kubelet.clone();
    kubelet.tasks.spawn("server", async move { serve(shared, listener, acceptors, router(context)).await });
    if let Some(address) = kubelet.config.healthz {
        let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        let drain = kubelet.tasks.drain().clone();
        let health = Router::new().route("/healthz", get(info::healthz));
        kubelet.tasks.spawn("healthz", async move {
            let stop = async move { drain.cancelled().await };
            if let Err(error) = axum::serve(listener, health).with_graceful_shutdown(stop).await {
                tracing::error!(%error, "the health check ended");
            }
        });
    }
    Ok(())
}

fn router(context: Context) -> Router {
    Router::new()
        .route("/healthz", get(info::healthz))
        .route("/healthz/{*check}", get(info::healthz))
        .route("/pods", get(info::pods))
        .route("/pods/", get(info::pods))
        .route("/runningpods/", get(info::running_pods))
        .route("/metrics", get(info::metrics))
        .route("/metrics/resource", get(info::resource_metrics))
        .route("/stats/summary", get(info::summary))
        .route("/configz", get(info::configz))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::serve))
        .route("/run/{namespace}/{pod}/{container}", any(exec::run))
        .route("/run/{namespace}/{pod}/{uid}/{container}", any(exec::run))
        .route("/exec/{namespace}/{pod}/{container}", any(exec::exec))
        .route("/exec/{namespace}/{pod}/{uid}/{container}", any(exec::exec))
        .route("/attach/{namespace}/{pod}/{container}", any(exec::attach))
        .route("/attach/{namespace}/{pod}/{uid}/{container}", any(exec::attach))
        .route("/portForward/{namespace}/{pod}", any(forward::serve))
        .route("/portForward/{namespace}/{pod}/{uid}", any(forward::serve))
        .layer(axum::middleware::from_fn_with_state(context.clone(), guard))
        .with_state(context)
}

/// Who calls, and may they.
async fn guard(
    State(context): State<Context>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    let user = match context.access.authenticate(&peer, request.headers()).await {
        Ok(user) => user,
        Err(error) => {
            tracing::debug!(error, "a caller could not be authenticated");
            return (StatusCode::UNAUTHORIZED, "Unauthorized").into_response();
        }
    };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match context.access.authorize(&user, &method, &path).await {
        Ok(()) => next.run(request).await,
        Err(answer) => answer.into_response(),
    }
}

async fn serve(kubelet: Arc<Kubelet>, listener: TcpListener, acceptors: tls::Acceptors, router: Router) {
    let permits = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    let drain = kubelet.tasks.drain().clone();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let accepted = match drain.run(listener.accept()).await {
            None => return,
            Some(Ok((stream, _))) => stream,
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, router, drain) = (acceptors.current(), router.clone(), drain.clone());
        kubelet.tasks.spawn("connection", async move {
            let _permit = permit;
            drain.run(connection(accepted, acceptor, router)).await;
        });
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let peer = Peer::of(stream.get_ref().1);
    let service = TowerToHyperService::new(router.layer(axum::Extension(peer)));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_READ);
    let served = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}
