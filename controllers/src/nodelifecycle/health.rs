//! When each node was last heard of. Pure but for its memory.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, NodeCondition},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, Time},
};
use kube::ResourceExt as _;

use crate::Config;

/// The conditions that are unknown when a node is silent.
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Name and uid of a node that is gone.
pub(super) type Gone = (String, Option<String>);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    Alive,
    /// Nothing was heard for the grace period.
    Silent,
}

#[derive(Debug, Default)]
pub(super) struct Health {
    nodes: HashMap<String, Seen>,
}

#[derive(Debug)]
struct Seen {
    uid: Option<String>,
    heard: Instant,
    /// Of the Ready condition.
    heartbeat: Option<Time>,
    renewed: Option<MicroTime>,
    was_ready: bool,
}

pub(super) fn ready(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|it| it.type_ == "Ready")
}

impl Health {
    pub(super) fn knows(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    /// Whether a node was ready when it was last looked at; nothing when it is not known.
    pub(super) fn was_ready(&self, name: &str) -> Option<bool> {
        self.nodes.get(name).map(|seen| seen.was_ready)
    }

    /// Nodes that are new, and names and uids of those that are gone; the latter are forgotten.
    pub(super) fn census(&mut self, nodes: &[Arc<Node>]) -> (Vec<Arc<Node>>, Vec<Gone>) {
        let new = nodes.iter().filter(|node| !self.knows(&node.name_any())).cloned().collect();
        let present: HashSet<String> = nodes.iter().map(|node| node.name_any()).collect();
        let gone: Vec<_> = self.nodes.iter().filter(|(name, _)| !present.contains(*name)).collect();
        let gone = gone.into_iter().map(|(name, seen)| (name.clone(), seen.uid.clone())).collect();
        self.nodes.retain(|name, _| present.contains(name));
        (new, gone)
    }

    /// Takes what is known of a node now.
    pub(super) fn judge(&mut self, node: &Node, lease: Option<&Lease>, config: &Config, now: Instant) -> Judged {
        let condition = ready(node);
        let heartbeat = condition.and_then(|it| it.last_heartbeat_time.clone());
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.clone());
        let seen = self.nodes.entry(node.name_any()).or_insert_with(|| Seen {
            uid: node.metadata.uid.clone(),
            heard: now,
            heartbeat: heartbeat.clone(),
            renewed: renewed.clone(),
            was_ready: condition.is_some_and(|it| it.status == "True"),
        });
        // A heartbeat that this controller wrote itself is not one: it leaves the time as it was.
        if heartbeat != seen.heartbeat || renewed > seen.renewed {
            seen.heard = now;
        }
        seen.heartbeat = heartbeat;
        seen.renewed = renewed.max(seen.renewed.take());
        let grace =
            if condition.is_some() { config.node_monitor_grace_period } else { config.node_startup_grace_period };
        if now.saturating_duration_since(seen.heard) > grace { Judged::Silent } else { Judged::Alive }
    }

    /// Notes whether a node is ready; true when it has just ceased to be.
    pub(super) fn note_ready(&mut self, name: &str, status: Option<&str>) -> bool {
        let Some(seen) = self.nodes.get_mut(name) else { return false };
        let is_ready = status == Some("True");
        let ceased = seen.was_ready && !is_ready;
        seen.was_ready = is_ready;
        ceased
    }

    /// All nodes get their grace period anew: nothing could be heard for a while.
    pub(super) fn restart(&mut self, now: Instant) {
        self.nodes.values_mut().for_each(|seen| seen.heard = now);
    }
}

/// The conditions of a node that is silent, if they do not say so yet.
pub(super) fn silenced(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let mut conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let mut changed = false;
    for type_ in CONDITIONS {
        match conditions.iter_mut().find(|it| it.type_ == type_) {
            Some(present) if present.status == "Unknown" => {}
            Some(present) => {
                changed = true;
                present.status = "Unknown".to_owned();
                present.reason = Some("NodeStatusUnknown".to_owned());
                present.message = Some("Kubelet stopped posting node status.".to_owned());
                present.last_transition_time = Some(Time(now));
            }
            None => {
                changed = true;
                conditions.push(NodeCondition {
                    type_: type_.to_owned(),
                    status: "Unknown".to_owned(),
                    reason: Some("NodeStatusNeverUpdated".to_owned()),
                    message: Some("Kubelet never posted node status.".to_owned()),
                    last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                    last_transition_time: Some(Time(now)),
                });
            }
        }
    }
    changed.then_some(conditions)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
