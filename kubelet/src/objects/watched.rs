//! Objects of one kind, each watched by its name while a pod refers to it.
//!
//! Mirrors upstream's watch-based manager (pkg/kubelet/util/manager): a reflector per object, shared by the pods that
//! refer to it and dropped with the last of them; none for an object that cannot change, nor for one that nobody has
//! asked for in a while. Beyond upstream, a change wakes the pods: what they mount follows at once, not with their next
//! regular turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::watcher;
use parking_lot::Mutex;
use reconcile::{Informer, Informers, Owned};
use tokio::sync::Notify;

use super::references::Names;

/// How long a reader waits for the first state of an object.
const SYNC_WAIT: Duration = Duration::from_secs(1);
/// Five of the turns in which a pod's volumes are refreshed: what only environments name is read once.
const IDLE: Duration = Duration::from_secs(5 * 60);

/// An object, or that it does not exist.
pub(super) type Answer<K> = Option<Arc<K>>;

/// Namespace and name.
type Key = (String, String);

pub(super) trait Referable: reconcile::Object {
    /// It stays as it is as long as it exists.
    fn is_immutable(&self) -> bool;
}

impl Referable for ConfigMap {
    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
}

impl Referable for Secret {
    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
}

/// The pods that refer to an object.
#[derive(Default)]
struct Readers {
    /// By uid.
    pods: Mutex<HashMap<String, Arc<Notify>>>,
    /// Somebody has seen the object as it was: what comes after is news.
    was_read: AtomicBool,
}

enum State<K> {
    Followed(Owned<K>),
    /// Nobody has asked for a while. The next reader has it followed again.
    Resting,
    /// It cannot change: that it may be deleted and made anew is nothing to its readers, as upstream.
    Immutable(Arc<K>),
}

/// Where an object is read from.
enum Source<K> {
    Immutable(Arc<K>),
    Reflected(Informer<K>),
}

struct Item<K> {
    readers: Arc<Readers>,
    state: State<K>,
    read_at: Instant,
}

struct Items<K> {
    by_key: HashMap<Key, Item<K>>,
    /// What each pod refers to, by uid.
    by_pod: HashMap<String, (String, Names)>,
}

pub(super) struct Watched<K> {
    /// As messages name the kind.
    resource: &'static str,
    informers: Informers,
    items: Mutex<Items<K>>,
}

impl<K: Referable> Watched<K> {
    pub(super) fn new(resource: &'static str, informers: Informers) -> Self {
        let items = Items { by_key: HashMap::new(), by_pod: HashMap::new() };
        Self { resource, informers, items: Mutex::new(items) }
    }

    /// From now on the pod refers to these, and to no others.
    pub(super) fn refer(&self, uid: &str, namespace: &str, names: Names, wake: &Arc<Notify>, now: Instant) {
        let mut items = self.items.lock();
        let before = items.by_pod.get(uid).map(|(_, names)| names);
        if before == Some(&names) || (before.is_none() && names.is_empty()) {
            return;
        }
        let key = |name: &String| (namespace.to_owned(), name.clone());
        for name in &names {
            let item = items.by_key.entry(key(name)).or_insert_with(|| {
                let readers = Arc::default();
                let state = State::Followed(self.follow(namespace, name, &readers));
                Item { readers, state, read_at: now }
            });
            item.readers.pods.lock().insert(uid.to_owned(), wake.clone());
        }
        let before = items.by_pod.remove(uid).map(|(_, names)| names).unwrap_or_default();
        items.leave(uid, before.difference(&names).map(key));
        items.by_pod.insert(uid.to_owned(), (namespace.to_owned(), names));
    }

    pub(super) fn forget(&self, uid: &str) {
        let mut items = self.items.lock();
        if let Some((namespace, names)) = items.by_pod.remove(uid) {
            items.leave(uid, names.into_iter().map(|name| (namespace.clone(), name)));
        }
    }

    pub(super) fn rest(&self, now: Instant) {
        for item in self.items.lock().by_key.values_mut() {
            // What is still on its way is waited for.
            let is_idle = matches!(&item.state, State::Followed(owned) if owned.informer().is_synced());
            if is_idle && now.saturating_duration_since(item.read_at) > IDLE {
                item.state = State::Resting;
            }
        }
    }

    /// # Errors
    /// When the API does not tell in time, or no pod refers to the object.
    pub(super) async fn get(&self, namespace: &str, name: &str) -> Result<Answer<K>, String> {
        let key = (namespace.to_owned(), name.to_owned());
        let informer = match self.source(&key, daemon::clock::monotonic())? {
            Source::Immutable(object) => return Ok(Some(object)),
            Source::Reflected(informer) => informer,
        };
        if tokio::time::timeout(SYNC_WAIT, informer.synced()).await.is_err() {
            return Err(format!("failed to sync {} cache: timed out waiting for the condition", self.resource));
        }
        self.note_read(&key);
        let found = informer.get(namespace, name);
        if let Some(object) = found.as_ref().filter(|object| object.is_immutable())
            && let Some(item) = self.items.lock().by_key.get_mut(&key)
        {
            item.state = State::Immutable(object.clone());
        }
        Ok(found)
    }

    fn source(&self, key: &Key, now: Instant) -> Result<Source<K>, String> {
        let (namespace, name) = key;
        let mut items = self.items.lock();
        let item = items.by_key.get_mut(key).ok_or_else(|| format!("object {namespace:?}/{name:?} not registered"))?;
        item.read_at = now;
        match &item.state {
            State::Immutable(object) => Ok(Source::Immutable(object.clone())),
            State::Followed(owned) => Ok(Source::Reflected(owned.informer().clone())),
            State::Resting => {
                item.readers.was_read.store(false, Ordering::Relaxed);
                let owned = self.follow(namespace, name, &item.readers);
                let informer = owned.informer().clone();
                item.state = State::Followed(owned);
                Ok(Source::Reflected(informer))
            }
        }
    }

    /// Before the object is looked up: a change in between is then told of once too often, never once too few.
    fn note_read(&self, key: &Key) {
        if let Some(item) = self.items.lock().by_key.get(key) {
            item.readers.was_read.store(true, Ordering::Relaxed);
        }
    }

    fn follow(&self, namespace: &str, name: &str, readers: &Arc<Readers>) -> Owned<K> {
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let owned = self.informers.owned::<K>(only, namespace);
        let readers = readers.clone();
        owned.informer().handle(move |_| {
            if readers.was_read.load(Ordering::Relaxed) {
                readers.pods.lock().values().for_each(|pod| pod.notify_one());
            }
        });
        owned
    }
}

impl<K> Items<K> {
    /// Objects that no pod refers to any more are dropped, and what watches them.
    fn leave(&mut self, uid: &str, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            let Some(item) = self.by_key.get(&key) else { continue };
            let is_last = {
                let mut pods = item.readers.pods.lock();
                pods.remove(uid);
                pods.is_empty()
            };
            if is_last {
                self.by_key.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
