//! Copies hand-written `Endpoints` of services without selector into slices: proxies read nothing else.

mod plan;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::{Endpoints, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use reconcile::{Change, EventType, Expectations, Index, Informer, Key, Queue, Recorder};

use self::plan::{Changes, MANAGED_BY, MANAGER, SERVICE_NAME};
use crate::{
    Error,
    context::Context,
    error::{During as _, Tolerate as _, is_namespace_terminating},
};

const WORKERS: usize = 5;

struct Controller {
    client: Client,
    recorder: Recorder,
    endpoints: Informer<Endpoints>,
    services: Informer<Service>,
    slices: Index<Key, EndpointSlice>,
    expectations: Expectations<Key>,
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let queue = Queue::<Key>::new();
    let all = context.informer::<EndpointSlice>();
    let controller = Controller {
        client: context.client.clone(),
        recorder: context.recorder("endpoint-slice-mirroring-controller"),
        endpoints: context.informer(),
        services: context.informer(),
        slices: Index::new(&all, |slice| owner(slice).into_iter().collect()),
        expectations: Expectations::new(),
    };
    let changed = queue.clone();
    controller.endpoints.handle(move |change| changed.add(Key::of(&**change.object())));
    let changed = queue.clone();
    controller.services.handle(move |change| changed.add(Key::of(&**change.object())));
    let (changed, expectations) = (queue.clone(), controller.expectations.clone());
    all.handle(move |change| {
        let Some(key) = owner(change.object()) else { return };
        match change {
            Change::Added(_) => expectations.created(&key),
            Change::Deleted(slice) => expectations.deleted(&key, slice.metadata.uid.as_deref().unwrap_or_default()),
            Change::Updated { .. } => {}
        }
        changed.add(key);
    });
    controller.endpoints.synced().await;
    controller.services.synced().await;
    all.synced().await;
    context.work("endpointslice-mirroring-controller", &queue, WORKERS, |key| controller.sync(key)).await;
    Ok(())
}

/// What a slice that is ours copies.
fn owner(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    let mine = labels.get(MANAGED_BY).is_some_and(|it| it == MANAGER);
    let name = labels.get(SERVICE_NAME).filter(|_| mine)?;
    Some(Key::new(slice.metadata.namespace.clone().unwrap_or_default(), name))
}

impl Controller {
    async fn sync(&self, key: Key) -> Result<Option<Duration>, Error> {
        if !self.expectations.satisfied(&key) {
            return Ok(None);
        }
        let service = self.services.get(&key.namespace, &key.name).filter(|service| {
            service.spec.as_ref().is_some_and(|spec| spec.selector.as_ref().is_none_or(|it| it.is_empty()))
        });
        let endpoints = self.endpoints.get(&key.namespace, &key.name);
        let endpoints = endpoints.filter(|it| service.is_some() && plan::is_mirrored(it));
        let existing = self.slices.get(&key);
        let changes = match &endpoints {
            Some(endpoints) => plan::plan(endpoints, &existing),
            None => Changes { delete: existing, ..Changes::default() },
        };
        if let (Some(endpoints), 1..) = (&endpoints, changes.invalid) {
            let message = format!("Skipped {} invalid IP addresses when mirroring to EndpointSlices", changes.invalid);
            self.recorder.event(&**endpoints, EventType::Warning, "InvalidIPAddress", message);
        }
        match self.write(&key, changes).await {
            Err(Error::Api { source, .. }) if is_namespace_terminating(&source) => Ok(None),
            done => done.map(|()| None),
        }
    }

    async fn write(&self, key: &Key, changes: Changes) -> Result<(), Error> {
        let Changes { create, update, delete, .. } = changes;
        if create.is_empty() && update.is_empty() && delete.is_empty() {
            return Ok(());
        }
        let uids = delete.iter().filter_map(|slice| slice.metadata.uid.clone());
        self.expectations.expect(key.clone(), create.len(), uids);
        let written = self.write_all(key, create, update, &delete).await;
        if written.is_err() {
            // What was not done will not be seen; what was is harmless to look at early.
            self.expectations.forget(key);
        }
        written
    }

    async fn write_all(
        &self,
        key: &Key,
        create: Vec<EndpointSlice>,
        update: Vec<EndpointSlice>,
        delete: &[Arc<EndpointSlice>],
    ) -> Result<(), Error> {
        let api = Api::<EndpointSlice>::namespaced(self.client.clone(), &key.namespace);
        for slice in create {
            api.create(&PostParams::default(), &slice).await.during("mirror endpoints", key)?;
        }
        for slice in update {
            let updated = api.replace(&slice.name_any(), &PostParams::default(), &slice).await;
            updated.during("update endpoint slice", Key::of(&slice))?;
        }
        for slice in delete {
            let deleted = api.delete(&slice.name_any(), &DeleteParams::default()).await.map(drop);
            if deleted.during("delete endpoint slice", Key::of(&**slice)).found()?.is_none() {
                self.expectations.deleted(key, slice.metadata.uid.as_deref().unwrap_or_default());
            }
        }
        Ok(())
    }
}
