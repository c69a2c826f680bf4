//! Writes down what stands behind each service with a selector as one `Endpoints` object: the older form of slices.

mod plan;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use reconcile::{EventType, Informer, Key, Queue, Recorder};

use crate::{
    Error,
    backends::{Backends, Triggers},
    context::Context,
    error::{During as _, Tolerate as _, is_namespace_terminating},
};

const WORKERS: usize = 5;
/// An annotation of objects that were leases before there were leases.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

struct Controller {
    client: Client,
    recorder: Recorder,
    backends: Backends,
    endpoints: Informer<Endpoints>,
    triggers: Triggers,
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let queue = Queue::<Key>::new();
    let controller = Controller {
        client: context.client.clone(),
        recorder: context.recorder("endpoint-controller"),
        backends: Backends::new(&context, &queue),
        endpoints: context.informer(),
        triggers: Triggers::default(),
    };
    let changed = queue.clone();
    controller.endpoints.handle(move |change| {
        // What is deleted is made again for its service. What others make is theirs, also when there is no such service.
        if change.is_deleted() && !is_lock(change.object()) {
            changed.add(Key::of(&**change.object()));
        }
    });
    controller.backends.synced().await;
    controller.endpoints.synced().await;
    // Services may have gone while nobody looked.
    let left = controller.endpoints.list();
    left.iter().filter(|endpoints| !is_lock(endpoints)).for_each(|endpoints| queue.add(Key::of(&**endpoints)));
    context.work("endpoints-controller", &queue, WORKERS, |key| controller.sync(key)).await;
    Ok(())
}

/// A lock of some leader election, which only looks like endpoints.
fn is_lock(endpoints: &Endpoints) -> bool {
    endpoints.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER))
}

impl Controller {
    async fn sync(&self, key: Key) -> Result<Option<Duration>, Error> {
        let Some(service) = self.backends.service(&key) else {
            return self.clean_up(&key).await.map(|()| None);
        };
        let pods = self.backends.selected(&service);
        let trigger = self.triggers.since_last(&key, &service, &pods);
        let present = self.endpoints.get(&key.namespace, &key.name);
        let Some(wanted) = plan::plan(&service, &pods, present.as_deref(), trigger) else { return Ok(None) };
        match self.write(&key, &service, &wanted).await {
            Err(Error::Api { source, .. }) if is_namespace_terminating(&source) => Ok(None),
            done => done.map(|()| None),
        }
    }

    /// Those of a service that is gone are deleted; those that someone else keeps for a service without selector stay.
    async fn clean_up(&self, key: &Key) -> Result<(), Error> {
        let exists = self.backends.services.get(&key.namespace, &key.name).is_some();
        if exists || self.endpoints.get(&key.namespace, &key.name).is_none() {
            return Ok(());
        }
        self.triggers.forget(key);
        let api = Api::<Endpoints>::namespaced(self.client.clone(), &key.namespace);
        let deleted = api.delete(&key.name, &DeleteParams::default()).await.map(drop);
        deleted.during("delete endpoints", key).found().map(drop)
    }

    async fn write(&self, key: &Key, service: &Service, wanted: &Endpoints) -> Result<(), Error> {
        let api = Api::<Endpoints>::namespaced(self.client.clone(), &key.namespace);
        let is_new = wanted.metadata.resource_version.is_none();
        let written = if is_new {
            api.create(&PostParams::default(), wanted).await
        } else {
            api.replace(&key.name, &PostParams::default(), wanted).await
        };
        let written = written.map(drop).during("write endpoints", key);
        let Err(error) = &written else { return Ok(()) };
        // A conflict means that the cache is behind: nothing that a user could do anything about.
        if !error.is_namespace_terminating() && error.status_code() != Some(409) {
            let (reason, verb) = if is_new {
                ("FailedToCreateEndpoint", "create endpoint for service")
            } else {
                ("FailedToUpdateEndpoint", "update endpoint")
            };
            let message = format!("Failed to {verb} {key}: {}", error.message());
            self.recorder.event(service, EventType::Warning, reason, message);
        }
        written
    }
}
