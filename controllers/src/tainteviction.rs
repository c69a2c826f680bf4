//! Ends pods on nodes with `NoExecute` taints: at once, or when what they tolerate has lasted too long.

mod plan;

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;
use reconcile::{Change, EventType, Informer, Key, Queue, Recorder};
use serde_json::json;

use self::plan::Verdict;
pub(crate) use self::plan::tolerates;
use crate::{
    Error,
    context::{Context, Shared},
    disrupt, pods,
};

const WORKERS: usize = 8;

struct Controller {
    client: Client,
    recorder: Recorder,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    /// Since when pods are only tolerating what is on their node, by uid.
    tolerating: Tolerating,
}

type Tolerating = Arc<Mutex<HashMap<String, Timestamp>>>;

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let queue = Queue::<Key>::new();
    let controller = Controller {
        client: context.client.clone(),
        recorder: context.recorder("taint-eviction-controller"),
        pods: context.informer(),
        nodes: context.informer(),
        tolerating: Tolerating::default(),
    };
    context.shared.pods_by_node();
    let (changed, tolerating) = (queue.clone(), controller.tolerating.clone());
    controller.pods.handle(move |change| {
        if change.is_deleted() {
            tolerating.lock().remove(change.object().metadata.uid.as_deref().unwrap_or_default());
        }
        pod_changed(change, &changed);
    });
    let (changed, shared) = (queue.clone(), context.shared.clone());
    controller.nodes.handle(move |change| node_changed(change, &shared, &changed));
    controller.pods.synced().await;
    controller.nodes.synced().await;
    context.work("taint-eviction-controller", &queue, WORKERS, |key| controller.sync(key)).await;
    Ok(())
}

fn pod_changed(change: &Change<Pod>, queue: &Queue<Key>) {
    let tolerations = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.tolerations.clone());
    let concerned = match change {
        Change::Added(pod) => !pods::node(pod).is_empty(),
        Change::Updated { old, new } => {
            pods::node(old) != pods::node(new) || (!pods::node(new).is_empty() && tolerations(old) != tolerations(new))
        }
        Change::Deleted(_) => true,
    };
    if concerned {
        queue.add(Key::of(&**change.object()));
    }
}

fn node_changed(change: &Change<Node>, shared: &Shared, queue: &Queue<Key>) {
    let node = change.object();
    let tainted = |node: &Node| plan::no_execute(node).next().is_some();
    let concerned = match change {
        Change::Added(node) => tainted(node),
        Change::Updated { old, new } => !plan::no_execute(old).eq(plan::no_execute(new)),
        Change::Deleted(node) => tainted(node),
    };
    if concerned {
        for pod in shared.pods_by_node().get(&node.name_any()) {
            queue.add(Key::of(&*pod));
        }
    }
}

impl Controller {
    async fn sync(&self, key: Key) -> Result<Option<Duration>, Error> {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else { return Ok(None) };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() {
            self.tolerating.lock().remove(&uid);
            return Ok(None);
        }
        let node = self.nodes.get("", pods::node(&pod));
        let verdict = node.map_or(Verdict::Stays, |node| plan::verdict(&pod, &node));
        let since = self.tolerating.lock().get(&uid).copied();
        let now = daemon::clock::now();
        match verdict {
            Verdict::Stays => {
                if self.tolerating.lock().remove(&uid).is_some() {
                    self.tell(&pod, "Cancelling deletion of Pod");
                }
                Ok(None)
            }
            Verdict::Tolerates(limit) => {
                let since = since.unwrap_or(now);
                self.tolerating.lock().insert(uid, since);
                let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
                if passed < limit {
                    return Ok(Some(limit - passed));
                }
                self.evict(&pod).await.map(|()| None)
            }
            Verdict::Goes => self.evict(&pod).await.map(|()| None),
        }
    }

    async fn evict(&self, pod: &Arc<Pod>) -> Result<(), Error> {
        self.tell(pod, "Marking for deletion Pod");
        let message = "Taint manager: deleting due to NoExecute taint";
        let status = json!({"conditions": [disrupt::disruption_target("DeletionByTaintManager", message)]});
        if disrupt::patch_status(&self.client, pod, status).await?.is_some() {
            disrupt::delete(&self.client, pod, false).await?;
        }
        // Not before: a pod that could not be told to go has no time left when that is tried again.
        self.tolerating.lock().remove(pod.metadata.uid.as_deref().unwrap_or_default());
        Ok(())
    }

    fn tell(&self, pod: &Pod, what: &str) {
        let message = format!("{what} {}", Key::of(pod));
        self.recorder.event(pod, EventType::Normal, "TaintManagerEviction", message);
    }
}

#[cfg(test)]
mod tests;
