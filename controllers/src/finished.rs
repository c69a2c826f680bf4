//! Deletes jobs some time after they ended, if they say so.

mod plan;

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};
use reconcile::{Key, Queue};

use crate::{
    Error,
    context::Context,
    error::{During as _, Tolerate as _},
};

const WORKERS: usize = 5;

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let jobs = context.informer::<Job>();
    let queue = Queue::<Key>::new();
    let changed = queue.clone();
    jobs.handle(move |change| {
        let job = change.object();
        if !change.is_deleted() && job.metadata.deletion_timestamp.is_none() && plan::expires(job).is_some() {
            changed.add(Key::of(&**job));
        }
    });
    jobs.synced().await;
    let sync = |key: Key| {
        let job = jobs.get(&key.namespace, &key.name).filter(|job| job.metadata.deletion_timestamp.is_none());
        let left = job.as_deref().and_then(|job| plan::left(job, daemon::clock::now()));
        let api = Api::<Job>::namespaced(context.client.clone(), &key.namespace);
        async move {
            match left {
                Some(Duration::ZERO) => delete(&api, &key).await,
                left => Ok(left),
            }
        }
    };
    context.work("ttl-after-finished-controller", &queue, WORKERS, sync).await;
    Ok(())
}

/// The time to live may have been raised since: only what the server says counts.
async fn delete(api: &Api<Job>, key: &Key) -> Result<Option<Duration>, Error> {
    let Some(fresh) = api.get_opt(&key.name).await.during("get job", key)? else { return Ok(None) };
    match plan::left(&fresh, daemon::clock::now()) {
        Some(Duration::ZERO) => {}
        left => return Ok(left),
    }
    let preconditions =
        Preconditions { uid: fresh.metadata.uid.clone(), resource_version: fresh.metadata.resource_version.clone() };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::foreground() };
    api.delete(&key.name, &parameters).await.map(drop).during("delete job", key).found()?;
    Ok(None)
}
