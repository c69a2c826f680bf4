//! Daemon sets: one pod on every node that fits.

mod plan;
mod pod;
mod rollout;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus},
    core::v1::{Node, Pod},
};
use kube::{Api, Client, ResourceExt as _, api::PostParams, core::Selector};
use parking_lot::Mutex;
use reconcile::{Change, EventType, Expectations, Informer, Key, Queue, Recorder, controller_of, reference};

use self::plan::{Observed, Plan, Retired};
use crate::{
    Error, claim,
    context::{Context, Owner, Shared},
    error::{During as _, is_namespace_terminating},
    history::{self, Failure, Snapshot},
    pod_control::{self, PodControl},
    pods,
};

const WORKERS: usize = 2;
/// First and longest wait before a failed pod of a node is replaced again.
const FAILED_BASE: Duration = Duration::from_secs(1);
const FAILED_MAX: Duration = Duration::from_secs(15 * 60);

#[derive(Clone)]
struct Controller {
    client: Client,
    control: PodControl,
    recorder: Recorder,
    sets: Informer<DaemonSet>,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    revisions: Informer<ControllerRevision>,
    shared: Shared,
    queue: Queue<Key>,
    expectations: Expectations<Key>,
    failures: Arc<Mutex<Failures>>,
}

/// When failed pods were last replaced, by the set's uid and the node.
#[derive(Default)]
struct Failures(HashMap<(String, String), (Instant, Duration)>);

impl Failures {
    /// The set is gone.
    fn forget(&mut self, set: &str) {
        self.0.retain(|(uid, _), _| uid != set);
    }

    /// How long a failed pod has to stay; zero when it may be replaced now, which is noted.
    fn wait(&mut self, set: &str, node: &str, now: Instant) -> Duration {
        let entry = self.0.entry((set.to_owned(), node.to_owned())).or_insert((now, Duration::ZERO));
        let passed = now.saturating_duration_since(entry.0);
        if passed < entry.1 {
            return entry.1 - passed;
        }
        let next = if passed > 2 * FAILED_MAX { FAILED_BASE } else { (entry.1 * 2).clamp(FAILED_BASE, FAILED_MAX) };
        *entry = (now, next);
        Duration::ZERO
    }
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let recorder = context.recorder("daemonset-controller");
    let controller = Controller {
        control: PodControl { client: context.client.clone(), recorder: recorder.clone() },
        client: context.client.clone(),
        recorder,
        sets: context.informer(),
        nodes: context.informer(),
        pods: context.informer(),
        revisions: context.informer(),
        shared: context.shared.clone(),
        queue: Queue::new(),
        expectations: Expectations::new(),
        failures: Arc::default(),
    };
    controller.shared.pods_by_owner();
    let it = controller.clone();
    controller.sets.handle(move |change| {
        let key = Key::of(&**change.object());
        if change.is_deleted() {
            it.expectations.forget(&key);
            it.failures.lock().forget(change.object().metadata.uid.as_deref().unwrap_or_default());
        }
        it.queue.add(key);
    });
    let it = controller.clone();
    controller.pods.handle(move |change| it.pod_changed(change));
    let it = controller.clone();
    controller.nodes.handle(move |change| it.node_changed(change));
    controller.sets.synced().await;
    controller.pods.synced().await;
    controller.nodes.synced().await;
    controller.revisions.synced().await;
    context.work("daemonset-controller", &controller.queue, WORKERS, |key| controller.sync(key)).await;
    Ok(())
}

impl Controller {
    fn node_changed(&self, change: &Change<Node>) {
        let concerned = match change {
            Change::Updated { old, new } => {
                let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
                old.metadata.labels != new.metadata.labels || taints(old) != taints(new)
            }
            _ => true,
        };
        if concerned {
            self.sets.list().iter().for_each(|set| self.queue.add(Key::of(&**set)));
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.object();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let ending = change.is_deleted() || pod.metadata.deletion_timestamp.is_some();
        if let Change::Updated { old, .. } = change
            && controller_of(&old.metadata) != controller_of(&pod.metadata)
        {
            self.owner(old).into_iter().for_each(|key| self.queue.add(key));
        }
        let Some(key) = self.owner(pod) else {
            if !ending && controller_of(&pod.metadata).is_none() {
                self.wake_matching(pod);
            }
            return;
        };
        match change {
            _ if ending => self.expectations.deleted(&key, uid),
            Change::Added(_) => self.expectations.created(&key),
            _ => {}
        }
        self.queue.add(key);
    }

    fn owner(&self, pod: &Pod) -> Option<Key> {
        let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "DaemonSet")?;
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
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let selector = selector(&set)?;
        if is_everything(&set) {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.recorder.event(&*set, EventType::Warning, "SelectingAll", message);
            return Ok(None);
        }
        let history = match self.snapshot(&set, &selector).history(&self.client, &self.revisions).await {
            Ok(history) => history,
            Err(Failure::Error(error)) if error.is_namespace_terminating() => return Ok(None),
            Err(Failure::Error(error)) => return Err(error),
            Err(Failure::Collision) => return self.count_collision(&set).await,
        };
        let hash = history.current.labels().get(plan::HASH_LABEL).cloned().unwrap_or_default();
        let mine = self.claim(&set, &selector).await?;
        let settled = self.expectations.satisfied(&key);
        let nodes = self.nodes.list();
        let now = daemon::clock::now();
        let observed = Observed::new(&set, &nodes, mine, &hash, now);
        let failed = if settled { self.act(&key, &set, &observed).await } else { Ok(None) };
        let status = observed.status(settled);
        self.write_status(&set, &status).await?;
        let again = failed?;
        if settled {
            let used = |it: &ControllerRevision| observed.uses(it.labels().get(plan::HASH_LABEL));
            let limit = set.spec.revision_history_limit;
            history::clean_up(&self.client, &key.namespace, &history, limit, used).await?;
        }
        Ok(again.into_iter().chain(observed.next_check(&status)).min())
    }

    fn snapshot<'a>(&self, set: &'a DaemonSet, selector: &'a Selector) -> Snapshot<'a, DaemonSet> {
        Snapshot {
            owner: set,
            selector,
            template: &set.spec.template,
            collisions: set.status.as_ref().and_then(|status| status.collision_count),
            hash_label: plan::HASH_LABEL,
        }
    }

    async fn count_collision(&self, set: &DaemonSet) -> Result<Option<Duration>, Error> {
        let mut status = set.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0).wrapping_add(1));
        self.write_status(set, &status).await?;
        Err(Error::Unfinished(format!("a revision of daemon set {} has the name of another", Key::of(set))))
    }

    async fn claim(&self, set: &DaemonSet, selector: &Selector) -> Result<Vec<Arc<Pod>>, Error> {
        let index = self.shared.pods_by_owner();
        let namespace = set.metadata.namespace.clone().unwrap_or_default();
        let mine = index.get(&Owner::Controller(set.metadata.uid.clone().unwrap_or_default()));
        let candidates = mine.into_iter().chain(index.get(&Owner::Nobody { namespace }));
        let claims =
            claim::sort(&set.metadata, candidates, |pod| claim::matches(selector, pod.metadata.labels.as_ref()));
        claim::settle(&self.client, set, claims).await
    }

    /// Returns when a failed pod may be replaced, if one has to wait.
    async fn act(&self, key: &Key, set: &Arc<DaemonSet>, observed: &Observed<'_>) -> Result<Option<Duration>, Error> {
        let uid = set.metadata.uid.clone().unwrap_or_default();
        let now = daemon::clock::monotonic();
        let mut wait = |node: &str| self.failures.lock().wait(&uid, node, now);
        let plan = observed.plan(&mut wait);
        for Retired { pod, node, succeeded } in &plan.retired {
            let name = format!("{}/{}", key.namespace, pod.metadata.name.as_deref().unwrap_or_default());
            let (type_, reason, message) = if *succeeded {
                let message = format!("Found succeeded daemon pod {name} on node {node}, will try to delete it");
                (EventType::Normal, "SucceededDaemonPod", message)
            } else {
                let message = format!("Found failed daemon pod {name} on node {node}, will try to kill it");
                (EventType::Warning, "FailedDaemonPod", message)
            };
            self.recorder.event(&**set, type_, reason, message);
        }
        let again = plan.again;
        self.change(key, set, observed, plan).await.map(|()| again)
    }

    async fn change(&self, key: &Key, set: &Arc<DaemonSet>, observed: &Observed<'_>, plan: Plan) -> Result<(), Error> {
        let Plan { create, mut delete, .. } = plan;
        delete.dedup_by(|one, other| one.metadata.uid == other.metadata.uid);
        if create.is_empty() && delete.is_empty() {
            return Ok(());
        }
        let uids = delete.iter().filter_map(|pod| pod.metadata.uid.clone());
        self.expectations.expect(key.clone(), create.len(), uids);
        let owner = reference(&**set);
        let (succeeded, failure) = pod_control::slow_start(create.len(), |number| {
            let pod = pod::make(set, &create[number], observed.hash);
            let owner = &owner;
            async move {
                match self.control.create(owner, &pod).await {
                    Err(Error::Api { source, .. }) if is_namespace_terminating(&source) => Ok(()),
                    done => done.map(drop),
                }
            }
        })
        .await;
        self.expectations.lower(key, create.len() - succeeded);
        let deleted = self.control.delete_all(&owner, &delete, |uid| self.expectations.deleted(key, uid)).await;
        failure.map_or(deleted, Err)
    }

    async fn write_status(&self, set: &DaemonSet, status: &DaemonSetStatus) -> Result<(), Error> {
        if plan::same_status(set.status.as_ref(), status) {
            return Ok(());
        }
        let key = Key::of(set);
        let mut changed = set.clone();
        changed.status = Some(status.clone());
        let api = Api::<DaemonSet>::namespaced(self.client.clone(), &key.namespace);
        let written = api.replace_status(&key.name, &PostParams::default(), &changed).await;
        written.map(drop).during("update the status of daemon set", key)
    }
}

fn selector(set: &DaemonSet) -> Result<Selector, Error> {
    claim::selector(set, &set.spec.selector)
}

fn is_everything(set: &DaemonSet) -> bool {
    let selector = &set.spec.selector;
    selector.match_labels.as_ref().is_none_or(|it| it.is_empty())
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// The node that a pod is on, or is meant for.
fn target(pod: &Pod) -> Option<String> {
    let bound = pods::node(pod);
    if bound.is_empty() { pod::wanted_node(pod) } else { Some(bound.to_owned()) }
}
