//! What the runtime knows about one pod, as values the pure parts work on.

use std::collections::HashMap;

use cri::v1;
use jiff::Timestamp;

pub(crate) const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const LABEL_CONTAINER: &str = "io.kubernetes.container.name";
pub(crate) const ANNOTATION_HASH: &str = "io.kubernetes.container.hash";
pub(crate) const ANNOTATION_RESTARTS: &str = "io.kubernetes.container.restartCount";
pub(crate) const ANNOTATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub(crate) const ANNOTATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    Running,
    Exited,
    Unknown,
}

/// One container, alive or dead.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub id: String,
    pub name: String,
    pub sandbox_id: String,
    pub state: State,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_ref: String,
    pub hash: u64,
    pub restart_count: i32,
    pub log_path: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    pub created_at: i64,
    pub host_network: bool,
    /// Which of the runtime's handlers runs it; empty for the usual one.
    pub runtime_handler: String,
    /// None when the runtime says nothing about the network.
    pub ip: Option<String>,
    pub additional_ips: Vec<String>,
}

/// Sandboxes and containers of one pod, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodObserved {
    pub sandboxes: Vec<Sandbox>,
    pub containers: Vec<Observed>,
}

impl PodObserved {
    /// The newest container of that name.
    pub(crate) fn container(&self, name: &str) -> Option<&Observed> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The newest container of that name in the active sandbox.
    pub(crate) fn active(&self, name: &str) -> Option<&Observed> {
        let sandbox = self.active_sandbox()?;
        self.containers.iter().find(|c| c.name == name && c.sandbox_id == sandbox.id)
    }

    /// The newest sandbox, when it is ready.
    pub(crate) fn active_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// Addresses of the active sandbox; none for a pod on the host's network.
    pub(crate) fn ips(&self) -> Vec<String> {
        let Some(sandbox) = self.active_sandbox() else { return Vec::new() };
        let first = sandbox.ip.iter().filter(|ip| !ip.is_empty());
        first.chain(&sandbox.additional_ips).cloned().collect()
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Observed> {
        self.containers.iter().filter(|c| c.state == State::Running)
    }

    pub(crate) fn any_running(&self) -> bool {
        self.running().next().is_some()
    }

    pub(crate) fn sort(&mut self) {
        self.sandboxes.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        self.containers.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
    }
}

/// A time of the runtime; zero means never.
pub(crate) fn timestamp(nanoseconds: i64) -> Option<Timestamp> {
    let time = (nanoseconds > 0).then(|| Timestamp::from_nanosecond(i128::from(nanoseconds)));
    time.and_then(Result::ok)
}

pub(crate) fn container(status: &v1::ContainerStatus, sandbox_id: &str) -> Observed {
    let annotation = |key: &str| status.annotations.get(key).map(String::as_str).unwrap_or_default();
    let state = match v1::ContainerState::try_from(status.state) {
        Ok(v1::ContainerState::ContainerCreated) => State::Created,
        Ok(v1::ContainerState::ContainerRunning) => State::Running,
        Ok(v1::ContainerState::ContainerExited) => State::Exited,
        _ => State::Unknown,
    };
    Observed {
        id: status.id.clone(),
        name: label(&status.labels, LABEL_CONTAINER),
        sandbox_id: sandbox_id.to_owned(),
        state,
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason.clone(),
        message: status.message.clone(),
        image: status.image.as_ref().map(|image| image.image.clone()).unwrap_or_default(),
        image_ref: status.image_ref.clone(),
        hash: u64::from_str_radix(annotation(ANNOTATION_HASH), 16).unwrap_or_default(),
        restart_count: annotation(ANNOTATION_RESTARTS).parse().unwrap_or_default(),
        log_path: status.log_path.clone(),
    }
}

pub(crate) fn sandbox(status: &v1::PodSandboxStatus) -> Sandbox {
    let options = status.linux.as_ref().and_then(|l| l.namespaces.as_ref()).and_then(|n| n.options.as_ref());
    let network = status.network.as_ref();
    Sandbox {
        id: status.id.clone(),
        attempt: status.metadata.as_ref().map_or(0, |m| m.attempt),
        ready: status.state == v1::PodSandboxState::SandboxReady as i32,
        created_at: status.created_at,
        host_network: options.is_some_and(|o| o.network == v1::NamespaceMode::Node as i32),
        runtime_handler: status.runtime_handler.clone(),
        ip: network.map(|network| network.ip.clone()),
        additional_ips: network.map(|n| n.additional_ips.iter().map(|ip| ip.ip.clone()).collect()).unwrap_or_default(),
    }
}

pub(crate) fn label(labels: &HashMap<String, String>, key: &str) -> String {
    labels.get(key).cloned().unwrap_or_default()
}
