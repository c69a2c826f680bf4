//! The registry in process, over the embedded store.

use std::sync::Arc;

use api::Value;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::json;

use super::*;
use crate::answer::Body;
use crate::authorize::{Attributes, Rules, Ruling};
use crate::request::{Target, User, Verb, Warnings};

mod every;
mod objects;
mod protobuf;
mod replay;
mod rules;

/// Allows everything.
struct Anything;

impl Authorizer for Anything {
    fn authorize(&self, _: &Attributes<'_>) -> Ruling {
        Ruling::allow("")
    }

    fn rules(&self, _: &User, _: &str) -> Rules {
        Rules::default()
    }
}

/// A registry in a directory of its own.
pub(crate) struct Server {
    pub(crate) registry: Arc<Registry>,
    pub(crate) store: Arc<dyn Store>,
    _directory: Arc<tempfile::TempDir>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
    pub(crate) warnings: Vec<String>,
}

pub(crate) async fn server() -> Server {
    server_with(Vec::new()).await
}

pub(crate) async fn server_with(plugins: Vec<Arc<dyn crate::admission::Plugin>>) -> Server {
    servers_with(1, plugins).await.remove(0)
}

/// An empty store in a directory of its own.
pub(crate) fn store() -> (Arc<dyn Store>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let start = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let mut options = store::Options::new(start);
    options.sync = false;
    (Arc::new(store::EmbeddedStore::open(directory.path(), options).unwrap()), directory)
}

/// Several registries over one store.
pub(crate) async fn servers_with(count: usize, plugins: Vec<Arc<dyn crate::admission::Plugin>>) -> Vec<Server> {
    servers_of(count, plugins, &Config::default()).await
}

/// The same, of a configuration.
pub(crate) async fn servers_of(
    count: usize,
    plugins: Vec<Arc<dyn crate::admission::Plugin>>,
    config: &Config,
) -> Vec<Server> {
    let (store, directory) = store();
    let directory = Arc::new(directory);
    let mut servers = Vec::new();
    for _ in 0..count {
        let (tasks, plugins) = (Tasks::new(Drain::never()), Chain::new(plugins.clone()));
        let registry = Registry::new(store.clone(), config.clone(), tasks, Arc::new(Anything), plugins);
        registry.start().await.unwrap();
        let handle = crate::objects::Handle::default();
        handle.bind(registry.clone());
        crate::node_ports::Repair::new(handle, store.clone(), config.node_ports.clone(), false).catch_up().await;
        servers.push(Server { registry, store: store.clone(), _directory: directory.clone() });
    }
    servers
}

/// A request's context with this query.
pub(crate) fn context(query: &str) -> Context {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    Context {
        user: Arc::new(User {
            name: "admin".to_owned(),
            groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
            ..User::default()
        }),
        target: Arc::new(Target::Path { verb: "get".to_owned(), path: "/".to_owned() }),
        query: Arc::new(pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect()),
        now: daemon::clock::now(),
        user_agent: "recorder/1.0".into(),
        audit_id: "".into(),
        warnings: Warnings::default(),
    }
}

/// Splits `/api/v1/namespaces/n/pods/x/status` into its parts.
pub(crate) fn resource_path(path: &str, verb: Verb) -> ResourcePath {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let group = if parts.remove(0) == "api" { "" } else { parts.remove(0) };
    let version = parts.remove(0);
    let mut namespace = "";
    if parts.len() > 2 && parts[0] == "namespaces" && !matches!(parts[2], "status" | "finalize") {
        namespace = parts[1];
        parts.drain(..2);
    }
    let part = |at: usize| parts.get(at).copied().unwrap_or("").to_owned();
    ResourcePath {
        verb,
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        resource: part(0),
        name: part(1),
        subresource: part(2),
        tail: String::new(),
    }
}

impl Server {
    pub(crate) async fn response(
        &self,
        verb: Verb,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (Response, Context) {
        self.exchange(verb, path, headers, Body::from(body.to_owned())).await
    }

    pub(crate) async fn exchange(
        &self,
        verb: Verb,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> (Response, Context) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let context = context(query);
        let mut request = http::Request::builder().method(Method::POST).uri(format!("http://x{path}?{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).unwrap();
        let response = self.registry.handle(&context, &resource_path(path, verb), request).await;
        (response, context)
    }

    pub(crate) async fn send(&self, verb: Verb, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let (response, context) = self.response(verb, path, headers, body).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { code, body, warnings: context.warnings.take() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Verb::Get, path, &[], "").await
    }

    pub(crate) async fn list(&self, path: &str) -> Answer {
        self.send(Verb::List, path, &[], "").await
    }

    pub(crate) async fn create(&self, path: &str, object: &Value) -> Answer {
        self.send(Verb::Create, path, &[], &object.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, object: &Value) -> Answer {
        self.send(Verb::Update, path, &[], &object.to_string()).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, patch: &Value) -> Answer {
        let content_type = format!("application/{kind}-patch+json");
        self.send(Verb::Patch, path, &[("content-type", &content_type)], &patch.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Answer {
        let body = if options.is_null() { String::new() } else { options.to_string() };
        self.send(Verb::Delete, path, &[], &body).await
    }

    /// A watch whose events are read one by one.
    pub(crate) async fn watch(&self, path: &str, headers: &[(&str, &str)]) -> Events {
        let (response, _) = self.response(Verb::Watch, path, headers, "").await;
        assert_eq!(response.status(), StatusCode::OK);
        Events { body: response.into_body(), buffer: Vec::new() }
    }
}

/// The events of a watch.
pub(crate) struct Events {
    body: Body,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event; None at the stream's end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame =
                tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await.expect("an event in time");
            self.buffer.extend_from_slice(&frame?.unwrap().into_data().unwrap());
        }
    }

    /// The next event as `TYPE name`.
    pub(crate) async fn brief(&mut self) -> String {
        let event = self.next().await.expect("an event");
        format!("{} {}", event["type"].as_str().unwrap(), event["object"]["metadata"]["name"].as_str().unwrap_or(""))
    }
}

pub(crate) fn config_map(name: &str, data: &Value) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": data})
}
