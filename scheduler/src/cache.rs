//! Nodes with their pods, kept up to date by single changes, and immutable snapshots of them.
//!
//! A pod that was just given a node is *assumed* there until the API says so or binding fails: the next decision must
//! not wait for the API. Snapshots share everything that has not changed since.

use std::{collections::HashMap, sync::Arc};

use imbl::OrdMap;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use reconcile::Key;

use crate::model::{NodeInfo, PodInfo, affinity::Labels};

/// The cluster at one moment. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    nodes: OrdMap<String, Arc<NodeInfo>>,
    namespaces: OrdMap<String, Arc<Labels>>,
    /// How many nodes have each image.
    images: OrdMap<String, usize>,
    existing: usize,
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
pub(crate) struct Cache(Mutex<State>);

impl Cache {
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.0.lock().snapshot.clone()
    }

    pub(crate) fn set_node(&self, node: &Node) {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.0.lock().snapshot.change_node(&name, |info| info.set_node(node));
    }

    /// Pods on it stay known until they are gone themselves.
    pub(crate) fn remove_node(&self, name: &str) {
        self.0.lock().snapshot.change_node(name, |info| {
            info.exists = false;
            info.images = Arc::default();
        });
    }

    pub(crate) fn set_namespace(&self, name: &str, labels: Option<Labels>) {
        let namespaces = &mut self.0.lock().snapshot.namespaces;
        match labels {
            Some(labels) => namespaces.insert(name.to_owned(), Arc::new(labels)),
            None => namespaces.remove(name),
        };
    }

    /// The API says that a pod is on a node.
    pub(crate) fn set_pod(&self, pod: Arc<PodInfo>) {
        self.0.lock().place(pod, false);
    }

    pub(crate) fn remove_pod(&self, uid: &str) {
        let mut state = self.0.lock();
        state.nominated.remove(uid);
        state.displace(uid);
    }

    /// Counts a pod on the node that it was just given.
    pub(crate) fn assume(&self, pod: Arc<PodInfo>) {
        self.0.lock().place(pod, true);
    }

    /// Binding failed: the pod is on no node. Does nothing once the API has said otherwise.
    pub(crate) fn forget(&self, uid: &str) {
        let mut state = self.0.lock();
        if state.pods.get(uid).is_some_and(|c| c.assumed) {
            state.displace(uid);
        }
    }

    /// The pod is counted on a node.
    pub(crate) fn has_pod(&self, uid: &str) -> bool {
        self.0.lock().pods.contains_key(uid)
    }

    /// Keeps room for a pod on the node that it is nominated for; an empty nomination gives it up.
    pub(crate) fn nominate(&self, pod: &Arc<PodInfo>, node: &str) {
        let mut state = self.0.lock();
        if node.is_empty() {
            state.nominated.remove(&pod.uid);
            return;
        }
        let nominated = PodInfo { nominated: node.to_owned(), ..(**pod).clone() };
        state.nominated.insert(pod.uid.clone(), Arc::new(nominated));
    }

    /// Pods that wait for this node and are at least as important as `pod`.
    pub(crate) fn nominated(&self, pod: &PodInfo) -> HashMap<String, Vec<Arc<PodInfo>>> {
        let state = self.0.lock();
        let others = state.nominated.values().filter(|n| n.uid != pod.uid && n.priority >= pod.priority);
        let mut by_node: HashMap<String, Vec<Arc<PodInfo>>> = HashMap::new();
        for other in others {
            by_node.entry(other.nominated.clone()).or_default().push(other.clone());
        }
        by_node
    }

    /// Less important pods that wait for a node which a more important one now takes.
    pub(crate) fn nominated_below(&self, node: &str, priority: i64) -> Vec<Key> {
        let state = self.0.lock();
        let lower = state.nominated.values().filter(|n| n.nominated == node && n.priority < priority);
        lower.map(|n| n.key.clone()).collect()
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
