//! Which FlowSchema and priority level a request is part of, for the two headers that name them.

use std::collections::HashMap;
use std::sync::Arc;

use api::{Value, meta};
use arc_swap::ArcSwap;
use daemon::Tasks;
use futures::StreamExt as _;
use http::HeaderValue;
use http::header::HeaderName;

use super::{Context, Response, Target, User};
use crate::objects::{Change, Objects};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// The flow schemas, the first that matches first. Clones share them.
#[derive(Clone, Default)]
pub struct Flows(Arc<ArcSwap<Vec<Schema>>>);

/// Where a request belongs.
#[derive(Clone, Debug, Default)]
pub(super) struct Flow {
    schema: Option<HeaderValue>,
    level: Option<HeaderValue>,
}

struct Schema {
    precedence: i64,
    name: String,
    flow: Flow,
    rules: Vec<Rule>,
}

struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

enum Subject {
    User(String),
    Group(String),
    /// The namespace's accounts by user name; `*` for all of them.
    Accounts(String),
}

struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    cluster: bool,
    namespaces: Vec<String>,
}

struct PathRule {
    verbs: Vec<String>,
    urls: Vec<String>,
}

impl Flows {
    /// Follows the schemas and levels until the drain.
    pub fn follow(&self, objects: &dyn Objects, tasks: &Tasks) {
        let schemas = objects.changes(GROUP, "flowschemas").map(|change| (true, change));
        let levels = objects.changes(GROUP, "prioritylevelconfigurations").map(|change| (false, change));
        let mut changes = futures::stream::select(schemas, levels).ready_chunks(64);
        let (flows, drain) = (self.clone(), tasks.drain().clone());
        tasks.spawn("flow-schemas", async move {
            let mut known = Known::default();
            while let Some(Some(batch)) = drain.run(changes.next()).await {
                batch.into_iter().for_each(|(is_schema, change)| known.apply(is_schema, change));
                flows.0.store(Arc::new(known.schemas()));
            }
        });
    }

    /// The flow of a request.
    pub(super) fn of(&self, context: &Context) -> Flow {
        let schemas = self.0.load();
        let found = schemas.iter().find(|schema| schema.rules.iter().any(|rule| rule.matches(context)));
        found.map(|schema| schema.flow.clone()).unwrap_or_default()
    }
}

impl Flow {
    /// Names the flow in an answer.
    pub(super) fn mark(&self, mut answer: Response) -> Response {
        for (name, value) in [(SCHEMA_UID, &self.schema), (LEVEL_UID, &self.level)] {
            if let Some(value) = value {
                answer.headers_mut().insert(name, value.clone());
            }
        }
        answer
    }
}

#[derive(Default)]
struct Known {
    schemas: HashMap<String, Arc<Value>>,
    levels: HashMap<String, HeaderValue>,
}

impl Known {
    fn apply(&mut self, is_schema: bool, change: Change) {
        match (is_schema, change) {
            (_, Change::Synced) => {}
            (true, Change::Put(object)) => drop(self.schemas.insert(meta::name(&object).to_owned(), object)),
            (true, Change::Deleted(object)) => drop(self.schemas.remove(meta::name(&object))),
            (false, Change::Put(object)) => {
                if let Ok(uid) = meta::uid(&object).parse() {
                    self.levels.insert(meta::name(&object).to_owned(), uid);
                }
            }
            (false, Change::Deleted(object)) => drop(self.levels.remove(meta::name(&object))),
        }
    }

    fn schemas(&self) -> Vec<Schema> {
        let mut schemas: Vec<Schema> = self.schemas.values().map(|object| self.schema(object)).collect();
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        schemas
    }

    fn schema(&self, object: &Value) -> Schema {
        let level = object.pointer("/spec/priorityLevelConfiguration/name").and_then(Value::as_str).unwrap_or_default();
        let flow = Flow { schema: meta::uid(object).parse().ok(), level: self.levels.get(level).cloned() };
        Schema {
            precedence: object.pointer("/spec/matchingPrecedence").and_then(Value::as_i64).unwrap_or(i64::MAX),
            name: meta::name(object).to_owned(),
            flow,
            rules: items(object, "/spec/rules").map(Rule::from_value).collect(),
        }
    }
}

impl Rule {
    fn from_value(rule: &Value) -> Self {
        let resource = |rule: &Value| ResourceRule {
            verbs: texts(rule, "/verbs"),
            groups: texts(rule, "/apiGroups"),
            resources: texts(rule, "/resources"),
            cluster: rule.get("clusterScope").and_then(Value::as_bool).unwrap_or(false),
            namespaces: texts(rule, "/namespaces"),
        };
        let path = |rule: &Value| PathRule { verbs: texts(rule, "/verbs"), urls: texts(rule, "/nonResourceURLs") };
        Self {
            subjects: items(rule, "/subjects").filter_map(Subject::from_value).collect(),
            resources: items(rule, "/resourceRules").map(resource).collect(),
            paths: items(rule, "/nonResourceRules").map(path).collect(),
        }
    }

    fn matches(&self, context: &Context) -> bool {
        if !self.subjects.iter().any(|subject| subject.matches(&context.user)) {
            return false;
        }
        match &*context.target {
            Target::Resource(path) => self.resources.iter().any(|rule| rule.matches(path)),
            Target::Path { verb, path } => self.paths.iter().any(|rule| {
                has(&rule.verbs, verb)
                    && rule
                        .urls
                        .iter()
                        .any(|url| url == path || url.strip_suffix('*').is_some_and(|p| path.starts_with(p)))
            }),
        }
    }
}

impl ResourceRule {
    fn matches(&self, path: &crate::request::ResourcePath) -> bool {
        let in_scope = if path.namespace.is_empty() { self.cluster } else { has(&self.namespaces, &path.namespace) };
        in_scope && has(&self.verbs, path.verb.word()) && has(&self.groups, &path.group) && self.has_resource(path)
    }

    fn has_resource(&self, path: &crate::request::ResourcePath) -> bool {
        if path.subresource.is_empty() {
            return has(&self.resources, &path.resource);
        }
        has(&self.resources, &format!("{}/{}", path.resource, path.subresource))
    }
}

impl Subject {
    fn from_value(subject: &Value) -> Option<Self> {
        let text = |pointer: &str| subject.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(match text("/kind").as_str() {
            "User" => Self::User(text("/user/name")),
            "Group" => Self::Group(text("/group/name")),
            "ServiceAccount" => Self::Accounts(format!(
                "system:serviceaccount:{}:{}",
                text("/serviceAccount/namespace"),
                text("/serviceAccount/name")
            )),
            _ => return None,
        })
    }

    fn matches(&self, user: &User) -> bool {
        match self {
            Self::User(name) => name == "*" || *name == user.name,
            Self::Group(name) => name == "*" || user.groups.contains(name),
            Self::Accounts(name) => {
                *name == user.name || name.strip_suffix('*').is_some_and(|prefix| user.name.starts_with(prefix))
            }
        }
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn texts(value: &Value, pointer: &str) -> Vec<String> {
    items(value, pointer).filter_map(Value::as_str).map(str::to_owned).collect()
}
