//! Counts what resource quotas limit, and says in their status what is allowed and what is used.
//!
//! Admission charges every write that uses more; this controller gives back what is no longer used, and counts again
//! some time after the last charge, because a charged write may have failed after all.

mod counts;
mod plan;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use api::{
    amounts::Amounts,
    quota::{Evaluator, Measured, Requirement, total},
};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, Service},
    resource::v1::ResourceClaim,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{Api, Client, ResourceExt as _, api::PostParams};
use parking_lot::Mutex;
use reconcile::{Change, Informer, Key, Object, Queue};
use serde::Serialize;

use self::{counts::Counts, plan::Quota};
use crate::{
    Error,
    context::Context,
    error::{During as _, Tolerate as _},
};

const WORKERS: usize = 5;
/// After a charge, until what was charged is either there or not.
const SETTLE: Duration = Duration::from_secs(5);

/// What was measured of a namespace's objects of one kind, by name, with the version that was measured.
type Known = HashMap<String, (String, Arc<Measured>)>;

struct Controller {
    client: Client,
    context: Context,
    quotas: Informer<ResourceQuota>,
    pods: Informer<Pod>,
    services: Informer<Service>,
    volumes: Informer<PersistentVolumeClaim>,
    counts: Counts,
    /// By kind and namespace; only of namespaces that have quotas.
    measured: Mutex<BTreeMap<(&'static str, String), Known>>,
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let queue = Queue::<Key>::new();
    let controller = Controller {
        client: context.client.clone(),
        quotas: context.informer(),
        pods: context.informer(),
        services: context.informer(),
        volumes: context.informer(),
        counts: Counts::new(&context, &queue),
        measured: Mutex::default(),
        context: context.clone(),
    };
    let changed = queue.clone();
    controller.quotas.handle(move |change| quota_changed(change, &changed));
    give_back(&controller.pods, Evaluator::Pods, &controller.quotas, &queue);
    give_back(&controller.services, Evaluator::Services, &controller.quotas, &queue);
    give_back(&controller.volumes, Evaluator::VolumeClaims, &controller.quotas, &queue);
    controller.quotas.synced().await;
    controller.pods.synced().await;
    controller.services.synced().await;
    controller.volumes.synced().await;
    let work = context.work("resourcequota-controller", &queue, WORKERS, |key| controller.sync(key));
    work.await;
    Ok(())
}

/// A new limit is counted for at once; a charge is looked at when it has settled.
fn quota_changed(change: &Change<ResourceQuota>, queue: &Queue<Key>) {
    let key = Key::of(&**change.object());
    match change {
        Change::Updated { old, new } if old.spec == new.spec => queue.add_after(key, SETTLE),
        _ => queue.add(key),
    }
}

/// Looks at quotas again when an object of a kind uses less, or something else, than before.
fn give_back<K: Object + Serialize>(
    informer: &Informer<K>,
    evaluator: Evaluator,
    quotas: &Informer<ResourceQuota>,
    queue: &Queue<Key>,
) {
    let (quotas, queue) = (quotas.clone(), queue.clone());
    informer.handle(move |change| {
        let quotas = quotas.list_in(&change.object().namespace().unwrap_or_default());
        let limiting = quotas.iter().filter(|quota| plan::limits(quota, &evaluator)).collect::<Vec<_>>();
        let concerns = match change {
            _ if limiting.is_empty() => false,
            Change::Added(_) => false,
            Change::Updated { old, new } => measure(&evaluator, &**old) != measure(&evaluator, &**new),
            Change::Deleted(_) => true,
        };
        for quota in limiting.into_iter().filter(|_| concerns) {
            queue.add(Key::of(&**quota));
        }
    });
}

/// Only what cannot be written as JSON is not measured, which no Kubernetes object is.
fn measure<K: Serialize>(evaluator: &Evaluator, object: &K) -> Measured {
    evaluator.measure(&serde_json::to_value(object).unwrap_or_default())
}

impl Controller {
    async fn sync(&self, key: Key) -> Result<Option<Duration>, Error> {
        let Some(object) = self.quotas.get(&key.namespace, &key.name) else {
            self.forget(&key.namespace);
            return Ok(None);
        };
        let quota = Quota::read(&object);
        let now = daemon::clock::now();
        let (mut used, mut later) = (Amounts::default(), None);
        for (amounts, until) in [
            self.count(&self.pods, &Evaluator::Pods, &key, &quota, now),
            self.count(&self.services, &Evaluator::Services, &key, &quota, now),
            self.count(&self.volumes, &Evaluator::VolumeClaims, &key, &quota, now),
            self.count_devices(&key, &quota, now).await,
        ] {
            used.add(&amounts);
            later = later.into_iter().chain(until).min();
        }
        let counted = self.counts.of(&key.namespace, quota.names()).await?;
        used.add(&counted.used(&quota.requirements));
        let again = later.map(|until: Timestamp| Duration::try_from(until.duration_since(now)).unwrap_or_default());
        let again = again.map(|delay| delay + Duration::from_millis(1)).into_iter().chain(counted.look_again).min();
        if let Some((hard, used)) = quota.status(&used) {
            self.write(&object, &hard, &used).await?;
        }
        Ok(again)
    }

    /// What objects of one kind use, and when less of it will be without a change.
    fn count<K: Object + Serialize>(
        &self,
        informer: &Informer<K>,
        evaluator: &Evaluator,
        key: &Key,
        quota: &Quota,
        now: Timestamp,
    ) -> (Amounts, Option<Timestamp>) {
        let names: Vec<&str> = evaluator.matching(quota.names());
        if names.is_empty() {
            return (Amounts::default(), None);
        }
        let measured = self.measured(informer, evaluator, &key.namespace);
        let until = measured.iter().filter_map(|one| one.until()).filter(|until| *until >= now).min();
        let objects = measured.iter().map(|one| &**one);
        (total(evaluator, &names, &quota.requirements, objects, now), until)
    }

    /// Few clusters limit devices: their claims are only followed once a quota does.
    async fn count_devices(&self, key: &Key, quota: &Quota, now: Timestamp) -> (Amounts, Option<Timestamp>) {
        let evaluator = Evaluator::DeviceClaims;
        if evaluator.matching(quota.names()).is_empty() {
            return (Amounts::default(), None);
        }
        let claims = self.counts.devices(&self.context, |informer, queue| {
            give_back::<ResourceClaim>(informer, evaluator.clone(), &self.quotas, queue);
        });
        claims.synced().await;
        self.count(&claims, &evaluator, key, quota, now)
    }

    /// Measures what has changed since the last time.
    fn measured<K: Object + Serialize>(
        &self,
        informer: &Informer<K>,
        evaluator: &Evaluator,
        namespace: &str,
    ) -> Vec<Arc<Measured>> {
        let kind = std::any::type_name::<K>();
        let mut measured = self.measured.lock();
        let known = measured.entry((kind, namespace.to_owned())).or_default();
        let mut before = std::mem::take(known);
        for object in informer.list_in(namespace) {
            let (name, version) = (object.name_any(), object.resource_version().unwrap_or_default());
            let kept = before.remove(&name).filter(|(measured, _)| *measured == version);
            let entry = kept.unwrap_or_else(|| (version, Arc::new(measure(evaluator, &*object))));
            known.insert(name, entry);
        }
        known.values().map(|(_, measured)| measured.clone()).collect()
    }

    fn forget(&self, namespace: &str) {
        if self.quotas.list_in(namespace).is_empty() {
            self.measured.lock().retain(|(_, of), _| of != namespace);
        }
    }

    async fn write(&self, quota: &ResourceQuota, hard: &Amounts, used: &Amounts) -> Result<(), Error> {
        let list = |amounts: &Amounts| {
            Some(amounts.iter().map(|(name, amount)| (name.to_owned(), Quantity(amount.to_string()))).collect())
        };
        let status = ResourceQuotaStatus { hard: list(hard), used: list(used) };
        let (key, changed) = (Key::of(quota), ResourceQuota { status: Some(status), ..quota.clone() });
        let api = Api::<ResourceQuota>::namespaced(self.client.clone(), &key.namespace);
        let written = api.replace_status(&key.name, &PostParams::default(), &changed).await;
        written.during("update the status of resource quota", key).found().map(drop)
    }
}

/// The requirements of a quota, from its typed form.
fn requirements(quota: &ResourceQuota) -> Vec<Requirement> {
    Requirement::all_of(&serde_json::to_value(quota).unwrap_or_default())
}
