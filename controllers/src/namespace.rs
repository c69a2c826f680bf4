//! Empties namespaces that are being deleted, and lets them go.
//!
//! Pods go first: nothing they may still use is deleted before them. Then every other namespaced resource that the
//! server has is deleted as a collection. What remains, and why, is told in the namespace's conditions.

mod plan;

use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams},
};
use reconcile::Queue;

use self::plan::{Progress, Remaining};
use crate::{
    Error,
    context::Context,
    discovery::{self, Resource},
    error::{During as _, Tolerate as _},
};

const FINALIZER: &str = "kubernetes";
const WORKERS: usize = 10;
/// Resources of one namespace that are emptied at a time.
const PARALLEL: usize = 8;
/// Other API servers need a moment to learn that the namespace takes no new content.
const SETTLE: Duration = Duration::from_millis(250);

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let queue = Queue::<String>::new();
    let namespaces = context.informer::<Namespace>();
    let pods = context.informer::<Pod>();
    let changed = queue.clone();
    namespaces.handle(move |change| {
        let namespace = change.object();
        if !change.is_deleted() && namespace.metadata.deletion_timestamp.is_some() {
            changed.add_after(namespace.name_any(), SETTLE);
        }
    });
    // The last pod's end is what a deletion usually waits for.
    let (emptied, of, rest) = (queue.clone(), namespaces.clone(), pods.clone());
    pods.handle(move |change| {
        let namespace = change.object().namespace().unwrap_or_default();
        let ending = || of.get("", &namespace).is_some_and(|it| it.metadata.deletion_timestamp.is_some());
        if change.is_deleted() && ending() && rest.list_in(&namespace).is_empty() {
            emptied.add(namespace);
        }
    });
    namespaces.synced().await;
    let sync = |name: String| {
        let ending = namespaces.get("", &name).is_some_and(|it| it.metadata.deletion_timestamp.is_some());
        let client = context.client.clone();
        async move { if ending { delete(client, &name).await } else { Ok(None) } }
    };
    context.work("namespace-controller", &queue, WORKERS, sync).await;
    Ok(())
}

/// One attempt. Returns when to try again if content remains that is known to take its time.
async fn delete(client: Client, name: &str) -> Result<Option<Duration>, Error> {
    let api = Api::<Namespace>::all(client.clone());
    let Some(namespace) = api.get_opt(name).await.during("get namespace", name)? else { return Ok(None) };
    if namespace.metadata.deletion_timestamp.is_none() {
        return Ok(None);
    }
    let Some(namespace) = mark_terminating(&api, namespace).await? else { return Ok(None) };
    if namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref()).is_none_or(Vec::is_empty) {
        return Ok(None);
    }
    let progress = Content { client: client.clone(), namespace: name }.delete(&namespace).await;
    let estimate = progress.estimate;
    report(&api, namespace, &progress).await;
    if let Some(error) = progress.into_error() {
        return Err(error);
    }
    if !estimate.is_zero() {
        return Ok(Some(estimate / 2 + Duration::from_secs(1)));
    }
    finalize(&api, name).await?;
    Ok(None)
}

async fn mark_terminating(api: &Api<Namespace>, mut namespace: Namespace) -> Result<Option<Namespace>, Error> {
    let name = namespace.name_any();
    let status = namespace.status.get_or_insert_default();
    if status.phase.as_deref() == Some("Terminating") {
        return Ok(Some(namespace));
    }
    status.phase = Some("Terminating".to_owned());
    let written = api.replace_status(&name, &PostParams::default(), &namespace).await;
    written.during("update status of namespace", &name).found()
}

/// A failure to write conditions must not keep the namespace.
async fn report(api: &Api<Namespace>, mut namespace: Namespace, progress: &Progress) {
    let name = namespace.name_any();
    let status = namespace.status.get_or_insert_default();
    if !plan::update_conditions(status, progress, daemon::clock::now()) {
        return;
    }
    if let Err(error) = api.replace_status(&name, &PostParams::default(), &namespace).await {
        tracing::debug!(namespace = name, %error, "cannot update the namespace's conditions");
    }
}

async fn finalize(api: &Api<Namespace>, name: &str) -> Result<(), Error> {
    let Some(mut namespace) = api.get_opt(name).await.during("get namespace", name)? else { return Ok(()) };
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    let written = api.replace_subresource("finalize", name, &PostParams::default(), &namespace).await;
    written.during("finalize namespace", name).found().map(drop)
}

struct Content<'a> {
    client: Client,
    namespace: &'a str,
}

impl Content<'_> {
    async fn delete(&self, namespace: &Namespace) -> Progress {
        let mut progress = Progress::default();
        let found = match discovery::discover(&self.client).await {
            Ok(found) => found,
            Err(error) => {
                progress.discovery_failed(&error.message());
                progress.errors.push(error);
                return progress;
            }
        };
        if !found.failed.is_empty() {
            let groups = found.failed.join(", ");
            let text = format!("unable to retrieve the complete list of server APIs: {groups}");
            progress
                .discovery_failed(&format!("Discovery failed for some groups, {} failing: {text}", found.failed.len()));
            progress.errors.push(Error::Unfinished(text));
        }
        let resources = found.resources.into_iter().filter(|it| it.namespaced && it.can(&["delete"]));
        let (pods, others): (Vec<_>, Vec<_>) =
            resources.partition(|it| it.api.group.is_empty() && it.api.plural == "pods");
        for resource in &pods {
            let grace = self.pods_grace(namespace).await;
            progress.add(resource, self.delete_all(resource, grace).await);
        }
        progress.pods_remain = !progress.remaining.is_empty();
        if progress.pods_remain {
            return progress;
        }
        let outcomes = stream::iter(others).map(|resource: Resource| async move {
            let outcome = self.delete_all(&resource, Duration::ZERO).await;
            (resource, outcome)
        });
        let outcomes: Vec<_> = outcomes.buffer_unordered(PARALLEL).collect().await;
        for (resource, outcome) in outcomes {
            progress.add(&resource, outcome);
        }
        progress
    }

    fn api(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), self.namespace, resource)
    }

    /// Deletes all objects of a resource. `grace` is how long what remains may still take.
    async fn delete_all(&self, resource: &Resource, grace: Duration) -> Result<Remaining, Error> {
        let api = self.api(&resource.api);
        if resource.can(&["deletecollection"]) {
            let deleted = api.delete_collection(&DeleteParams::background(), &ListParams::default()).await;
            deleted.during("delete all", self.describe(resource)).found()?;
        } else {
            self.delete_each(resource).await?;
        }
        if !resource.can(&["list"]) {
            return Ok(Remaining { estimate: grace, ..Remaining::default() });
        }
        let left = api.list_metadata(&ListParams::default()).await.during("list", self.describe(resource)).found()?;
        let finalizers = left.into_iter().flat_map(|list| list.items).map(|item| item.metadata.finalizers);
        plan::remaining(finalizers.map(Option::unwrap_or_default).collect(), grace, || {
            let ApiResource { group, version, plural, .. } = &resource.api;
            let gvr = format!("{group}/{version}, Resource={plural}");
            Error::Unfinished(format!("unexpected items still remain in namespace: {} for gvr: {gvr}", self.namespace))
        })
    }

    async fn delete_each(&self, resource: &Resource) -> Result<(), Error> {
        if !resource.can(&["list"]) {
            return Ok(());
        }
        let api = self.api(&resource.api);
        let list = api.list_metadata(&ListParams::default()).await.during("list", self.describe(resource)).found()?;
        for item in list.into_iter().flat_map(|list| list.items) {
            let deleted = api.delete(&item.name_any(), &DeleteParams::background()).await;
            deleted.during("delete", format_args!("{}/{}", self.describe(resource), item.name_any())).found()?;
        }
        Ok(())
    }

    fn describe(&self, resource: &Resource) -> String {
        format!("{} in {}", resource.api.plural, self.namespace)
    }

    /// The longest time that a pod may take to end, unless it has passed since the deletion.
    async fn pods_grace(&self, namespace: &Namespace) -> Duration {
        let pods = Api::<Pod>::namespaced(self.client.clone(), self.namespace);
        let Ok(list) = pods.list(&ListParams::default()).await else { return Duration::ZERO };
        let deleted = namespace.metadata.deletion_timestamp.as_ref().map(|time| time.0);
        plan::pods_grace(&list.items, deleted, daemon::clock::now())
    }
}
