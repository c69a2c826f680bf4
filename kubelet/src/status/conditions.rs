//! The conditions that a node agent owns, and those of others kept as they are.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};

use super::{Inputs, transition_time};
use crate::plan::sandbox_state;
use crate::pod;

/// Types written by a node agent; every other one is somebody else's.
const OWNED: [&str; 7] = [ALWAYS[0], ALWAYS[1], ALWAYS[2], ALWAYS[3], ALWAYS[4], PENDING, IN_PROGRESS];

/// Of those, the ones that every pod has.
pub(crate) const ALWAYS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

const PENDING: &str = "PodResizePending";
const IN_PROGRESS: &str = "PodResizeInProgress";

struct Finding {
    status: bool,
    reason: &'static str,
    message: String,
}

const TRUE: Finding = Finding { status: true, reason: "", message: String::new() };

fn no(reason: &'static str, message: String) -> Finding {
    Finding { status: false, reason, message }
}

pub(super) fn generate(inputs: &Inputs<'_>, status: &PodStatus) -> Vec<PodCondition> {
    let pod = inputs.pod;
    let others = pod::status(pod).conditions.iter().flatten().filter(|c| !OWNED.contains(&c.type_.as_str()));
    let mut conditions: Vec<PodCondition> = others.cloned().collect();
    let disruption = inputs.old.conditions.iter().flatten().find(|c| c.type_ == "DisruptionTarget");
    if let Some(disruption) = disruption.filter(|d| !conditions.iter().any(|c| c.type_ == d.type_)) {
        conditions.push(disruption.clone());
    }
    let containers_ready = containers_ready(pod, status);
    let ready = ready(pod, &containers_ready, &conditions);
    let findings = [
        (ALWAYS[0], sandbox(inputs)),
        (ALWAYS[1], initialized(inputs, status)),
        (ALWAYS[2], ready),
        (ALWAYS[3], containers_ready),
        (ALWAYS[4], TRUE),
    ];
    for (kind, finding) in findings {
        conditions.push(condition(inputs, kind, finding));
    }
    conditions.extend(resizes(inputs));
    conditions
}

/// Conditions that are there only while a resize is on its way.
fn resizes(inputs: &Inputs<'_>) -> Vec<PodCondition> {
    let resize = inputs.resize;
    let mut conditions = Vec::new();
    if let Some(pending) = &resize.pending {
        let finding = Finding { status: true, reason: pending.reason, message: pending.message.clone() };
        conditions.push(condition(inputs, PENDING, finding));
    }
    if let Some(generation) = resize.in_progress {
        let reason = if resize.error.is_some() { "Error" } else { "" };
        let finding = Finding { status: true, reason, message: resize.error.clone().unwrap_or_default() };
        let condition = condition(inputs, IN_PROGRESS, finding);
        conditions.push(PodCondition { observed_generation: Some(generation), ..condition });
    }
    conditions
}

fn condition(inputs: &Inputs<'_>, kind: &str, finding: Finding) -> PodCondition {
    let text = |text: String| (!text.is_empty()).then_some(text);
    let mut condition = PodCondition {
        type_: kind.to_owned(),
        status: if finding.status { "True" } else { "False" }.to_owned(),
        reason: text(finding.reason.to_owned()),
        message: text(finding.message),
        observed_generation: inputs.pod.metadata.generation,
        ..PodCondition::default()
    };
    condition.last_transition_time = Some(transition_time(inputs.old, &condition, inputs.now));
    condition
}

fn sandbox(inputs: &Inputs<'_>) -> Finding {
    let state = sandbox_state(inputs.pod, inputs.observed);
    if state.needed { no("PodSandboxNotReady", state.message.to_owned()) } else { TRUE }
}

fn find<'a>(statuses: Option<&'a Vec<ContainerStatus>>, name: &str) -> Option<&'a ContainerStatus> {
    statuses?.iter().find(|status| status.name == name)
}

/// Go's form of a list of strings.
fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn joined(parts: [(&str, &[&str]); 2]) -> String {
    let named = parts.into_iter().filter(|(_, names)| !names.is_empty());
    named.map(|(what, names)| format!("containers with {what}: {}", list(names))).collect::<Vec<_>>().join(", ")
}

fn initialized(inputs: &Inputs<'_>, status: &PodStatus) -> Finding {
    let pod = inputs.pod;
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in pod::init_containers(pod) {
        match find(status.init_container_statuses.as_ref(), &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(s) => {
                let done = if pod::is_sidecar(container) { s.started == Some(true) } else { s.ready };
                if !done {
                    incomplete.push(container.name.as_str());
                }
            }
        }
    }
    if status.phase.as_deref() == Some("Succeeded") && unknown.is_empty() {
        return Finding { reason: "PodCompleted", ..TRUE };
    }
    let has_run = |s: &ContainerStatus| s.state.as_ref().is_some_and(|s| s.running.is_some() || s.terminated.is_some());
    let regular = status.container_statuses.iter().flatten();
    let was_initialized =
        || inputs.old.conditions.iter().flatten().any(|c| c.type_ == "Initialized" && c.status == "True");
    let message = joined([("unknown status", &unknown), ("incomplete status", &incomplete)]);
    if message.is_empty() || regular.into_iter().any(has_run) || was_initialized() {
        return TRUE;
    }
    no("ContainersNotInitialized", message)
}

fn containers_ready(pod: &Pod, status: &PodStatus) -> Finding {
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    let sidecars = pod::init_containers(pod).iter().filter(|c| pod::is_sidecar(c));
    let watched = sidecars
        .map(|c| (c, status.init_container_statuses.as_ref()))
        .chain(pod::spec(pod).containers.iter().map(|c| (c, status.container_statuses.as_ref())));
    for (container, statuses) in watched {
        match find(statuses, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(s) if !s.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    match status.phase.as_deref() {
        Some("Succeeded") if unknown.is_empty() => return no("PodCompleted", String::new()),
        Some("Failed") => return no("PodFailed", String::new()),
        _ => {}
    }
    let message = joined([("unknown status", &unknown), ("unready status", &unready)]);
    if message.is_empty() { TRUE } else { no("ContainersNotReady", message) }
}

fn ready(pod: &Pod, containers: &Finding, others: &[PodCondition]) -> Finding {
    if !containers.status {
        return no(containers.reason, containers.message.clone());
    }
    let mut missing = Vec::new();
    for gate in pod::spec(pod).readiness_gates.iter().flatten() {
        let kind = &gate.condition_type;
        match others.iter().find(|c| c.type_ == *kind) {
            None => missing.push(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
            Some(c) if c.status != "True" => {
                missing.push(format!("the status of pod readiness gate {kind:?} is not \"True\", but {}", c.status));
            }
            Some(_) => {}
        }
    }
    if missing.is_empty() { TRUE } else { no("ReadinessGatesNotReady", missing.join(", ")) }
}
