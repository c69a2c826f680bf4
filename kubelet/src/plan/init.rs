//! Init containers and sidecars: which one is next, which are to be restarted.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{Actions, Kill, KillReason, ProbeResult, ProbeView, any_regular_active};
use crate::observed::{Observed, PodObserved, State};
use crate::pod;

/// What one init container's state means for the walk.
enum Verdict {
    /// The pod cannot go on.
    Fail,
    /// Nothing more to say about this one.
    Settled,
}

struct Walk<'a> {
    pod: &'a Pod,
    probes: &'a dyn ProbeView,
    actions: &'a mut Actions,
    /// The containers after this one prove that it was done.
    was_initialized: bool,
    pod_initialized: bool,
    last: usize,
}

/// Walks from the last to the first, because finished ones may be gone from the runtime. True when regular
/// containers may run.
pub(super) fn compute(pod: &Pod, observed: &PodObserved, probes: &dyn ProbeView, actions: &mut Actions) -> bool {
    let containers = pod::init_containers(pod);
    if containers.is_empty() {
        return true;
    }
    let initialized = any_regular_active(pod, observed);
    let last = containers.len() - 1;
    let mut walk = Walk { pod, probes, actions, was_initialized: initialized, pod_initialized: initialized, last };
    for (index, container) in containers.iter().enumerate().rev() {
        let Some(status) = observed.active(&container.name) else {
            if walk.was_initialized && pod::is_sidecar(container) {
                walk.actions.init_to_start.push(index);
            }
            continue;
        };
        if walk.was_initialized && !pod::is_sidecar(container) {
            continue;
        }
        if matches!(walk.visit(index, container, status), Verdict::Fail) {
            return false;
        }
        walk.was_initialized = true;
    }
    if !walk.was_initialized {
        walk.actions.init_to_start.push(0);
    }
    let pod_initialized = walk.pod_initialized;
    actions.init_to_start.reverse();
    pod_initialized
}

impl Walk<'_> {
    fn visit(&mut self, index: usize, container: &Container, status: &Observed) -> Verdict {
        match status.state {
            // Made but not started: the start has failed.
            State::Created => self.start(index),
            State::Running if pod::is_sidecar(container) => self.running_sidecar(index, container, status),
            State::Running => {}
            State::Exited if pod::is_sidecar(container) => self.start(index),
            State::Exited => return self.exited(index, container, status),
            State::Unknown => return self.unknown(index, container, status),
        }
        Verdict::Settled
    }

    fn start(&mut self, index: usize) {
        self.actions.init_to_start.push(index);
    }

    fn kill(&mut self, status: &Observed, message: String, reason: KillReason) {
        let kill = Kill { id: status.id.clone(), name: status.name.clone(), message, reason };
        self.actions.to_kill.push(kill);
    }

    fn running_sidecar(&mut self, index: usize, container: &Container, status: &Observed) {
        let name = &container.name;
        if container.startup_probe.is_some() {
            match self.probes.startup(&status.id) {
                Some(ProbeResult::Success) => {}
                Some(ProbeResult::Failure) => {
                    self.kill(status, format!("Init container {name} failed startup probe"), KillReason::StartupProbe);
                    return self.start(index);
                }
                None => return,
            }
        }
        self.done(index);
        if status.hash != pod::container_hash(container) {
            self.kill(status, format!("Init container {name} definition changed"), KillReason::Other);
            return self.start(index);
        }
        let liveness = container.liveness_probe.as_ref().and_then(|_| self.probes.liveness(&status.id));
        if liveness == Some(ProbeResult::Failure) {
            self.kill(status, format!("Init container {name} failed liveness probe"), KillReason::LivenessProbe);
            self.start(index);
        }
    }

    /// This one is through: the next may start, or the pod is initialized.
    fn done(&mut self, index: usize) {
        if index == self.last {
            self.pod_initialized = true;
        } else if !self.was_initialized {
            self.start(index + 1);
        }
    }

    fn exited(&mut self, index: usize, container: &Container, status: &Observed) -> Verdict {
        if status.exit_code == 0 {
            self.done(index);
            return Verdict::Settled;
        }
        if pod::is_deleted(self.pod) || !restarts_init(self.pod, container, status.exit_code) {
            return self.fail();
        }
        self.start(index);
        Verdict::Settled
    }

    fn unknown(&mut self, index: usize, container: &Container, status: &Observed) -> Verdict {
        if !pod::is_sidecar(container) && !pod::restarts_after_kill(self.pod, container) {
            return self.fail();
        }
        let message = "Init container is in \"unknown\" state, try killing it before restart".to_owned();
        self.kill(status, message, KillReason::Other);
        self.start(index);
        Verdict::Settled
    }

    fn fail(&mut self) -> Verdict {
        self.actions.kill_pod = true;
        self.actions.init_to_start.clear();
        Verdict::Fail
    }
}

/// An init container is restarted on failure by any policy but Never.
fn restarts_init(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    pod::restarts_after(pod, container, exit_code)
}
