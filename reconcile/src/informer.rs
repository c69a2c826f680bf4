//! Reflectors shared by everything in a process: one per kind, started on first use.
//!
//! A reflector holds the last seen state of every object of its kind, without managed fields, and tells its handlers
//! what changed. A handler runs inside the reflector's task: it must be quick, must not block, and must not register
//! another handler on the same informer; it enqueues keys or feeds an [`Index`](crate::Index).

mod cache;
mod drive;
mod namespaced;

use std::{
    any::{Any, TypeId},
    borrow::Cow,
    collections::HashMap,
    fmt::Debug,
    sync::Arc,
};

use kube::{Api, Client, Resource, runtime::watcher};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;

use self::{cache::Shared, drive::Target, namespaced::Namespaced};

/// What an informer can hold: any typed Kubernetes object.
pub trait Object: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}

impl<K> Object for K where K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}

/// What happened to an object.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// It was not known before.
    Added(Arc<K>),
    /// Its resource version changed.
    Updated {
        /// The last state that handlers were told.
        old: Arc<K>,
        /// The state now.
        new: Arc<K>,
    },
    /// It is gone. Carries its last known state, which may be older than its last state.
    Deleted(Arc<K>),
}

impl<K> Change<K> {
    /// The newest state known: after an addition or update, or before a deletion.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Added(object) | Self::Updated { new: object, .. } | Self::Deleted(object) => object,
        }
    }

    /// The object is gone.
    pub fn is_deleted(&self) -> bool {
        matches!(self, Self::Deleted(_))
    }
}

/// The informers of one process. Clones share them.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    tasks: daemon::Tasks,
    shared: Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send + Sync>>>>,
}

impl Informers {
    /// No reflector runs yet. Each is started on first use, as one of `tasks`.
    pub fn new(client: Client, tasks: daemon::Tasks) -> Self {
        Self { client, tasks, shared: Arc::default() }
    }

    /// The informer of every object of a kind, in all namespaces.
    pub fn of<K: Object>(&self) -> Informer<K> {
        let mut shared = self.shared.lock();
        let entry = shared.entry(TypeId::of::<K>()).or_insert_with(|| {
            let informer = Informer::<K> { shared: Arc::new(Shared::new()) };
            self.start(&informer, Api::all(self.client.clone()), watcher::Config::default());
            Box::new(informer)
        });
        entry.downcast_ref::<Informer<K>>().expect("the entry of a type id holds that type's informer").clone()
    }

    /// An informer of the objects a selector matches. Not shared: every call starts a reflector of its own, which
    /// lives as long as the process. Keep the returned value and clone it.
    pub fn of_selected<K: Object>(&self, config: watcher::Config, namespace: Option<&str>) -> Informer<K> {
        let informer = Informer { shared: Arc::new(Shared::new()) };
        match namespace {
            None => self.start(&informer, Api::all(self.client.clone()), config),
            Some(namespace) => {
                drive::start(&self.tasks, self.inside(&informer, namespace, config));
            }
        }
        informer
    }

    /// An informer of the objects of a namespace that a selector matches, which is fed as long as the returned value
    /// lives. Not shared.
    pub fn owned<K: Object>(&self, config: watcher::Config, namespace: &str) -> Owned<K> {
        let informer = Informer { shared: Arc::new(Shared::new()) };
        let task = drive::start_owned(&self.tasks, self.inside(&informer, namespace, config));
        Owned { informer, _task: task }
    }

    fn inside<K: Object>(
        &self,
        informer: &Informer<K>,
        namespace: &str,
        config: watcher::Config,
    ) -> Target<Namespaced<K>, K> {
        Target {
            kind: kind::<K>(),
            api: Api::namespaced(self.client.clone(), namespace),
            config,
            shared: informer.shared.clone(),
            unwrap: Namespaced::into_inner,
        }
    }

    fn start<K: Object>(&self, informer: &Informer<K>, api: Api<K>, config: watcher::Config) {
        let shared = informer.shared.clone();
        drive::start(&self.tasks, Target { kind: kind::<K>(), api, config, shared, unwrap: |object| object });
    }
}

fn kind<K: Object>() -> &'static str {
    match K::kind(&()) {
        Cow::Borrowed(kind) => kind,
        Cow::Owned(_) => std::any::type_name::<K>(),
    }
}

/// The reflected objects of one kind. Clones share them.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

/// An informer with what feeds it. When this goes, nothing changes in the informer any more.
pub struct Owned<K> {
    informer: Informer<K>,
    _task: AbortOnDropHandle<()>,
}

impl<K> Owned<K> {
    /// The informer, to read from.
    pub fn informer(&self) -> &Informer<K> {
        &self.informer
    }
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K: Resource> Informer<K> {
    /// One object. The namespace of a cluster-scoped object is "".
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.shared.get(namespace, name)
    }

    /// Every object, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.list()
    }

    /// Every object of a namespace, ordered by name.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.shared.list_in(namespace)
    }

    /// How many objects are known.
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// No object is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns once the first complete list has been delivered to all handlers. Cancel safe.
    pub async fn synced(&self) {
        let mut synced = self.shared.synced.subscribe();
        // An error means that the reflector is gone, which happens only while the process ends.
        if synced.wait_for(|done| *done).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The first complete list has been delivered.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }
}

impl<K: Resource + Send + Sync + 'static> Informer<K> {
    /// Registers a handler. It is first told `Added` for every object known now, before this returns.
    pub fn handle(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.shared.handle(Box::new(handler));
    }

    /// An informer that nothing feeds but [`Feed`], for tests of what is built on informers.
    pub fn detached() -> (Self, Feed<K>)
    where
        K: Resource<DynamicType = ()>,
    {
        let shared = Arc::new(Shared::new());
        (Self { shared: shared.clone() }, Feed { shared })
    }
}

/// Feeds a detached informer by hand.
pub struct Feed<K> {
    shared: Arc<Shared<K>>,
}

impl<K: Resource> Feed<K> {
    /// The object was created or changed.
    pub fn apply(&self, object: K) {
        self.shared.apply(object);
    }

    /// The object is gone.
    pub fn delete(&self, object: K) {
        self.shared.delete(object);
    }

    /// Every object there is: what is known and not among these is gone.
    pub fn replace(&self, objects: Vec<K>) {
        self.shared.replace(objects);
    }
}

#[cfg(test)]
mod tests;
