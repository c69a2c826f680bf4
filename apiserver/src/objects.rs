//! The server's own view of its objects: what authorization, admission, tokens and start-up read and write.
//!
//! Reads come from the watch caches and never touch the store; writes go through the same pipeline as a client's,
//! as [`system`]. The registry implements [`Objects`]; whoever is built before the registry holds a [`Handle`].

use std::sync::{Arc, OnceLock};

use api::{Status, Value};
use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::request::User;

/// A change of one resource's collection.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object is new or has changed.
    Put(Arc<Value>),
    /// The object is gone; this was its last state.
    Deleted(Arc<Value>),
    /// Everything that existed when the stream was opened has been sent.
    Synced,
}

/// Names an object or a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ref<'a> {
    /// The group, empty for core.
    pub group: &'a str,
    /// The plural resource.
    pub resource: &'a str,
    /// Empty at cluster scope and for a collection over all namespaces.
    pub namespace: &'a str,
    /// Empty for a collection.
    pub name: &'a str,
}

impl<'a> Ref<'a> {
    /// A namespaced object.
    pub const fn namespaced(group: &'a str, resource: &'a str, namespace: &'a str, name: &'a str) -> Self {
        Self { group, resource, namespace, name }
    }

    /// A cluster-wide object.
    pub const fn cluster(group: &'a str, resource: &'a str, name: &'a str) -> Self {
        Self { group, resource, namespace: "", name }
    }

    /// A collection; an empty namespace is all of them.
    pub const fn collection(group: &'a str, resource: &'a str, namespace: &'a str) -> Self {
        Self { group, resource, namespace, name: "" }
    }
}

/// The objects of every built-in resource, at the group's storage or preferred version.
#[async_trait]
pub trait Objects: Send + Sync + 'static {
    /// One object out of the cache.
    fn get(&self, object: Ref<'_>) -> Option<Arc<Value>>;

    /// Whether the cache has an object.
    fn has(&self, object: Ref<'_>) -> bool;

    /// A collection out of the cache, in key order.
    fn list(&self, collection: Ref<'_>) -> Vec<Arc<Value>>;

    /// One object as the store has it now: for a decision where the cache may lag behind (a namespace or service account
    /// that was made a moment ago).
    ///
    /// # Errors
    /// `NotFound`, or the store's failure.
    async fn read(&self, object: Ref<'_>) -> Result<Arc<Value>, Status>;

    /// Waits until the cache has everything of a collection that the store has now.
    ///
    /// # Errors
    /// The store's failure, or a cache that does not follow.
    async fn newest(&self, collection: Ref<'_>) -> Result<(), Status>;

    /// The collection's present objects, then [`Change::Synced`], then its changes in order, for ever: a gap in history is
    /// bridged by sending the difference.
    fn changes(&self, group: &str, resource: &str) -> BoxStream<'static, Change>;

    /// As [`Objects::changes`], of those objects alone that have text at a path of names: one that has none (any more)
    /// is to the stream as one that is gone.
    fn changes_with(&self, group: &str, resource: &str, path: &'static str) -> BoxStream<'static, Change>;

    /// Creates an object through the pipeline, as [`system`].
    ///
    /// # Errors
    /// As for a client.
    async fn create(&self, collection: Ref<'_>, object: Value, manager: Manager) -> Result<Value, Status>;

    /// Replaces an object through the pipeline, as [`system`]. The subresource is empty for the object itself.
    ///
    /// # Errors
    /// As for a client.
    async fn update(&self, object: Ref<'_>, subresource: &str, value: Value, manager: Manager)
    -> Result<Value, Status>;

    /// Applies a configuration by force through the pipeline, as [`system`]. The subresource is empty for the object
    /// itself, which is then created when it is missing.
    ///
    /// # Errors
    /// As for a client.
    async fn apply(&self, object: Ref<'_>, subresource: &str, config: Value, manager: Manager)
    -> Result<Value, Status>;

    /// Deletes an object through the pipeline, as [`system`]: the one with this UID, when there is one given.
    ///
    /// # Errors
    /// As for a client.
    async fn delete(&self, object: Ref<'_>, uid: Option<&str>) -> Result<(), Status>;
}

/// The name under which a part of the server owns the fields that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manager(pub &'static str);

impl Manager {
    /// The server at large.
    pub const SERVER: Self = Self("kube-apiserver");
}

/// An [`Objects`] that is filled in once the registry stands.
#[derive(Clone, Default)]
pub struct Handle(Arc<OnceLock<Arc<dyn Objects>>>);

impl Handle {
    /// Fills it in; the first one counts.
    pub fn bind(&self, objects: Arc<dyn Objects>) {
        let _ = self.0.set(objects);
    }

    /// The objects.
    ///
    /// # Panics
    /// Before [`Handle::bind`].
    pub fn get(&self) -> &dyn Objects {
        self.0.get().expect("the registry is bound before the first request is served").as_ref()
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Handle").field(&self.0.get().is_some()).finish()
    }
}

/// Who the server itself is, as upstream's loopback client.
pub fn system() -> User {
    User {
        name: "system:apiserver".to_owned(),
        groups: vec!["system:authenticated".to_owned(), "system:masters".to_owned()],
        ..User::default()
    }
}
