//! Deployments: replaces the pods of one template with those of another, by scaling replica sets.
//!
//! Every sync takes the deployment, its replica sets and, to recreate, their pods; the plan is pure and one step far:
//! what it changes comes back as an event, and is planned on again.

mod plan;
mod progress;
mod revision;
mod rollout;
mod scale;

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
    core::Selector,
};
use reconcile::{Change, EventType, Informer, Key, Queue, Recorder, controller_of};

use self::plan::{Observed, Plan, Step};
pub(crate) use self::scale::scaled;
use crate::{
    Error, claim,
    context::{Context, Owner, Shared},
    error::{During as _, Tolerate as _, is_namespace_terminating, status_code},
    template,
};

const WORKERS: usize = 5;

#[derive(Clone)]
struct Controller {
    client: Client,
    recorder: Recorder,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    shared: Shared,
    queue: Queue<Key>,
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let controller = Controller {
        client: context.client.clone(),
        recorder: context.recorder("deployment-controller"),
        deployments: context.informer(),
        sets: context.informer(),
        shared: context.shared.clone(),
        queue: Queue::new(),
    };
    let pods = context.informer::<Pod>();
    controller.shared.pods_by_owner();
    let queue = controller.queue.clone();
    controller.deployments.handle(move |change| queue.add(Key::of(&**change.object())));
    let it = controller.clone();
    controller.sets.handle(move |change| it.set_changed(change));
    let it = controller.clone();
    pods.handle(move |change| it.pod_changed(change));
    controller.deployments.synced().await;
    controller.sets.synced().await;
    pods.synced().await;
    context.work("deployment-controller", &controller.queue, WORKERS, |key| controller.sync(key)).await;
    Ok(())
}

impl Controller {
    fn set_changed(&self, change: &Change<ReplicaSet>) {
        let set = change.object();
        let old = match change {
            Change::Updated { old, .. } => Some(old),
            _ => None,
        };
        let moved = old.is_some_and(|old| controller_of(&old.metadata) != controller_of(&set.metadata));
        if moved && let Some(key) = old.and_then(|old| self.owner(old)) {
            self.queue.add(key);
        }
        if controller_of(&set.metadata).is_some() {
            self.owner(set).into_iter().for_each(|key| self.queue.add(key));
            return;
        }
        if change.is_deleted() || set.metadata.deletion_timestamp.is_some() {
            return;
        }
        let relabeled = old.is_none_or(|old| moved || old.metadata.labels != set.metadata.labels);
        if relabeled {
            self.wake_matching(set);
        }
    }

    /// A deployment that recreates its pods waits for the last of the old ones to go.
    fn pod_changed(&self, change: &Change<Pod>) {
        let Change::Deleted(pod) = change else { return };
        let Some(owner) = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet") else { return };
        let set = self.sets.get(pod.metadata.namespace.as_deref().unwrap_or_default(), &owner.name);
        let Some(set) = set.filter(|set| set.metadata.uid.as_ref() == Some(&owner.uid)) else { return };
        let Some(key) = self.owner(&set) else { return };
        let deployment = self.deployments.get(&key.namespace, &key.name);
        if deployment.is_some_and(|it| !plan::is_rolling(&it)) {
            self.queue.add(key);
        }
    }

    fn owner(&self, set: &ReplicaSet) -> Option<Key> {
        let owner = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment")?;
        let deployment = self.deployments.get(set.metadata.namespace.as_deref().unwrap_or_default(), &owner.name)?;
        (deployment.metadata.uid.as_ref() == Some(&owner.uid)).then(|| Key::of(&*deployment))
    }

    fn wake_matching(&self, set: &ReplicaSet) {
        for deployment in self.deployments.list_in(set.metadata.namespace.as_deref().unwrap_or_default()) {
            if selector(&deployment).is_ok_and(|it| claim::matches(&it, set.metadata.labels.as_ref())) {
                self.queue.add(Key::of(&*deployment));
            }
        }
    }

    async fn sync(&self, key: Key) -> Result<Option<Duration>, Error> {
        let Some(deployment) = self.deployments.get(&key.namespace, &key.name) else { return Ok(None) };
        let wanted = selector(&deployment)?;
        if is_everything(&deployment) {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.event(&*deployment, EventType::Warning, "SelectingAll", message);
            return Ok(None);
        }
        let candidates = self.sets.list_in(&key.namespace);
        let matching = |set: &ReplicaSet| claim::matches(&wanted, set.metadata.labels.as_ref());
        let claims = claim::sort(&deployment.metadata, candidates, matching);
        let sets = claim::settle(&self.client, &*deployment, claims).await?;
        let pods = if plan::is_rolling(&deployment) { HashMap::new() } else { self.pods(&sets) };
        let observed = Observed { deployment: &deployment, sets, pods };
        let Plan { steps, again } = plan::plan(observed, daemon::clock::now());
        for step in steps {
            match self.take(&deployment, step).await {
                // Everything in the namespace goes; there is nothing left to do.
                Err(Error::Api { source, .. }) if is_namespace_terminating(&source) => return Ok(None),
                done => done?,
            }
        }
        Ok(again)
    }

    fn pods(&self, sets: &[Arc<ReplicaSet>]) -> HashMap<String, Vec<Arc<Pod>>> {
        let uids = sets.iter().filter_map(|set| set.metadata.uid.clone());
        uids.map(|uid| (uid.clone(), self.shared.pods_by_owner().get(&Owner::Controller(uid)))).collect()
    }

    async fn take(&self, deployment: &Deployment, step: Step) -> Result<(), Error> {
        let key = Key::of(deployment);
        let sets = Api::<ReplicaSet>::namespaced(self.client.clone(), &key.namespace);
        match step {
            Step::Status(changed) => self.write_status(&changed).await,
            Step::Create(set) => self.create(&sets, deployment, *set).await,
            Step::Update { set, event } => {
                let written = sets.replace(&Key::of(&*set).name, &PostParams::default(), &set).await;
                written.during("update replica set", Key::of(&*set))?;
                if let Some(message) = event {
                    self.recorder.event(deployment, EventType::Normal, "ScalingReplicaSet", message);
                }
                Ok(())
            }
            Step::Delete(name) => {
                let deleted = sets.delete(&name, &DeleteParams::default()).await.map(drop);
                deleted.during("delete replica set", &name).found().map(drop)
            }
        }
    }

    async fn write_status(&self, changed: &Deployment) -> Result<(), Error> {
        let key = Key::of(changed);
        let api = Api::<Deployment>::namespaced(self.client.clone(), &key.namespace);
        let written = api.replace_status(&key.name, &PostParams::default(), changed).await;
        written.map(drop).during("update the status of deployment", key)
    }

    async fn create(&self, api: &Api<ReplicaSet>, deployment: &Deployment, set: ReplicaSet) -> Result<(), Error> {
        let name = set.metadata.name.clone().unwrap_or_default();
        let replicas = set.spec.replicas.unwrap_or(0);
        let created = api.create(&PostParams::default(), &set).await;
        if matches!(&created, Err(error) if status_code(error) == Some(409)) {
            return self.collided(api, deployment, &name).await;
        }
        let Err(error) = created.during("create replica set", Key::of(&set)) else {
            if replicas > 0 {
                let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                self.recorder.event(deployment, EventType::Normal, "ScalingReplicaSet", message);
            }
            return Ok(());
        };
        if error.is_namespace_terminating() {
            return Err(error);
        }
        let message = format!("Failed to create new replica set \"{name}\": {}", error.message());
        if let Some(failed) = progress::creation_failed(deployment, &message, daemon::clock::now()) {
            // The failure to create is what counts; that its condition was not written changes nothing.
            drop(self.write_status(&failed).await);
        }
        self.recorder.event(deployment, EventType::Warning, progress::CREATE_ERROR, message);
        Err(error)
    }

    /// A set of this name exists: ours, not yet in the cache, or another with the same hash.
    async fn collided(&self, api: &Api<ReplicaSet>, deployment: &Deployment, name: &str) -> Result<(), Error> {
        let present = api.get(name).await.during("get replica set", name)?;
        let owner = controller_of(&present.metadata).map(|owner| owner.uid.clone());
        let mine = owner == deployment.metadata.uid;
        if mine && template::same(&deployment.spec.template, present.spec.template.as_ref()) {
            return Ok(());
        }
        let mut changed = deployment.clone();
        let status = changed.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0).wrapping_add(1));
        self.write_status(&changed).await?;
        Err(Error::Unfinished(format!("replica set {name} exists with another template, trying another name")))
    }
}

fn selector(deployment: &Deployment) -> Result<Selector, Error> {
    claim::selector(deployment, &deployment.spec.selector)
}

fn is_everything(deployment: &Deployment) -> bool {
    let selector = &deployment.spec.selector;
    selector.match_labels.as_ref().is_none_or(|it| it.is_empty())
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}
