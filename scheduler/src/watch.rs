//! From what the API says to the cache and the queue. Handlers only do this; they decide nothing.

use std::{collections::HashSet, sync::Arc};

use imbl::OrdMap;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};
use reconcile::{Change, Informers, Key};

use crate::{
    cache::Cache,
    framework::ClusterEvent,
    model::{
        PodInfo,
        resources::requests,
        storage::{Storage, has_grown, is_tracked},
    },
    queue::Queue,
};

/// The name that a pod asks for.
pub(crate) fn scheduler_name(pod: &Pod) -> &str {
    let name = pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref());
    name.filter(|n| !n.is_empty()).unwrap_or("default-scheduler")
}

/// Starts following; returns after the first complete lists.
pub(crate) async fn follow(informers: &Informers, cache: &Arc<Cache>, queue: &Arc<Queue>, names: HashSet<String>) {
    let (nodes, pods, namespaces) = (informers.of::<Node>(), informers.of::<Pod>(), informers.of::<Namespace>());
    let (c, q) = (cache.clone(), queue.clone());
    namespaces.handle(move |change| namespace(change, &c, &q));
    let (c, q) = (cache.clone(), queue.clone());
    nodes.handle(move |change| node(change, &c, &q));
    let (c, q) = (cache.clone(), queue.clone());
    pods.handle(move |change| pod(change, &c, &q, &names));
    let storage = follow_storage(informers, cache, queue);
    namespaces.synced().await;
    nodes.synced().await;
    pods.synced().await;
    storage.await;
}

/// Returns a future that ends after the first complete lists.
fn follow_storage(informers: &Informers, cache: &Arc<Cache>, queue: &Arc<Queue>) -> impl Future<Output = ()> + use<> {
    let claims = informers.of::<PersistentVolumeClaim>();
    let volumes = informers.of::<PersistentVolume>();
    let classes = informers.of::<StorageClass>();
    let csi_nodes = informers.of::<CSINode>();
    let (c, q) = (cache.clone(), queue.clone());
    claims.handle(move |change| {
        stored(&c, &q, |s| put(&mut s.claims, Key::of(&**change.object()), change));
    });
    let (c, q) = (cache.clone(), queue.clone());
    volumes.handle(move |change| stored(&c, &q, |s| put(&mut s.volumes, name(change), change)));
    let (c, q) = (cache.clone(), queue.clone());
    classes.handle(move |change| stored(&c, &q, |s| put(&mut s.classes, name(change), change)));
    let (c, q) = (cache.clone(), queue.clone());
    csi_nodes.handle(move |change| stored(&c, &q, |s| put(&mut s.csi_nodes, name(change), change)));
    let capacities = follow_capacities(informers, cache, queue);
    async move {
        capacities.await;
        claims.synced().await;
        volumes.synced().await;
        classes.synced().await;
        csi_nodes.synced().await;
    }
}

/// What drivers have left changes with every volume that is made: only more of it is news.
fn follow_capacities(
    informers: &Informers,
    cache: &Arc<Cache>,
    queue: &Arc<Queue>,
) -> impl Future<Output = ()> + use<> {
    let (drivers, capacities) = (informers.of::<CSIDriver>(), informers.of::<CSIStorageCapacity>());
    let (c, q) = (cache.clone(), queue.clone());
    drivers.handle(move |change| {
        c.change_storage(|s| put(&mut s.drivers, name(change), change));
        if frees_driver(change) {
            q.happened(ClusterEvent::Storage);
        }
    });
    let (c, q) = (cache.clone(), queue.clone());
    capacities.handle(move |change| {
        c.change_storage(|s| put(&mut s.capacities, Key::of(&**change.object()), change));
        if brings_room(change) {
            q.happened(ClusterEvent::Storage);
        }
    });
    async move {
        drivers.synced().await;
        capacities.synced().await;
    }
}

/// The driver's word on what it has left counts no longer.
fn frees_driver(change: &Change<CSIDriver>) -> bool {
    match change {
        Change::Added(_) => false,
        Change::Updated { old, new } => is_tracked(old) && !is_tracked(new),
        Change::Deleted(old) => is_tracked(old),
    }
}

fn brings_room(change: &Change<CSIStorageCapacity>) -> bool {
    match change {
        Change::Added(_) => true,
        Change::Updated { old, new } => has_grown(old, new),
        Change::Deleted(_) => false,
    }
}

fn stored(cache: &Cache, queue: &Queue, change: impl FnOnce(&mut Storage)) {
    cache.change_storage(change);
    queue.happened(ClusterEvent::Storage);
}

fn name<K: kube::Resource>(change: &Change<K>) -> String {
    change.object().meta().name.clone().unwrap_or_default()
}

fn put<I: Ord + Clone, K>(map: &mut OrdMap<I, Arc<K>>, key: I, change: &Change<K>) {
    match change.is_deleted() {
        true => map.remove(&key),
        false => map.insert(key, change.object().clone()),
    };
}

fn namespace(change: &Change<Namespace>, cache: &Cache, queue: &Queue) {
    let object = change.object();
    let name = object.metadata.name.as_deref().unwrap_or("");
    let labels = (!change.is_deleted()).then(|| object.metadata.labels.clone().unwrap_or_default());
    cache.set_namespace(name, labels);
    queue.happened(ClusterEvent::Namespace);
}

fn node(change: &Change<Node>, cache: &Cache, queue: &Queue) {
    match change {
        Change::Added(node) => {
            cache.set_node(node);
            queue.happened(ClusterEvent::NodeAdd);
        }
        Change::Updated { old, new } => {
            cache.set_node(new);
            node_events(old, new).into_iter().for_each(|event| queue.happened(event));
        }
        Change::Deleted(node) => cache.remove_node(node.metadata.name.as_deref().unwrap_or("")),
    }
}

/// What of a node's change can help a pod. A heartbeat cannot.
fn node_events(old: &Node, new: &Node) -> Vec<ClusterEvent> {
    let allocatable = |n: &Node| n.status.as_ref().and_then(|s| s.allocatable.clone());
    let taints = |n: &Node| n.spec.as_ref().map(|s| (s.taints.clone(), s.unschedulable));
    let changes = [
        (allocatable(old) != allocatable(new), ClusterEvent::NodeAllocatable),
        (old.metadata.labels != new.metadata.labels, ClusterEvent::NodeLabel),
        (taints(old) != taints(new), ClusterEvent::NodeTaint),
    ];
    changes.into_iter().filter(|(changed, _)| *changed).map(|(_, event)| event).collect()
}

fn pod(change: &Change<Pod>, cache: &Cache, queue: &Queue, names: &HashSet<String>) {
    let object = change.object();
    let key = Key::of(&**object);
    let uid = object.metadata.uid.as_deref().unwrap_or("");
    if change.is_deleted() || is_over(object) {
        let counted = cache.has_pod(uid);
        cache.remove_pod(uid);
        queue.remove(&key, uid);
        if counted {
            queue.happened(ClusterEvent::AssignedPodDelete);
        }
        return;
    }
    let info = Arc::new(PodInfo::new(object.clone()));
    if !info.node_name.is_empty() {
        let event = assigned_event(change, &info);
        cache.set_pod(info);
        queue.remove(&key, uid);
        event.into_iter().for_each(|event| queue.happened(event));
        return;
    }
    if info.terminating {
        // A finalizer keeps it. It takes no node any more.
        cache.nominate(&info, "");
        queue.remove(&key, uid);
        return;
    }
    if !names.contains(scheduler_name(object)) || cache.has_pod(uid) {
        return;
    }
    // The last decision may be ahead of what the API says: only what is new there counts.
    let nominated = |pod: &Pod| pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
    if !matches!(change, Change::Updated { old, new } if nominated(old) == nominated(new)) {
        cache.nominate(&info, &info.nominated);
    }
    if is_news(change) {
        queue.set(info);
    } else {
        queue.note(info);
    }
}

/// What of an assigned pod's change can help another. Its status changes often and cannot.
fn assigned_event(change: &Change<Pod>, new: &PodInfo) -> Option<ClusterEvent> {
    let Change::Updated { old, .. } = change else { return Some(ClusterEvent::AssignedPodAdd) };
    if old.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) != Some(&new.node_name) {
        return Some(ClusterEvent::AssignedPodAdd);
    }
    let changed = old.metadata.labels != new.object.metadata.labels || requests(old, false) != new.requests;
    changed.then_some(ClusterEvent::AssignedPodUpdate)
}

/// The pod with this uid still needs a node.
pub(crate) fn is_waiting(pod: &Pod, uid: &str) -> bool {
    let has_node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
    let is_it = pod.metadata.uid.as_deref() == Some(uid);
    is_it && !has_node && pod.metadata.deletion_timestamp.is_none() && !is_over(pod)
}

/// The pod's containers have ended for good: it takes no room.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// A change of what a user or controller decides; the scheduler's own condition is none.
fn is_news(change: &Change<Pod>) -> bool {
    let Change::Updated { old, new } = change else { return true };
    old.metadata.labels != new.metadata.labels || old.spec != new.spec || old.metadata.uid != new.metadata.uid
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::queue::Delays;

    #[test]
    fn what_of_drivers_makes_pods_look_again() {
        let driver = |tracked: bool| -> Arc<CSIDriver> {
            let driver = json!({"metadata": {"name": "d"}, "spec": {"storageCapacity": tracked}});
            Arc::new(serde_json::from_value(driver).unwrap())
        };
        let update = |old, new| Change::Updated { old: driver(old), new: driver(new) };
        for (change, news) in [
            (Change::Added(driver(true)), false),
            (update(true, false), true),
            (update(false, true), false),
            (update(true, true), false),
            (Change::Deleted(driver(true)), true),
            (Change::Deleted(driver(false)), false),
        ] {
            assert_eq!(frees_driver(&change), news, "{change:?}");
        }
        let room = |capacity: &str| -> Arc<CSIStorageCapacity> {
            let room = json!({"metadata": {"name": "r"}, "storageClassName": "c", "capacity": capacity});
            Arc::new(serde_json::from_value(room).unwrap())
        };
        for (change, news) in [
            (Change::Added(room("1Gi")), true),
            (Change::Updated { old: room("1Gi"), new: room("2Gi") }, true),
            (Change::Updated { old: room("2Gi"), new: room("1Gi") }, false),
            (Change::Deleted(room("1Gi")), false),
        ] {
            assert_eq!(brings_room(&change), news, "{change:?}");
        }
    }

    fn of(labels: Value, spec: Value, status: Value) -> Arc<Pod> {
        let mut value = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": labels}, "spec": {"containers": []},
            "status": status});
        spec.as_object().unwrap().iter().for_each(|(name, field)| value["spec"][name] = field.clone());
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_status_of_an_assigned_pod_helps_nobody() {
        let on = json!({"nodeName": "a"});
        let asks = |cpu: &str| json!({"nodeName": "a", "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
        let event = |old: Arc<Pod>, new: Arc<Pod>| {
            let info = PodInfo::new(new.clone());
            assigned_event(&Change::Updated { old, new }, &info)
        };
        let plain = |status: Value| of(json!({}), on.clone(), status);
        assert_eq!(event(plain(json!({})), plain(json!({"phase": "Running"}))), None);
        let relabeled = of(json!({"a": "b"}), on.clone(), json!({}));
        assert_eq!(event(plain(json!({})), relabeled), Some(ClusterEvent::AssignedPodUpdate));
        let resized = event(of(json!({}), asks("2"), json!({})), of(json!({}), asks("1"), json!({})));
        assert_eq!(resized, Some(ClusterEvent::AssignedPodUpdate));
        let bound = event(of(json!({}), json!({}), json!({})), plain(json!({})));
        assert_eq!(bound, Some(ClusterEvent::AssignedPodAdd));
    }

    #[tokio::test]
    async fn a_waiting_pod_is_known_as_it_is_and_keeps_its_node() {
        let (cache, queue) = (Cache::default(), Queue::new(Delays { initial: Duration::ZERO, max: Duration::ZERO }));
        let names = HashSet::from(["default-scheduler".to_owned()]);
        let told = |change: Change<Pod>| pod(&change, &cache, &queue, &names);
        let state = |status: Value| of(json!({}), json!({}), status);
        let (first, second) = (state(json!({})), state(json!({"message": "m"})));
        let third = state(json!({"message": "m", "nominatedNodeName": "b"}));
        told(Change::Added(first.clone()));
        let waiting = queue.next().await;
        queue.unschedulable(&waiting, crate::framework::Events::default());
        cache.nominate(&waiting.pod, "a");
        told(Change::Updated { old: first, new: second.clone() });
        assert_eq!(cache.nomination("u"), "a", "the API does not know it yet");
        told(Change::Updated { old: second, new: third.clone() });
        assert_eq!(cache.nomination("u"), "b");
        queue.try_again(&waiting.pod);
        assert!(Arc::ptr_eq(&queue.next().await.pod.object, &third));
        let mut ending = (*third).clone();
        ending.metadata.deletion_timestamp = serde_json::from_value(json!("2024-01-01T00:00:00Z")).unwrap();
        queue.set(Arc::new(PodInfo::new(third.clone())));
        told(Change::Updated { old: third, new: Arc::new(ending) });
        assert_eq!(cache.nomination("u"), "");
        let next = tokio::time::timeout(Duration::from_millis(1), queue.next()).await;
        assert!(next.is_err(), "a pod that ends takes no node");
    }
}
