//! The garbage collector: deletes what nobody owns any more, and carries out foreground deletion and orphaning.
//!
//! A watch of metadata per resource feeds one graph of owners and dependents. What the graph suspects is checked against
//! the server before anything is done: the graph may be behind, the server is not.

mod action;
mod graph;
mod monitor;
mod plan;

use std::{sync::Arc, time::Duration};

use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use parking_lot::Mutex;
use reconcile::Queue;
use tracing::warn;

use self::{
    action::Item,
    graph::{Graph, Todo, Uid},
    monitor::Monitors,
};
use crate::{
    Error,
    context::Context,
    error::{During as _, Tolerate as _},
};

const DELETERS: usize = 20;
const ORPHANERS: usize = 5;
/// Between looks for resources that the server did not have before.
const DISCOVERY_PERIOD: Duration = Duration::from_secs(30);
/// How long the first lists may take before work begins without those that are missing.
const SYNC_LIMIT: Duration = Duration::from_secs(30);

/// What the parts of the collector share.
#[derive(Clone)]
struct Shared {
    client: Client,
    graph: Arc<Mutex<Graph>>,
    monitors: Monitors,
    delete: Queue<Uid>,
    orphan: Queue<Uid>,
}

impl Shared {
    fn queue(&self, todo: Vec<Todo>) {
        for todo in todo {
            match todo {
                Todo::Check(uid) => self.delete.add(uid),
                Todo::Orphan(uid) => self.orphan.add(uid),
            }
        }
    }
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let shared = Shared {
        client: context.client.clone(),
        graph: Arc::default(),
        monitors: Monitors::default(),
        delete: Queue::new(),
        orphan: Queue::new(),
    };
    let watched = monitor::sync(&shared, &context).await;
    if let Err(error) = watched {
        warn!(error = &error as &dyn std::error::Error, "cannot find out what to watch yet");
    }
    if tokio::time::timeout(SYNC_LIMIT, shared.monitors.synced()).await.is_err() {
        warn!("not all resources could be listed, collecting garbage without them");
    }
    let deleting = context.work("garbage-collector-controller", &shared.delete, DELETERS, |uid| check(&shared, uid));
    let orphaning = context.work("garbage-collector-controller", &shared.orphan, ORPHANERS, |uid| orphan(&shared, uid));
    futures::future::join3(deleting, orphaning, discover(&shared, &context)).await;
    Ok(())
}

async fn discover(shared: &Shared, context: &Context) {
    while context.drain.run(tokio::time::sleep(DISCOVERY_PERIOD)).await.is_some() {
        if let Err(error) = monitor::sync(shared, context).await {
            warn!(error = &error as &dyn std::error::Error, "cannot look for new resources");
        }
    }
}

/// Looks at one object, and deletes it or what keeps it as its owners say.
async fn check(shared: &Shared, uid: Uid) -> Result<Option<Duration>, Error> {
    let Some(suspect) = shared.graph.lock().suspect(&uid) else { return Ok(None) };
    let api = action::api(&shared.client, &suspect.resource, &suspect.namespace);
    let latest = api.get_metadata(&suspect.name).await.during("get", &suspect).found()?;
    let Some(latest) = latest.filter(|it| it.metadata.uid.as_deref() == Some(&*uid)) else {
        let todo = shared.graph.lock().remove(&uid);
        shared.queue(todo);
        return Ok(None);
    };
    let item = Item { meta: latest.metadata, suspect };
    if item.suspect.foreground {
        return finish_foreground(shared, &api, &item).await;
    }
    let owners = action::classify(shared, &item).await?;
    let dependents = shared.graph.lock().dependents(&uid);
    match plan::decide(&item.meta, owners, &dependents) {
        plan::Action::Nothing => Ok(None),
        plan::Action::Release(owners) => {
            let patch = plan::owners_patch(&item.meta, &owners);
            action::patch(&api, &item, &patch).await.map(|()| None)
        }
        plan::Action::Delete { propagation, unblock } => {
            if unblock {
                let owners = plan::unblocked(&item.meta);
                action::patch(&api, &item, &plan::owners_patch(&item.meta, &owners)).await?;
            }
            delete(&api, &item, propagation, !unblock).await.map(|()| None)
        }
    }
}

async fn delete(
    api: &Api<DynamicObject>,
    item: &Item,
    propagation: kube::api::PropagationPolicy,
    unchanged: bool,
) -> Result<(), Error> {
    let preconditions = Preconditions {
        uid: item.meta.uid.clone(),
        resource_version: item.meta.resource_version.clone().filter(|_| unchanged),
    };
    let parameters = DeleteParams {
        propagation_policy: Some(propagation),
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    };
    let deleted = api.delete(&item.suspect.name, &parameters).await.map(drop);
    deleted.during("delete", &item.suspect).found().map(drop)
}

/// An object that is deleted in the foreground goes when no dependent that blocks it is left.
async fn finish_foreground(shared: &Shared, api: &Api<DynamicObject>, item: &Item) -> Result<Option<Duration>, Error> {
    let uid = item.meta.uid.clone().unwrap_or_default();
    let blocking = shared.graph.lock().blocking(&uid);
    if blocking.is_empty() {
        return action::remove_finalizer(api, item, plan::FOREGROUND).await.map(|()| None);
    }
    for dependent in blocking {
        shared.delete.add(dependent);
    }
    Ok(None)
}

/// Takes an object's dependents from it, and lets it go.
async fn orphan(shared: &Shared, uid: Uid) -> Result<Option<Duration>, Error> {
    let (suspect, dependents) = {
        let graph = shared.graph.lock();
        let Some(suspect) = graph.get(&uid) else { return Ok(None) };
        let dependents: Vec<_> = graph.dependents(&uid).into_iter().map(|it| it.suspect).collect();
        (suspect, dependents)
    };
    for dependent in dependents {
        let api = action::api(&shared.client, &dependent.resource, &dependent.namespace);
        let Some(latest) = api.get_metadata(&dependent.name).await.during("get", &dependent).found()? else { continue };
        let item = Item { meta: latest.metadata, suspect: dependent };
        let owners = plan::without(&item.meta, &uid);
        if owners.len() < item.meta.owner_references.as_ref().map_or(0, Vec::len) {
            action::patch(&api, &item, &plan::owners_patch(&item.meta, &owners)).await?;
        }
    }
    let api = action::api(&shared.client, &suspect.resource, &suspect.namespace);
    let Some(latest) = api.get_metadata(&suspect.name).await.during("get", &suspect).found()? else { return Ok(None) };
    if latest.metadata.uid.as_deref() == Some(&*uid) {
        let item = Item { meta: latest.metadata, suspect };
        action::remove_finalizer(&api, &item, plan::ORPHAN).await?;
    }
    Ok(None)
}

async fn merge(api: &Api<DynamicObject>, name: &str, patch: &serde_json::Value) -> kube::Result<()> {
    api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}
