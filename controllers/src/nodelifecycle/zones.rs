//! How fast nodes may be sentenced: in a zone where most are down it is more likely that something else is wrong.

use std::{collections::HashMap, sync::Arc, time::Instant};

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

use crate::Config;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Normal,
    /// Many nodes are down.
    Partial,
    /// All nodes are down.
    Full,
}

#[derive(Debug)]
struct Zone {
    state: State,
    /// Nodes per second.
    rate: f64,
    /// At most one is saved up.
    tokens: f64,
    at: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Zones {
    zones: HashMap<String, Zone>,
    all_down: bool,
}

/// What holds for all zones.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overall {
    /// Every node of every zone is down.
    pub(super) all_down: bool,
    /// That was so until now.
    pub(super) recovered: bool,
}

fn zone_of(node: &Node) -> String {
    let label = |name: &str| node.labels().get(name).cloned().unwrap_or_default();
    format!("{}:{}", label(REGION), label(ZONE))
}

impl Zones {
    /// Takes the nodes with the status of their Ready condition.
    pub(super) fn observe(&mut self, nodes: &[(Arc<Node>, Option<String>)], config: &Config) -> Overall {
        let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
        for (node, status) in nodes.iter().filter(|(node, _)| !node.labels().contains_key(EXCLUDED)) {
            let count = counts.entry(zone_of(node)).or_default();
            count.0 += 1;
            count.1 += usize::from(status.as_deref() != Some("True"));
        }
        self.zones.retain(|name, _| counts.contains_key(name));
        for (name, (all, down)) in counts {
            let state = state(all, down, config.unhealthy_zone_threshold);
            let rate = match state {
                State::Normal | State::Full => config.node_eviction_rate,
                State::Partial if all > config.large_cluster_size_threshold => config.secondary_node_eviction_rate,
                State::Partial => 0.0,
            };
            let zone = self.zones.entry(name).or_insert(Zone { state, rate, tokens: 1.0, at: None });
            (zone.state, zone.rate) = (state, rate);
        }
        let was_down = self.all_down;
        self.all_down = !self.zones.is_empty() && self.zones.values().all(|zone| zone.state == State::Full);
        Overall { all_down: self.all_down, recovered: was_down && !self.all_down }
    }

    /// Takes a turn of the node's zone, if there is one.
    pub(super) fn may_taint(&mut self, node: &Node, now: Instant) -> bool {
        let Some(zone) = self.zones.get_mut(&zone_of(node)) else { return true };
        let elapsed = zone.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        zone.at = Some(now);
        zone.tokens = (zone.tokens + elapsed * zone.rate).min(1.0);
        if zone.rate <= 0.0 || zone.tokens < 1.0 {
            return false;
        }
        zone.tokens -= 1.0;
        true
    }
}

fn state(all: usize, down: usize, threshold: f64) -> State {
    #[expect(clippy::cast_precision_loss, reason = "numbers of nodes are small")]
    let share = down as f64 / all.max(1) as f64;
    if down == all && down > 0 {
        State::Full
    } else if down > 2 && share >= threshold {
        State::Partial
    } else {
        State::Normal
    }
}
