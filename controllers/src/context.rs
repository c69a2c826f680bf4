//! What a controller is given when it starts.

use std::{
    fmt::Display,
    hash::Hash,
    sync::{Arc, OnceLock},
    time::Duration,
};

use daemon::{Drain, Tasks};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use reconcile::{Index, Informer, Informers, Object, Queue, Recorder, controller_of, run_workers};

use crate::{Config, Error};

#[derive(Clone)]
pub(crate) struct Context {
    /// Speaks as this controller.
    pub(crate) client: Client,
    /// Speaks as the controller manager.
    pub(crate) process: Client,
    pub(crate) shared: Shared,
    pub(crate) tasks: Tasks,
    pub(crate) drain: Drain,
    pub(crate) config: Arc<Config>,
}

impl Context {
    pub(crate) fn informer<K: Object>(&self) -> Informer<K> {
        self.shared.0.informers.of()
    }

    pub(crate) fn recorder(&self, component: &str) -> Recorder {
        Recorder::new(self.client.clone(), &self.tasks, component, None)
    }

    /// Works off a queue until the drain.
    pub(crate) async fn work<K, S, F>(&self, name: &'static str, queue: &Queue<K>, workers: usize, sync: S)
    where
        K: Eq + Hash + Clone + Display + Send,
        S: Fn(K) -> F,
        F: Future<Output = Result<Option<Duration>, Error>>,
    {
        run_workers(name, queue, workers, &self.drain, sync).await;
    }
}

/// Informers and indexes that controllers have in common.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Inner>);

struct Inner {
    informers: Informers,
    pods_by_owner: OnceLock<Index<Owner, Pod>>,
    pods_by_node: OnceLock<Index<String, Pod>>,
}

/// Whom a pod belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// The uid of its controller.
    Controller(String),
    /// No controller: it may be adopted in this namespace.
    Nobody { namespace: String },
}

impl Shared {
    pub(crate) fn new(informers: Informers) -> Self {
        let inner = Inner { informers, pods_by_owner: OnceLock::new(), pods_by_node: OnceLock::new() };
        Self(Arc::new(inner))
    }

    pub(crate) fn informers(&self) -> &Informers {
        &self.0.informers
    }

    pub(crate) fn pods_by_owner(&self) -> &Index<Owner, Pod> {
        self.0.pods_by_owner.get_or_init(|| {
            Index::new(&self.0.informers.of::<Pod>(), |pod| {
                let meta = &pod.metadata;
                let orphan = || Owner::Nobody { namespace: meta.namespace.clone().unwrap_or_default() };
                vec![controller_of(meta).map_or_else(orphan, |owner| Owner::Controller(owner.uid.clone()))]
            })
        })
    }

    pub(crate) fn pods_by_node(&self) -> &Index<String, Pod> {
        self.0.pods_by_node.get_or_init(|| {
            Index::new(&self.0.informers.of::<Pod>(), |pod| {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
                node.into_iter().filter(|node| !node.is_empty()).collect()
            })
        })
    }
}
