//! Keeps volumes, volume claims and attributes classes that were deleted until nobody uses them.
//!
//! Admission gives each a finalizer. Here it is taken away once the object is being deleted and free, and given to
//! objects that were made without it.

pub(crate) mod plan;
#[cfg(test)]
mod tests;

use std::{future::ready, time::Duration};

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::VolumeAttributesClass,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, PostParams},
};
use reconcile::{Change, Index, Informer, Key, Object, Queue};
use serde::Serialize;

use self::plan::Step;
use crate::{
    Error,
    context::Context,
    error::{During as _, Tolerate as _},
};

const WORKERS: usize = 2;

/// Volume claims: used by pods that have a node.
pub(crate) async fn run_claims(context: Context) -> Result<(), Error> {
    let queue = Queue::<Key>::new();
    let claims = context.informer::<PersistentVolumeClaim>();
    let pods = context.informer::<Pod>();
    let by_claim = Index::<Key, Pod>::new(&pods, plan::claims_of);
    enqueue(&claims, plan::CLAIM, &queue);
    let freed = queue.clone();
    pods.handle(move |change| plan::freed_by(change).into_iter().for_each(|claim| freed.add(claim)));
    claims.synced().await;
    pods.synced().await;
    let sync = |key: Key| {
        let (claim, users, client) =
            (claims.get(&key.namespace, &key.name), by_claim.get(&key), context.client.clone());
        async move {
            let Some(claim) = claim else { return Ok(None) };
            let api = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &key.namespace);
            let in_use = async {
                let known = users.iter().any(|pod| plan::uses(pod, &claim));
                if known { Ok(true) } else { is_used_now(&client, &key, &claim).await }
            };
            settle(&api, &claim, plan::CLAIM, in_use).await
        }
    };
    context.work("persistentvolumeclaim-protection-controller", &queue, WORKERS, sync).await;
    Ok(())
}

/// The cache may be behind: a claim that goes too early takes data along.
async fn is_used_now(client: &Client, key: &Key, claim: &PersistentVolumeClaim) -> Result<bool, Error> {
    let pods = Api::<Pod>::namespaced(client.clone(), &key.namespace).list(&ListParams::default()).await;
    let pods = pods.during("list pods of namespace", &key.namespace)?;
    Ok(pods.items.iter().any(|pod| plan::uses(pod, claim)))
}

/// Volumes: used while they are bound.
pub(crate) async fn run_volumes(context: Context) -> Result<(), Error> {
    let queue = Queue::<Key>::new();
    let volumes = context.informer::<PersistentVolume>();
    enqueue(&volumes, plan::VOLUME, &queue);
    volumes.synced().await;
    let api = Api::<PersistentVolume>::all(context.client.clone());
    let sync = |key: Key| {
        let (volume, api) = (volumes.get("", &key.name), api.clone());
        async move {
            let Some(volume) = volume else { return Ok(None) };
            settle(&api, &volume, plan::VOLUME, ready(Ok(plan::is_bound(&volume)))).await
        }
    };
    context.work("persistentvolume-protection-controller", &queue, WORKERS, sync).await;
    Ok(())
}

/// Attributes classes: used by volumes and claims that name them.
pub(crate) async fn run_classes(context: Context) -> Result<(), Error> {
    let queue = Queue::<Key>::new();
    let classes = context.informer::<VolumeAttributesClass>();
    let (volumes, claims) = (context.informer::<PersistentVolume>(), context.informer::<PersistentVolumeClaim>());
    let by_volume = Index::new(&volumes, plan::classes_of_volume);
    let by_claim = Index::new(&claims, plan::classes_of_claim);
    enqueue(&classes, plan::CLASS, &queue);
    free_classes(&volumes, plan::classes_of_volume, &queue);
    free_classes(&claims, plan::classes_of_claim, &queue);
    classes.synced().await;
    volumes.synced().await;
    claims.synced().await;
    let api = Api::<VolumeAttributesClass>::all(context.client.clone());
    let sync = |key: Key| {
        let in_use = by_volume.count(&key.name) + by_claim.count(&key.name) > 0;
        let (class, api) = (classes.get("", &key.name), api.clone());
        async move {
            let Some(class) = class else { return Ok(None) };
            settle(&api, &class, plan::CLASS, ready(Ok(in_use))).await
        }
    };
    context.work("volumeattributesclass-protection-controller", &queue, WORKERS, sync).await;
    Ok(())
}

/// Looks at objects whose finalizer may have to be given or taken.
fn enqueue<K: Object>(informer: &Informer<K>, finalizer: &'static str, queue: &Queue<Key>) {
    let queue = queue.clone();
    informer.handle(move |change| {
        let object = change.object();
        if !change.is_deleted() && plan::step(object.meta(), finalizer) != Step::Nothing {
            queue.add(Key::of(&**object));
        }
    });
}

/// Looks at the classes that an object no longer names.
fn free_classes<K: Object>(informer: &Informer<K>, classes: fn(&K) -> Vec<String>, queue: &Queue<Key>) {
    let queue = queue.clone();
    informer.handle(move |change| {
        let (before, after) = match change {
            Change::Added(_) => return,
            Change::Updated { old, new } => (classes(old), classes(new)),
            Change::Deleted(old) => (classes(old), Vec::new()),
        };
        for name in before.into_iter().filter(|name| !after.contains(name)) {
            queue.add(Key { namespace: String::new(), name });
        }
    });
}

async fn settle<K: Object + Serialize>(
    api: &Api<K>,
    object: &K,
    finalizer: &'static str,
    in_use: impl Future<Output = Result<bool, Error>> + Send,
) -> Result<Option<Duration>, Error> {
    let mut changed = object.clone();
    match plan::step(object.meta(), finalizer) {
        Step::Nothing => return Ok(None),
        Step::Give => changed.finalizers_mut().push(finalizer.to_owned()),
        Step::TakeWhenFree if in_use.await? => return Ok(None),
        Step::TakeWhenFree => changed.finalizers_mut().retain(|one| one != finalizer),
    }
    let name = object.name_any();
    let written = api.replace(&name, &PostParams::default(), &changed).await;
    let written = written.during("update the finalizers of", format_args!("{} {name}", K::kind(&())));
    written.found().map(|_| None)
}
