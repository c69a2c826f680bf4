//! The life of one probe: waits for its container, checks it each period, tells what changed.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus, Probe};
use reconcile::EventType;

use super::check::{self, Outcome, Target};
use super::threshold::Counter;
use super::{Kind, ProbeResult};
use crate::events::Events;
use crate::kubelet::Kubelet;
use crate::pod;

/// While its container does not run yet, a probe looks more often than its period says: soon at first, as a container
/// usually runs a fraction of a second after its probes began, and less often the longer it takes.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const WAIT: Duration = Duration::from_secs(1);
/// A check that could not be made is tried so often before it is told.
const TRIES: usize = 3;

struct Task {
    kubelet: Arc<Kubelet>,
    pod: Arc<Pod>,
    container: Container,
    kind: Kind,
    probe: Probe,
    counter: Counter,
    container_id: String,
    /// The container is about to be restarted: its last result stands.
    on_hold: bool,
}

pub(super) async fn run(kubelet: Arc<Kubelet>, pod: Arc<Pod>, container: Container, kind: Kind) {
    let Some(probe) = kind.of(&container).cloned() else { return };
    let counter = Counter::new(probe.success_threshold, probe.failure_threshold);
    let mut task = Task { kubelet, pod, container, kind, probe, counter, container_id: String::new(), on_hold: false };
    let period = Duration::from_secs(u64::try_from(task.probe.period_seconds.unwrap_or(10)).unwrap_or(10).max(1));
    let mut patience = FIRST_WAIT;
    loop {
        let wait = match task.step().await {
            Step::Checked => {
                patience = FIRST_WAIT;
                period
            }
            Step::Waits => {
                let wait = patience.min(period);
                patience = (patience * 2).min(WAIT);
                wait
            }
            Step::Ends => return,
        };
        tokio::time::sleep(wait).await;
    }
}

enum Step {
    Checked,
    Waits,
    Ends,
}

impl Task {
    async fn step(&mut self) -> Step {
        let uid = pod::uid(&self.pod);
        let Some(view) = self.kubelet.pods.get(uid) else { return Step::Ends };
        if pod::is_terminal_phase(view.status.phase.as_deref()) {
            return Step::Ends;
        }
        let Some(status) = find(&view.status, &self.container.name) else { return Step::Waits };
        let id = status.container_id.as_deref().unwrap_or_default();
        let id = id.strip_prefix("containerd://").unwrap_or(id).to_owned();
        if id.is_empty() {
            return Step::Waits;
        }
        if id != self.container_id {
            self.begin(id);
        }
        if self.on_hold {
            return Step::Waits;
        }
        let Some(running) = status.state.as_ref().and_then(|state| state.running.as_ref()) else {
            self.tell(ProbeResult::Failure, self.kind == Kind::Readiness);
            return Step::Waits;
        };
        let since = running.started_at.as_ref().map(|at| daemon::clock::now().duration_since(at.0));
        let since = since.and_then(|since| Duration::try_from(since).ok()).unwrap_or_default();
        let delay = u64::try_from(self.probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0);
        if since < Duration::from_secs(delay) {
            return Step::Waits;
        }
        let started = status.started == Some(true);
        match (self.kind, started) {
            // It has started: nothing to check until a restart. Before this program was restarted, perhaps: what waits
            // for the result must not wait for ever.
            (Kind::Startup, true) => {
                self.tell(ProbeResult::Success, true);
                return Step::Waits;
            }
            (Kind::Startup, false) | (_, true) => {}
            (_, false) => return Step::Waits,
        }
        self.check(&view.status).await;
        Step::Checked
    }

    /// A new container: earlier results say nothing about it.
    fn begin(&mut self, id: String) {
        let probes = &self.kubelet.probes;
        probes.clear_result(&self.container_id, self.kind);
        self.container_id = id;
        self.on_hold = false;
        self.counter = Counter::new(self.probe.success_threshold, self.probe.failure_threshold);
        if self.kind == Kind::Liveness {
            probes.set(&self.container_id, self.kind, ProbeResult::Success);
        }
    }

    async fn check(&mut self, status: &PodStatus) {
        let target = Target {
            runtime: &*self.kubelet.runtime,
            container: &self.container,
            container_id: &self.container_id,
            pod_ip: status.pod_ip.as_deref(),
        };
        let mut outcome = Outcome::Unknown(String::new());
        for _ in 0..TRIES {
            outcome = check::run(&target, &self.probe).await;
            if !matches!(outcome, Outcome::Unknown(_)) {
                break;
            }
        }
        self.report(&outcome);
        let Some(result) = outcome.result() else { return };
        if let Some(result) = self.counter.count(result) {
            self.tell(result, true);
            if self.kind != Kind::Readiness && result == ProbeResult::Failure {
                // The container is going to be killed: no more checks of this one.
                self.on_hold = true;
            }
        }
    }

    fn report(&self, outcome: &Outcome) {
        let events = Events::of_container(&self.kubelet.recorder, &self.pod, &self.container.name);
        let title = self.kind.title();
        let (reason, message) = match outcome {
            Outcome::Success => return,
            Outcome::Warning(output) => ("ProbeWarning", format!("{title} probe warning: {output}")),
            Outcome::Failure(output) => ("Unhealthy", format!("{title} probe failed: {output}")),
            Outcome::Unknown(error) => {
                ("Unhealthy", format!("{title} probe errored and resulted in unknown state: {error}"))
            }
        };
        events.container(EventType::Warning, reason, &message);
    }

    fn tell(&self, result: ProbeResult, wake: bool) {
        if self.kubelet.probes.set(&self.container_id, self.kind, result) && wake {
            self.kubelet.pods.wake(pod::uid(&self.pod));
        }
    }
}

/// The last result goes with the probe: nobody asks about its container again.
impl Drop for Task {
    fn drop(&mut self) {
        self.kubelet.probes.clear_result(&self.container_id, self.kind);
    }
}

fn find<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let init = status.init_container_statuses.iter().flatten();
    status.container_statuses.iter().flatten().chain(init).find(|status| status.name == name)
}
