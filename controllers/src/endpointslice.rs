//! Writes down what stands behind each service with a selector, in slices of at most a hundred endpoints.

mod plan;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use reconcile::{Change, EventType, Expectations, Index, Informer, Key, Queue, Recorder};

use self::plan::{Changes, MANAGER, SERVICE_NAME};
use crate::{
    Error,
    backends::{Backends, TRIGGER_TIME, Triggers},
    context::Context,
    error::{During as _, Tolerate as _, is_namespace_terminating},
};

const WORKERS: usize = 5;

struct Controller {
    client: Client,
    recorder: Recorder,
    backends: Backends,
    nodes: Informer<Node>,
    slices: Index<Key, EndpointSlice>,
    /// Slices that were made or deleted and have not been seen yet, by service.
    expectations: Expectations<Key>,
    triggers: Triggers,
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let queue = Queue::<Key>::new();
    let all = context.informer::<EndpointSlice>();
    let nodes = context.informer::<Node>();
    let controller = Controller {
        client: context.client.clone(),
        recorder: context.recorder("endpoint-slice-controller"),
        backends: Backends::new(&context, &queue),
        nodes: nodes.clone(),
        slices: Index::new(&all, |slice| service_of(slice).into_iter().collect()),
        expectations: Expectations::new(),
        triggers: Triggers::default(),
    };
    let (changed, expectations) = (queue.clone(), controller.expectations.clone());
    all.handle(move |change| slice_changed(change, &changed, &expectations));
    controller.backends.synced().await;
    all.synced().await;
    nodes.synced().await;
    context.work("endpointslice-controller", &queue, WORKERS, |key| controller.sync(key)).await;
    Ok(())
}

/// The service of a slice that is ours.
fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    let mine = labels.get(plan::MANAGED_BY).is_some_and(|it| it == MANAGER);
    let name = labels.get(SERVICE_NAME).filter(|_| mine)?;
    Some(Key::new(slice.metadata.namespace.clone().unwrap_or_default(), name))
}

fn slice_changed(change: &Change<EndpointSlice>, queue: &Queue<Key>, expectations: &Expectations<Key>) {
    let slice = change.object();
    if let Change::Updated { old, .. } = change
        && service_of(old) != service_of(slice)
    {
        service_of(old).into_iter().for_each(|key| queue.add(key));
    }
    let Some(key) = service_of(slice) else { return };
    match change {
        Change::Added(_) => expectations.created(&key),
        Change::Deleted(_) => expectations.deleted(&key, slice.metadata.uid.as_deref().unwrap_or_default()),
        Change::Updated { .. } => {}
    }
    queue.add(key);
}

impl Controller {
    async fn sync(&self, key: Key) -> Result<Option<Duration>, Error> {
        let Some(service) = self.backends.service(&key) else {
            // The slices of a service that is gone go with it.
            if self.backends.services.get(&key.namespace, &key.name).is_none() {
                self.triggers.forget(&key);
                self.expectations.forget(&key);
            }
            return Ok(None);
        };
        // Whatever is expected queues the service again when it arrives.
        if !self.expectations.satisfied(&key) {
            return Ok(None);
        }
        let pods = self.backends.selected(&service);
        let zone = |node: &str| {
            let node = self.nodes.get("", node)?;
            Some(node.labels().get("topology.kubernetes.io/zone").filter(|it| !it.is_empty()).cloned())
        };
        let trigger = self.triggers.since_last(&key, &service, &pods);
        let (changes, missing) = plan::plan(&service, &pods, &zone, &self.slices.get(&key));
        let written = self.write(&key, &service, changes, trigger).await;
        let missing = missing.map(|(pod, node)| {
            Error::Unfinished(format!("skipping Pod {pod} for Service {key}: Node {node} Not Found"))
        });
        match written.and(missing.map_or(Ok(()), Err)) {
            Ok(()) => Ok(None),
            Err(Error::Api { source, .. }) if is_namespace_terminating(&source) => Ok(None),
            Err(error) => {
                let message = format!("Error updating Endpoint Slices for Service {key}: {}", error.message());
                self.recorder.event(&*service, EventType::Warning, "FailedToUpdateEndpointSlices", message);
                Err(error)
            }
        }
    }

    async fn write(&self, key: &Key, service: &Service, changes: Changes, at: Option<Timestamp>) -> Result<(), Error> {
        let Changes { mut create, update, delete } = changes;
        if service.metadata.deletion_timestamp.is_some() {
            create.clear();
        }
        if create.is_empty() && update.is_empty() && delete.is_empty() {
            return Ok(());
        }
        let api = Api::<EndpointSlice>::namespaced(self.client.clone(), &key.namespace);
        let uids = delete.iter().filter_map(|slice| slice.metadata.uid.clone());
        self.expectations.expect(key.clone(), create.len(), uids);
        let creations = create.len();
        for (done, mut slice) in create.into_iter().enumerate() {
            mark(&mut slice, at);
            let created = api.create(&PostParams::default(), &slice).await;
            if created.is_err() {
                self.expectations.lower(key, creations - done);
                self.expect_no_deletion(key, &delete);
            }
            created.during("create endpoint slice for", key)?;
        }
        for mut slice in update {
            mark(&mut slice, at);
            let updated = api.replace(&slice.name_any(), &PostParams::default(), &slice).await;
            if updated.is_err() {
                self.expect_no_deletion(key, &delete);
            }
            updated.during("update endpoint slice", Key::of(&slice))?;
        }
        for slice in &delete {
            let deleted = api.delete(&slice.name_any(), &DeleteParams::default()).await.map(drop);
            let deleted = deleted.during("delete endpoint slice", Key::of(&**slice)).found();
            if !matches!(deleted, Ok(Some(()))) {
                self.expect_no_deletion(key, &delete);
            }
            deleted?;
        }
        Ok(())
    }

    fn expect_no_deletion(&self, key: &Key, slices: &[Arc<EndpointSlice>]) {
        for slice in slices {
            self.expectations.deleted(key, slice.metadata.uid.as_deref().unwrap_or_default());
        }
    }
}

fn mark(slice: &mut EndpointSlice, at: Option<Timestamp>) {
    match at {
        Some(at) => drop(slice.annotations_mut().insert(TRIGGER_TIME.to_owned(), at.to_string())),
        None => drop(slice.annotations_mut().remove(TRIGGER_TIME)),
    }
}
