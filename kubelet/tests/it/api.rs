//! Just enough of an API server: nodes, leases, events accepted; pods kept, watched, patched, deleted; config maps kept
//! and watched one by one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

type Body = BoxBody<Bytes, Infallible>;

pub(crate) struct Api {
    state: Mutex<State>,
    events: broadcast::Sender<Value>,
}

#[derive(Default)]
struct State {
    version: u64,
    pods: BTreeMap<String, Value>,
    maps: BTreeMap<String, Value>,
    /// Names of the config maps and secrets that were asked for.
    asked: Vec<String>,
    /// Reasons and messages of events.
    told: Vec<(String, String)>,
    /// The last status that the node sent.
    node: Value,
    patched: Vec<String>,
    /// Requests about leases.
    leases: usize,
    loses_first_lease: bool,
    log: Vec<(u64, Value)>,
}

impl Default for Api {
    fn default() -> Self {
        Self { state: Mutex::default(), events: broadcast::channel(256).0 }
    }
}

fn merge(into: &mut Value, patch: &Value) {
    let (Some(object), Some(changes)) = (into.as_object_mut(), patch.as_object()) else {
        *into = patch.clone();
        return;
    };
    for (key, value) in changes {
        if value.is_null() {
            object.remove(key);
        } else if key == "conditions" && object.get(key).is_some_and(Value::is_array) {
            let list = object[key].as_array_mut().unwrap();
            for change in value.as_array().unwrap() {
                if change["$patch"] == "delete" {
                    list.retain(|old| old["type"] != change["type"]);
                    continue;
                }
                match list.iter_mut().find(|old| old["type"] == change["type"]) {
                    Some(old) => merge(old, change),
                    None => list.push(change.clone()),
                }
            }
        } else if value.is_object() {
            merge(object.entry(key.clone()).or_insert_with(|| json!({})), value);
        } else {
            object.insert(key.clone(), value.clone());
        }
    }
}

impl Api {
    pub(crate) fn client(self: &std::sync::Arc<Self>) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    fn change(&self, kind: &str, name: &str, change: impl FnOnce(&mut BTreeMap<String, Value>)) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let version = state.version;
        let before = state.pods.get(name).cloned();
        change(&mut state.pods);
        let after = match state.pods.get_mut(name) {
            Some(pod) => {
                pod["metadata"]["resourceVersion"] = json!(version.to_string());
                pod.clone()
            }
            None => {
                let mut pod = before.unwrap_or_default();
                pod["metadata"]["resourceVersion"] = json!(version.to_string());
                pod
            }
        };
        let event = json!({"type": kind, "object": after});
        state.log.push((version, event.clone()));
        let _ = self.events.send(event);
    }

    pub(crate) fn apply(&self, pod: Value) {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        self.change("ADDED", &name, |pods| drop(pods.insert(name.clone(), pod)));
    }

    pub(crate) fn remove(&self, name: &str) {
        self.change("DELETED", name, |pods| drop(pods.remove(name)));
    }

    pub(crate) fn delete_gracefully(&self, name: &str) {
        self.change("MODIFIED", name, |pods| {
            let metadata = &mut pods.get_mut(name).unwrap()["metadata"];
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            metadata["deletionGracePeriodSeconds"] = json!(1);
        });
    }

    /// Something of the pod changes that says nothing: its worker looks again.
    pub(crate) fn touch(&self, name: &str) {
        self.change("MODIFIED", name, |pods| {
            let annotations = &mut pods.get_mut(name).unwrap()["metadata"]["annotations"];
            let touched = annotations["touched"].as_str().map_or(0, str::len);
            annotations["touched"] = json!("x".repeat(touched + 1));
        });
    }

    pub(crate) fn put_map(&self, name: &str, key: &str, text: &str) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {key: text}, "metadata": {"name": name,
            "namespace": "default", "uid": format!("u-{name}"), "resourceVersion": state.version.to_string()}});
        let known = state.maps.insert(name.to_owned(), map.clone()).is_some();
        let _ = self.events.send(json!({"type": if known { "MODIFIED" } else { "ADDED" }, "object": map}));
    }

    /// How often a config map or secret was asked for.
    pub(crate) fn asked_for(&self, name: &str) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|asked| *asked == name).count()
    }

    pub(crate) fn was_told(&self, reason: &str, message: &str) -> bool {
        self.state.lock().unwrap().told.iter().any(|(r, m)| r == reason && m == message)
    }

    pub(crate) fn node_status(&self) -> Value {
        self.state.lock().unwrap().node.clone()
    }

    pub(crate) fn pod(&self, name: &str) -> Option<Value> {
        self.state.lock().unwrap().pods.get(name).cloned()
    }

    /// Status patches so far.
    pub(crate) fn pod_patches(&self) -> usize {
        self.state.lock().unwrap().patched.len()
    }

    pub(crate) fn pod_patches_of(&self, name: &str) -> usize {
        self.state.lock().unwrap().patched.iter().filter(|patched| *patched == name).count()
    }

    /// The first request about leases gets no answer.
    pub(crate) fn lose_first_lease(&self) {
        self.state.lock().unwrap().loses_first_lease = true;
    }

    pub(crate) fn leases(&self) -> usize {
        self.state.lock().unwrap().leases
    }

    fn is_lost(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.leases += 1;
        state.leases == 1 && state.loses_first_lease
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let sent = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let sent: Value = serde_json::from_slice(&sent).unwrap_or_default();
        let path = parts.uri.path();
        let query = parts.uri.query().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        if path == "/api/v1/pods" || path == "/api/v1/services" {
            return self.list(last, query);
        }
        if let Some(rest) = path.strip_prefix("/api/v1/namespaces/default/pods/") {
            return self.pods(&parts.method, rest, &sent);
        }
        if let Some("configmaps" | "secrets") = path.strip_prefix("/api/v1/namespaces/default/") {
            return self.named(last, query);
        }
        if path.contains("/leases") && self.is_lost() {
            return std::future::pending().await;
        }
        match parts.method {
            Method::POST | Method::PATCH if path.contains("/events") => {
                let text = |key: &str| sent[key].as_str().unwrap_or_default().to_owned();
                self.state.lock().unwrap().told.push((text("reason"), text("message")));
                ok(&sent)
            }
            Method::PATCH if path == "/api/v1/nodes/n1/status" => {
                self.state.lock().unwrap().node = sent["status"].clone();
                ok(&sent)
            }
            Method::GET => not_found(),
            _ => ok(&sent),
        }
    }

    /// A watch of one object.
    fn named(&self, kind: &str, query: &str) -> Response<Body> {
        let query: BTreeMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let name = query["fieldSelector"].strip_prefix("metadata.name=").unwrap().to_owned();
        let mut state = self.state.lock().unwrap();
        state.asked.push(name.clone());
        let (kind, known) = match kind {
            "configmaps" => ("ConfigMap", state.maps.get(&name)),
            _ => ("Secret", None),
        };
        let mut first: Vec<Value> = known.iter().map(|map| json!({"type": "ADDED", "object": map})).collect();
        first.push(json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": kind, "metadata": {
            "resourceVersion": state.version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}}}}));
        let mine = move |event: &Value| event["object"]["kind"] == kind && event["object"]["metadata"]["name"] == *name;
        stream(first, self.events.subscribe(), mine)
    }

    fn list(&self, kind: &str, query: &str) -> Response<Body> {
        let state = self.state.lock().unwrap();
        if query.contains("watch=true") {
            let wanted = kind == "pods";
            let mut first = Vec::new();
            if query.contains("sendInitialEvents=true") {
                let pods = state.pods.values().filter(|_| wanted);
                first.extend(pods.map(|pod| json!({"type": "ADDED", "object": pod})));
                let of = if wanted { "Pod" } else { "Service" };
                first.push(json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": of, "metadata": {
                    "resourceVersion": state.version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}}, "spec": {"containers": []}}}));
            } else if wanted {
                // What happened between the list and this.
                let from = version_of(query);
                let newer = state.log.iter().filter(|(version, _)| *version > from);
                first.extend(newer.map(|(_, event)| event.clone()));
            }
            return stream(first, self.events.subscribe(), move |event| wanted && event["object"]["kind"] == "Pod");
        }
        let items: Vec<&Value> = if kind == "pods" { state.pods.values().collect() } else { Vec::new() };
        ok(
            &json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": state.version.to_string()}, "items": items}),
        )
    }

    fn pods(&self, method: &Method, rest: &str, sent: &Value) -> Response<Body> {
        let name = rest.split('/').next().unwrap_or_default();
        let Some(pod) = self.pod(name) else { return not_found() };
        match *method {
            Method::PATCH if sent["metadata"]["uid"] != pod["metadata"]["uid"] => status(StatusCode::CONFLICT),
            Method::PATCH => {
                self.change("MODIFIED", name, |pods| {
                    merge(&mut pods.get_mut(name).unwrap()["status"], &sent["status"])
                });
                self.state.lock().unwrap().patched.push(name.to_owned());
                ok(&self.pod(name).unwrap_or_default())
            }
            Method::DELETE if sent["preconditions"]["uid"] != pod["metadata"]["uid"] => status(StatusCode::CONFLICT),
            Method::DELETE => {
                self.remove(name);
                ok(&pod)
            }
            _ => ok(&pod),
        }
    }
}

/// What is known, then what happens.
fn stream(
    first: Vec<Value>,
    events: broadcast::Receiver<Value>,
    wanted: impl Fn(&Value) -> bool + Send + Sync + 'static,
) -> Response<Body> {
    let events = BroadcastStream::new(events);
    let events = events.filter_map(move |event| futures::future::ready(event.ok().filter(|event| wanted(event))));
    let lines = futures::stream::iter(first)
        .chain(events)
        .map(|event| Ok(http_body::Frame::data(Bytes::from(format!("{event}\n")))));
    Response::new(BodyExt::boxed(StreamBody::new(lines)))
}

fn version_of(query: &str) -> u64 {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.into_owned().find(|(key, _)| key == "resourceVersion").and_then(|(_, v)| v.parse().ok()).unwrap_or(0)
}

fn ok(value: &Value) -> Response<Body> {
    Response::new(Full::new(Bytes::from(value.to_string())).boxed())
}

fn not_found() -> Response<Body> {
    status(StatusCode::NOT_FOUND)
}

fn status(code: StatusCode) -> Response<Body> {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "message": code.as_str(),
        "reason": if code == StatusCode::NOT_FOUND { "NotFound" } else { "Conflict" }});
    let mut answer = ok(&body);
    *answer.status_mut() = code;
    answer
}
