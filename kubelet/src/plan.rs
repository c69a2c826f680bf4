//! What to do for a pod, from what is wanted and what runs. Pure.
//!
//! Mirrors the decisions of upstream's `computePodActions` (pkg/kubelet/kuberuntime): a sandbox first, then init
//! containers one after the other (sidecars keep running), then the regular ones, each restarted by policy.

mod init;
mod resize;

use k8s_openapi::api::core::v1::{Container, Pod};

pub(crate) use resize::{Resize, add as add_resizes};

use crate::observed::{Observed, PodObserved, State};
use crate::pod;

/// What a probe last said about a container; none when it has not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeResult {
    Success,
    Failure,
}

/// Results of probes by container id.
pub(crate) trait ProbeView {
    fn startup(&self, container_id: &str) -> Option<ProbeResult>;
    fn liveness(&self, container_id: &str) -> Option<ProbeResult>;
}

/// Why a container is killed: it decides the grace period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KillReason {
    StartupProbe,
    LivenessProbe,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kill {
    pub id: String,
    pub name: String,
    pub message: String,
    pub reason: KillReason,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Actions {
    /// Stop every container and the sandboxes.
    pub kill_pod: bool,
    /// Make a new sandbox, after the kill.
    pub create_sandbox: bool,
    /// The sandbox to start containers in, when none is made.
    pub sandbox_id: String,
    /// Which attempt a new sandbox is.
    pub attempt: u32,
    /// Indexes into init containers, in the order to start.
    pub init_to_start: Vec<usize>,
    pub to_start: Vec<usize>,
    pub ephemeral_to_start: Vec<usize>,
    pub to_kill: Vec<Kill>,
    /// Containers that go on running with other resources.
    pub to_resize: Vec<Resize>,
}

impl Actions {
    /// Nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        !self.kill_pod
            && !self.create_sandbox
            && !self.starts_any()
            && self.to_kill.is_empty()
            && self.to_resize.is_empty()
    }

    /// A container of any sort is to be started.
    pub(crate) fn starts_any(&self) -> bool {
        !(self.init_to_start.is_empty() && self.to_start.is_empty() && self.ephemeral_to_start.is_empty())
    }
}

/// Whether the pod's sandbox cannot be used, and what the status says about that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SandboxState {
    pub needed: bool,
    pub attempt: u32,
    pub id: String,
    pub message: &'static str,
}

pub(crate) fn sandbox_state(pod: &Pod, observed: &PodObserved) -> SandboxState {
    let Some(latest) = observed.sandboxes.first() else {
        return SandboxState { needed: true, attempt: 0, id: String::new(), message: "no pod sandbox exists" };
    };
    let again = |id: &str, message| SandboxState { needed: true, attempt: latest.attempt + 1, id: id.into(), message };
    let ready = observed.sandboxes.iter().filter(|sandbox| sandbox.ready).count();
    if ready > 1 {
        return again(&latest.id, "multiple pod sandboxes are ready and need to be reconciled");
    }
    if !latest.ready {
        return again(&latest.id, "pod sandbox is not ready");
    }
    if latest.host_network != pod::is_host_network(pod) {
        return again("", "network namespace mode changed and sandbox needs to be recreated");
    }
    if !pod::is_host_network(pod) && latest.ip.as_deref() == Some("") {
        return again(&latest.id, "pod sandbox has no IP address");
    }
    SandboxState { needed: false, attempt: latest.attempt, id: latest.id.clone(), message: "" }
}

/// Whether a container that does not run is to be started.
pub(crate) fn should_start(pod: &Pod, container: &Container, observed: &PodObserved) -> bool {
    if pod::is_deleted(pod) {
        return false;
    }
    let Some(status) = observed.container(&container.name) else { return true };
    match status.state {
        State::Running => false,
        State::Created | State::Unknown => true,
        State::Exited => pod::restarts_after(pod, container, status.exit_code),
    }
}

/// Whether any regular container was made in any sandbox: then initialization was done once.
pub(crate) fn any_regular_created(pod: &Pod, observed: &PodObserved) -> bool {
    let known = |c: &Container| observed.container(&c.name).is_some_and(|status| status.state != State::Unknown);
    pod::spec(pod).containers.iter().any(known)
}

/// Whether any regular container was made in the active sandbox.
pub(crate) fn any_regular_active(pod: &Pod, observed: &PodObserved) -> bool {
    pod::spec(pod).containers.iter().any(|c| observed.active(&c.name).is_some())
}

pub(crate) fn compute_actions(pod: &Pod, observed: &PodObserved, probes: &dyn ProbeView) -> Actions {
    let sandbox = sandbox_state(pod, observed);
    let mut actions = Actions {
        kill_pod: sandbox.needed,
        create_sandbox: sandbox.needed,
        sandbox_id: sandbox.id,
        attempt: sandbox.attempt,
        ..Actions::default()
    };
    if sandbox.needed {
        start_over(pod, observed, &mut actions);
        return actions;
    }
    let unseen = |name: &str| observed.container(name).is_none();
    let ephemeral = pod::ephemeral_containers(pod).iter().enumerate();
    actions.ephemeral_to_start = ephemeral.filter(|(_, e)| unseen(&e.name)).map(|(index, _)| index).collect();
    let initialized = init::compute(pod, observed, probes, &mut actions);
    if actions.kill_pod || !initialized {
        return actions;
    }
    let kept = regular(pod, observed, probes, &mut actions);
    if kept == 0 && actions.to_start.is_empty() {
        actions.kill_pod = true;
        // Sidecars must not keep a finished pod alive.
        actions.init_to_start.clear();
    }
    actions
}

/// A new sandbox means a new start, unless the pod has run to its end.
fn start_over(pod: &Pod, observed: &PodObserved, actions: &mut Actions) {
    let never = pod::pod_restart_policy(pod) == "Never";
    if never && actions.attempt != 0 && !observed.containers.is_empty() {
        actions.create_sandbox = false;
        return;
    }
    let to_start: Vec<usize> = pod::spec(pod)
        .containers
        .iter()
        .enumerate()
        .filter(|(_, container)| !ran_once(pod, container, observed))
        .map(|(index, _)| index)
        .collect();
    if to_start.is_empty() && any_regular_created(pod, observed) {
        actions.create_sandbox = false;
        return;
    }
    if pod::init_containers(pod).is_empty() {
        actions.to_start = to_start;
    } else {
        actions.init_to_start = vec![0];
    }
}

/// Has succeeded, and need not again.
fn ran_once(pod: &Pod, container: &Container, observed: &PodObserved) -> bool {
    let policy = container.restart_policy.as_deref().unwrap_or(pod::pod_restart_policy(pod));
    let succeeded = |status: &Observed| status.state == State::Exited && status.exit_code == 0;
    policy == "OnFailure" && observed.container(&container.name).is_some_and(succeeded)
}

/// Decides for each regular container; returns how many stay as they are.
fn regular(pod: &Pod, observed: &PodObserved, probes: &dyn ProbeView, actions: &mut Actions) -> usize {
    let mut kept = 0;
    for (index, container) in pod::spec(pod).containers.iter().enumerate() {
        let status = observed.container(&container.name);
        let Some(running) = status.filter(|status| status.state == State::Running) else {
            if should_start(pod, container, observed) {
                actions.to_start.push(index);
                actions.to_kill.extend(status.filter(|s| s.state == State::Unknown).map(unknown_kill));
            }
            continue;
        };
        let Some((message, reason, restart)) = reason_to_kill(pod, container, running, probes) else {
            kept += 1;
            continue;
        };
        let message = if restart { format!("{message}, will be restarted") } else { message };
        if restart {
            actions.to_start.push(index);
        }
        actions.to_kill.push(Kill { id: running.id.clone(), name: container.name.clone(), message, reason });
    }
    kept
}

fn reason_to_kill(
    pod: &Pod,
    container: &Container,
    running: &Observed,
    probes: &dyn ProbeView,
) -> Option<(String, KillReason, bool)> {
    let name = &container.name;
    let restart = pod::restarts_after_kill(pod, container);
    if running.hash != pod::container_hash(container) {
        // The definition changed: restart whatever the policy.
        return Some((format!("Container {name} definition changed"), KillReason::Other, true));
    }
    if probes.liveness(&running.id) == Some(ProbeResult::Failure) {
        return Some((format!("Container {name} failed liveness probe"), KillReason::LivenessProbe, restart));
    }
    if probes.startup(&running.id) == Some(ProbeResult::Failure) {
        return Some((format!("Container {name} failed startup probe"), KillReason::StartupProbe, restart));
    }
    None
}

/// A container that may or may not run is killed first, so that never two run.
fn unknown_kill(status: &Observed) -> Kill {
    Kill {
        id: status.id.clone(),
        name: status.name.clone(),
        message: "Container is in \"unknown\" state, try killing it before restart".into(),
        reason: KillReason::Other,
    }
}

#[cfg(test)]
pub(crate) mod tests;
