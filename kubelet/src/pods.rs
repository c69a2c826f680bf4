//! The pods of this node: what is wanted of each, and its worker.
//!
//! One worker per pod uid. A pod's worker touches only what carries that uid, so no pod can stop another.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::kubelet::Kubelet;
use crate::pod;
use crate::status::Verdict;
use crate::{volumes, worker};

/// What is wanted of a pod.
#[derive(Debug, Clone)]
pub(crate) struct Desired {
    pub pod: Arc<Pod>,
    /// It no longer exists in its source.
    pub gone: bool,
    /// It has to end, for this reason: eviction.
    pub verdict: Option<Verdict>,
}

/// What others may know of a pod.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub pod: Arc<Pod>,
    /// The same with the resources that it was given, once its worker has looked.
    pub allocated: Option<Arc<Pod>>,
    pub status: PodStatus,
    /// It was found to fit, here or by an earlier run of this program, and takes its room.
    pub is_admitted: bool,
    /// Its containers have ended for good.
    pub is_finished: bool,
}

struct Entry {
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
    view: Arc<Mutex<View>>,
    /// Ends the worker when the entry goes.
    _worker: AbortOnDropHandle<()>,
}

#[derive(Default)]
pub(crate) struct Pods {
    entries: Mutex<HashMap<String, Entry>>,
    /// No new workers: the node agent ends. Changed and read under the lock of the entries.
    is_closed: AtomicBool,
    /// Held from a look at the room that others leave until the room that is taken shows: two pods that are looked at
    /// beside each other must not both have the last of it.
    room: Mutex<()>,
    /// The manifests of static pods have been read.
    static_pods_known: AtomicBool,
    /// The API's images of static pods, by namespace and name.
    mirrors: Mutex<BTreeMap<(String, String), Arc<Pod>>>,
}

fn key(pod: &Pod) -> (String, String) {
    (pod::namespace(pod).to_owned(), pod::name(pod).to_owned())
}

/// An earlier run of this program found that the pod fits. Its directory, which is made then and goes with the pod,
/// says so of static pods too, of which the API may know nothing yet.
fn was_admitted(kubelet: &Kubelet, pod: &Pod) -> bool {
    pod::status(pod).container_statuses.is_some()
        || volumes::pod_directory(&kubelet.config.root_dir, pod::uid(pod)).exists()
}

impl Pods {
    /// A pod was added or changed. Pods without a uid cannot be told apart and are left alone.
    pub(crate) fn apply(kubelet: &Arc<Kubelet>, pod: &Arc<Pod>) {
        if pod::is_mirror(pod) {
            kubelet.pods.mirrors.lock().insert(key(pod), pod.clone());
            kubelet.statuses.touch_static(kubelet, pod);
            return;
        }
        let uid = pod::uid(pod).to_owned();
        if uid.is_empty() || pod.spec.is_none() {
            return;
        }
        let mut entries = kubelet.pods.entries.lock();
        if let Some(entry) = entries.get(&uid) {
            entry.view.lock().pod = pod.clone();
            entry.desired.send_modify(|desired| {
                desired.pod = pod.clone();
                desired.gone = false;
            });
            drop(entries);
            kubelet.statuses.touch(&uid);
            return;
        }
        if kubelet.pods.is_closed.load(Ordering::Relaxed) {
            return;
        }
        let desired = Desired { pod: pod.clone(), gone: false, verdict: None };
        let (sender, receiver) = watch::channel(desired);
        let wake = Arc::new(Notify::new());
        let view = View {
            pod: pod.clone(),
            allocated: None,
            status: pod::status(pod).clone(),
            is_admitted: was_admitted(kubelet, pod),
            is_finished: false,
        };
        let view = Arc::new(Mutex::new(view));
        let run = worker::run(kubelet.clone(), uid.clone(), receiver, wake.clone(), view.clone());
        let worker = kubelet.tasks.spawn_owned("pod", run);
        entries.insert(uid, Entry { desired: sender, wake, view, _worker: worker });
    }

    /// A pod no longer exists in its source.
    pub(crate) fn remove(kubelet: &Arc<Kubelet>, pod: &Pod) {
        if pod::is_mirror(pod) {
            let mut mirrors = kubelet.pods.mirrors.lock();
            let known = mirrors.get(&key(pod)).is_some_and(|mirror| mirror.metadata.uid == pod.metadata.uid);
            if known {
                mirrors.remove(&key(pod));
            }
            return;
        }
        if let Some(entry) = kubelet.pods.entries.lock().get(pod::uid(pod)) {
            entry.desired.send_if_modified(|desired| !std::mem::replace(&mut desired.gone, true));
        }
    }

    /// The manifests were read once: a pod that is not known by now is wanted by none of them.
    pub(crate) fn static_pods_are_known(&self) {
        self.static_pods_known.store(true, Ordering::Relaxed);
    }

    pub(crate) fn knows_static_pods(&self) -> bool {
        self.static_pods_known.load(Ordering::Relaxed)
    }

    /// The pod has to end. False when it is not there, or had to already.
    pub(crate) fn evict(&self, uid: &str, verdict: Verdict) -> bool {
        self.entries.lock().get(uid).is_some_and(|entry| {
            entry.desired.send_if_modified(|desired| {
                let is_news = desired.verdict.is_none();
                desired.verdict.get_or_insert(verdict);
                is_news
            })
        })
    }

    /// Until this is dropped, nobody else takes room on the node.
    pub(crate) fn take_room(&self) -> MutexGuard<'_, ()> {
        self.room.lock()
    }

    /// Something happened to the pod's containers.
    pub(crate) fn wake(&self, uid: &str) {
        if let Some(entry) = self.entries.lock().get(uid) {
            entry.wake.notify_one();
        }
    }

    pub(crate) fn wake_all(&self) {
        self.entries.lock().values().for_each(|entry| entry.wake.notify_one());
    }

    /// The worker has done all there is to do.
    pub(crate) fn forget(&self, uid: &str) {
        // The entry owns the worker's task, which calls this: it must not be dropped here and now.
        let entry = self.entries.lock().remove(uid);
        if let Some(entry) = entry {
            entry._worker.detach();
        }
    }

    /// Ends every worker. What runs goes on.
    pub(crate) fn clear(&self) {
        let mut entries = self.entries.lock();
        self.is_closed.store(true, Ordering::Relaxed);
        entries.clear();
    }

    pub(crate) fn get(&self, uid: &str) -> Option<View> {
        self.entries.lock().get(uid).map(|entry| entry.view.lock().clone())
    }

    pub(crate) fn contains(&self, uid: &str) -> bool {
        self.entries.lock().contains_key(uid)
    }

    pub(crate) fn list(&self) -> Vec<View> {
        self.entries.lock().values().map(|entry| entry.view.lock().clone()).collect()
    }

    /// A pod by name; a uid, when given, must fit: the pod's own, or its mirror's.
    pub(crate) fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<View> {
        let fits = |view: &View| {
            let same_name = pod::namespace(&view.pod) == namespace && pod::name(&view.pod) == name;
            same_name
                && uid
                    .is_none_or(|uid| pod::uid(&view.pod) == uid || self.mirror_uid(&view.pod).as_deref() == Some(uid))
        };
        // A pod that has ended gives way to a new one of the same name.
        let mut found: Vec<View> = self.list().into_iter().filter(fits).collect();
        found.sort_by_key(|view| view.is_finished);
        found.into_iter().next()
    }

    fn mirror_uid(&self, pod: &Pod) -> Option<String> {
        self.mirror(pod).and_then(|mirror| mirror.metadata.uid.clone())
    }

    pub(crate) fn mirror(&self, pod: &Pod) -> Option<Arc<Pod>> {
        self.mirrors.lock().get(&key(pod)).cloned()
    }

    pub(crate) fn mirrors(&self) -> Vec<Arc<Pod>> {
        self.mirrors.lock().values().cloned().collect()
    }
}
