//! One etcd under upstream's kube-apiserver and ours: what either writes, the other reads, lists, watches, changes and
//! deletes, for every kind.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use testkit::etcd::{Cluster, Release};
use tokio::sync::OnceCell;
use tokio::task::block_in_place;
use tokio_rustls::TlsConnector;

use crate::server::Running;

const TOKEN: &str = "test-admin";
const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// How long servers' controllers may go on with an object that was just written.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Upstream's own address among the endpoints; ours is the one that tests advertise.
const THEIR_ADDRESS: &str = "192.0.2.10";
const OUR_ADDRESS: &str = "192.0.2.1";
const THEIR_SIX: &str = "2001:db8::10";
const OUR_SIX: &str = "2001:db8::1";
pub(crate) const MERGE: &str = "application/merge-patch+json";
/// A certificate request that names nobody, as kubelets send it.
const EMPTY_REQUEST: &str = "MH8wMwIBADAAMCowBQYDK2VwAyEAgf96ewEDTQk8E05wWsPND37XE1OYv7cRDfJSAbH3Ve6gADAFBgMrZXADQQCVlffJ8r+C39uT9/0FaUvwyksFW6++rLha03DstBPVZUmKXkYbJVk+iQG6HDP7+XthYo5ptKSf6fA8ML+WmU8D";
/// How many watches are open at once.
const WATCHES_MAX: usize = 40;

/// Upstream's server; it ends when dropped.
struct Upstream {
    process: Child,
    directory: tempfile::TempDir,
    address: SocketAddr,
}

impl Upstream {
    fn start(etcd: &Cluster, authority: &pki::Authority, ranges: &str) -> Self {
        let program = testkit::upstream::program("kube-apiserver").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        let now = daemon::clock::now();
        let serving = authority.issue(&pki::Profile::server("kube-apiserver", ["127.0.0.1"]), now).unwrap();
        serving.store(path("tls.crt").as_ref(), path("tls.key").as_ref()).unwrap();
        // Any key will do to sign tokens with. Upstream takes the public half from a certificate, not from a PKCS#8 file.
        let keys = authority.issue(&pki::Profile::server("tokens", ["127.0.0.1"]), now).unwrap();
        keys.store(path("sa.crt").as_ref(), path("sa.key").as_ref()).unwrap();
        std::fs::write(path("tokens.csv"), format!("{TOKEN},admin,1,\"system:masters\"\n")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = File::create(path("log")).unwrap();
        let process = Command::new(program)
            .arg(format!("--etcd-servers={}", etcd.endpoints().join(",")))
            .args(["--bind-address=127.0.0.1", "--authorization-mode=Node,RBAC", "--allow-privileged=true"])
            .arg(format!("--advertise-address={}", if is_v6(ranges) { THEIR_SIX } else { THEIR_ADDRESS }))
            .arg(format!("--secure-port={port}"))
            .arg(format!("--service-cluster-ip-range={ranges}"))
            .arg(format!("--cert-dir={}", path("certs")))
            .arg(format!("--tls-cert-file={}", path("tls.crt")))
            .arg(format!("--tls-private-key-file={}", path("tls.key")))
            .arg(format!("--token-auth-file={}", path("tokens.csv")))
            .arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local")
            .arg(format!("--service-account-key-file={}", path("sa.crt")))
            .arg(format!("--service-account-signing-key-file={}", path("sa.key")))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { process, directory, address: ([127, 0, 0, 1], port).into() }
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        log.lines().rev().take(10).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The default family of these ranges, which servers' own addresses have to be of.
fn is_v6(ranges: &str) -> bool {
    ranges.split(',').next().is_some_and(|range| range.contains(':'))
}

/// Both servers over one etcd.
pub(crate) struct Pair {
    pub(crate) theirs: Side,
    pub(crate) ours: Side,
    _upstream: Upstream,
    _running: Running,
}

impl Pair {
    /// Starts both with these ranges of service addresses, ours with further flags, and waits for them.
    pub(crate) async fn start(etcd: &Cluster, ranges: &str, flags: &[&str]) -> Self {
        let mut made = None;
        let running = Running::start_with(|authority, _| {
            let upstream = Upstream::start(etcd, authority, ranges);
            made = Some((upstream, pki::tls::client(authority.certificate_pem(), None).unwrap()));
            let own = [
                format!("--etcd-servers={}", etcd.endpoints().join(",")),
                format!("--service-cluster-ip-range={ranges}"),
                format!("--advertise-address={}", if is_v6(ranges) { OUR_SIX } else { OUR_ADDRESS }),
            ];
            own.into_iter().chain(flags.iter().map(|flag| (*flag).to_owned())).collect()
        })
        .await;
        let (upstream, mut tls) = made.unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(tls));
        let side = |name, address| Side { name, address, connector: connector.clone(), connection: OnceCell::new() };
        let (theirs, ours) = (side("upstream", upstream.address), side("ours", running.address()));
        theirs.wait_ready(|| upstream.log()).await;
        Self { theirs, ours, _upstream: upstream, _running: running }
    }
}

/// One of the two servers.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    address: SocketAddr,
    connector: TlsConnector,
    /// Once it is ready.
    connection: OnceCell<SendRequest<Full<Bytes>>>,
}

impl Side {
    /// The status and the body; null when the body is no JSON.
    pub(crate) async fn send(&self, method: &str, path: &str, media: &str, body: &Value) -> (StatusCode, Value) {
        let (code, body) = self.send_raw(method, path, media, body).await.unwrap();
        (code, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn send_raw(
        &self,
        method: &str,
        path: &str,
        media: &str,
        body: &Value,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error>> {
        let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.address))
            .header("accept", "application/json")
            .header("content-type", media)
            .header("authorization", format!("Bearer {TOKEN}"));
        let mut connection = self.connection.get_or_try_init(|| self.connect()).await?.clone();
        let (head, body) = connection.send_request(request.body(Full::new(bytes))?).await?.into_parts();
        Ok((head.status, body.collect().await?.to_bytes()))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Box<dyn std::error::Error>> {
        let stream = tokio::net::TcpStream::connect(self.address).await?;
        let stream = self.connector.connect(ServerName::try_from("127.0.0.1")?, stream).await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::task::spawn(connection);
        Ok(sender)
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send("GET", path, "application/json", &Value::Null).await
    }

    /// The revision of a list of a kind.
    async fn now(&self, kind: &Kind) -> u64 {
        revision(&self.get(&format!("{}?limit=1", kind.path)).await.1)
    }

    async fn wait_ready(&self, log: impl Fn() -> String) {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let answer = self.send_raw("GET", "/readyz", "application/json", &Value::Null).await;
            if answer.as_ref().is_ok_and(|(code, _)| *code == StatusCode::OK) {
                return;
            }
            assert!(Instant::now() < deadline, "{} is not ready: {answer:?}\n{}", self.name, log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Of an object or a list; 0 when it has none.
fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A kind, with an object that both servers take.
struct Kind {
    path: String,
    name: String,
    sample: Value,
}

fn kinds() -> Vec<Kind> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../../../conformance/differential/kinds.json")).unwrap();
    let in_default = |value: &Value| value.to_string().replace("${ns}", "default");
    let kind = |entry: &Value| {
        let sample: Value = serde_json::from_str(&in_default(&entry["sample"])).unwrap();
        let path = entry["path"].as_str().unwrap().replace("${ns}", "default");
        Kind { path, name: sample["metadata"]["name"].as_str().unwrap().to_owned(), sample }
    };
    all.iter().chain(&further()).map(kind).collect()
}

/// Samples of kinds that servers compare only here.
fn further() -> [Value; 3] {
    [
        json!({
            "path": "/apis/apiregistration.k8s.io/v1/apiservices",
            "sample": {
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {"name": "v1.sample.example.com", "labels": {"d": "one"}},
                "spec": {
                    "group": "sample.example.com", "version": "v1", "groupPriorityMinimum": 1000,
                    "versionPriority": 10, "service": {"name": "x", "namespace": "default"},
                },
            },
        }),
        json!({
            "path": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            "sample": {
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": "samples.shared.example.com", "labels": {"d": "one"}},
                "spec": {
                    "group": "shared.example.com", "scope": "Namespaced",
                    "names": {"plural": "samples", "kind": "Sample"},
                    "versions": [{
                        "name": "v1", "served": true, "storage": true,
                        "schema": {"openAPIV3Schema": {"type": "object"}},
                    }],
                },
            },
        }),
        json!({
            "path": "/apis/certificates.k8s.io/v1/namespaces/default/podcertificaterequests",
            "sample": {
                "apiVersion": "certificates.k8s.io/v1", "kind": "PodCertificateRequest",
                "metadata": {"name": "sample", "namespace": "default", "labels": {"d": "one"}},
                "spec": {
                    "signerName": "example.com/signer", "podName": "pod", "podUID": "pod-uid",
                    "serviceAccountName": "default", "serviceAccountUID": "account-uid", "nodeName": "node",
                    "nodeUID": "node-uid", "maxExpirationSeconds": 3600, "stubPKCS10Request": EMPTY_REQUEST,
                },
            },
        }),
    ]
}

/// Every stored resource of the table is among them.
fn check_complete(kinds: &[Kind]) {
    let missing: Vec<String> = api::schema::table()
        .resources()
        .filter(|resource| resource.storage.is_some())
        .map(|resource| (format!("/{}/", resource.api_version()), format!("/{}", resource.name)))
        .filter(|(version, plural)| !kinds.iter().any(|k| k.path.contains(version) && k.path.ends_with(plural)))
        .map(|(version, plural)| format!("{version}{plural}"))
        .collect();
    assert!(missing.is_empty(), "kinds without a sample: {missing:?}");
}

/// What one writes, the other sees at once and can change, and so on to its end. What controllers of the servers write
/// meanwhile, as a definition's conditions, may make a step wait, and nothing else may.
async fn round(kind: &Kind, writer: &Side, reader: &Side) -> Result<(), String> {
    let (one, about) = (format!("{}/{}", kind.path, kind.name), format!("{} to {}", writer.name, reader.name));
    let check = |step: &str, ok: bool, answer: &dyn std::fmt::Debug| {
        if ok { Ok(()) } else { Err(format!("{} from {about}: {step}: {answer:?}", kind.path)) }
    };
    let (code, made) = writer.send("POST", &kind.path, "application/json", &kind.sample).await;
    check("create", code == StatusCode::CREATED, &made)?;
    let equal = async || {
        let (own, (code, seen)) = (writer.get(&one).await.1, reader.get(&one).await);
        check("get", code == StatusCode::OK && own == seen, &(&own, &seen))
    };
    soon(equal).await?;
    let (_, list) = reader.get(&format!("{}?labelSelector=d%3Done", kind.path)).await;
    let listed = list["items"].as_array().is_some_and(|all| all.iter().any(|o| o["metadata"]["name"] == kind.name));
    check("list", listed, &list)?;
    let (code, changed) = reader.send("PATCH", &one, MERGE, &json!({"metadata": {"labels": {"seen": "yes"}}})).await;
    check("patch", code == StatusCode::OK, &changed)?;
    let put = async || {
        let (_, mut found) = writer.get(&one).await;
        check("get what was patched", found["metadata"]["labels"]["seen"] == "yes", &found)?;
        found["metadata"]["labels"]["put"] = "yes".into();
        let (code, put) = writer.send("PUT", &one, "application/json", &found).await;
        check("put", code == StatusCode::OK, &put)?;
        Ok(found)
    };
    let found = soon(put).await?;
    let (code, stale) = reader.send("PUT", &one, "application/json", &found).await;
    check("put of what has changed", code == StatusCode::CONFLICT, &stale)?;
    let (code, deleted) = reader.send("DELETE", &one, "application/json", &Value::Null).await;
    check("delete", code == StatusCode::OK || code == StatusCode::ACCEPTED, &deleted)?;
    soon(async || {
        finish(kind, &one, writer).await?;
        let (code, left) = reader.get(&one).await;
        check("gone", code == StatusCode::NOT_FOUND, &left)
    })
    .await
}

/// Does what holds a deletion up.
async fn finish(kind: &Kind, one: &str, side: &Side) -> Result<(), String> {
    let (code, mut left) = side.get(one).await;
    if code == StatusCode::NOT_FOUND {
        return Ok(());
    }
    if left["metadata"]["deletionTimestamp"].is_null() {
        return Err(format!("{one} is not terminating: {left}"));
    }
    let (code, answer) = if kind.path.ends_with("/namespaces") {
        left["spec"]["finalizers"] = json!([]);
        side.send("PUT", &format!("{one}/finalize"), "application/json", &left).await
    } else {
        side.send("PATCH", one, MERGE, &json!({"metadata": {"finalizers": null}})).await
    };
    let done = code == StatusCode::OK || code == StatusCode::NOT_FOUND;
    if done { Ok(()) } else { Err(format!("finishing {one}: {answer}")) }
}

/// Tries until it succeeds, for as long as a controller may get in between.
async fn soon<T>(attempt: impl AsyncFn() -> Result<T, String>) -> Result<T, String> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        match attempt().await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(50)).await,
            outcome => return outcome,
        }
    }
}

/// Both servers tell the whole story of both rounds.
async fn watched(kind: &Kind, side: &Side, (from, until): (u64, u64)) -> Result<(), String> {
    let query = format!("watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3D{}&resourceVersion={from}", kind.name);
    let path = format!("{}?{query}", kind.path);
    let (_, body) = side.send_raw("GET", &path, "application/json", &Value::Null).await.unwrap();
    let text = String::from_utf8_lossy(&body);
    let mut events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect();
    // The versions of a kind share their objects: what follows is another version's story.
    events.retain(|event| revision(&event["object"]) <= until);
    let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap_or("?")).collect();
    let ordered = events.windows(2).all(|pair| revision(&pair[0]["object"]) < revision(&pair[1]["object"]));
    let count = |wanted: &str| types.iter().filter(|found| **found == wanted).count();
    let whole = types.first() == Some(&"ADDED") && types.last() == Some(&"DELETED");
    let told = whole && count("ADDED") == 2 && count("DELETED") == 2 && count("MODIFIED") >= 4;
    if ordered && told { Ok(()) } else { Err(format!("{} watched on {}: {text}", kind.path, side.name)) }
}

async fn share(release: Release, flags: &[&str]) {
    let etcd = block_in_place(|| Cluster::start(release, 1)).unwrap();
    let pair = Pair::start(&etcd, "10.96.0.0/16", flags).await;
    let (theirs, ours) = (&pair.theirs, &pair.ours);
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    theirs.send("POST", "/api/v1/namespaces/default/serviceaccounts", "application/json", &account).await;
    both_are_endpoints(theirs, ours).await;
    share_node_ports(theirs, ours).await;

    let kinds = kinds();
    check_complete(&kinds);
    let mut failures = Vec::new();
    let mut spans = Vec::new();
    for kind in &kinds {
        let start = ours.now(kind).await;
        failures.extend(round(kind, theirs, ours).await.err());
        failures.extend(round(kind, ours, theirs).await.err());
        spans.push((start, ours.now(kind).await));
    }
    let watches: Vec<_> =
        kinds.iter().zip(&spans).flat_map(|(kind, span)| [(kind, theirs, *span), (kind, ours, *span)]).collect();
    for some in watches.chunks(WATCHES_MAX) {
        let told = futures::future::join_all(some.iter().map(|(kind, side, span)| watched(kind, side, *span))).await;
        failures.extend(told.into_iter().filter_map(Result::err));
    }
    println!("{} kinds, {} failures", kinds.len(), failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Each server keeps its own address in the `kubernetes` service's endpoints, and leaves the other's there.
async fn both_are_endpoints(theirs: &Side, ours: &Side) {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let (_, found) = ours.get("/api/v1/namespaces/default/endpoints/kubernetes").await;
        let (_, slice) = theirs.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").await;
        let text = format!("{found}{slice}");
        if [OUR_ADDRESS, THEIR_ADDRESS].iter().all(|ip| text.matches(&format!("\"{ip}\"")).count() == 2) {
            return;
        }
        assert!(Instant::now() < deadline, "not both are endpoints: {text}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// What one has given out the other knows, and what comes back to one comes back to both.
async fn share_node_ports(theirs: &Side, ours: &Side) {
    const SERVICES: &str = "/api/v1/namespaces/default/services";
    let post = async |side: &Side, name: &str, spec: Value| {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
        side.send("POST", SERVICES, "application/json", &service).await
    };
    let asked = |port: u16| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    let delete = async |side: &Side, name: &str| {
        let (code, answer) = side.send("DELETE", &format!("{SERVICES}/{name}"), "application/json", &Value::Null).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
    };
    for (one, other, port) in [(theirs, ours, 31_001), (ours, theirs, 31_002)] {
        let about = format!("{port} of {}", one.name);
        let (code, made) = post(one, "first", asked(port)).await;
        assert_eq!(code, StatusCode::CREATED, "{about}: {made}");
        let (code, refused) = post(other, "second", asked(port)).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{about}: {refused}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.ends_with("provided port is already allocated"), "{about}: {message}");
        delete(other, "first").await;
        for side in [other, one] {
            let (code, made) = post(side, "second", asked(port)).await;
            assert_eq!(code, StatusCode::CREATED, "{about}: {made}");
            delete(side, "second").await;
        }
    }
    let ports = json!([{"name": "a", "port": 1}, {"name": "b", "port": 2}]);
    let balanced = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": ports});
    let names: Vec<String> = (0..40).map(|number| format!("any-{number}")).collect();
    let makes = names
        .iter()
        .enumerate()
        .map(|(number, name)| post(if number % 2 == 0 { theirs } else { ours }, name, balanced.clone()));
    let made = futures::future::join_all(makes).await;
    let mut numbers: Vec<i64> = Vec::new();
    for (code, made) in &made {
        assert_eq!(*code, StatusCode::CREATED, "{made}");
        let ports = made["spec"]["ports"].as_array().unwrap().iter().map(|port| &port["nodePort"]);
        numbers.extend(ports.chain([&made["spec"]["healthCheckNodePort"]]).map(|port| port.as_i64().unwrap()));
    }
    let distinct: std::collections::BTreeSet<&i64> = numbers.iter().collect();
    assert_eq!((numbers.len(), distinct.len()), (120, 120), "{numbers:?}");
    for name in &names {
        delete(ours, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_shares_an_etcd_with_text() {
    share(Release::V3_7, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_shares_an_etcd_with_protobuf() {
    share(Release::V3_7, &["--storage-media-type=application/vnd.kubernetes.protobuf"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_runs_on_our_own_etcd_and_shares_it() {
    share(Release::Ironclad, &["--storage-media-type=application/vnd.kubernetes.protobuf"]).await;
}
