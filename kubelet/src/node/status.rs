//! The node's status: derived every ten seconds, sent when it changed or five minutes passed.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeStatus, ObjectReference,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams};
use reconcile::EventType;
use serde_json::json;

use super::machine::Machine;
use super::{Abilities, register};
use crate::kubelet::Kubelet;

/// Images named in the status, the largest first, and names of each.
const MAX_IMAGES: usize = 50;
const MAX_NAMES: usize = 5;

pub(super) async fn run(kubelet: Arc<Kubelet>) -> Result<(), kube::Error> {
    let Some(node) = register::until_registered(&kubelet).await else { return Ok(()) };
    let mut sent = node.status.clone();
    let mut sent_at: Option<Instant> = None;
    loop {
        take_over_conditions(&kubelet, &mut sent).await;
        let status = current(&kubelet, sent.as_ref()).await;
        let due = sent_at.is_none_or(|at| at.elapsed() >= kubelet.config.status_report_frequency);
        if due || differs(sent.as_ref(), &status) {
            match send(&kubelet, &status).await {
                Ok(()) => {
                    announce(&kubelet, &node, sent.as_ref(), &status, sent_at.is_none());
                    sent = Some(status);
                    sent_at = Some(daemon::clock::monotonic());
                }
                // The object was removed: start anew.
                Err(kube::Error::Api(answer)) if answer.code == 404 => return Err(kube::Error::Api(answer)),
                Err(error) => tracing::warn!(%error, "cannot send the node's status"),
            }
        }
        let wait = async {
            tokio::select! {
                () = tokio::time::sleep(kubelet.config.status_update_frequency) => {}
                () = kubelet.runtime_state.changed() => {}
            }
        };
        if kubelet.tasks.drain().run(wait).await.is_none() {
            return Ok(());
        }
    }
}

/// Others write conditions too: a node that was silent is found to be unknown, which has to be taken back at once.
async fn take_over_conditions(kubelet: &Kubelet, sent: &mut Option<NodeStatus>) {
    let api: Api<Node> = Api::all(kubelet.client.clone());
    let stored = api.get(&kubelet.config.node_name).await.ok().and_then(|node| node.status);
    if let (Some(sent), Some(stored)) = (sent, stored) {
        sent.conditions = stored.conditions;
    }
}

async fn send(kubelet: &Kubelet, status: &NodeStatus) -> Result<(), kube::Error> {
    let api: Api<Node> = Api::all(kubelet.client.clone());
    let mut patch = json!({"status": status});
    // What the runtime no longer tells of goes.
    for field in ["features", "runtimeHandlers"] {
        if patch["status"][field].is_null() {
            patch["status"][field] = serde_json::Value::Null;
        }
    }
    let patch = Patch::Strategic(patch);
    api.patch_status(&kubelet.config.node_name, &PatchParams::default(), &patch).await.map(drop)
}

/// Heartbeats alone are no difference.
fn differs(sent: Option<&NodeStatus>, status: &NodeStatus) -> bool {
    let Some(sent) = sent else { return true };
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        // Conditions of others come back with the object.
        if let Some(conditions) = &mut status.conditions {
            conditions.retain(|c| OWNED.contains(&c.type_.as_str()));
        }
        status
    };
    still(sent) != still(status)
}

const OWNED: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"];

struct Finding {
    kind: &'static str,
    status: bool,
    reason: &'static str,
    message: String,
}

/// `sent` is what the API knows: conditions that did not change keep their time.
pub(super) async fn current(kubelet: &Kubelet, sent: Option<&NodeStatus>) -> NodeStatus {
    let config = &kubelet.config;
    let machine = &kubelet.machine;
    let abilities = kubelet.runtime_state.abilities();
    let findings = [memory(kubelet), disk(kubelet), processes(kubelet), ready(kubelet)];
    let now = Time(daemon::clock::now());
    let condition = |finding: Finding| {
        let status = if finding.status { "True" } else { "False" };
        let before = sent.and_then(|sent| sent.conditions.iter().flatten().find(|c| c.type_ == finding.kind));
        let kept = before.filter(|before| before.status == status).and_then(|c| c.last_transition_time.clone());
        NodeCondition {
            type_: finding.kind.to_owned(),
            status: status.to_owned(),
            reason: Some(finding.reason.to_owned()),
            message: Some(finding.message),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: Some(kept.unwrap_or_else(|| now.clone())),
        }
    };
    let address = |kind: &str, address: String| NodeAddress { address, type_: kind.to_owned() };
    let mut addresses: Vec<NodeAddress> =
        config.node_ips.iter().map(|ip| address("InternalIP", ip.to_string())).collect();
    addresses.push(address("Hostname", config.node_name.clone()));
    NodeStatus {
        addresses: Some(addresses),
        allocatable: Some(machine.allocatable_list(config)),
        capacity: Some(machine.capacity(config)),
        conditions: Some(findings.into_iter().map(condition).collect()),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(config.server.address.port()) }),
        }),
        images: Some(images(kubelet).await),
        node_info: Some(machine.info.clone()),
        features: features(&abilities),
        runtime_handlers: runtime_handlers(&abilities),
        ..NodeStatus::default()
    }
}

fn features(abilities: &Abilities) -> Option<NodeFeatures> {
    let told = abilities.features?;
    Some(NodeFeatures { supplemental_groups_policy: Some(told.supplemental_groups_policy) })
}

fn runtime_handlers(abilities: &Abilities) -> Option<Vec<NodeRuntimeHandler>> {
    let handler = |handler: &cri::v1::RuntimeHandler| {
        let able = handler.features.unwrap_or_default();
        NodeRuntimeHandler {
            name: (!handler.name.is_empty()).then(|| handler.name.clone()),
            features: Some(NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(able.recursive_read_only_mounts),
                user_namespaces: Some(able.user_namespaces),
            }),
        }
    };
    (!abilities.handlers.is_empty()).then(|| abilities.handlers.iter().map(handler).collect())
}

async fn images(kubelet: &Kubelet) -> Vec<ContainerImage> {
    let mut images = kubelet.runtime.list_images().await.unwrap_or_default();
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let image = |image: cri::v1::Image| ContainerImage {
        names: Some(image.repo_digests.into_iter().chain(image.repo_tags).take(MAX_NAMES).collect()),
        size_bytes: i64::try_from(image.size).ok(),
    };
    images.into_iter().take(MAX_IMAGES).map(image).collect()
}

fn memory(kubelet: &Kubelet) -> Finding {
    let threshold = kubelet.config.thresholds.memory_bytes;
    let kind = "MemoryPressure";
    if Machine::memory_available() < threshold {
        let message = "kubelet has insufficient memory available".into();
        return Finding { kind, status: true, reason: "KubeletHasInsufficientMemory", message };
    }
    let message = "kubelet has sufficient memory available".into();
    Finding { kind, status: false, reason: "KubeletHasSufficientMemory", message }
}

fn disk(kubelet: &Kubelet) -> Finding {
    let kind = "DiskPressure";
    let low = |left: u64, all: u64, percent: u64| all > 0 && left * 100 / all < percent;
    let disk = Machine::disk(&kubelet.config.root_dir);
    let thresholds = kubelet.config.thresholds;
    let pressed = disk.is_some_and(|disk| {
        low(disk.available, disk.capacity, thresholds.disk_percent)
            || low(disk.inodes_free, disk.inodes, thresholds.inodes_percent)
    });
    if pressed {
        return Finding {
            kind,
            status: true,
            reason: "KubeletHasDiskPressure",
            message: "kubelet has disk pressure".into(),
        };
    }
    Finding { kind, status: false, reason: "KubeletHasNoDiskPressure", message: "kubelet has no disk pressure".into() }
}

fn processes(kubelet: &Kubelet) -> Finding {
    let kind = "PIDPressure";
    let number = |path: &str| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<i64>().ok());
    let max = number("/proc/sys/kernel/pid_max").unwrap_or(i64::MAX);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let running =
        load.split_whitespace().nth(3).and_then(|pair| pair.split_once('/')).and_then(|(_, all)| all.parse().ok());
    let left = max - running.unwrap_or(0);
    if left < max / 100 * kubelet.config.thresholds.pids_percent {
        let message = "kubelet has insufficient PID available".into();
        return Finding { kind, status: true, reason: "KubeletHasInsufficientPID", message };
    }
    Finding {
        kind,
        status: false,
        reason: "KubeletHasSufficientPID",
        message: "kubelet has sufficient PID available".into(),
    }
}

fn ready(kubelet: &Kubelet) -> Finding {
    let kind = "Ready";
    let problems = kubelet.runtime_state.problems();
    match problems.as_slice() {
        [] => Finding { kind, status: true, reason: "KubeletReady", message: "kubelet is posting ready status".into() },
        [one] => Finding { kind, status: false, reason: "KubeletNotReady", message: one.clone() },
        several => {
            Finding { kind, status: false, reason: "KubeletNotReady", message: format!("[{}]", several.join(", ")) }
        }
    }
}

/// Events about what changed.
fn announce(kubelet: &Kubelet, node: &Node, old: Option<&NodeStatus>, new: &NodeStatus, first: bool) {
    let name = &kubelet.config.node_name;
    let about = || ObjectReference {
        kind: Some("Node".into()),
        name: Some(name.clone()),
        uid: Some(name.clone()),
        ..ObjectReference::default()
    };
    let _ = node;
    if first {
        kubelet.recorder.event_about(about(), EventType::Normal, "Starting", "Starting kubelet.");
    }
    let before = |kind: &str| old.and_then(|s| s.conditions.iter().flatten().find(|c| c.type_ == kind));
    for condition in new.conditions.iter().flatten() {
        let unchanged = before(&condition.type_).is_some_and(|before| before.status == condition.status);
        if unchanged && !first {
            continue;
        }
        let event = event_of(&condition.type_, condition.status == "True");
        // A node that was not ready from the start has not become so.
        if first && unchanged && condition.type_ == "Ready" {
            continue;
        }
        let message = format!("Node {name} status is now: {event}");
        kubelet.recorder.event_about(about(), EventType::Normal, event, message);
    }
}

fn event_of(condition: &str, on: bool) -> &'static str {
    match (condition, on) {
        ("MemoryPressure", true) => "NodeHasInsufficientMemory",
        ("MemoryPressure", false) => "NodeHasSufficientMemory",
        ("DiskPressure", true) => "NodeHasDiskPressure",
        ("DiskPressure", false) => "NodeHasNoDiskPressure",
        ("PIDPressure", true) => "NodeHasInsufficientPID",
        ("PIDPressure", false) => "NodeHasSufficientPID",
        (_, true) => "NodeReady",
        (_, false) => "NodeNotReady",
    }
}
