//! Nodes with their pods, kept up to date by single changes, and immutable snapshots of them.
//!
//! A pod that was just given a node is *assumed* there until the API says so or binding fails: the next decision must
//! not wait for the API. Snapshots share everything that has not changed since.

use std::{collections::HashMap, sync::Arc};

use imbl::OrdMap;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use reconcile::Key;
use tokio::sync::Notify;

use crate::model::{
    NodeInfo, PodInfo,
    affinity::Labels,
    storage::{self, Plan, Storage},
};

/// The cluster at one moment. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    nodes: OrdMap<String, Arc<NodeInfo>>,
    namespaces: OrdMap<String, Arc<Labels>>,
    /// How many nodes have each image.
    images: OrdMap<String, usize>,
    existing: usize,
    storage: Storage,
}

impl Snapshot {
    /// Nodes that exist, by name.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Arc<NodeInfo>> {
        self.nodes.values().filter(|n| n.exists)
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.nodes.get(name).filter(|n| n.exists)
    }

    /// How many nodes exist.
    pub(crate) fn len(&self) -> usize {
        self.existing
    }

    /// How many nodes have an image.
    pub(crate) fn image_spread(&self, image: &str) -> usize {
        self.images.get(image).copied().unwrap_or(0)
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(crate) fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.namespaces.get(namespace).map(|labels| &**labels)
    }

    /// The same cluster with one node different: what preemption looks at.
    pub(crate) fn with_node(&self, node: NodeInfo) -> Self {
        let mut other = self.clone();
        other.nodes.insert(node.name.clone(), Arc::new(node));
        other
    }

    fn change_node(&mut self, name: &str, change: impl FnOnce(&mut NodeInfo)) {
        let mut node = self.nodes.remove(name).unwrap_or_default();
        let info = Arc::make_mut(&mut node);
        info.name = name.to_owned();
        let (existed, images) = (info.exists, info.images.clone());
        change(info);
        if !Arc::ptr_eq(&images, &info.images) {
            self.count_images(images.keys(), false);
            self.count_images(info.images.keys(), true);
        }
        self.existing = self.existing + usize::from(info.exists) - usize::from(existed);
        if info.exists || !info.pods.is_empty() {
            self.nodes.insert(name.to_owned(), node);
        }
    }

    fn count_images<'a>(&mut self, images: impl Iterator<Item = &'a String>, present: bool) {
        for image in images {
            let count = self.images.entry(image.clone()).or_default();
            *count = if present { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.images.remove(image);
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    snapshot: Snapshot,
    /// Where each counted pod is, by UID.
    pods: HashMap<String, Counted>,
    /// Pods that wait for room that preemption made, by UID.
    nominated: HashMap<String, Arc<PodInfo>>,
}

#[derive(Debug)]
struct Counted {
    node: String,
    assumed: bool,
}

/// The scheduler's picture of the cluster. Every method is quick: handlers call them from reflector tasks.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    state: Mutex<State>,
    storage_changed: Notify,
}

impl Cache {
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.state.lock().snapshot.clone()
    }

    pub(crate) fn set_node(&self, node: &Node) {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.state.lock().snapshot.change_node(&name, |info| info.set_node(node));
    }

    /// Pods on it stay known until they are gone themselves.
    pub(crate) fn remove_node(&self, name: &str) {
        self.state.lock().snapshot.change_node(name, |info| {
            info.exists = false;
            info.images = Arc::default();
        });
    }

    pub(crate) fn set_namespace(&self, name: &str, labels: Option<Labels>) {
        let namespaces = &mut self.state.lock().snapshot.namespaces;
        match labels {
            Some(labels) => namespaces.insert(name.to_owned(), Arc::new(labels)),
            None => namespaces.remove(name),
        };
    }

    /// Changes what is known of claims, volumes, classes and CSI nodes, and tells who waits for that.
    pub(crate) fn change_storage(&self, change: impl FnOnce(&mut Storage)) {
        change(&mut self.state.lock().snapshot.storage);
        self.storage_changed.notify_waiters();
    }

    /// What is to be bound for a pod counts as bound for the next decision.
    pub(crate) fn assume_storage(&self, plan: &Plan, node: &str) {
        let mut state = self.state.lock();
        let storage = &mut state.snapshot.storage;
        for (volume, claim) in &plan.bind {
            let assumed = storage::bound_to(volume, claim);
            storage.volumes.insert(volume.metadata.name.clone().unwrap_or_default(), Arc::new(assumed));
        }
        for claim in &plan.provision {
            storage.claims.insert(Key::of(&**claim), Arc::new(storage::provisioned_on(claim, node)));
        }
    }

    /// The plan has come to nothing. What the API has changed since stays as the API says.
    pub(crate) fn forget_storage(&self, plan: &Plan) {
        let mut state = self.state.lock();
        let storage = &mut state.snapshot.storage;
        for (volume, _) in &plan.bind {
            let name = volume.metadata.name.clone().unwrap_or_default();
            let unchanged = |now: &Arc<_>| storage::same_version(&**now, &**volume);
            if storage.volumes.get(&name).is_some_and(unchanged) {
                storage.volumes.insert(name, volume.clone());
            }
        }
        for claim in &plan.provision {
            let key = Key::of(&**claim);
            if storage.claims.get(&key).is_some_and(|now| storage::same_version(&**now, &**claim)) {
                storage.claims.insert(key, claim.clone());
            }
        }
    }

    /// Returns what `judge` first says, looking again whenever storage changes or a pod goes.
    pub(crate) async fn settled<T>(&self, judge: impl Fn(&Snapshot) -> Option<T>) -> T {
        loop {
            let changed = self.storage_changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let now = self.snapshot();
            if let Some(verdict) = judge(&now) {
                return verdict;
            }
            changed.await;
        }
    }

    /// The API says that a pod is on a node.
    pub(crate) fn set_pod(&self, pod: Arc<PodInfo>) {
        self.state.lock().place(pod, false);
    }

    pub(crate) fn remove_pod(&self, uid: &str) {
        let mut state = self.state.lock();
        state.nominated.remove(uid);
        state.displace(uid);
        drop(state);
        self.storage_changed.notify_waiters();
    }

    /// Counts a pod on the node that it was just given.
    pub(crate) fn assume(&self, pod: Arc<PodInfo>) {
        self.state.lock().place(pod, true);
    }

    /// Binding failed: the pod is on no node. Does nothing once the API has said otherwise.
    pub(crate) fn forget(&self, uid: &str) {
        let mut state = self.state.lock();
        if state.pods.get(uid).is_some_and(|c| c.assumed) {
            state.displace(uid);
        }
    }

    /// The pod is counted on a node.
    pub(crate) fn has_pod(&self, uid: &str) -> bool {
        self.state.lock().pods.contains_key(uid)
    }

    /// Keeps room for a pod on the node that it is nominated for; an empty nomination gives it up.
    pub(crate) fn nominate(&self, pod: &Arc<PodInfo>, node: &str) {
        let mut state = self.state.lock();
        if node.is_empty() {
            state.nominated.remove(&pod.uid);
            return;
        }
        let nominated = PodInfo { nominated: node.to_owned(), ..(**pod).clone() };
        state.nominated.insert(pod.uid.clone(), Arc::new(nominated));
    }

    /// Pods that wait for this node and are at least as important as `pod`.
    pub(crate) fn nominated(&self, pod: &PodInfo) -> HashMap<String, Vec<Arc<PodInfo>>> {
        let state = self.state.lock();
        let others = state.nominated.values().filter(|n| n.uid != pod.uid && n.priority >= pod.priority);
        let mut by_node: HashMap<String, Vec<Arc<PodInfo>>> = HashMap::new();
        for other in others {
            by_node.entry(other.nominated.clone()).or_default().push(other.clone());
        }
        by_node
    }

    /// The node that is being kept for a pod; empty for none.
    pub(crate) fn nomination(&self, uid: &str) -> String {
        self.state.lock().nominated.get(uid).map(|pod| pod.nominated.clone()).unwrap_or_default()
    }

    /// Less important pods that waited for a node on which room is made for a more important one. They do no longer.
    pub(crate) fn give_up_below(&self, node: &str, priority: i64) -> Vec<Arc<PodInfo>> {
        let mut state = self.state.lock();
        let is_lower = |pod: &PodInfo| pod.nominated == node && pod.priority < priority;
        let lower: Vec<_> = state.nominated.values().filter(|pod| is_lower(pod)).cloned().collect();
        state.nominated.retain(|_, pod| !is_lower(pod));
        lower
    }
}

impl State {
    fn place(&mut self, pod: Arc<PodInfo>, assumed: bool) {
        self.displace(&pod.uid);
        self.nominated.remove(&pod.uid);
        let node = pod.node_name.clone();
        self.pods.insert(pod.uid.clone(), Counted { node: node.clone(), assumed });
        self.snapshot.change_node(&node, |info| info.add_pod(pod));
    }

    fn displace(&mut self, uid: &str) {
        if let Some(counted) = self.pods.remove(uid) {
            self.snapshot.change_node(&counted.node, |info| info.remove_pod(uid));
        }
    }
}

#[cfg(test)]
mod tests;
