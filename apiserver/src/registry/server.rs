//! The server's own reads and writes: the same caches and the same pipeline, as [`objects::system`].

use std::collections::HashMap;
use std::sync::Arc;

use api::{Status, Value, meta};
use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use store::Key;
use store::cache::Watcher;

use super::Registry;
use super::fields;
use super::index;
use super::object::Stored;
use super::options::{DeleteOptions, WriteOptions};
use super::resource::{Collection, Endpoint};
use super::update;
use super::yaml::Configuration;
use crate::objects::{self, Change, Manager, Objects, Ref};
use crate::request::{Context, ResourcePath, Target, Verb, Warnings};

/// The trees of a longer list are not kept for the next time.
const KEPT_MAX: usize = 32;

impl Registry {
    fn own(&self, group: &str, resource: &str) -> Result<&Arc<Endpoint>, Status> {
        self.preferred(group, resource).ok_or_else(Status::unknown_path)
    }

    /// A collection as the store has it now.
    pub(crate) async fn list_newest(&self, collection: Ref<'_>) -> Result<Vec<Arc<Value>>, Status> {
        let endpoint = self.own(collection.group, collection.resource)?;
        let path = path(endpoint, collection, "", Verb::List);
        let context = context(&path);
        let snapshot = self.call(endpoint, &context, &path).newest().await?;
        let scope = endpoint.collection.scope(collection.namespace)?;
        Ok(snapshot.range(&scope, None).map(|(_, stored)| Arc::new(stored.tree())).collect())
    }

    fn follow(&self, group: &str, resource: &str, path: Option<&'static str>) -> BoxStream<'static, Change> {
        let Some(endpoint) = self.preferred(group, resource) else { return stream::pending().boxed() };
        let follower = Follower { collection: endpoint.collection.clone(), path, watcher: None, known: HashMap::new() };
        stream::unfold(follower, |mut follower| async move { Some((follower.next().await, follower)) })
            .flat_map(stream::iter)
            .boxed()
    }
}

#[async_trait]
impl Objects for Registry {
    fn get(&self, object: Ref<'_>) -> Option<Arc<Value>> {
        let collection = &self.preferred(object.group, object.resource)?.collection;
        let key = collection.key(object.namespace, object.name).ok()?;
        collection.cache.snapshot().get(&key).map(|stored| collection.trees.of(&key, stored))
    }

    fn has(&self, object: Ref<'_>) -> bool {
        let collection = self.preferred(object.group, object.resource).map(|endpoint| &endpoint.collection);
        let key = collection.and_then(|collection| collection.key(object.namespace, object.name).ok());
        collection.zip(key).is_some_and(|(collection, key)| collection.cache.snapshot().get(&key).is_some())
    }

    fn list(&self, collection: Ref<'_>) -> Vec<Arc<Value>> {
        let Some(endpoint) = self.preferred(collection.group, collection.resource) else { return Vec::new() };
        let Ok(scope) = endpoint.collection.scope(collection.namespace) else { return Vec::new() };
        let snapshot = endpoint.collection.cache.snapshot();
        let found = snapshot.range(&scope, None).take(KEPT_MAX + 1).count();
        let tree = |(key, stored): (&Key, &Arc<Stored>)| match found > KEPT_MAX {
            true => Arc::new(stored.tree()),
            false => endpoint.collection.trees.of(key, stored),
        };
        snapshot.range(&scope, None).map(tree).collect()
    }

    async fn read(&self, object: Ref<'_>) -> Result<Arc<Value>, Status> {
        let endpoint = self.own(object.group, object.resource)?;
        let path = path(endpoint, object, "", Verb::Get);
        let context = context(&path);
        let call = self.call(endpoint, &context, &path);
        let key = endpoint.collection.key(object.namespace, object.name)?;
        let found = call.load(&key).await?.ok_or_else(|| call.not_found(object.name))?;
        endpoint.collection.tree(&found.raw, found.revision).map(Arc::new)
    }

    async fn newest(&self, collection: Ref<'_>) -> Result<(), Status> {
        let endpoint = self.own(collection.group, collection.resource)?;
        let path = path(endpoint, collection, "", Verb::List);
        let context = context(&path);
        self.call(endpoint, &context, &path).newest().await.map(drop)
    }

    fn changes(&self, group: &str, resource: &str) -> BoxStream<'static, Change> {
        self.follow(group, resource, None)
    }

    fn changes_with(&self, group: &str, resource: &str, path: &'static str) -> BoxStream<'static, Change> {
        self.follow(group, resource, Some(path))
    }

    async fn create(&self, collection: Ref<'_>, object: Value, manager: Manager) -> Result<Value, Status> {
        let endpoint = self.own(collection.group, collection.resource)?;
        let path = path(endpoint, Ref { name: "", ..collection }, "", Verb::Create);
        let context = context(&path);
        let call = self.call(endpoint, &context, &path);
        let mut object = object;
        let given = fields::take_given(&mut object, b"");
        let written = call.create_object(object, &given, &options(manager)).await?;
        endpoint.collection.tree(&written.raw, written.revision)
    }

    async fn update(
        &self,
        object: Ref<'_>,
        subresource: &str,
        value: Value,
        manager: Manager,
    ) -> Result<Value, Status> {
        let endpoint = self.own(object.group, object.resource)?;
        let path = path(endpoint, object, subresource, Verb::Update);
        let context = context(&path);
        let call = self.call(endpoint, &context, &path);
        let options = options(manager);
        let shape = call.shape();
        let mut value = value;
        let given = fields::take_given(&mut value, b"");
        let make = |current: &fields::Current<'_>| {
            let managed = call.fields_of_changed(&shape, current, (&value, &given), &options);
            Ok(fields::Made { object: value.clone(), managed })
        };
        let uid = Some(meta::uid(&value)).filter(|uid| !uid.is_empty());
        let create = update::Create::Object(&value, &given);
        let change = update::Change { make: &make, uid, create, options: &options };
        let outcome = call.update_object(&change).await?;
        endpoint.collection.tree(&outcome.written.raw, outcome.written.revision)
    }

    async fn apply(
        &self,
        object: Ref<'_>,
        subresource: &str,
        config: Value,
        manager: Manager,
    ) -> Result<Value, Status> {
        let endpoint = self.own(object.group, object.resource)?;
        let path = path(endpoint, object, subresource, Verb::Patch);
        let context = context(&path);
        let call = self.call(endpoint, &context, &path);
        let options = WriteOptions { applies: true, force: true, ..options(manager) };
        let config = Configuration { tree: config, repeated: None };
        let outcome = call.apply_configuration(&call.shape(), &config, &options).await?;
        endpoint.collection.tree(&outcome.written.raw, outcome.written.revision)
    }

    async fn delete(&self, object: Ref<'_>, uid: Option<&str>) -> Result<(), Status> {
        let endpoint = self.own(object.group, object.resource)?;
        let path = path(endpoint, object, "", Verb::Delete);
        let context = context(&path);
        let call = self.call(endpoint, &context, &path);
        let options = DeleteOptions { uid: uid.map(str::to_owned), ..DeleteOptions::default() };
        call.delete_named(&path, &options).await.map(drop)
    }
}

fn options(manager: Manager) -> WriteOptions {
    WriteOptions { field_manager: manager.0.to_owned(), ..WriteOptions::default() }
}

fn path(endpoint: &Endpoint, object: Ref<'_>, subresource: &str, verb: Verb) -> ResourcePath {
    ResourcePath {
        verb,
        group: object.group.to_owned(),
        version: endpoint.table.version.to_owned(),
        namespace: object.namespace.to_owned(),
        resource: object.resource.to_owned(),
        subresource: subresource.to_owned(),
        name: object.name.to_owned(),
        tail: String::new(),
    }
}

fn context(path: &ResourcePath) -> Context {
    Context {
        user: Arc::new(objects::system()),
        target: Arc::new(Target::Resource(path.clone())),
        query: Arc::default(),
        now: daemon::clock::now(),
        user_agent: "kube-apiserver".into(),
        audit_id: "".into(),
        warnings: Warnings::default(),
    }
}

/// Follows a collection for ever; a gap in history is bridged by the difference.
struct Follower {
    collection: Arc<Collection>,
    /// Objects without text there are as good as gone.
    path: Option<&'static str>,
    watcher: Option<Watcher<Stored>>,
    known: HashMap<Key, Arc<Stored>>,
}

impl Follower {
    async fn next(&mut self) -> Vec<Change> {
        let Some(watcher) = &mut self.watcher else { return self.start().await };
        let Ok(event) = watcher.next().await else {
            self.watcher = None;
            return Vec::new();
        };
        match event.current.as_ref().filter(|stored| self.is_followed(stored)) {
            Some(stored) => {
                self.known.insert(event.key.clone(), stored.clone());
                vec![Change::Put(Arc::new(stored.tree()))]
            }
            None => self.known.remove(&event.key).map(|last| gone(&last)).into_iter().collect(),
        }
    }

    fn is_followed(&self, stored: &Stored) -> bool {
        let text = |path| index::text_at(&stored.raw, path);
        self.path.is_none_or(|path| text(path).is_some_and(|text| !text.is_empty()))
    }

    async fn start(&mut self) -> Vec<Change> {
        self.collection.cache.ready().await;
        let snapshot = self.collection.cache.snapshot();
        // The log may have moved on since the snapshot: then the next round starts again.
        let Ok(watcher) = self.collection.cache.watch(snapshot.revision()) else { return Vec::new() };
        let first = self.known.is_empty();
        let mut before = std::mem::take(&mut self.known);
        let mut changes = Vec::new();
        for (key, stored) in snapshot.range(&self.collection.prefix, None) {
            if !self.is_followed(stored) {
                continue;
            }
            let known = before.remove(key).is_some_and(|old| old.revision == stored.revision);
            if !known {
                changes.push(Change::Put(Arc::new(stored.tree())));
            }
            self.known.insert(key.clone(), stored.clone());
        }
        changes.extend(before.values().map(|last| gone(last)));
        if first && self.watcher.is_none() {
            changes.push(Change::Synced);
        }
        self.watcher = Some(watcher);
        changes
    }
}

fn gone(last: &Stored) -> Change {
    Change::Deleted(Arc::new(last.tree()))
}
