//! Stateful sets: pods with names and volumes of their own, made, replaced and removed in order.

mod plan;
mod pod;
mod retention;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus},
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, PostParams, Preconditions},
    core::Selector,
};
use reconcile::{Change, EventType, Informer, Key, Queue, Recorder, controller_of};

use self::{
    plan::{Observed, Plan, Steps},
    retention::Owners,
};
use crate::{
    Error, claim,
    context::{Context, Owner, Shared},
    error::{During as _, is_namespace_terminating, status_code},
    history::{self, Failure, History, Snapshot},
    pods,
};

const WORKERS: usize = 5;
/// Between looks at a claim that has to go before its successor can be made.
const CLAIM_DELAY: Duration = Duration::from_secs(1);
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

#[derive(Clone)]
struct Controller {
    client: Client,
    recorder: Recorder,
    sets: Informer<StatefulSet>,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    revisions: Informer<ControllerRevision>,
    shared: Shared,
    queue: Queue<Key>,
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let controller = Controller {
        client: context.client.clone(),
        recorder: context.recorder("statefulset-controller"),
        sets: context.informer(),
        pods: context.informer(),
        claims: context.informer(),
        revisions: context.informer(),
        shared: context.shared.clone(),
        queue: Queue::new(),
    };
    controller.shared.pods_by_owner();
    let queue = controller.queue.clone();
    controller.sets.handle(move |change| queue.add(Key::of(&**change.object())));
    let it = controller.clone();
    controller.pods.handle(move |change| it.pod_changed(change));
    controller.sets.synced().await;
    controller.pods.synced().await;
    controller.claims.synced().await;
    controller.revisions.synced().await;
    context.work("statefulset-controller", &controller.queue, WORKERS, |key| controller.sync(key)).await;
    Ok(())
}

impl Controller {
    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.object();
        if let Change::Updated { old, .. } = change
            && controller_of(&old.metadata) != controller_of(&pod.metadata)
        {
            self.owner(old).into_iter().for_each(|key| self.queue.add(key));
        }
        if let Some(key) = self.owner(pod) {
            self.queue.add(key);
        } else if controller_of(&pod.metadata).is_none() && !change.is_deleted() {
            self.wake_matching(pod);
        }
    }

    fn owner(&self, pod: &Pod) -> Option<Key> {
        let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "StatefulSet")?;
        let set = self.sets.get(pod.metadata.namespace.as_deref().unwrap_or_default(), &owner.name)?;
        (set.metadata.uid.as_ref() == Some(&owner.uid)).then(|| Key::of(&*set))
    }

    fn wake_matching(&self, pod: &Pod) {
        for set in self.sets.list_in(pod.metadata.namespace.as_deref().unwrap_or_default()) {
            if selector(&set).is_ok_and(|it| claim::matches(&it, pod.metadata.labels.as_ref())) {
                self.queue.add(Key::of(&*set));
            }
        }
    }

    async fn sync(&self, key: Key) -> Result<Option<Duration>, Error> {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else { return Ok(None) };
        let selector = selector(&set)?;
        let mine = self.claim(&set, &selector).await?;
        let snapshot = Snapshot {
            owner: &*set,
            selector: &selector,
            template: &set.spec.template,
            collisions: Some(set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0)),
            hash_label: HASH_LABEL,
        };
        let history = match snapshot.history(&self.client, &self.revisions).await {
            Ok(history) => history,
            Err(Failure::Error(error)) if error.is_namespace_terminating() => return Ok(None),
            Err(Failure::Error(error)) => return Err(error),
            Err(Failure::Collision) => return self.count_collision(&set).await,
        };
        if set.metadata.deletion_timestamp.is_none() {
            self.settle_claims(&set, &mine).await?;
        }
        let observed = Observed::new(&set, &history, mine, daemon::clock::now());
        let Plan { status, steps, again } = plan::plan(&observed);
        let acted = self.act(&set, steps).await;
        self.write_status(&set, status).await?;
        self.clean_up(&set, &history, &observed).await?;
        match acted {
            Err(Error::Api { source, .. }) if is_namespace_terminating(&source) => Ok(None),
            done => done.map(|waits| again.into_iter().chain(waits).min()),
        }
    }

    async fn claim(&self, set: &StatefulSet, selector: &Selector) -> Result<Vec<Arc<Pod>>, Error> {
        let index = self.shared.pods_by_owner();
        let namespace = set.metadata.namespace.clone().unwrap_or_default();
        let mine = index.get(&Owner::Controller(set.metadata.uid.clone().unwrap_or_default()));
        let candidates = mine.into_iter().chain(index.get(&Owner::Nobody { namespace }));
        let wanted =
            |it: &Pod| claim::matches(selector, it.metadata.labels.as_ref()) && pod::ordinal(set, it).is_some();
        claim::settle(&self.client, set, claim::sort(&set.metadata, candidates, wanted)).await
    }

    /// Makes each claim of the set's pods belong to what it is to go with.
    async fn settle_claims(&self, set: &StatefulSet, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        for pod in pods {
            for wanted in pod::claims(set, pod) {
                let name = wanted.name_any();
                let Some(claim) = self.claims.get(namespace, &name) else { continue };
                let owners = match retention::owners(set, pod, &claim) {
                    Owners::Right => continue,
                    Owners::Wrong(owners) => owners,
                    Owners::Conflicting(owners) => {
                        let message = format!(
                            "PersistentVolumeClaim {name} has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim"
                        );
                        self.recorder.event(set, EventType::Warning, "ConflictingController", message);
                        owners
                    }
                };
                let mut changed = (*claim).clone();
                changed.metadata.owner_references = Some(owners).filter(|owners| !owners.is_empty());
                let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
                let written = api.replace(&name, &PostParams::default(), &changed).await;
                written.during("update the owners of volume claim", format_args!("{namespace}/{name}"))?;
            }
        }
        Ok(())
    }

    /// A claim of this pod goes with the former pod of its name.
    fn waits_for_claim(&self, set: &StatefulSet, pod: &Pod) -> bool {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let mut claims = pod::claims(set, pod).into_iter();
        let present = |claim: &PersistentVolumeClaim| self.claims.get(namespace, &claim.name_any());
        claims.any(|claim| present(&claim).is_some_and(|claim| retention::is_leaving(set, pod, &claim)))
    }

    /// Returns when to look again at what could not be made yet.
    async fn act(&self, set: &StatefulSet, steps: Steps) -> Result<Option<Duration>, Error> {
        let mut waits = None;
        for pod in steps.create {
            if self.waits_for_claim(set, &pod) {
                waits = Some(CLAIM_DELAY);
                continue;
            }
            self.create_claims(set, &pod).await?;
            self.create(set, &pod).await?;
        }
        for pod in steps.provide {
            self.create_claims(set, &pod).await?;
        }
        for pod in steps.delete {
            self.delete(set, &pod).await?;
        }
        Ok(waits)
    }

    /// The volumes of a pod that do not exist yet.
    async fn create_claims(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        for claim in pod::claims(set, pod) {
            let name = claim.name_any();
            match self.claims.get(namespace, &name) {
                None => {}
                Some(present) if present.metadata.deletion_timestamp.is_some() => {
                    return Err(Error::Unfinished(format!("pvc {name} is being deleted")));
                }
                Some(_) => continue,
            }
            let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
            let created = api.create(&PostParams::default(), &claim).await;
            let created = created.map(drop).during("create volume claim", format_args!("{namespace}/{name}"));
            // The cache is behind: the claim that is there may be one that goes.
            if matches!(&created, Err(error) if error.status_code() == Some(409)) {
                return created;
            }
            let (pod, owner) = (pod.name_any(), set.name_any());
            match &created {
                Ok(()) => {
                    let message = format!("create Claim {name} Pod {pod} in StatefulSet {owner} success");
                    self.recorder.event(set, EventType::Normal, "SuccessfulCreate", message);
                }
                Err(error) => {
                    let why = error.message();
                    let message =
                        format!("create Claim {name} for Pod {pod} in StatefulSet {owner} failed error: {why}");
                    self.recorder.event(set, EventType::Warning, "FailedCreate", message);
                }
            }
            created?;
        }
        Ok(())
    }

    async fn create(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let key = Key::of(pod);
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        let created = api.create(&PostParams::default(), pod).await;
        // The cache is behind: it is there, and will be seen.
        if matches!(&created, Err(error) if status_code(error) == Some(409)) {
            return Ok(());
        }
        let created = created.map(drop).during("create pod", &key);
        self.tell(set, &key.name, ("create", "Create"), &created);
        created
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let key = Key::of(pod);
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let deleted = api.delete(&key.name, &parameters).await.map(drop).during("delete pod", &key);
        if matches!(&deleted, Err(error) if matches!(error.status_code(), Some(404 | 409))) {
            return Ok(());
        }
        self.tell(set, &key.name, ("delete", "Delete"), &deleted);
        deleted
    }

    fn tell(&self, set: &StatefulSet, pod: &str, (verb, title): (&str, &str), done: &Result<(), Error>) {
        let subject = format!("{verb} Pod {pod} in StatefulSet {}", set.name_any());
        match done {
            Ok(()) => {
                let reason = format!("Successful{title}");
                self.recorder.event(set, EventType::Normal, &reason, format!("{subject} successful"));
            }
            Err(error) => {
                let message = format!("{subject} failed error: {}", error.message());
                self.recorder.event(set, EventType::Warning, &format!("Failed{title}"), message);
            }
        }
    }

    async fn count_collision(&self, set: &StatefulSet) -> Result<Option<Duration>, Error> {
        let mut status = set.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0).wrapping_add(1));
        self.write_status(set, status).await?;
        Err(Error::Unfinished(format!("a revision of stateful set {} has the name of another", Key::of(set))))
    }

    async fn write_status(&self, set: &StatefulSet, status: StatefulSetStatus) -> Result<(), Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let key = Key::of(set);
        let mut changed = set.clone();
        changed.status = Some(status);
        let api = Api::<StatefulSet>::namespaced(self.client.clone(), &key.namespace);
        let written = api.replace_status(&key.name, &PostParams::default(), &changed).await;
        written.map(drop).during("update the status of stateful set", key)
    }

    async fn clean_up(&self, set: &StatefulSet, history: &History, observed: &Observed<'_>) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let used = |it: &ControllerRevision| observed.uses(it.metadata.name.as_deref().unwrap_or_default());
        history::clean_up(&self.client, namespace, history, set.spec.revision_history_limit, used).await
    }
}

fn selector(set: &StatefulSet) -> Result<Selector, Error> {
    claim::selector(set, &set.spec.selector)
}

/// It runs, is ready, and has been for as long as asked.
fn is_available(pod: &Pod, min_ready_seconds: i32, now: jiff::Timestamp) -> bool {
    pods::phase(pod) == "Running" && pods::is_available(pod, min_ready_seconds, now)
}
