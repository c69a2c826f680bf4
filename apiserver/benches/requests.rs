//! What a request costs inside the server: filters, pipeline, store and watch cache, without a connection.
//!
//! `cargo bench -p apiserver --bench requests -- CASE COUNT`: a case is `create`, `get`, `list` or `status` (a patch of a
//! pod's status). What other work on the machine does not change is the number of instructions:
//! `perf stat -e instructions:u BINARY CASE 20000`, less the same with a count of 0, which is the start alone.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::time::Instant;

use apiserver::{Args, InProcess, Server};
use bytes::Bytes;
use clap::Parser;
use daemon::Drain;
use futures::StreamExt as _;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::Service as _;

const IN_FLIGHT: usize = 100;
/// What is read and patched.
const PODS: usize = 100;
const NAMESPACE: &str = "/api/v1/namespaces/bench";
const ATTEMPTS_MAX: usize = 500;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    args: Args,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let case = words.first().map_or("create", String::as_str);
    let count = words.get(1).map_or(20_000, |count| count.parse().expect("the count is a number"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(case, count));
}

async fn run(case: &str, count: usize) {
    let directory = tempfile::tempdir().unwrap();
    let (_stop, drain) = Drain::new();
    let server = start(directory.path(), drain).await;
    let client = server.service(apiserver::system());
    prepare(&client).await;
    if case != "create" {
        repeat(PODS, |n| send(&client, Method::POST, format!("{NAMESPACE}/pods"), pod(&format!("web-{n}")))).await;
    }
    let name = |n: usize| format!("{NAMESPACE}/pods/web-{}", n % PODS);
    let started = Instant::now();
    match case {
        "create" => {
            repeat(count, |n| send(&client, Method::POST, format!("{NAMESPACE}/pods"), pod(&format!("pod-{n}")))).await;
        }
        "get" => repeat(count, |n| send(&client, Method::GET, name(n), Vec::new())).await,
        "list" => repeat(count, |_| send(&client, Method::GET, format!("{NAMESPACE}/pods"), Vec::new())).await,
        "status" => {
            repeat(count, |n| send(&client, Method::PATCH, format!("{}/status", name(n)), status(n / PODS))).await;
        }
        other => panic!("no case is called {other}"),
    }
    let took = started.elapsed();
    println!("{case}: {count} in {took:.2?}, {:.1} us each", took.as_secs_f64() * 1e6 / count.max(1) as f64);
}

async fn start(directory: &std::path::Path, drain: Drain) -> Server {
    let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let now = daemon::clock::now();
    let authority = pki::Authority::create("bench-authority", now).unwrap();
    let serving = authority.issue(&pki::Profile::server("kube-apiserver", ["127.0.0.1"]), now).unwrap();
    serving.store(path("tls.crt").as_ref(), path("tls.key").as_ref()).unwrap();
    let flags = Flags::parse_from([
        "apiserver".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        "--secure-port=0".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        format!("--tls-cert-file={}", path("tls.crt")),
        format!("--tls-private-key-file={}", path("tls.key")),
        format!("--data-dir={}", path("store")),
    ]);
    let mut config = flags.args.into_config().await.unwrap();
    config.advertise = "192.0.2.1:6443".parse().unwrap();
    Server::start(config, drain).await.unwrap()
}

/// The server is ready, and pods can be made.
async fn prepare(client: &InProcess) {
    for _ in 0..ATTEMPTS_MAX {
        if answer(client, Method::GET, "/readyz".to_owned(), Vec::new()).await.0 == StatusCode::OK {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let object = |kind: &str, name: &str| {
        let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
        object.to_string().into_bytes()
    };
    send(client, Method::POST, "/api/v1/namespaces".to_owned(), object("Namespace", "bench")).await;
    send(client, Method::POST, format!("{NAMESPACE}/serviceaccounts"), object("ServiceAccount", "default")).await;
}

async fn repeat<F: Future<Output = ()>>(count: usize, work: impl Fn(usize) -> F) {
    futures::stream::iter(0..count).map(work).buffer_unordered(IN_FLIGHT).for_each(|()| async {}).await;
}

async fn send(client: &InProcess, method: Method, path: String, body: Vec<u8>) {
    let (code, answer) = answer(client, method, path, body).await;
    assert!(code.is_success(), "{code}: {}", String::from_utf8_lossy(&answer));
}

async fn answer(client: &InProcess, method: Method, path: String, body: Vec<u8>) -> (StatusCode, Bytes) {
    let content_type = match method {
        Method::PATCH => "application/strategic-merge-patch+json",
        _ => "application/json",
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "bench/1.0");
    let request = request.body(kube::client::Body::from(body)).unwrap();
    let answer = client.clone().call(request).await.unwrap();
    (answer.status(), answer.into_body().collect().await.unwrap().to_bytes())
}

fn pod(name: &str) -> Vec<u8> {
    let pod: Value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "labels": {"app": "web", "tier": "front"},
            "annotations": {"example.com/filling": "x".repeat(800)},
        },
        "spec": {
            "schedulerName": "nobody",
            "containers": [{
                "name": "main",
                "image": "registry.example/app/web:1.2.3",
                "ports": [{"name": "http", "containerPort": 8080}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "env": [{"name": "MODE", "value": "production"}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
            }],
        },
    });
    pod.to_string().into_bytes()
}

fn status(round: usize) -> Vec<u8> {
    let message = format!("round {round}");
    let condition = json!({"type": "Ready", "status": "False", "reason": "Bench", "message": message});
    json!({"status": {"conditions": [condition], "hostIP": "192.0.2.9"}}).to_string().into_bytes()
}
