//! The state an informer shares: objects, handlers, whether the first list is complete.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use kube::Resource;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::Change;

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;
type Objects<K> = BTreeMap<String, BTreeMap<String, Arc<K>>>;

pub(super) struct Shared<K> {
    objects: RwLock<Objects<K>>,
    /// Also serializes changes: whoever changes `objects` holds this until all handlers were told.
    handlers: Mutex<Vec<Handler<K>>>,
    pub(super) synced: watch::Sender<bool>,
}

impl<K> Shared<K> {
    pub(super) fn new() -> Self {
        Self { objects: RwLock::default(), handlers: Mutex::default(), synced: watch::Sender::new(false) }
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.objects.read().get(namespace)?.get(name).cloned()
    }

    pub(super) fn list(&self) -> Vec<Arc<K>> {
        self.objects.read().values().flat_map(BTreeMap::values).cloned().collect()
    }

    pub(super) fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.objects.read().get(namespace).map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.objects.read().values().map(BTreeMap::len).sum()
    }

    pub(super) fn handle(&self, handler: Handler<K>) {
        let mut handlers = self.handlers.lock();
        for object in self.list() {
            handler(&Change::Added(object));
        }
        handlers.push(handler);
    }
}

impl<K: Resource> Shared<K> {
    pub(super) fn apply(&self, object: K) {
        let handlers = self.handlers.lock();
        self.put(&handlers, object);
    }

    pub(super) fn delete(&self, object: K) {
        let handlers = self.handlers.lock();
        let (namespace, name) = key(&object);
        if self.remove(&namespace, &name).is_some() {
            tell(&handlers, &Change::Deleted(Arc::new(object)));
        }
    }

    /// Takes a complete list: tells what is new, what changed, and what went unseen.
    pub(super) fn replace(&self, objects: Vec<K>) {
        let handlers = self.handlers.lock();
        let kept: HashSet<(String, String)> = objects.iter().map(key).collect();
        for old in self.list() {
            let (namespace, name) = key(&*old);
            if kept.contains(&(namespace.clone(), name.clone())) {
                continue;
            }
            self.remove(&namespace, &name);
            tell(&handlers, &Change::Deleted(old));
        }
        for object in objects {
            self.put(&handlers, object);
        }
        drop(handlers);
        self.synced.send_replace(true);
    }

    fn put(&self, handlers: &[Handler<K>], mut object: K) {
        object.meta_mut().managed_fields = None;
        let (namespace, name) = key(&object);
        let new = Arc::new(object);
        let old = self.objects.write().entry(namespace).or_default().insert(name, new.clone());
        match old {
            None => tell(handlers, &Change::Added(new)),
            // The name was used again while the watch was interrupted: another object, not an update.
            Some(old) if old.meta().uid != new.meta().uid => {
                tell(handlers, &Change::Deleted(old));
                tell(handlers, &Change::Added(new));
            }
            Some(old) if old.meta().resource_version == new.meta().resource_version => {}
            Some(old) => tell(handlers, &Change::Updated { old, new }),
        }
    }

    fn remove(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let mut objects = self.objects.write();
        let inside = objects.get_mut(namespace)?;
        let removed = inside.remove(name);
        if inside.is_empty() {
            objects.remove(namespace);
        }
        removed
    }
}

fn key<K: Resource>(object: &K) -> (String, String) {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn tell<K>(handlers: &[Handler<K>], change: &Change<K>) {
    for handler in handlers {
        handler(change);
    }
}
