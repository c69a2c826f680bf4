//! Probes: one task per container and kind, their results, and what plans and statuses ask about them.

mod check;
pub(crate) mod dial;
mod task;
mod threshold;

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::kubelet::Kubelet;
use crate::plan::{ProbeResult, ProbeView};
use crate::pod;
use crate::status::Readiness;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Startup, Self::Readiness, Self::Liveness];

    /// As events name it.
    fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// Pod uid, container name, kind.
type Key = (String, String, Kind);

#[derive(Default)]
pub(crate) struct Probes {
    tasks: Mutex<HashMap<Key, AbortOnDropHandle<()>>>,
    /// By container id and kind.
    results: Mutex<HashMap<(String, Kind), ProbeResult>>,
}

impl Probes {
    /// Starts what the pod's containers ask for and does not run yet.
    pub(crate) fn sync(&self, kubelet: &Arc<Kubelet>, pod: &Arc<Pod>) {
        let sidecars = pod::init_containers(pod).iter().filter(|c| pod::is_sidecar(c));
        let mut tasks = self.tasks.lock();
        for container in pod::spec(pod).containers.iter().chain(sidecars) {
            for kind in Kind::ALL.into_iter().filter(|kind| kind.of(container).is_some()) {
                let key = (pod::uid(pod).to_owned(), container.name.clone(), kind);
                tasks.entry(key).or_insert_with(|| {
                    let run = task::run(kubelet.clone(), pod.clone(), container.clone(), kind);
                    kubelet.tasks.spawn_owned("probe", run)
                });
            }
        }
    }

    /// A pod that ends is no longer restarted, but its readiness still counts.
    pub(crate) fn terminating(&self, uid: &str) {
        self.tasks.lock().retain(|(of, _, kind), _| of != uid || *kind == Kind::Readiness);
    }

    pub(crate) fn remove(&self, uid: &str) {
        self.tasks.lock().retain(|(of, _, _), _| of != uid);
    }

    pub(crate) fn clear(&self) {
        self.tasks.lock().clear();
    }

    fn set(&self, container_id: &str, kind: Kind, result: ProbeResult) -> bool {
        self.results.lock().insert((container_id.to_owned(), kind), result) != Some(result)
    }

    fn clear_result(&self, container_id: &str, kind: Kind) {
        self.results.lock().remove(&(container_id.to_owned(), kind));
    }

    fn get(&self, container_id: &str, kind: Kind) -> Option<ProbeResult> {
        self.results.lock().get(&(container_id.to_owned(), kind)).copied()
    }
}

impl ProbeView for Probes {
    fn startup(&self, container_id: &str) -> Option<ProbeResult> {
        self.get(container_id, Kind::Startup)
    }

    fn liveness(&self, container_id: &str) -> Option<ProbeResult> {
        self.get(container_id, Kind::Liveness)
    }
}

/// The results that concern one pod.
pub(crate) struct PodProbes<'a> {
    probes: &'a Probes,
    pod: &'a Pod,
}

impl<'a> PodProbes<'a> {
    pub(crate) fn new(probes: &'a Probes, pod: &'a Pod) -> Self {
        Self { probes, pod }
    }

    fn result(&self, container: &str, id: &str, kind: Kind) -> Option<Option<ProbeResult>> {
        let container = pod::all_containers(self.pod).find(|c| c.name == container)?;
        kind.of(container)?;
        Some(self.probes.get(id, kind))
    }
}

impl Readiness for PodProbes<'_> {
    fn startup(&self, container: &str, id: &str) -> Option<Option<ProbeResult>> {
        self.result(container, id, Kind::Startup)
    }

    fn readiness(&self, container: &str, id: &str) -> Option<Option<ProbeResult>> {
        self.result(container, id, Kind::Readiness)
    }
}
