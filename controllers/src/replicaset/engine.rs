//! The loop: handlers enqueue sets, a sync claims pods, acts on the plan and writes the status.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetStatus},
    core::v1::Pod,
};
use kube::{Api, Client, api::PostParams, core::Selector};
use reconcile::{Change, Expectations, Index, Informer, Key, Queue, controller_of, controller_ref, reference};

use super::{
    kinds::Replicating,
    plan::{self, Action},
};
use crate::{
    Error, claim,
    context::{Context, Owner, Shared},
    error::{During as _, is_namespace_terminating, status_code},
    pod_control::{self, PodControl},
    pods,
};

const WORKERS: usize = 5;

struct Engine<K> {
    client: Client,
    control: PodControl,
    sets: Informer<K>,
    /// By the uid of the set's own controller.
    siblings: Index<String, K>,
    pods: Informer<Pod>,
    shared: Shared,
    queue: Queue<Key>,
    expectations: Expectations<Key>,
}

impl<K> Clone for Engine<K> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            control: self.control.clone(),
            sets: self.sets.clone(),
            siblings: self.siblings.clone(),
            pods: self.pods.clone(),
            shared: self.shared.clone(),
            queue: self.queue.clone(),
            expectations: self.expectations.clone(),
        }
    }
}

pub(super) async fn run<K: Replicating>(context: Context) -> Result<(), Error> {
    let sets = context.informer::<K>();
    let engine = Engine {
        control: PodControl { client: context.client.clone(), recorder: context.recorder(K::COMPONENT) },
        client: context.client.clone(),
        siblings: Index::new(&sets, |set| controller_of(set.meta()).map(|it| it.uid.clone()).into_iter().collect()),
        sets,
        pods: context.informer(),
        shared: context.shared.clone(),
        queue: Queue::new(),
        expectations: Expectations::new(),
    };
    // The index has to know a change before the handlers below wake a worker.
    engine.shared.pods_by_owner();
    let it = engine.clone();
    engine.sets.handle(move |change| it.set_changed(change));
    let it = engine.clone();
    engine.pods.handle(move |change| it.pod_changed(change));
    engine.sets.synced().await;
    engine.pods.synced().await;
    context.work(K::CONTROLLER, &engine.queue, WORKERS, |key| engine.sync(key)).await;
    Ok(())
}

impl<K: Replicating> Engine<K> {
    fn set_changed(&self, change: &Change<K>) {
        let key = Key::of(&**change.object());
        if change.is_deleted() {
            self.expectations.forget(&key);
        }
        self.queue.add(key);
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        match change {
            Change::Added(pod) if pod.metadata.deletion_timestamp.is_some() => self.pod_deleted(pod),
            Change::Added(pod) => match self.owner(pod) {
                Some(key) => {
                    self.expectations.created(&key);
                    self.queue.add(key);
                }
                None => self.wake_matching(pod),
            },
            Change::Updated { old, new } => self.pod_updated(old, new),
            Change::Deleted(pod) => self.pod_deleted(pod),
        }
    }

    fn pod_deleted(&self, pod: &Pod) {
        if let Some(key) = self.owner(pod) {
            self.expectations.deleted(&key, pod.metadata.uid.as_deref().unwrap_or_default());
            self.queue.add(key);
        }
    }

    fn pod_updated(&self, old: &Pod, new: &Pod) {
        if new.metadata.deletion_timestamp.is_some() {
            return self.pod_deleted(new);
        }
        let moved = controller_of(&old.metadata) != controller_of(&new.metadata);
        if moved && let Some(key) = self.owner(old) {
            self.queue.add(key);
        }
        if let Some(key) = self.owner(new) {
            if !pods::is_ready(old) && pods::is_ready(new) {
                self.look_again(&key);
            }
            self.queue.add(key);
        } else if moved || old.metadata.labels != new.metadata.labels {
            self.wake_matching(new);
        }
    }

    /// A pod that got ready becomes available later.
    fn look_again(&self, key: &Key) {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else { return };
        let seconds = u64::try_from(plan::min_ready_seconds(&K::view(&set))).unwrap_or(0);
        if seconds > 0 {
            self.queue.add_after(key.clone(), Duration::from_secs(seconds));
        }
    }

    /// The set of this kind that controls a pod.
    fn owner(&self, pod: &Pod) -> Option<Key> {
        let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == K::kind(&()))?;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let set = self.sets.get(namespace, &owner.name)?;
        (set.meta().uid.as_ref() == Some(&owner.uid)).then(|| Key::of(&*set))
    }

    /// Wakes the sets that may adopt a pod that nobody owns.
    fn wake_matching(&self, pod: &Pod) {
        if controller_of(&pod.metadata).is_some() {
            return;
        }
        for set in self.sets.list_in(pod.metadata.namespace.as_deref().unwrap_or_default()) {
            let view = K::view(&set);
            if selector(&view).is_ok_and(|it| claim::matches(&it, pod.metadata.labels.as_ref())) {
                self.queue.add(Key::of(&*set));
            }
        }
    }

    async fn sync(&self, key: Key) -> Result<Option<Duration>, Error> {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else {
            self.expectations.forget(&key);
            return Ok(None);
        };
        let view = K::view(&set);
        let settled = self.expectations.satisfied(&key);
        let selector = selector(&view)?;
        let (active, terminating) = self.claim(&set, &view, &selector).await?;
        let failure = if settled && view.metadata.deletion_timestamp.is_none() {
            self.act(&key, &set, &view, &active).await.err()
        } else {
            None
        };
        let now = daemon::clock::now();
        let terminating = K::COUNTS_TERMINATING.then_some(terminating);
        let message = failure.as_ref().map(Error::message);
        let status = plan::status(&view, &active, terminating, message.as_deref(), now);
        let next = plan::next_check(&view, &status, &active, now);
        if !plan::same(&view.status.clone().unwrap_or_default(), &status) {
            self.write_status(&set, status).await?;
        }
        failure.map_or(Ok(next), Err)
    }

    /// The set's active pods, and how many of its pods are terminating.
    async fn claim(
        &self,
        set: &Arc<K>,
        view: &ReplicaSet,
        selector: &Selector,
    ) -> Result<(Vec<Arc<Pod>>, usize), Error> {
        let index = self.shared.pods_by_owner();
        let namespace = view.metadata.namespace.clone().unwrap_or_default();
        let mine = index.get(&Owner::Controller(view.metadata.uid.clone().unwrap_or_default()));
        let wanted = |pod: &Pod| claim::matches(selector, pod.metadata.labels.as_ref());
        let terminating = mine.iter().filter(|pod| pods::is_terminating(pod) && wanted(pod)).count();
        let orphans = index.get(&Owner::Nobody { namespace });
        let candidates = mine.into_iter().chain(orphans).filter(|pod| pods::is_active(pod));
        let claims = claim::sort(&view.metadata, candidates, wanted);
        Ok((claim::settle(&self.client, &**set, claims).await?, terminating))
    }

    async fn act(&self, key: &Key, set: &Arc<K>, view: &ReplicaSet, active: &[Arc<Pod>]) -> Result<(), Error> {
        match plan::action(view, active, || self.related(view), daemon::clock::now()) {
            None => Ok(()),
            Some(Action::Create(count)) => self.create(key, set, view, count).await,
            Some(Action::Delete(pods)) => self.delete(key, set, pods).await,
        }
    }

    async fn create(&self, key: &Key, set: &Arc<K>, view: &ReplicaSet, count: usize) -> Result<(), Error> {
        let template = view.spec.template.clone().unwrap_or_default();
        let pod = pod_control::pod_of(&template, controller_ref(&**set));
        let owner = reference(&**set);
        self.expectations.expect(key.clone(), count, []);
        let (succeeded, failure) = pod_control::slow_start(count, |_| async {
            match self.control.create(&owner, &pod).await {
                Err(Error::Api { source, .. }) if is_namespace_terminating(&source) => Ok(()),
                done => done.map(drop),
            }
        })
        .await;
        // What was not created will not be seen.
        self.expectations.lower(key, count - succeeded);
        failure.map_or(Ok(()), Err)
    }

    async fn delete(&self, key: &Key, set: &Arc<K>, pods: Vec<Arc<Pod>>) -> Result<(), Error> {
        let uids = pods.iter().filter_map(|pod| pod.metadata.uid.clone());
        self.expectations.expect(key.clone(), 0, uids);
        self.control.delete_all(&reference(&**set), &pods, |uid| self.expectations.deleted(key, uid)).await
    }

    /// The pods of all sets with the same controller as this one.
    fn related(&self, view: &ReplicaSet) -> Vec<Arc<Pod>> {
        let Some(controller) = controller_of(&view.metadata) else { return Vec::new() };
        let uids = self.siblings.get(&controller.uid);
        let uids = uids.iter().filter_map(|set| set.meta().uid.clone());
        uids.flat_map(|uid| self.shared.pods_by_owner().get(&Owner::Controller(uid))).collect()
    }

    async fn write_status(&self, set: &Arc<K>, status: ReplicaSetStatus) -> Result<(), Error> {
        let key = Key::of(&**set);
        let api = Api::<K>::namespaced(self.client.clone(), &key.namespace);
        let mut changed = (**set).clone();
        changed.set_status(status.clone());
        let written = api.replace_status(&key.name, &PostParams::default(), &changed).await;
        if !matches!(&written, Err(error) if status_code(error) == Some(409)) {
            return written.map(drop).during("update the status of", &key);
        }
        // The counts are as true for a newer version of the set: try once more on that.
        let mut fresh = api.get(&key.name).await.during("get", &key)?;
        if fresh.meta().uid != set.meta().uid {
            return Ok(());
        }
        fresh.set_status(status);
        let written = api.replace_status(&key.name, &PostParams::default(), &fresh).await;
        written.map(drop).during("update the status of", &key)
    }
}

fn selector(view: &ReplicaSet) -> Result<Selector, Error> {
    claim::selector(view, &view.spec.selector)
}
