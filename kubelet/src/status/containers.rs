//! Container statuses: state now, state before, counts, readiness.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    PodStatus, ResourceRequirements, VolumeMount, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Inputs;
use crate::observed::{Observed, State, timestamp};
use crate::plan::{ProbeResult, any_regular_created, should_start};
use crate::pod;
use crate::spec::recursion::recursively_read_only;

pub(super) fn fill(inputs: &Inputs<'_>, status: &mut PodStatus) {
    let pod = inputs.pod;
    let old = inputs.old;
    let has_init = !pod::init_containers(pod).is_empty();
    let default = waiting(if has_init { "PodInitializing" } else { "ContainerCreating" }, None);
    let builder = Builder { inputs, default };
    let regular = &pod::spec(pod).containers;
    let mut statuses = builder.build(regular, old.container_statuses.as_deref().unwrap_or_default(), false);
    // Clients rely on a stable order: by name, as upstream; init containers stay in the spec's.
    statuses.sort_by(|a, b| a.name.cmp(&b.name));
    status.container_statuses = Some(statuses);
    if has_init {
        let old = old.init_container_statuses.as_deref().unwrap_or_default();
        status.init_container_statuses = Some(builder.build(pod::init_containers(pod), old, true));
    }
    let ephemeral: Vec<Container> = pod::ephemeral_containers(pod).iter().map(pod::ephemeral_as_container).collect();
    if !ephemeral.is_empty() {
        let old = old.ephemeral_container_statuses.as_deref().unwrap_or_default();
        let mut statuses = builder.build(&ephemeral, old, false);
        statuses.sort_by(|a, b| a.name.cmp(&b.name));
        status.ephemeral_container_statuses = Some(statuses);
    }
}

struct Builder<'a> {
    inputs: &'a Inputs<'a>,
    default: ContainerState,
}

impl Builder<'_> {
    fn build(&self, containers: &[Container], old: &[ContainerStatus], is_init: bool) -> Vec<ContainerStatus> {
        let build = |container: &Container| {
            let before = old.iter().find(|status| status.name == container.name);
            self.one(container, before, is_init)
        };
        containers.iter().map(build).collect()
    }

    fn one(&self, container: &Container, old: Option<&ContainerStatus>, is_init: bool) -> ContainerStatus {
        let mut seen = self.inputs.observed.containers.iter().filter(|c| c.name == container.name);
        let mut status = match seen.next() {
            Some(newest) => self.convert(container, newest, old),
            None => self.unseen(container, old),
        };
        if let Some(previous) = seen.next() {
            status.last_state = Some(self.convert(container, previous, None).state.unwrap_or_default());
        }
        if let Some(old) = old {
            keep_messages(&mut status, old);
        }
        if is_init && self.settle_init(container, &mut status) {
            return status;
        }
        self.apply_waiting(container, &mut status);
        status
    }

    /// A container that the runtime does not know (any more).
    fn unseen(&self, container: &Container, old: Option<&ContainerStatus>) -> ContainerStatus {
        let mut status = ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: Some(self.default.clone()),
            last_state: Some(ContainerState::default()),
            volume_mounts: self.volume_mounts(container),
            ..ContainerStatus::default()
        };
        let Some(old) = old else { return status };
        if old.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
            return old.clone();
        }
        status.restart_count = old.restart_count;
        status.last_state = Some(old.last_state.clone().unwrap_or_default());
        let was_running = old.state.as_ref().is_some_and(|s| s.running.is_some());
        let knows_end = status.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
        if was_running && !knows_end {
            let terminated = ContainerStateTerminated {
                reason: Some("ContainerStatusUnknown".into()),
                message: Some(
                    "The container could not be located when the pod was deleted.  The container used to be Running"
                        .into(),
                ),
                exit_code: 137,
                ..ContainerStateTerminated::default()
            };
            status.last_state = Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() });
            status.restart_count += i32::from(!pod::is_deleted(self.inputs.pod));
        }
        status
    }

    fn convert(&self, container: &Container, seen: &Observed, old: Option<&ContainerStatus>) -> ContainerStatus {
        let id = format!("containerd://{}", seen.id);
        let mut status = ContainerStatus {
            name: seen.name.clone(),
            restart_count: seen.restart_count,
            image: seen.image.clone(),
            image_id: seen.image_ref.clone(),
            container_id: Some(id.clone()),
            state: Some(state(seen, &id)),
            last_state: Some(ContainerState::default()),
            volume_mounts: self.volume_mounts(container),
            resources: Some(self.actuated(container, &seen.id)),
            allocated_resources: container.resources.as_ref().and_then(|r| r.requests.clone()),
            ..ContainerStatus::default()
        };
        if let Some(old) = old {
            status.restart_count = status.restart_count.max(old.restart_count);
            let ended = old.state.as_ref().filter(|s| s.terminated.is_some());
            let last = old.last_state.as_ref().filter(|s| s.terminated.is_some());
            let before = ended.filter(|_| old.container_id.as_ref() != Some(&id)).or(last);
            status.last_state = Some(before.cloned().unwrap_or_default());
        }
        status
    }

    /// What the container has; what it was given when nobody has written down the former.
    fn actuated(&self, container: &Container, id: &str) -> ResourceRequirements {
        let known = self.inputs.actuated.and_then(|actuated| actuated.get(id)).cloned();
        known.unwrap_or_else(|| container.resources.clone().unwrap_or_default())
    }

    fn volume_mounts(&self, container: &Container) -> Option<Vec<VolumeMountStatus>> {
        let mounts = container.volume_mounts.as_ref().filter(|mounts| !mounts.is_empty())?;
        let able = self.inputs.recursive_read_only;
        Some(mounts.iter().map(|mount| volume_mount(mount, able)).collect())
    }

    /// An init container that is done is never shown as waiting. True when nothing more is to be said.
    fn settle_init(&self, container: &Container, status: &mut ContainerStatus) -> bool {
        let seen = self.inputs.observed.container(&container.name);
        if seen.is_some_and(|seen| seen.state == State::Exited && seen.exit_code == 0) && !pod::is_sidecar(container) {
            return true;
        }
        let is_waiting = status.state.as_ref().is_some_and(|s| s.waiting.is_some());
        if seen.is_some() || pod::is_sidecar(container) || !is_waiting {
            return false;
        }
        if !any_regular_created(self.inputs.pod, self.inputs.observed) {
            return false;
        }
        let terminated = ContainerStateTerminated {
            reason: Some("Completed".into()),
            message: Some(
                "Unable to get init container status from container runtime and pod has been initialized, \
                 treat it as exited normally"
                    .into(),
            ),
            ..ContainerStateTerminated::default()
        };
        status.state = Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() });
        true
    }

    /// A container that could not be started is waiting, with the reason.
    fn apply_waiting(&self, container: &Container, status: &mut ContainerStatus) {
        let Some(why) = self.inputs.waiting.get(&container.name) else { return };
        if !should_start(self.inputs.pod, container, self.inputs.observed) {
            return;
        }
        if status.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
            status.last_state = status.state.clone();
        }
        status.state = Some(waiting(&why.reason, Some(&why.message)));
    }
}

/// What a container said at its end lies in its pod's directory, which goes when the pod is over: what was read before
/// stays.
fn keep_messages(status: &mut ContainerStatus, old: &ContainerStatus) {
    let known = |id: &Option<String>| {
        let states = [&old.state, &old.last_state].into_iter().flatten();
        let mut ends = states.filter_map(|state| state.terminated.as_ref());
        ends.find(|end| id.is_some() && end.container_id == *id).and_then(|end| end.message.clone())
    };
    for end in [&mut status.state, &mut status.last_state].into_iter().flatten().filter_map(|s| s.terminated.as_mut()) {
        if end.message.is_none() {
            end.message = known(&end.container_id);
        }
    }
}

fn waiting(reason: &str, message: Option<&str>) -> ContainerState {
    let waiting = ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message: message.filter(|m| !m.is_empty()).map(str::to_owned),
    };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

/// Times of the wire have seconds only: a status that differs in less would be patched for ever.
/// What never happened, as the start of a container that could not be started, is the epoch, as upstream shows it.
fn seconds(nanoseconds: i64) -> Option<Time> {
    let whole = timestamp(nanoseconds).map_or(0, jiff::Timestamp::as_second);
    jiff::Timestamp::from_second(whole).ok().map(Time)
}

fn state(seen: &Observed, id: &str) -> ContainerState {
    let mut state = ContainerState::default();
    match seen.state {
        State::Running => state.running = Some(ContainerStateRunning { started_at: seconds(seen.started_at) }),
        State::Exited => {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            state.terminated = Some(ContainerStateTerminated {
                exit_code: seen.exit_code,
                reason: text(&seen.reason),
                message: text(&seen.message),
                started_at: seconds(seen.started_at),
                finished_at: seconds(seen.finished_at),
                container_id: Some(id.to_owned()),
                signal: None,
            });
        }
        State::Created | State::Unknown => state.waiting = Some(ContainerStateWaiting::default()),
    }
    state
}

fn volume_mount(mount: &VolumeMount, able: bool) -> VolumeMountStatus {
    // What a mount cannot have is told by the container's failure.
    let recursive = recursively_read_only(mount, able).unwrap_or(false);
    let mode = if recursive { "Enabled" } else { "Disabled" };
    VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: mount.read_only.unwrap_or(false).then(|| mode.to_owned()),
        ..VolumeMountStatus::default()
    }
}

/// Sets `started` and `ready` of every status, from the probes' results.
pub(super) fn set_readiness(inputs: &Inputs<'_>, status: &mut PodStatus) {
    for one in status.container_statuses.iter_mut().flatten() {
        one.started = Some(is_started(inputs, one));
        one.ready = one.started == Some(true) && is_ready(inputs, one);
    }
    for one in status.ephemeral_container_statuses.iter_mut().flatten() {
        one.ready = false;
    }
    let sidecars: Vec<&str> =
        pod::init_containers(inputs.pod).iter().filter(|c| pod::is_sidecar(c)).map(|c| c.name.as_str()).collect();
    for one in status.init_container_statuses.iter_mut().flatten() {
        if sidecars.contains(&one.name.as_str()) {
            one.started = Some(is_started(inputs, one));
            one.ready = one.started == Some(true) && is_ready(inputs, one);
            continue;
        }
        let terminated = one.state.as_ref().and_then(|s| s.terminated.as_ref());
        one.ready = terminated.is_some_and(|t| t.exit_code == 0);
        one.started = Some(false);
    }
}

fn bare_id(status: &ContainerStatus) -> &str {
    let id = status.container_id.as_deref().unwrap_or_default();
    id.strip_prefix("containerd://").unwrap_or(id)
}

/// What was last said about the very same container: a restart of this program must not make it look unready until
/// its probes have run again.
fn before<'a>(inputs: &'a Inputs<'_>, status: &ContainerStatus) -> Option<&'a ContainerStatus> {
    let old = inputs.old;
    let mut all = old.container_statuses.iter().flatten().chain(old.init_container_statuses.iter().flatten());
    all.find(|old| old.name == status.name && old.container_id == status.container_id)
}

fn is_started(inputs: &Inputs<'_>, status: &ContainerStatus) -> bool {
    if status.state.as_ref().is_none_or(|s| s.running.is_none()) {
        return false;
    }
    match inputs.readiness.startup(&status.name, bare_id(status)) {
        None => true,
        Some(None) => before(inputs, status).is_some_and(|before| before.started == Some(true)),
        Some(Some(result)) => result == ProbeResult::Success,
    }
}

fn is_ready(inputs: &Inputs<'_>, status: &ContainerStatus) -> bool {
    match inputs.readiness.readiness(&status.name, bare_id(status)) {
        None => true,
        Some(None) => before(inputs, status).is_some_and(|before| before.ready),
        Some(Some(result)) => result == ProbeResult::Success,
    }
}
