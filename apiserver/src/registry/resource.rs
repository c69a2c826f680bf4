//! What the engine knows of a resource: where it is stored ([`Collection`]) and as what it is served ([`Endpoint`]).

use std::sync::Arc;

use api::schema::{self, Table, TypeId};
use api::{Status, Value};
use daemon::Tasks;
use kinds::Strategy;
use store::cache::Decoded;
use store::{Cache, CacheOptions, Clock, Entry, Key, KeyPrefix, Store};

use super::Config;
use super::index;
use super::object::{self, Head, Stored};
use super::special::{self, Conversion, Hooks};
use super::trees::Trees;

/// One stored resource, whatever it is served as.
pub(crate) struct Collection {
    pub(crate) group: &'static str,
    /// The plural.
    pub(crate) resource: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) version: &'static str,
    pub(crate) namespaced: bool,
    pub(crate) head: Head,
    pub(crate) prefix: KeyPrefix,
    pub(crate) cache: Arc<Cache<Stored>>,
    /// Of the objects that the server itself asks for.
    pub(crate) trees: Trees,
    pub(crate) strategy: &'static dyn Strategy,
    pub(crate) hooks: Arc<dyn Hooks>,
}

/// A resource in one group and version.
pub(crate) struct Endpoint {
    pub(crate) table: &'static schema::Resource,
    pub(crate) collection: Arc<Collection>,
    pub(crate) strategy: &'static dyn Strategy,
    /// How objects begin in this version.
    pub(crate) head: Head,
    /// None when what is stored is what is served.
    pub(crate) conversion: Option<&'static dyn Conversion>,
}

/// The clock by which history ages: it never steps.
fn clock() -> Clock {
    let start = daemon::clock::monotonic();
    Clock::custom(move || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}

impl Collection {
    fn new(store: &Arc<dyn Store>, served: &'static schema::Resource, hooks: Arc<dyn Hooks>, tasks: &Tasks) -> Self {
        let head = Head::new(served.kind, &served.api_version());
        let prefix =
            KeyPrefix::new(special::key_segments(served.group, served.name)).expect("resource names are segments");
        let decoding = head.clone();
        let strategy = kinds::strategy(served.group, served.name);
        let indexed = strategy.indexed_field();
        let decode = move |entry: &Entry| {
            let raw = decoding.canonical(&entry.value).map_err(|error| error.to_string())?;
            let bytes = raw.len() + size_of::<Stored>();
            let index = indexed.and_then(|field| index::text_at(&raw, field)).filter(|value| !value.is_empty());
            Ok(Decoded { view: Stored::new(raw, entry.mod_revision), bytes, index: index.map(Into::into) })
        };
        let (cache, driver) = Cache::new(store.clone(), prefix.clone(), Arc::new(decode), CacheOptions::new(clock()));
        tasks.spawn("watch-cache", driver);
        Self {
            group: served.group,
            resource: served.name,
            kind: served.kind,
            version: served.version,
            namespaced: served.namespaced,
            head,
            prefix,
            cache,
            trees: Trees::default(),
            strategy,
            hooks,
        }
    }

    /// Where an object is stored.
    pub(crate) fn key(&self, namespace: &str, name: &str) -> Result<Key, Status> {
        let key = if self.namespaced { self.prefix.key([namespace, name]) } else { self.prefix.key([name]) };
        key.map_err(|error| Status::bad_request(error.to_string()))
    }

    /// The prefix of a namespace's objects, or of all.
    pub(crate) fn scope(&self, namespace: &str) -> Result<KeyPrefix, Status> {
        if !self.namespaced || namespace.is_empty() {
            return Ok(self.prefix.clone());
        }
        self.prefix.child(namespace).map_err(|error| Status::bad_request(error.to_string()))
    }

    /// The tree of stored bytes, with its resource version.
    pub(crate) fn tree(&self, raw: &[u8], revision: u64) -> Result<Value, Status> {
        self.parsed(serde_json::from_slice(raw), revision)
    }

    /// The tree of stored bytes, with its resource version and without its managed fields.
    pub(crate) fn unmanaged(&self, raw: &[u8], revision: u64) -> Result<Value, Status> {
        self.parsed(object::unmanaged(raw), revision)
    }

    fn parsed(&self, parsed: Result<Value, serde_json::Error>, revision: u64) -> Result<Value, Status> {
        let mut tree = parsed.map_err(|error| Status::internal(format!("decoding a stored {}: {error}", self.kind)))?;
        if revision > 0 {
            api::meta::set(&mut tree, "resourceVersion", Value::String(revision.to_string()));
        }
        Ok(tree)
    }
}

impl Endpoint {
    /// `v1` or `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        self.table.api_version()
    }

    /// A stored object as this version has it.
    pub(crate) fn served(&self, stored: Value) -> Value {
        let Some(conversion) = self.conversion else { return stored };
        let mut served = conversion.to_served(stored);
        let root = api::meta::as_object_mut(&mut served);
        root.insert("apiVersion".to_owned(), self.api_version().into());
        root.insert("kind".to_owned(), self.table.kind.into());
        normalised(served, self.table.type_id)
    }

    /// A stored object in the version that the kind's rules are written for.
    pub(crate) fn working(&self, stored: Value) -> Value {
        if self.rules_are_stored() { stored } else { self.served(stored) }
    }

    /// A client's object in the version that the kind's rules are written for.
    pub(crate) fn working_of_client(&self, served: Value) -> Value {
        if self.rules_are_stored() { self.stored(served) } else { served }
    }

    /// What a client is shown of an object that the rules were applied to.
    pub(crate) fn client_of_working(&self, working: Value) -> Value {
        if self.rules_are_stored() { self.served(working) } else { working }
    }

    /// The type of what the kind's rules are written for.
    pub(crate) fn working_type(&self) -> Option<TypeId> {
        if !self.rules_are_stored() {
            return self.table.type_id;
        }
        let collection = &self.collection;
        schema::table().type_of(collection.group, collection.version, collection.kind)
    }

    fn rules_are_stored(&self) -> bool {
        self.conversion.is_some_and(Conversion::rules_are_stored)
    }

    /// A client's object as it is stored.
    pub(crate) fn stored(&self, served: Value) -> Value {
        let Some(conversion) = self.conversion else { return served };
        let mut stored = conversion.to_stored(served);
        let root = api::meta::as_object_mut(&mut stored);
        let home = api::GroupVersion::new(self.collection.group, self.collection.version);
        root.insert("apiVersion".to_owned(), home.to_string().into());
        root.insert("kind".to_owned(), self.collection.kind.into());
        let collection = &self.collection;
        normalised(stored, schema::table().type_of(collection.group, collection.version, collection.kind))
    }

    /// Writes a stored object in full, as this version has it.
    pub(crate) fn write_full(&self, out: &mut Vec<u8>, raw: &[u8], revision: u64) {
        match self.conversion {
            None => self.head.write_full(out, raw, revision),
            Some(_) => self.head.write_full(out, &self.converted(raw), revision),
        }
    }

    /// Writes a stored object as an item of a list.
    pub(crate) fn write_item(&self, out: &mut Vec<u8>, raw: &[u8], revision: u64) {
        match self.conversion {
            None => self.head.write_item(out, raw, revision),
            Some(_) => self.head.write_item(out, &self.converted(raw), revision),
        }
    }

    fn converted(&self, raw: &[u8]) -> bytes::Bytes {
        let tree = object::unmanaged(raw).unwrap_or_default();
        self.head.encode(&self.served(tree), object::managed(raw))
    }
}

/// A converted tree as decoding would have left it.
fn normalised(tree: Value, id: Option<TypeId>) -> Value {
    let id = id.filter(|id| !schema::is_settled(&tree, *id));
    let decoded = id.and_then(|id| schema::decode_value(tree.clone(), id).ok());
    decoded.map_or(tree, |decoded| decoded.value)
}

/// Every stored resource of the table, as what it is served.
pub(crate) fn endpoints(
    table: &'static Table,
    store: &Arc<dyn Store>,
    config: &Config,
    tasks: &Tasks,
) -> Vec<Arc<Endpoint>> {
    let mut collections: Vec<Arc<Collection>> = Vec::new();
    let mut endpoints = Vec::new();
    for served in table.resources().filter(|resource| resource.storage.is_some()) {
        let home = home(table, served);
        let known = collections.iter().find(|c| c.group == home.group && c.resource == home.name).cloned();
        let collection = known.unwrap_or_else(|| {
            let hooks = special::hooks(config, (home.group, home.name), store, tasks);
            let made = Arc::new(Collection::new(store, home, hooks, tasks));
            collections.push(made.clone());
            made
        });
        endpoints.push(Arc::new(Endpoint {
            table: served,
            collection,
            strategy: kinds::strategy(served.group, served.name),
            head: Head::new(served.kind, &served.api_version()),
            conversion: special::conversion(served.group, served.version, served.name),
        }));
    }
    endpoints
}

/// The served resource whose form is stored: upstream's storage version when it is served, otherwise the first one.
fn home(table: &'static Table, served: &'static schema::Resource) -> &'static schema::Resource {
    let storage = served.storage.expect("only stored resources are asked about");
    let exact = table.resource(storage.group, storage.version, served.name);
    let group = table.group(storage.group);
    let versions = group.into_iter().flat_map(|group| &group.versions);
    let first = versions.filter_map(|version| table.resource(storage.group, version.version, served.name)).next();
    exact.or(first).unwrap_or(served)
}
