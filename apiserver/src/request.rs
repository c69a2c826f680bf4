//! A request, parsed to closed types at the door: inside the server there are no headers and no strings where a
//! type exists.

mod info;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;

pub use info::{Error as ParseError, parse};

/// What a request does, as authorization sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// One object.
    Get,
    /// A collection.
    List,
    /// Changes of a collection or object.
    Watch,
    /// A new object, or an upgrade of a connection.
    Create,
    /// A replaced object.
    Update,
    /// A changed object.
    Patch,
    /// A removed object.
    Delete,
    /// A removed collection.
    DeleteCollection,
    /// A connection to what the object stands for.
    Proxy,
    /// A method without a verb, such as OPTIONS; only proxies pass it on.
    Other,
}

impl Verb {
    /// The word in rules and messages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Proxy => "proxy",
            Self::Other => "",
        }
    }
}

/// What the path and method say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Something under `/api/V` or `/apis/G/V`.
    Resource(ResourcePath),
    /// Any other path; the verb is the lower-case method.
    Path {
        /// `get`, `post`, ...
        verb: String,
        /// The path as authorization sees it.
        path: String,
    },
}

/// A path under `/api/V` or `/apis/G/V`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcePath {
    /// What is done.
    pub verb: Verb,
    /// The group, empty for core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The namespace; empty at cluster scope and for a list over all namespaces.
    pub namespace: String,
    /// The plural resource.
    pub resource: String,
    /// `status`, `scale`, `log`, ...; empty for the resource itself.
    pub subresource: String,
    /// The object's name; empty for a collection. Set from `metadata.name` in a field selector for list and watch.
    pub name: String,
    /// What follows a `proxy` subresource, percent-encoding untouched.
    pub tail: String,
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// `system:anonymous`, a certificate's CN, `system:serviceaccount:ns:name`.
    pub name: String,
    /// The UID, empty when there is none.
    pub uid: String,
    /// All groups, `system:authenticated` among them.
    pub groups: Vec<String>,
    /// Further facts, such as `authentication.kubernetes.io/pod-name`.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Warnings collected for the answer's `Warning` headers. Clones share one list, duplicates are dropped.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Adds a warning.
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !list.contains(&text) {
            list.push(text);
        }
    }

    /// Takes what was collected.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A fresh random UID: of an object, a request, a token.
pub(crate) fn random_uid() -> String {
    // The thread's generator is one for secrets, too, and asks the system for a seed now and then, not for each number.
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

/// Everything that handlers know of a request besides its body.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who asks.
    pub user: Arc<User>,
    /// What for.
    pub target: Arc<Target>,
    /// The query's pairs, percent-decoded, in order; keys repeat.
    pub query: Arc<Vec<(String, String)>>,
    /// When it arrived.
    pub now: Timestamp,
    /// `User-Agent`, for field managers.
    pub user_agent: Arc<str>,
    /// `Audit-Id`.
    pub audit_id: Arc<str>,
    /// Collected warnings.
    pub warnings: Warnings,
}

impl Context {
    /// The first value of a query parameter.
    pub fn param(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// All values of a query parameter.
    pub fn params<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}
