//! A pod's status, from its spec, its last status and what runs. Pure.
//!
//! Mirrors `generateAPIPodStatus` of upstream's kubelet: phase, conditions, container statuses, addresses.

mod conditions;
mod containers;
mod patch;
mod phase;

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodCondition, PodIP, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) use patch::patch;

use crate::observed::PodObserved;
use crate::plan::ProbeResult;
use crate::pod;
use crate::worker::Progress;

/// Why a container could not be started, until it can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WaitingReason {
    pub reason: String,
    pub message: String,
}

/// What readiness depends on beside the runtime's state, by container id.
pub(crate) trait Readiness {
    /// None when the container has no startup probe.
    fn startup(&self, container: &str, id: &str) -> Option<Option<ProbeResult>>;
    /// None when the container has no readiness probe.
    fn readiness(&self, container: &str, id: &str) -> Option<Option<ProbeResult>>;
}

/// Phase, reason and message that replace what the containers say: eviction, deadline, rejection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub reason: String,
    pub message: String,
}

pub(crate) struct Inputs<'a> {
    pub pod: &'a Pod,
    /// The last status generated here, else the API's.
    pub old: &'a PodStatus,
    pub observed: &'a PodObserved,
    pub waiting: &'a HashMap<String, WaitingReason>,
    pub readiness: &'a dyn Readiness,
    pub verdict: Option<&'a Verdict>,
    /// What containers have, by the runtime's id; none when that is not kept.
    pub actuated: Option<&'a BTreeMap<String, ResourceRequirements>>,
    pub resize: &'a Progress,
    /// The runtime can mount read-only all the way down.
    pub recursive_read_only: bool,
    /// The containers will not be restarted, whatever the policy.
    pub is_terminal: bool,
    pub host_ips: &'a [String],
    pub now: Timestamp,
}

pub(crate) fn generate(inputs: &Inputs<'_>) -> PodStatus {
    let pod = inputs.pod;
    let mut status = PodStatus {
        qos_class: Some(pod::qos_class(pod).as_str().to_owned()),
        observed_generation: pod.metadata.generation,
        start_time: inputs.old.start_time.clone().or(Some(Time(inputs.now))),
        ..PodStatus::default()
    };
    containers::fill(inputs, &mut status);
    let initialized = crate::plan::any_regular_active(pod, inputs.observed);
    let phase = phase::compute(pod, &status, inputs.is_terminal, initialized);
    set_phase(inputs, &mut status, phase);
    containers::set_readiness(inputs, &mut status);
    status.conditions = Some(conditions::generate(inputs, &status));
    set_addresses(inputs, &mut status);
    status
}

/// The status of a pod that this node refuses to run: nothing is said about its containers, which never will be.
pub(crate) fn rejected(pod: &Pod, verdict: &Verdict, now: Timestamp) -> PodStatus {
    PodStatus {
        phase: Some("Failed".into()),
        reason: Some(verdict.reason.clone()),
        message: Some(verdict.message.clone()),
        qos_class: Some(pod::qos_class(pod).as_str().to_owned()),
        observed_generation: pod.metadata.generation,
        start_time: pod::status(pod).start_time.clone().or(Some(Time(now))),
        conditions: pod::status(pod).conditions.clone(),
        ..PodStatus::default()
    }
}

/// A terminal phase is never left; reason and message stay with the phase they were given for.
fn set_phase(inputs: &Inputs<'_>, status: &mut PodStatus, computed: &'static str) {
    let api = pod::status(inputs.pod);
    let terminal =
        [inputs.old, api].into_iter().filter_map(|s| s.phase.clone()).find(|phase| pod::is_terminal_phase(Some(phase)));
    let phase = match (pod::is_terminal_phase(Some(computed)), terminal) {
        (false, Some(terminal)) => terminal,
        _ => computed.to_owned(),
    };
    if Some(&phase) == inputs.old.phase.as_ref() {
        status.reason = inputs.old.reason.clone().or_else(|| api.reason.clone());
        status.message = inputs.old.message.clone().or_else(|| api.message.clone());
    }
    status.phase = Some(phase);
    if let Some(verdict) = inputs.verdict {
        status.phase = Some("Failed".into());
        status.reason = Some(verdict.reason.clone());
        status.message = Some(verdict.message.clone());
    }
    if let Some(phase) = api.phase.as_deref().filter(|phase| pod::is_terminal_phase(Some(phase))) {
        status.phase = Some(phase.to_owned());
    }
}

fn set_addresses(inputs: &Inputs<'_>, status: &mut PodStatus) {
    let mut ips = inputs.observed.ips();
    if ips.is_empty() {
        // Terminated pods keep the address they had.
        ips = inputs.old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    }
    if pod::is_host_network(inputs.pod) {
        ips = inputs.host_ips.to_vec();
    }
    if let Some(first) = ips.first() {
        status.pod_ip = Some(first.clone());
        status.pod_ips = Some(ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect());
    }
    if let Some(first) = inputs.host_ips.first() {
        status.host_ip = Some(first.clone());
        status.host_ips = Some(inputs.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect());
    }
}

/// The last transition of a condition that kept its status.
fn transition_time(old: &PodStatus, condition: &PodCondition, now: Timestamp) -> Time {
    let before = old.conditions.iter().flatten().find(|c| c.type_ == condition.type_);
    let kept = before.filter(|before| before.status == condition.status);
    kept.and_then(|before| before.last_transition_time.clone()).unwrap_or(Time(now))
}

#[cfg(test)]
mod tests;
