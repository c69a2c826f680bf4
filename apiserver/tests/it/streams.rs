//! Connections to a kubelet: one that answers logs and echoes what an upgraded connection carries.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::server::Running;

/// What the kubelet was asked.
type Asked = Arc<Mutex<Vec<String>>>;

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_answers_through_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tls = None;
    let server = Running::start_with(|authority, directory| {
        let now = daemon::clock::now();
        let serving = authority.issue(&pki::Profile::server("kubelet", ["127.0.0.1"]), now).unwrap();
        let client = authority.issue(&pki::Profile::client("kube-apiserver", ["system:masters"]), now).unwrap();
        let path = |name: &str| directory.join(name);
        client.store(&path("kubelet-client.crt"), &path("kubelet-client.key")).unwrap();
        std::fs::write(path("kubelet-ca.crt"), authority.certificate_pem()).unwrap();
        tls = Some(pki::tls::server(&serving, Some(authority.certificate_pem())).unwrap());
        let flag = |flag: &str, file: &str| format!("--{flag}={}", path(file).display());
        vec![
            flag("kubelet-client-certificate", "kubelet-client.crt"),
            flag("kubelet-client-key", "kubelet-client.key"),
            flag("kubelet-certificate-authority", "kubelet-ca.crt"),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ]
    })
    .await;
    let asked = Asked::default();
    let kubelet = tokio::task::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls.unwrap())), asked.clone()));
    objects(&server, port).await;
    logs(&server, &asked).await;
    exec(&server, &asked).await;
    refusals(&server).await;
    proxy(&server, &asked).await;
    kubelet.abort();
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, asked: Asked) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        assert!(stream.get_ref().1.peer_certificates().is_some(), "the server shows its client certificate");
        let asked = asked.clone();
        let service = hyper::service::service_fn(move |request| {
            let answer = answer(request, &asked);
            async move { Ok::<_, Infallible>(answer) }
        });
        tokio::task::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(mut request: Request<Incoming>, asked: &Asked) -> Response<Full<Bytes>> {
    asked.lock().unwrap().push(request.uri().to_string());
    if request.uri().path().ends_with("/broken") {
        let mut response = Response::new(Full::from("container \"broken\" is waiting to start: ContainerCreating"));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    }
    if !request.headers().contains_key(header::UPGRADE) {
        return Response::new(Full::from("one\ntwo\n"));
    }
    let protocol = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL).cloned();
    tokio::task::spawn(async move {
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
        let mut buffer = [0; 64];
        loop {
            let count = stream.read(&mut buffer).await.unwrap_or(0);
            if count == 0 || stream.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.extend(protocol.map(|protocol| (header::SEC_WEBSOCKET_PROTOCOL, protocol)));
    response
}

async fn objects(server: &Running, port: u16) {
    let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}});
    let node = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}, "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    let containers = json!([{"name": "a", "image": "x"}, {"name": "broken", "image": "x"}]);
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": containers}});
    for (path, body) in [
        ("/api/v1/namespaces/default/serviceaccounts", account),
        ("/api/v1/nodes", node),
        ("/api/v1/namespaces/default/pods", pod),
    ] {
        let request = server.request("POST", path, "").header(header::CONTENT_TYPE, "application/json");
        let made = server.send(request, body.to_string().into()).await;
        assert_eq!(made.code, StatusCode::CREATED, "{path} {:?}", made.body);
    }
}

async fn logs(server: &Running, asked: &Asked) {
    let path = "/api/v1/namespaces/default/pods/p/log";
    let get =
        async |query: &str| server.send(server.request("GET", &format!("{path}?{query}"), ""), Bytes::new()).await;
    let log = get("container=a&tailLines=5&follow=true&timestamps=false").await;
    assert_eq!((log.code, &*log.body), (StatusCode::OK, &b"one\ntwo\n"[..]));
    assert_eq!(log.headers[header::CONTENT_TYPE], "text/plain");
    let uri = "/containerLogs/default/p/a?follow=true&tailLines=5&stream=All";
    assert_eq!(asked.lock().unwrap().pop().as_deref(), Some(uri));
    let unnamed = get("").await;
    let text = "a container name must be specified for pod p, choose one of: [a broken]";
    assert_eq!((unnamed.code, unnamed.json()["message"].as_str()), (StatusCode::BAD_REQUEST, Some(text)));
    let waiting = get("container=broken").await;
    let text = "container \"broken\" is waiting to start: ContainerCreating";
    assert_eq!((waiting.code, waiting.json()["message"].as_str()), (StatusCode::BAD_REQUEST, Some(text)));
    assert_eq!(get("container=a&tailLines=-1").await.code, StatusCode::UNPROCESSABLE_ENTITY);
}

fn websocket(request: http::request::Builder) -> http::request::Builder {
    request
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
        .header(header::SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io")
}

async fn exec(server: &Running, asked: &Asked) {
    let path =
        "/api/v1/namespaces/default/pods/p/exec?container=a&command=sh&command=-c&stdin=true&stdout=true&tty=true";
    let (code, headers, stream) = server.upgrade(websocket(server.request("GET", path, ""))).await;
    assert_eq!(code, StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(headers[header::SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
    let uri = "/exec/default/p/a?input=1&output=1&tty=1&command=sh&command=-c";
    assert_eq!(asked.lock().unwrap().pop().as_deref(), Some(uri));
    let mut stream = stream.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"hello");
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut echoed).await.unwrap_or(0), 0, "an end on one side ends the other");
}

async fn refusals(server: &Running) {
    let path = "/api/v1/namespaces/default/pods/p/exec?container=a&command=sh&stdout=true";
    let plain = server.send(server.request("GET", path, ""), Bytes::new()).await;
    assert_eq!(
        (plain.code, plain.json()["message"].as_str()),
        (StatusCode::BAD_REQUEST, Some("Upgrade request required"))
    );
    let (code, ..) = server.upgrade(websocket(server.request("GET", path, "jane"))).await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    let missing = path.replace("pods/p", "pods/none");
    let (code, ..) = server.upgrade(websocket(server.request("GET", &missing, ""))).await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    // Reading logs does not allow upgrading: that takes `create`.
    let rules = json!({"kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get"]}]});
    let binding = json!({"kind": "ClusterRoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": {"name": "reader"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
    for (resource, body) in [("clusterroles", rules), ("clusterrolebindings", binding)] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/{resource}");
        let request = server.request("POST", &path, "").header(header::CONTENT_TYPE, "application/json");
        assert_eq!(server.send(request, body.to_string().into()).await.code, StatusCode::CREATED);
    }
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while server.send(server.request("GET", path, "jane"), Bytes::new()).await.code == StatusCode::FORBIDDEN {
        assert!(tokio::time::Instant::now() < end, "the binding has no effect");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let (code, ..) = server.upgrade(websocket(server.request("GET", path, "jane"))).await;
    assert_eq!(code, StatusCode::FORBIDDEN);
}

async fn proxy(server: &Running, asked: &Asked) {
    let redirected = server.send(server.request("GET", "/api/v1/nodes/n/proxy?a=b", ""), Bytes::new()).await;
    assert_eq!(redirected.code, StatusCode::MOVED_PERMANENTLY);
    assert_eq!(redirected.headers[header::LOCATION], "/api/v1/nodes/n/proxy/?a=b");
    let answer = server.send(server.request("GET", "/api/v1/nodes/n/proxy/pods/x%2Fy?a=b", ""), Bytes::new()).await;
    assert_eq!((answer.code, &*answer.body), (StatusCode::OK, &b"one\ntwo\n"[..]));
    assert_eq!(asked.lock().unwrap().pop().as_deref(), Some("/pods/x%2Fy?a=b"));
    let service =
        server.send(server.request("GET", "/api/v1/namespaces/default/services/none/proxy/", ""), Bytes::new()).await;
    let text = "no endpoints available for service \"none\"";
    assert_eq!((service.code, service.json()["message"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some(text)));
}
