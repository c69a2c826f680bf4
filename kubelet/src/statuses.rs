//! Tells the API server about pods: the difference to what it knows, and, at a pod's end, that it may go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;
use reconcile::Queue;

use crate::kubelet::Kubelet;
use crate::pod;
use crate::status;

/// Pods worked on at a time.
pub(crate) const WORKERS: usize = 8;

#[derive(Clone)]
struct Entry {
    status: PodStatus,
    /// Nothing of the pod is left on the node.
    is_finished: bool,
    /// The API's state after the last patch, and its version.
    known: Option<(PodStatus, u64)>,
}

pub(crate) struct Statuses {
    entries: Mutex<HashMap<String, Entry>>,
    queue: Queue<String>,
}

fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

impl Statuses {
    pub(crate) fn new() -> Self {
        Self { entries: Mutex::default(), queue: Queue::new() }
    }

    pub(crate) fn queue(&self) -> Queue<String> {
        self.queue.clone()
    }

    pub(crate) fn set(&self, uid: &str, status: PodStatus, is_finished: bool) {
        {
            let mut entries = self.entries.lock();
            match entries.get_mut(uid) {
                Some(entry) if entry.status == status && entry.is_finished == is_finished => return,
                Some(entry) => {
                    entry.status = status;
                    entry.is_finished = is_finished;
                }
                None => {
                    entries.insert(uid.to_owned(), Entry { status, is_finished, known: None });
                }
            }
        }
        self.queue.add(uid.to_owned());
    }

    /// The API's object changed: look whether it still says what it should.
    pub(crate) fn touch(&self, uid: &str) {
        if self.entries.lock().contains_key(uid) {
            self.queue.add(uid.to_owned());
        }
    }

    /// A mirror pod appeared or changed.
    pub(crate) fn touch_static(&self, kubelet: &Kubelet, mirror: &Pod) {
        if let Some(view) = kubelet.pods.find(pod::namespace(mirror), pod::name(mirror), None) {
            self.touch(pod::uid(&view.pod));
        }
    }

    pub(crate) fn forget(&self, uid: &str) {
        self.entries.lock().remove(uid);
    }

    fn get(&self, uid: &str) -> Option<Entry> {
        self.entries.lock().get(uid).cloned()
    }

    fn set_known(&self, uid: &str, pod: &Pod) {
        if let Some(entry) = self.entries.lock().get_mut(uid) {
            entry.known = Some((pod::status(pod).clone(), version(pod)));
        }
    }
}

/// Brings one pod's status to the API server.
pub(crate) async fn sync(kubelet: Arc<Kubelet>, uid: String) -> Result<Option<Duration>, kube::Error> {
    let Some(Entry { status: wanted, is_finished, known }) = kubelet.statuses.get(&uid) else { return Ok(None) };
    let Some(view) = kubelet.pods.get(&uid) else { return Ok(None) };
    let is_static = pod::is_static(&view.pod);
    let target = if is_static { kubelet.pods.mirror(&view.pod) } else { Some(view.pod.clone()) };
    // A static pod without a mirror yet: its appearance brings this here again.
    let Some(target) = target else { return Ok(None) };
    let api: Api<Pod> = Api::namespaced(kubelet.client.clone(), pod::namespace(&target));
    let base = match known {
        Some((status, at)) if at >= version(&target) => status,
        _ => pod::status(&target).clone(),
    };
    if let Some(patch) = status::patch(pod::uid(&target), &base, &wanted) {
        match api.patch_status(pod::name(&target), &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(patched) => kubelet.statuses.set_known(&uid, &patched),
            // Gone: its removal is on its way here. Anything else, a conflict too, is tried again.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    if is_finished && pod::is_deleted(&target) && !is_static {
        delete(&api, &target).await?;
    }
    Ok(None)
}

/// The last word: nothing of the pod is left here.
pub(crate) async fn delete(api: &Api<Pod>, target: &Pod) -> Result<(), kube::Error> {
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: target.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(pod::name(target), &params).await {
        Ok(_) => Ok(()),
        // Gone, or another pod has the name now.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}
