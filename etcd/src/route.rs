//! One path, one function.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use prost::Message;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use crate::errors::{AUTH_NOT_ENABLED, Known, NO_USERS, ONE_MEMBER};
use crate::{Server, cluster, kv, lease, maintenance, watch};

/// What a watch or a snapshot sends.
pub(crate) type Answers<A> = std::pin::Pin<Box<dyn futures::Stream<Item = Result<A, Status>> + Send>>;

/// What a message may have beyond the largest request: as much as etcd's.
const OVERHEAD_BYTES: usize = 512 << 10;

/// Answers one call or plain HTTP request.
pub(crate) async fn route(server: Arc<Server>, request: Request<Incoming>) -> Response<Body> {
    let Some((service, method)) = request.uri().path().trim_start_matches('/').split_once('/') else {
        return plain(&server, &request);
    };
    let max = server.request_bytes_max.saturating_add(OVERHEAD_BYTES);
    match (service, method) {
        ("etcdserverpb.KV", "Range") => unary(request, max, async move |call| kv::range(&server, call).await).await,
        ("etcdserverpb.KV", "Put") => unary(request, max, async move |call| kv::put(&server, call).await).await,
        ("etcdserverpb.KV", "DeleteRange") => {
            unary(request, max, async move |call| kv::delete(&server, call).await).await
        }
        ("etcdserverpb.KV", "Txn") => unary(request, max, async move |call| kv::txn(&server, call).await).await,
        ("etcdserverpb.KV", "Compact") => unary(request, max, async move |call| kv::compact(&server, call).await).await,
        ("etcdserverpb.Watch", "Watch") => streaming(request, max, |calls| Ok(watch::session(server, calls))).await,
        ("etcdserverpb.Lease", "LeaseKeepAlive") => {
            streaming(request, max, |calls| Ok(lease::keep_alive(server, calls))).await
        }
        ("etcdserverpb.Lease", method) => lease_call(server, method.to_owned(), request).await,
        ("etcdserverpb.Maintenance", method) => maintenance_call(server, method.to_owned(), request).await,
        ("etcdserverpb.Cluster", "MemberList") => {
            unary(request, max, async move |_call: crate::proto::MemberListRequest| Ok(cluster::member_list(&server)))
                .await
        }
        ("etcdserverpb.Cluster", _) => refuse(ONE_MEMBER),
        ("etcdserverpb.Auth", "AuthStatus") => {
            unary(request, max, async move |_call: crate::proto::AuthStatusRequest| Ok(cluster::auth_status(&server)))
                .await
        }
        ("etcdserverpb.Auth", "Authenticate") => refuse(AUTH_NOT_ENABLED),
        ("etcdserverpb.Auth", _) => refuse(NO_USERS),
        _ => Status::unimplemented(format!("unknown service or method {service}/{method}")).into_http(),
    }
}

async fn lease_call(server: Arc<Server>, method: String, request: Request<Incoming>) -> Response<Body> {
    let max = server.request_bytes_max.saturating_add(OVERHEAD_BYTES);
    match &*method {
        "LeaseGrant" => unary(request, max, async move |call| lease::grant(&server, call).await).await,
        "LeaseRevoke" => unary(request, max, async move |call| lease::revoke(&server, call).await).await,
        "LeaseTimeToLive" => unary(request, max, async move |call| Ok(lease::time_to_live(&server, call))).await,
        "LeaseLeases" => unary(request, max, async move |call| Ok(lease::leases(&server, call))).await,
        _ => Status::unimplemented(format!("unknown method {method} of etcdserverpb.Lease")).into_http(),
    }
}

async fn maintenance_call(server: Arc<Server>, method: String, request: Request<Incoming>) -> Response<Body> {
    let max = server.request_bytes_max.saturating_add(OVERHEAD_BYTES);
    match &*method {
        "Status" => {
            unary(request, max, async move |_call: crate::proto::StatusRequest| Ok(maintenance::status(&server).await))
                .await
        }
        "Alarm" => unary(request, max, async move |call| Ok(maintenance::alarm(&server, call).await)).await,
        "Defragment" => unary(request, max, async move |call| Ok(maintenance::defragment(&server, call))).await,
        "Hash" => unary(request, max, async move |call| maintenance::hash(&server, call).await).await,
        "HashKV" => unary(request, max, async move |call| maintenance::hash_kv(&server, call).await).await,
        "Snapshot" => {
            let handle = async move |_call: tonic::Request<crate::proto::SnapshotRequest>| {
                Ok(tonic::Response::new(maintenance::snapshot(server).await?))
            };
            Grpc::new(codec()).server_streaming(tower::service_fn(once(handle)), request).await
        }
        "MoveLeader" | "Downgrade" => refuse(ONE_MEMBER),
        _ => Status::unimplemented(format!("unknown method {method} of etcdserverpb.Maintenance")).into_http(),
    }
}

fn codec<A: Message + 'static, Q: Message + Default + 'static>() -> ProstCodec<A, Q> {
    ProstCodec::default()
}

/// A service that is called once.
fn once<Q, F: Future>(handle: impl FnOnce(Q) -> F) -> impl FnMut(Q) -> F {
    let mut handle = Some(handle);
    move |call| (handle.take().expect("gRPC calls a method's service once"))(call)
}

async fn unary<Q, A, F>(
    request: Request<Incoming>,
    max: usize,
    handle: impl FnOnce(Q) -> F + Send + 'static,
) -> Response<Body>
where
    Q: Message + Default + Send + 'static,
    A: Message + Send + 'static,
    F: Future<Output = Result<A, Status>> + Send,
{
    let handle = |call: tonic::Request<Q>| {
        let answer = handle(call.into_inner());
        async move { Ok(tonic::Response::new(answer.await?)) }
    };
    Grpc::new(codec::<A, Q>()).max_decoding_message_size(max).unary(tower::service_fn(once(handle)), request).await
}

async fn streaming<Q, A>(
    request: Request<Incoming>,
    max: usize,
    handle: impl FnOnce(Streaming<Q>) -> Result<Answers<A>, Status> + Send,
) -> Response<Body>
where
    Q: Message + Default + Send + 'static,
    A: Message + Send + 'static,
{
    let handle =
        |calls: tonic::Request<Streaming<Q>>| std::future::ready(handle(calls.into_inner()).map(tonic::Response::new));
    Grpc::new(codec::<A, Q>()).max_decoding_message_size(max).streaming(tower::service_fn(once(handle)), request).await
}

fn refuse(known: Known) -> Response<Body> {
    Status::from(known).into_http()
}

/// What etcd tells over plain HTTP.
pub(crate) fn plain(server: &Server, request: &Request<Incoming>) -> Response<Body> {
    let (status, kind, text) = match request.uri().path() {
        "/health" => match maintenance::failure(server) {
            None => (StatusCode::OK, "application/json", r#"{"health":"true","reason":""}"#.to_owned()),
            Some(reason) => {
                let text = serde_json::json!({ "health": "false", "reason": reason }).to_string();
                (StatusCode::SERVICE_UNAVAILABLE, "application/json", text)
            }
        },
        "/version" => {
            let version = maintenance::VERSION;
            let text = serde_json::json!({ "etcdserver": version, "etcdcluster": version }).to_string();
            (StatusCode::OK, "application/json", text)
        }
        "/metrics" => (StatusCode::OK, "text/plain; version=0.0.4", maintenance::metrics(server)),
        _ => (StatusCode::NOT_FOUND, "text/plain", "404 page not found\n".to_owned()),
    };
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
