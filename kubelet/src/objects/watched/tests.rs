//! Watches against a server in memory that counts what it is asked, and what is still open.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

struct Server {
    objects: Mutex<BTreeMap<String, Value>>,
    /// Names that were asked for.
    asked: Mutex<Vec<String>>,
    open: Arc<AtomicUsize>,
    refuses: AtomicBool,
    events: broadcast::Sender<Value>,
}

/// A watch that goes on until its reader goes away.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Server {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            objects: Mutex::default(),
            asked: Mutex::default(),
            open: Arc::default(),
            refuses: AtomicBool::new(false),
            events: broadcast::channel(16).0,
        })
    }

    fn put(&self, name: &str, text: &str, immutable: bool) {
        let version = self.objects.lock().len() + text.len();
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": text}, "immutable": immutable,
            "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": format!("{version}")}});
        let known = self.objects.lock().insert(name.to_owned(), object.clone()).is_some();
        let kind = if known { "MODIFIED" } else { "ADDED" };
        let _ = self.events.send(json!({"type": kind, "object": object}));
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().clone();
        asked.sort();
        asked
    }

    fn answer(&self, uri: &http::Uri) -> Response<BoxBody<Bytes, Infallible>> {
        assert_eq!(uri.path(), "/api/v1/namespaces/ns/configmaps");
        let query: HashMap<_, _> =
            url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let name = query["fieldSelector"].strip_prefix("metadata.name=").expect("one object is asked for").to_owned();
        assert_eq!(query.get("watch").map(String::as_str), Some("true"), "{uri}");
        if self.refuses.load(Ordering::SeqCst) {
            let status =
                json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": ""});
            let mut answer = Response::new(Full::new(Bytes::from(status.to_string())).boxed());
            *answer.status_mut() = StatusCode::FORBIDDEN;
            return answer;
        }
        self.asked.lock().push(name.clone());
        self.open.fetch_add(1, Ordering::SeqCst);
        let open = Open(self.open.clone());
        let events = BroadcastStream::new(self.events.subscribe());
        let mut first: Vec<Value> =
            self.objects.lock().get(&name).map(|o| json!({"type": "ADDED", "object": o})).into_iter().collect();
        first.push(json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "resourceVersion": "1", "annotations": {"k8s.io/initial-events-end": "true"}}}}));
        let news = events.filter_map(move |event| {
            let _ = &open;
            futures::future::ready(event.ok().filter(|event| event["object"]["metadata"]["name"] == name.as_str()))
        });
        let lines = futures::stream::iter(first).chain(news);
        let frames = lines.map(|event| Ok(http_body::Frame::data(Bytes::from(format!("{event}\n")))));
        Response::new(BodyExt::boxed(StreamBody::new(frames)))
    }

    fn watched(self: &Arc<Self>) -> Watched<ConfigMap> {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let answer = server.answer(request.uri());
            async move { Ok::<_, Infallible>(answer) }
        });
        let tasks = daemon::Tasks::new(daemon::Drain::never());
        Watched::new("configmap", Informers::new(kube::Client::new(service, "default"), tasks))
    }
}

fn names(list: &[&str]) -> Names {
    list.iter().map(|name| (*name).to_owned()).collect()
}

async fn value(watched: &Watched<ConfigMap>, name: &str) -> Result<Option<String>, String> {
    let found = watched.get("ns", name).await?;
    Ok(found.map(|map| map.data.clone().unwrap_or_default()["k"].clone()))
}

async fn until(what: &str, check: impl AsyncFn() -> bool) {
    let wait = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "{what}");
}

fn now() -> Instant {
    daemon::clock::monotonic()
}

fn text(text: &str) -> Result<Option<String>, String> {
    Ok(Some(text.to_owned()))
}

#[tokio::test]
async fn one_watch_for_all_who_refer_as_long_as_one_does() {
    let server = Server::new();
    server.put("a", "1", false);
    let watched = server.watched();
    let (one, two) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    watched.refer("1", "ns", names(&["a"]), &one, now());
    watched.refer("2", "ns", names(&["a", "none"]), &two, now());
    for _ in 0..3 {
        watched.refer("1", "ns", names(&["a"]), &one, now());
        assert_eq!(value(&watched, "a").await, text("1"));
        assert_eq!(value(&watched, "none").await, Ok(None));
    }
    assert_eq!(value(&watched, "b").await, Err("object \"ns\"/\"b\" not registered".into()));
    assert_eq!(server.asked(), ["a", "none"], "asked once");
    assert!(one.notified().now_or_never().is_none(), "what was read at first is no news");

    server.put("a", "22", false);
    for pod in [&one, &two] {
        tokio::time::timeout(DEADLINE, pod.notified()).await.expect("a change wakes");
    }
    assert_eq!(value(&watched, "a").await, text("22"));
    server.put("none", "333", false);
    tokio::time::timeout(DEADLINE, two.notified()).await.expect("so does what appears");
    assert!(one.notified().now_or_never().is_none(), "it is nothing to those who do not refer to it");
    assert_eq!(value(&watched, "none").await, text("333"));

    watched.forget("1");
    assert_eq!(value(&watched, "a").await, text("22"), "the other one refers to it");
    assert_eq!(server.open(), 2);
    watched.refer("2", "ns", names(&["none"]), &two, now());
    assert!(value(&watched, "a").await.is_err());
    until("the watch of what nobody refers to ends", async || server.open() == 1).await;
    watched.forget("2");
    until("all have ended", async || server.open() == 0).await;
    let items = watched.items.lock();
    assert!(items.by_key.is_empty() && items.by_pod.is_empty());
}

#[tokio::test]
async fn what_cannot_change_is_not_watched() {
    let server = Server::new();
    server.put("a", "1", true);
    let watched = server.watched();
    let wake = Arc::new(Notify::new());
    watched.refer("1", "ns", names(&["a"]), &wake, now());
    assert_eq!(value(&watched, "a").await, text("1"));
    until("its watch ends", async || server.open() == 0).await;
    server.put("a", "22", true);
    assert_eq!(value(&watched, "a").await, text("1"));
    assert_eq!(server.asked(), ["a"]);
    watched.forget("1");
    watched.refer("2", "ns", names(&["a"]), &wake, now());
    assert_eq!(value(&watched, "a").await, text("22"), "known to nobody any more, it is read anew");
}

#[tokio::test]
async fn what_nobody_asks_for_is_followed_again_when_somebody_does() {
    let server = Server::new();
    server.put("a", "1", false);
    let watched = server.watched();
    watched.refer("1", "ns", names(&["a"]), &Arc::new(Notify::new()), now());
    assert_eq!(value(&watched, "a").await, text("1"));
    let is_followed = || matches!(watched.items.lock().by_key.values().next().unwrap().state, State::Followed(_));
    watched.rest(now() + IDLE - Duration::from_secs(1));
    assert!(is_followed());
    watched.rest(now() + IDLE + Duration::from_secs(1));
    assert!(!is_followed());
    until("its watch ends", async || server.open() == 0).await;
    server.put("a", "22", false);
    assert_eq!(value(&watched, "a").await, text("22"));
    assert_eq!((server.open(), server.asked()), (1, vec!["a".to_owned(), "a".to_owned()]));
}

#[tokio::test]
async fn who_is_refused_is_told_in_time_and_tries_again() {
    let server = Server::new();
    server.put("a", "1", false);
    server.refuses.store(true, Ordering::SeqCst);
    let watched = server.watched();
    watched.refer("1", "ns", names(&["a"]), &Arc::new(Notify::new()), now());
    watched.rest(now() + IDLE * 2);
    let why = "failed to sync configmap cache: timed out waiting for the condition";
    assert_eq!(value(&watched, "a").await, Err(why.into()));
    server.refuses.store(false, Ordering::SeqCst);
    until("it is allowed in the end", async || value(&watched, "a").await == text("1")).await;
}
