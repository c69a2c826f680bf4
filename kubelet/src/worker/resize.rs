//! Changing what a running pod's containers may use, without starting it anew (KEP-1287).
//!
//! Three states of the same thing: what the spec *desires*, what this node has *allocated* to the pod (what others may
//! not have), and what was *actuated* for each container (what its cgroup says). The last two are written down in the
//! pod's directory, because a restart of this program must neither forget a resize nor take a refused one for granted.

mod memory;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use reconcile::EventType;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::memory::{Decrease, Usage};
use super::{Worker, admit};
use crate::observed::PodObserved;
use crate::plan::{Actions, Resize};
use crate::pod;
use crate::spec::resources;
use crate::volumes;

const FILE: &str = "resources.json";

/// What is written down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// By container name.
    allocated: BTreeMap<String, ResourceRequirements>,
    /// By the runtime's container id.
    actuated: BTreeMap<String, ResourceRequirements>,
}

/// A resize that is wanted and not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    /// `Infeasible` or `Deferred`.
    pub reason: &'static str,
    pub message: String,
}

/// How far a pod's resizes are, for its status.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    pub pending: Option<Pending>,
    /// The generation that is being brought to the containers.
    pub in_progress: Option<i64>,
    pub error: Option<String>,
}

impl Ledger {
    /// What cannot be read, or makes no sense, is as good as nothing: everything is then set once more.
    fn load(directory: &Path) -> Option<Self> {
        let bytes = std::fs::read(directory.join(FILE)).ok()?;
        serde_json::from_slice(&bytes)
            .inspect_err(
                |error| tracing::warn!(path = %directory.display(), %error, "a pod's resources are not readable"),
            )
            .ok()
    }

    fn store(&self, directory: &Path) -> std::io::Result<()> {
        let (path, new) = (directory.join(FILE), directory.join(format!("{FILE}.new")));
        let mut file = std::fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        std::fs::rename(new, path)
    }

    fn of(pod: &Pod) -> Self {
        let own = |c: &Container| (c.name.clone(), c.resources.clone().unwrap_or_default());
        Self { allocated: pod::all_containers(pod).map(own).collect(), actuated: BTreeMap::new() }
    }

    pub(super) fn actuated(&self) -> &BTreeMap<String, ResourceRequirements> {
        &self.actuated
    }
}

/// The pod with other resources.
fn with_resources(pod: &Pod, of: impl Fn(&Container) -> Option<ResourceRequirements>) -> Arc<Pod> {
    let mut pod = pod.clone();
    let spec = pod.spec.get_or_insert_default();
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        if let Some(resources) = of(container) {
            container.resources = Some(resources);
        }
    }
    Arc::new(pod)
}

fn is_allocated(pod: &Pod, ledger: &Ledger) -> bool {
    let same = |c: &Container| {
        let wanted = c.resources.clone().unwrap_or_default();
        ledger.allocated.get(&c.name).is_some_and(|allocated| resources::are_equal(allocated, &wanted))
    };
    pod::all_containers(pod).all(same)
}

impl Worker {
    fn directory(&self) -> PathBuf {
        volumes::pod_directory(&self.kubelet.config.root_dir, &self.uid)
    }

    /// The pod with what it was given: what its spec asks for, if the node has that.
    pub(super) fn allocate(&mut self, pod: &Arc<Pod>) -> Arc<Pod> {
        if self.ledger.is_none() {
            self.ledger = Ledger::load(&self.directory());
        }
        let Some(ledger) = &mut self.ledger else {
            self.ledger = Some(Ledger::of(pod));
            return pod.clone();
        };
        if is_allocated(pod, ledger) {
            // Equal amounts can be written in different ways: the latest way is shown.
            ledger.allocated = Ledger::of(pod).allocated;
            self.resize.pending = None;
            return pod.clone();
        }
        let room = self.kubelet.pods.take_room();
        let Some(pending) = admit::resize(&self.kubelet, pod) else {
            ledger.allocated = Ledger::of(pod).allocated;
            self.view.lock().allocated = Some(pod.clone());
            drop(room);
            self.resize = Progress { in_progress: pod.metadata.generation, ..Progress::default() };
            self.tell(pod, EventType::Normal, "ResizeStarted", "Pod resize started", "");
            return pod.clone();
        };
        drop(room);
        if self.resize.pending.as_ref() != Some(&pending) {
            let event = if pending.reason == "Infeasible" { "ResizeInfeasible" } else { "ResizeDeferred" };
            self.tell(pod, EventType::Warning, event, &format!("Pod resize {}", pending.reason), &pending.message);
        }
        self.resize.pending = Some(pending);
        let allocated = self.ledger.as_ref().map(|ledger| ledger.allocated.clone()).unwrap_or_default();
        with_resources(pod, |container| allocated.get(&container.name).cloned())
    }

    /// The most that the pod's cgroup has to let its containers have, while they change one after the other.
    pub(super) fn pod_limits(&self, pod: &Pod, observed: &PodObserved) -> resources::PodLimits {
        let wanted = resources::pod_limits(pod);
        let Some(ledger) = &self.ledger else { return wanted };
        let now = |c: &Container| ledger.actuated.get(&observed.container(&c.name)?.id).cloned();
        wanted.at_least(&resources::pod_limits(&with_resources(pod, now)))
    }

    /// Writes down what was given and done. Containers that are gone are forgotten.
    pub(super) fn write_ledger(&mut self, observed: Option<&PodObserved>) {
        let directory = self.directory();
        let Some(ledger) = &mut self.ledger else { return };
        if let Some(observed) = observed {
            ledger.actuated.retain(|id, _| observed.containers.iter().any(|container| container.id == *id));
        }
        if self.written.as_ref() == Some(ledger) {
            return;
        }
        match ledger.store(&directory) {
            Ok(()) => self.written = Some(ledger.clone()),
            Err(error) => tracing::warn!(path = %directory.display(), %error, "cannot write down a pod's resources"),
        }
    }

    /// A container was made with these.
    pub(super) fn note_actuated(&mut self, id: &str, container: &Container) {
        if let Some(ledger) = &mut self.ledger {
            ledger.actuated.insert(id.to_owned(), container.resources.clone().unwrap_or_default());
        }
        self.write_ledger(None);
    }

    /// Brings containers that go on running to what they were given.
    pub(super) async fn resize_containers(
        &mut self,
        pod: &Arc<Pod>,
        observed: &PodObserved,
        wanted: &[Resize],
    ) -> Result<(), String> {
        if wanted.is_empty() {
            return Ok(());
        }
        // Before anything is changed: half a resize is worse than none.
        if let Some(message) = self.refuse_decrease(pod, observed, wanted).await {
            return Err(self.resize_failed(pod, message));
        }
        for resize in wanted {
            let Some(container) = pod::all_containers(pod).find(|c| c.name == resize.name) else { continue };
            let update = resources::update(pod, container, self.kubelet.machine.memory_bytes);
            let outcome = self.kubelet.runtime.update_container_resources(&resize.id, update).await;
            if let Err(error) = outcome {
                return Err(self.resize_failed(pod, error.description()));
            }
            self.note_actuated(&resize.id, container);
        }
        self.resize.error = None;
        Ok(())
    }

    /// Shows why the containers do not have what they were given; a resize that is known of only by its failure is on
    /// its way all the same.
    fn resize_failed(&mut self, pod: &Arc<Pod>, message: String) -> String {
        self.resize.in_progress = self.resize.in_progress.or(pod.metadata.generation);
        if self.resize.error.as_ref() != Some(&message) {
            self.tell(pod, EventType::Warning, "ResizeError", "Pod resize error", &message);
        }
        self.resize.error = Some(message.clone());
        message
    }

    /// Why limits cannot get as small as is wanted.
    async fn refuse_decrease(&self, pod: &Pod, observed: &PodObserved, wanted: &[Resize]) -> Option<String> {
        let now = self.pod_limits(pod, observed).memory;
        let mut decrease = Decrease::of_pod(now, resources::pod_limits(pod).memory);
        for resize in wanted {
            let container = pod::all_containers(pod).find(|c| c.name == resize.name);
            let actuated = self.ledger.as_ref().and_then(|ledger| ledger.actuated.get(&resize.id));
            container.into_iter().for_each(|container| decrease.add(container, actuated));
        }
        if decrease.is_none() {
            return None;
        }
        match self.memory_usage(pod, observed).await {
            Ok(usage) => decrease.refusal(&usage),
            Err(_) => Some(format!("unable to read memory usage for pod {:?}", pod::describe(pod))),
        }
    }

    async fn memory_usage(&self, pod: &Pod, observed: &PodObserved) -> Result<Usage, cri::Error> {
        let mut usage = Usage::default();
        for stats in self.kubelet.runtime.list_container_stats().await? {
            let id = stats.attributes.as_ref().map(|attributes| attributes.id.as_str()).unwrap_or_default();
            let Some(container) = observed.running().find(|container| container.id == id) else { continue };
            let told = stats.memory.as_ref().and_then(|memory| memory.usage_bytes.as_ref()).map(|bytes| bytes.value);
            let bytes = told.or_else(|| self.kubelet.cgroups.memory_usage(pod, Some(id)));
            usage.containers.insert(container.name.clone(), bytes);
        }
        // Without a cgroup of its own a pod uses what its containers use.
        let summed = || usage.containers.values().copied().sum::<Option<u64>>();
        usage.pod = match self.kubelet.cgroups.parent(pod).is_empty() {
            true => summed(),
            false => self.kubelet.cgroups.memory_usage(pod, None),
        };
        Ok(usage)
    }

    /// Every container has what it was given.
    pub(super) fn settle_resize(&mut self, pod: &Arc<Pod>, actions: &Actions) {
        let is_open = !actions.to_resize.is_empty() || !actions.to_kill.is_empty() || !actions.to_start.is_empty();
        if is_open || self.resize.in_progress.is_none() {
            return;
        }
        self.resize.in_progress = None;
        self.resize.error = None;
        self.tell(pod, EventType::Normal, "ResizeCompleted", "Pod resize completed", "");
    }

    fn tell(&self, pod: &Pod, kind: EventType, reason: &str, words: &str, error: &str) {
        let list = |containers: &[Container]| -> Vec<serde_json::Value> {
            let one = |c: &Container| json!({"name": c.name, "resources": c.resources.clone().unwrap_or_default()});
            containers.iter().map(one).collect()
        };
        let mut summary = json!({
            "containers": list(&pod::spec(pod).containers),
            "generation": pod.metadata.generation.unwrap_or_default(),
        });
        let init = list(pod::init_containers(pod));
        if !init.is_empty() {
            summary["initContainers"] = init.into();
        }
        if !error.is_empty() {
            summary["error"] = error.into();
        }
        self.events(pod).pod(kind, reason, &format!("{words}: {summary}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn a_ledger_survives_and_garbage_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Ledger::load(directory.path()), None);
        let pod = pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}));
        let mut ledger = Ledger::of(&pod);
        ledger.actuated.insert("id".into(), ResourceRequirements::default());
        ledger.store(directory.path()).unwrap();
        assert_eq!(Ledger::load(directory.path()), Some(ledger));
        for garbage in ["", "{", "[]", "{\"allocated\": 5}"] {
            std::fs::write(directory.path().join(FILE), garbage).unwrap();
            assert_eq!(Ledger::load(directory.path()), None, "{garbage}");
        }
    }

    #[test]
    fn equal_amounts_are_no_resize() {
        let with = |cpu: &str| pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}));
        let ledger = Ledger::of(&with("1"));
        assert!(is_allocated(&with("1000m"), &ledger));
        assert!(!is_allocated(&with("2"), &ledger));
    }
}
