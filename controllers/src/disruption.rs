//! Disruption budgets: says how many pods may be evicted now.

mod plan;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    core::v1::{Pod, ReplicationController},
    policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
};
use kube::{Api, Client, api::PostParams, core::Selector};
use reconcile::{Change, EventType, Informer, Key, Queue, Recorder, controller_of};

use self::plan::Scale;
use crate::{Error, claim, context::Context, error::During as _};

const WORKERS: usize = 1;

#[derive(Clone)]
struct Controller {
    client: Client,
    recorder: Recorder,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    stateful: Informer<StatefulSet>,
    controllers: Informer<ReplicationController>,
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let controller = Controller {
        client: context.client.clone(),
        recorder: context.recorder("controllermanager"),
        budgets: context.informer(),
        pods: context.informer(),
        deployments: context.informer(),
        sets: context.informer(),
        stateful: context.informer(),
        controllers: context.informer(),
    };
    let queue = Queue::<Key>::new();
    let changed = queue.clone();
    controller.budgets.handle(move |change| changed.add(Key::of(&**change.object())));
    let (it, changed) = (controller.clone(), queue.clone());
    controller.pods.handle(move |change| it.pod_changed(change, &changed));
    controller.budgets.synced().await;
    controller.pods.synced().await;
    controller.deployments.synced().await;
    controller.sets.synced().await;
    controller.stateful.synced().await;
    controller.controllers.synced().await;
    context.work("disruption-controller", &queue, WORKERS, |key| controller.sync(key)).await;
    Ok(())
}

impl Controller {
    fn pod_changed(&self, change: &Change<Pod>, queue: &Queue<Key>) {
        let pod = change.object();
        let old = match change {
            Change::Updated { old, .. } => Some(old),
            _ => None,
        };
        for budget in self.budgets.list_in(pod.metadata.namespace.as_deref().unwrap_or_default()) {
            let Ok(selector) = selector(&budget) else { continue };
            let concerned = |pod: &Arc<Pod>| claim::matches(&selector, pod.metadata.labels.as_ref());
            if concerned(pod) || old.is_some_and(concerned) {
                queue.add(Key::of(&*budget));
            }
        }
    }

    async fn sync(&self, key: Key) -> Result<Option<Duration>, Error> {
        let Some(budget) = self.budgets.get(&key.namespace, &key.name) else { return Ok(None) };
        let selector = selector(&budget)?;
        let mut pods = self.pods.list_in(&key.namespace);
        pods.retain(|pod| claim::matches(&selector, pod.metadata.labels.as_ref()));
        if pods.is_empty() {
            self.recorder.event(&*budget, EventType::Normal, "NoPods", "No matching pods found");
        }
        let now = daemon::clock::now();
        let scale = if plan::needs_scale(&budget) { self.scale(&pods) } else { Ok(Scale::default()) };
        match scale {
            Ok(scale) => {
                if scale.unmanaged > 0 {
                    let text = "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.";
                    self.recorder.event(&*budget, EventType::Warning, "UnmanagedPods", text);
                }
                let (status, again) = plan::status(&budget, &pods, scale.expected, now);
                self.write_status(&budget, status).await?;
                Ok(again)
            }
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                self.recorder.event(&*budget, EventType::Warning, "CalculateExpectedPodCountFailed", message);
                self.write_status(&budget, plan::failed(&budget, &why, now)).await?;
                Err(Error::Unfinished(why))
            }
        }
    }

    /// How many pods the controllers of these pods want together.
    fn scale(&self, pods: &[Arc<Pod>]) -> Result<Scale, String> {
        let mut by_controller: BTreeMap<String, i32> = BTreeMap::new();
        let mut unmanaged = 0;
        for pod in pods {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let Some(owner) = controller_of(&pod.metadata) else {
                unmanaged += 1;
                continue;
            };
            let found = match owner.kind.as_str() {
                "ReplicaSet" => self.sets.get(namespace, &owner.name).map(|set| self.scale_of_set(namespace, &set)),
                "StatefulSet" => {
                    self.stateful.get(namespace, &owner.name).map(|set| (owner.uid.clone(), set.spec.replicas))
                }
                "ReplicationController" => {
                    let found = self.controllers.get(namespace, &owner.name);
                    found.map(|it| (owner.uid.clone(), it.spec.as_ref().and_then(|spec| spec.replicas)))
                }
                _ => None,
            };
            let Some((uid, replicas)) = found else {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                return Err(format!("found no controllers for pod \"{name}\""));
            };
            by_controller.insert(uid, replicas.unwrap_or(1));
        }
        Ok(Scale { expected: by_controller.values().sum(), unmanaged })
    }

    /// A replica set's own size, or that of the deployment above it.
    fn scale_of_set(&self, namespace: &str, set: &ReplicaSet) -> (String, Option<i32>) {
        let above = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment");
        let deployment = above.and_then(|owner| self.deployments.get(namespace, &owner.name));
        match deployment {
            Some(it) => (it.metadata.uid.clone().unwrap_or_default(), it.spec.replicas),
            None => (set.metadata.uid.clone().unwrap_or_default(), set.spec.replicas),
        }
    }

    async fn write_status(&self, budget: &PodDisruptionBudget, status: PodDisruptionBudgetStatus) -> Result<(), Error> {
        if budget.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let key = Key::of(budget);
        let changed = PodDisruptionBudget { status: Some(status), ..budget.clone() };
        let api = Api::<PodDisruptionBudget>::namespaced(self.client.clone(), &key.namespace);
        let written = api.replace_status(&key.name, &PostParams::default(), &changed).await;
        written.map(drop).during("update the status of disruption budget", key)
    }
}

/// A budget without a selector selects nothing, one with an empty selector everything.
fn selector(budget: &PodDisruptionBudget) -> Result<Selector, Error> {
    match budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()) {
        Some(selector) => claim::selector(budget, selector),
        None => Ok(kube::core::Expression::In(String::new(), std::collections::BTreeSet::new()).into()),
    }
}
