//! Removes pods that nobody will: of nodes that are gone or out of service, told to end before they had a node, and
//! the oldest of very many that have ended.

mod plan;

use std::{fmt, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, ResourceExt as _};
use reconcile::{Informer, Key, Queue};
use serde_json::json;

use crate::{
    Error,
    context::{Context, Shared},
    disrupt,
    error::During as _,
    pods,
};

const WORKERS: usize = 4;
/// How long a node has to be missing before its pods are removed.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Between looks at the number of pods that have ended, while it changes.
const COUNT_DELAY: Duration = Duration::from_secs(20);

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    /// Is this node there, and in service?
    Node(String),
    /// A pod that was told to end.
    Ending(Key),
    /// Have too many pods ended?
    Ended,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "pods of node {name}"),
            Self::Ending(key) => write!(f, "ending pod {key}"),
            Self::Ended => f.write_str("ended pods"),
        }
    }
}

struct Controller {
    client: Client,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    shared: Shared,
    threshold: usize,
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let queue = Queue::<Work>::new();
    let controller = Controller {
        client: context.client.clone(),
        pods: context.informer(),
        nodes: context.informer(),
        shared: context.shared.clone(),
        threshold: context.config.terminated_pod_gc_threshold,
    };
    controller.shared.pods_by_node();
    let (changed, of) = (queue.clone(), controller.nodes.clone());
    controller.pods.handle(move |change| {
        let pod = change.object();
        if change.is_deleted() {
            return;
        }
        let node = pods::node(pod);
        if !node.is_empty() && of.is_synced() && of.get("", node).is_none() {
            changed.add_after(Work::Node(node.to_owned()), QUARANTINE);
        }
        if pod.metadata.deletion_timestamp.is_some() {
            changed.add(Work::Ending(Key::of(&**pod)));
        }
        if pods::is_terminal(pod) {
            changed.add_after(Work::Ended, COUNT_DELAY);
        }
    });
    let changed = queue.clone();
    controller.nodes.handle(move |change| {
        let node = change.object();
        if change.is_deleted() {
            changed.add_after(Work::Node(node.name_any()), QUARANTINE);
        } else if plan::is_out_of_service(node) {
            changed.add(Work::Node(node.name_any()));
        }
    });
    controller.pods.synced().await;
    controller.nodes.synced().await;
    controller.look_for_lost(&queue);
    context.work("pod-garbage-collector-controller", &queue, WORKERS, |work| controller.sync(work)).await;
    Ok(())
}

impl Controller {
    /// Pods whose node went while nobody watched.
    fn look_for_lost(&self, queue: &Queue<Work>) {
        for pod in self.pods.list() {
            let node = pods::node(&pod);
            if !node.is_empty() && self.nodes.get("", node).is_none() {
                queue.add_after(Work::Node(node.to_owned()), QUARANTINE);
            }
        }
    }

    async fn sync(&self, work: Work) -> Result<Option<Duration>, Error> {
        match work {
            Work::Node(name) => self.sync_node(&name).await?,
            Work::Ending(key) => {
                let pod = self.pods.get(&key.namespace, &key.name);
                if let Some(pod) = pod.filter(|pod| self.is_abandoned(pod)) {
                    self.remove(&pod, None).await?;
                }
            }
            Work::Ended => {
                for pod in plan::surplus(self.pods.list(), self.threshold) {
                    self.remove(&pod, None).await?;
                }
            }
        }
        Ok(None)
    }

    /// It was told to end and there is no kubelet to end it.
    fn is_abandoned(&self, pod: &Pod) -> bool {
        if pod.metadata.deletion_timestamp.is_none() {
            return false;
        }
        let node = pods::node(pod);
        node.is_empty() || self.nodes.get("", node).is_some_and(|node| plan::is_out_of_service(&node))
    }

    async fn sync_node(&self, name: &str) -> Result<(), Error> {
        let of_node = self.shared.pods_by_node().get(name);
        if self.nodes.get("", name).is_some() {
            for pod in of_node.iter().filter(|pod| self.is_abandoned(pod)) {
                self.remove(pod, None).await?;
            }
            return Ok(());
        }
        if of_node.is_empty() {
            return Ok(());
        }
        // The cache may be behind: only the server knows.
        let api = Api::<Node>::all(self.client.clone());
        if api.get_metadata_opt(name).await.during("get node", name)?.is_some() {
            return Ok(());
        }
        for pod in of_node {
            self.remove(&pod, Some("PodGC: node no longer exists")).await?;
        }
        Ok(())
    }

    async fn remove(&self, pod: &Arc<Pod>, why: Option<&str>) -> Result<(), Error> {
        if !pods::is_terminal(pod) {
            let mut status = json!({"phase": "Failed"});
            if let Some(message) = why {
                status["conditions"] = json!([disrupt::disruption_target("DeletionByPodGC", message)]);
            }
            if disrupt::patch_status(&self.client, pod, status).await?.is_none() {
                return Ok(());
            }
        }
        disrupt::delete(&self.client, pod, true).await
    }
}
