//! The phase: one word for the state of all containers.

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod, PodStatus};

use crate::pod;

#[derive(Default)]
struct Counts {
    pending_init: usize,
    pending_sidecars: usize,
    failed_init: usize,
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
}

pub(super) fn compute(pod: &Pod, status: &PodStatus, is_terminal: bool, initialized: bool) -> &'static str {
    let mut counts = Counts::default();
    for container in pod::init_containers(pod) {
        let found = find(status.init_container_statuses.as_ref(), &container.name);
        if pod::is_sidecar(container) {
            counts.sidecar(found);
        } else {
            counts.init(pod, container, found);
        }
    }
    for container in &pod::spec(pod).containers {
        let found = find(status.container_statuses.as_ref(), &container.name);
        counts.regular(pod, container, found);
    }
    counts.phase(pod, is_terminal, initialized)
}

fn find<'a>(statuses: Option<&'a Vec<ContainerStatus>>, name: &str) -> Option<&'a ContainerStatus> {
    statuses?.iter().find(|status| status.name == name)
}

enum Now {
    Unknown,
    Running {
        started: bool,
    },
    Terminated(i32),
    Waiting,
    /// Waiting after it ended with this code.
    WaitingAgain(i32),
}

fn now(status: Option<&ContainerStatus>) -> Now {
    let Some(status) = status else { return Now::Unknown };
    let state = status.state.as_ref();
    let ended = |state: Option<&ContainerState>| state.and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code);
    if state.is_some_and(|s| s.running.is_some()) {
        return Now::Running { started: status.started == Some(true) };
    }
    if let Some(code) = ended(state) {
        return Now::Terminated(code);
    }
    if state.is_some_and(|s| s.waiting.is_some()) {
        return ended(status.last_state.as_ref()).map_or(Now::Waiting, Now::WaitingAgain);
    }
    Now::Unknown
}

impl Counts {
    fn init(&mut self, pod: &Pod, container: &Container, status: Option<&ContainerStatus>) {
        match now(status) {
            Now::Terminated(code) | Now::WaitingAgain(code) => {
                self.failed_init += usize::from(code != 0 && !pod::restarts_after(pod, container, code));
            }
            _ => self.pending_init += 1,
        }
    }

    fn sidecar(&mut self, status: Option<&ContainerStatus>) {
        match now(status) {
            Now::Unknown => self.unknown += 1,
            Now::Running { started } => {
                self.pending_sidecars += usize::from(!started);
                self.running += 1;
            }
            Now::Waiting => {
                self.pending_sidecars += 1;
                self.waiting += 1;
            }
            Now::Terminated(_) | Now::WaitingAgain(_) => {}
        }
    }

    fn regular(&mut self, pod: &Pod, container: &Container, status: Option<&ContainerStatus>) {
        match now(status) {
            Now::Unknown => self.unknown += 1,
            Now::Running { .. } => self.running += 1,
            Now::Waiting => self.waiting += 1,
            Now::Terminated(code) => {
                self.stopped += 1;
                self.stopped_for_good += usize::from(!pod::restarts_after(pod, container, code));
                self.succeeded += usize::from(code == 0);
            }
            Now::WaitingAgain(code) => {
                self.stopped += 1;
                self.stopped_for_good += usize::from(!pod::restarts_after(pod, container, code));
            }
        }
    }

    fn phase(&self, pod: &Pod, is_terminal: bool, initialized: bool) -> &'static str {
        if self.failed_init > 0 {
            return "Failed";
        }
        let initializing = self.pending_init > 0 || (self.pending_sidecars > 0 && !initialized);
        if initializing || self.waiting > 0 {
            return "Pending";
        }
        if self.running > 0 && self.unknown == 0 {
            return "Running";
        }
        if self.running > 0 || self.stopped == 0 || self.unknown > 0 {
            return "Pending";
        }
        let ended = if self.stopped == self.succeeded { "Succeeded" } else { "Failed" };
        let is_over = (is_terminal && !pod::is_static(pod)) || self.stopped == self.stopped_for_good;
        if is_over { ended } else { "Running" }
    }
}
