//! Watches over nodes: marks those that fall silent, and taints nodes as their conditions say.
//!
//! A node says that it lives by its Lease or its status. What it last said, and when that was seen here, is kept in
//! memory: the node's own clock does not matter.

mod health;
mod labels;
mod taints;
mod zones;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, NodeCondition, ObjectReference, Pod},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
    runtime::watcher,
};
use parking_lot::Mutex;
use reconcile::{Change, EventType, Informer, Key, Queue, Recorder};
use serde_json::json;
use tracing::{info, warn};

use self::{
    health::{Health, Judged},
    taints::TaintChange,
    zones::Zones,
};
use crate::{
    Config, Error,
    context::{Context, Shared},
    disrupt,
    error::{During as _, Tolerate as _},
    pods,
};

const NODE_WORKERS: usize = 8;
const POD_WORKERS: usize = 4;
const LEASES: &str = "kube-node-lease";
/// Between tries while nodes wait for their turn to be tainted.
const TAINT_PERIOD: Duration = Duration::from_millis(100);
/// Tries to write a taint against conflicts.
const TAINT_TRIES: usize = 5;

#[derive(Clone)]
struct Controller {
    client: Client,
    recorder: Recorder,
    config: Arc<Config>,
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Informer<Pod>,
    shared: Shared,
    health: Arc<Mutex<Health>>,
    /// Pods on nodes that are not ready, whose status has to say so.
    unready: Queue<Key>,
}

pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let leases = context.shared.informers().of_selected(watcher::Config::default(), Some(LEASES));
    let controller = Controller {
        client: context.client.clone(),
        recorder: context.recorder("node-controller"),
        config: context.config.clone(),
        nodes: context.informer(),
        leases,
        pods: context.informer(),
        shared: context.shared.clone(),
        health: Arc::default(),
        unready: Queue::new(),
    };
    context.shared.pods_by_node();
    let nodes = Queue::<String>::new();
    let changed = nodes.clone();
    controller.nodes.handle(move |change| {
        if !change.is_deleted() {
            changed.add(change.object().name_any());
        }
    });
    let bound = controller.unready.clone();
    controller.pods.handle(move |change| {
        let was = match change {
            Change::Updated { old, .. } => pods::node(old),
            _ => "",
        };
        let pod = change.object();
        if !change.is_deleted() && !pods::node(pod).is_empty() && pods::node(pod) != was {
            bound.add(Key::of(&**pod));
        }
    });
    controller.nodes.synced().await;
    controller.leases.synced().await;
    controller.pods.synced().await;
    let marking = context.work("node-lifecycle-controller", &nodes, NODE_WORKERS, |name| controller.mark_node(name));
    let pods =
        context.work("node-lifecycle-controller", &controller.unready, POD_WORKERS, |key| controller.mark_pod(key));
    let monitoring = context.drain.run(Monitor { controller: controller.clone(), zones: Zones::default() }.run());
    futures::future::join3(marking, pods, monitoring).await;
    Ok(())
}

fn about(node: &Node) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: node.metadata.name.clone(),
        uid: node.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

impl Controller {
    /// Taints against scheduling, and labels, as the node's conditions and other labels say.
    async fn mark_node(&self, name: String) -> Result<Option<Duration>, Error> {
        let Some(node) = self.nodes.get("", &name) else { return Ok(None) };
        let change = taints::no_schedule(&node);
        if !change.is_empty() {
            self.taint(&name, &change).await?;
        }
        let labels = labels::missing(&node);
        if !labels.is_empty() {
            let patch = json!({"metadata": {"labels": labels}});
            let api = Api::<Node>::all(self.client.clone());
            let patched = api.patch_metadata(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
            patched.during("label node", &name).found()?;
        }
        Ok(None)
    }

    /// Changes taints on top of what the server has.
    async fn taint(&self, name: &str, change: &TaintChange) -> Result<(), Error> {
        let api = Api::<Node>::all(self.client.clone());
        let mut tries = 0;
        loop {
            tries += 1;
            let Some(node) = api.get(name).await.during("get node", name).found()? else { return Ok(()) };
            let Some(taints) = change.apply(&node, daemon::clock::now()) else { return Ok(()) };
            let taints = if taints.is_empty() { serde_json::Value::Null } else { json!(taints) };
            let version = &node.metadata.resource_version;
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
            let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
            match patched.during("taint node", name).found() {
                Err(error) if error.status_code() == Some(409) && tries < TAINT_TRIES => {}
                done => return done.map(drop),
            }
        }
    }

    /// A pod that arrives on, or stays on, a node that is not ready is not ready.
    async fn mark_pod(&self, key: Key) -> Result<Option<Duration>, Error> {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else { return Ok(None) };
        let name = pods::node(&pod);
        let Some(node) = self.nodes.get("", name) else { return Ok(None) };
        let Some(was_ready) = self.health.lock().was_ready(name) else { return Ok(None) };
        // The cache may not have seen yet that this controller set the node to unknown.
        let is_unready = !was_ready || health::ready(&node).is_some_and(|it| it.status != "True");
        if !is_unready || !pods::is_ready(&pod) {
            return Ok(None);
        }
        let now = daemon::clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": now});
        if disrupt::patch_status(&self.client, &pod, json!({"conditions": [condition]})).await?.is_some() {
            self.recorder.event(&*pod, EventType::Warning, "NodeNotReady", "Node is not ready");
        }
        Ok(None)
    }
}

/// The periodic look at all nodes.
struct Monitor {
    controller: Controller,
    zones: Zones,
}

impl Monitor {
    async fn run(mut self) {
        loop {
            let waiting = self.look().await;
            let period = if waiting { TAINT_PERIOD } else { self.controller.config.node_monitor_period };
            tokio::time::sleep(period.min(self.controller.config.node_monitor_period)).await;
        }
    }

    /// Returns whether nodes are left that have to be tainted, when their zone allows it.
    async fn look(&mut self) -> bool {
        let nodes = self.controller.nodes.list();
        self.welcome(&nodes);
        let mut judged = Vec::with_capacity(nodes.len());
        for node in nodes {
            let ready = self.judge(&node).await;
            judged.push((node, ready));
        }
        let state = self.zones.observe(&judged, &self.controller.config);
        let now = daemon::clock::monotonic();
        if state.recovered {
            info!("some nodes are ready again, taints are set again");
            self.controller.health.lock().restart(now);
        }
        let mut waiting = false;
        for (node, ready) in judged {
            let name = node.name_any();
            let Some(change) = taints::no_execute(&node, ready.as_deref(), state.all_down) else { continue };
            if change.is_limited && !self.zones.may_taint(&node, now) {
                waiting = true;
                continue;
            }
            if let Err(error) = self.controller.taint(&name, &change.taints).await {
                warn!(node = name, error = &error as &dyn std::error::Error, "cannot taint the node, trying again");
            }
        }
        waiting
    }

    fn welcome(&self, nodes: &[Arc<Node>]) {
        let (new, gone) = self.controller.health.lock().census(nodes);
        for node in new {
            let name = node.name_any();
            let message = format!("Node {name} event: Registered Node {name} in Controller");
            self.controller.recorder.event_about(about(&node), EventType::Normal, "RegisteredNode", message);
        }
        for (name, uid) in gone {
            let node = ObjectReference {
                kind: Some("Node".to_owned()),
                api_version: Some("v1".to_owned()),
                name: Some(name.clone()),
                uid,
                ..ObjectReference::default()
            };
            let message = format!("Node {name} event: Removing Node {name} from Controller");
            self.controller.recorder.event_about(node, EventType::Normal, "RemovingNode", message);
        }
    }

    /// The status of the node's Ready condition, after it was set to unknown if the node fell silent.
    async fn judge(&self, node: &Arc<Node>) -> Option<String> {
        let controller = &self.controller;
        let name = node.name_any();
        let lease = controller.leases.get(LEASES, &name);
        let now = daemon::clock::monotonic();
        let judged = controller.health.lock().judge(node, lease.as_deref(), &controller.config, now);
        let before = health::ready(node).map(|it| it.status.clone());
        let after = match judged {
            Judged::Alive => before.clone(),
            Judged::Silent => match self.mark_silent(node, lease.as_deref()).await {
                Ok(marked) => marked.or_else(|| before.clone()),
                Err(error) => {
                    warn!(node = name, error = &error as &dyn std::error::Error, "cannot mark the silent node");
                    before.clone()
                }
            },
        };
        let became_unready = controller.health.lock().note_ready(&name, after.as_deref());
        if became_unready {
            let message = format!("Node {name} status is now: NodeNotReady");
            controller.recorder.event_about(about(node), EventType::Normal, "NodeNotReady", message);
        }
        if became_unready {
            for pod in controller.shared.pods_by_node().get(&name) {
                controller.unready.add(Key::of(&*pod));
            }
        }
        after
    }

    /// Sets the node's conditions to unknown, unless its Lease turns out to be newer than the cache.
    async fn mark_silent(&self, node: &Node, seen: Option<&Lease>) -> Result<Option<String>, Error> {
        let name = node.name_any();
        let client = &self.controller.client;
        let live = Api::<Lease>::namespaced(client.clone(), LEASES).get_opt(&name).await;
        let live = live.during("get lease of node", &name)?;
        let version = |lease: Option<&Lease>| lease.and_then(|lease| lease.metadata.resource_version.clone());
        if live.is_some() && version(live.as_ref()) != version(seen) {
            return Ok(None);
        }
        let Some(conditions) = health::silenced(node, daemon::clock::now()) else { return Ok(None) };
        let ready = conditions.iter().find(|it: &&NodeCondition| it.type_ == "Ready").map(|it| it.status.clone());
        let mut changed = node.clone();
        changed.status.get_or_insert_default().conditions = Some(conditions);
        let written = Api::<Node>::all(client.clone()).replace_status(&name, &PostParams::default(), &changed).await;
        written.during("update the status of node", &name).found()?;
        Ok(ready)
    }
}
