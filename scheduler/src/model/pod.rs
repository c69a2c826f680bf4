//! A pod, digested.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Affinity, Pod, PodSpec, Toleration};
use reconcile::Key;

use super::{
    NodeSelector, PodTerm, Resources, SpreadConstraint,
    affinity::{Labels, NodeTerm, Weighted},
    resources::requests,
};

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostPort {
    ip: String,
    protocol: String,
    port: i32,
}

impl HostPort {
    /// Both cannot be on one node: an unspecified address takes the port on all.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        let same_ip = self.ip == other.ip || any(&self.ip) || any(&other.ip);
        self.port == other.port && self.protocol == other.protocol && same_ip
    }
}

/// Required and preferred pod terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodTerms {
    pub(crate) required: Vec<PodTerm>,
    pub(crate) preferred: Vec<Weighted<PodTerm>>,
}

impl PodTerms {
    pub(crate) fn is_empty(&self) -> bool {
        self.required.is_empty() && self.preferred.is_empty()
    }
}

/// A pod as a decision needs it.
#[derive(Clone, Debug)]
pub(crate) struct PodInfo {
    pub(crate) key: Key,
    pub(crate) uid: String,
    pub(crate) object: Arc<Pod>,
    pub(crate) node_name: String,
    pub(crate) nominated: String,
    pub(crate) labels: Labels,
    pub(crate) priority: i64,
    pub(crate) requests: Resources,
    /// The same, with a little for containers that ask for nothing.
    pub(crate) scored_requests: Resources,
    pub(crate) host_ports: Vec<HostPort>,
    pub(crate) node_selector: Labels,
    pub(crate) required_nodes: Option<NodeSelector>,
    pub(crate) preferred_nodes: Vec<Weighted<NodeTerm>>,
    pub(crate) affinity: PodTerms,
    pub(crate) anti_affinity: PodTerms,
    pub(crate) spread: Vec<SpreadConstraint>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) images: BTreeSet<String>,
    pub(crate) containers: usize,
    pub(crate) gated: bool,
    pub(crate) terminating: bool,
    pub(crate) started: Option<Timestamp>,
    pub(crate) may_preempt: bool,
}

impl PodInfo {
    pub(crate) fn new(object: Arc<Pod>) -> Self {
        let key = Key::of(&*object);
        let labels = object.metadata.labels.clone().unwrap_or_default();
        let empty = PodSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&empty);
        let status = object.status.as_ref();
        let affinity = spec.affinity.clone().unwrap_or_default();
        Self {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            node_name: spec.node_name.clone().unwrap_or_default(),
            nominated: status.and_then(|s| s.nominated_node_name.clone()).unwrap_or_default(),
            priority: spec.priority.unwrap_or(0).into(),
            requests: requests(&object, false),
            scored_requests: requests(&object, true),
            host_ports: host_ports(spec),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            required_nodes: required_nodes(&affinity),
            preferred_nodes: preferred_nodes(&affinity),
            affinity: affinity_terms(&affinity, &key.namespace, &labels),
            anti_affinity: anti_affinity_terms(&affinity, &key.namespace, &labels),
            spread: spec
                .topology_spread_constraints
                .iter()
                .flatten()
                .map(|c| SpreadConstraint::new(c, &labels))
                .collect(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            images: images(spec),
            containers: spec.containers.len() + spec.init_containers.as_ref().map_or(0, Vec::len),
            gated: spec.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty()),
            terminating: object.metadata.deletion_timestamp.is_some(),
            started: status.and_then(|s| s.start_time.as_ref()).map(|t| t.0),
            may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
            key,
            labels,
            object,
        }
    }

    /// The pod's own conditions on a node's name and labels.
    pub(crate) fn selects_node(&self, name: &str, labels: &Labels) -> bool {
        let equal = self.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        equal && self.required_nodes.as_ref().is_none_or(|s| s.matches(name, labels))
    }

    /// The same pod on a node.
    pub(crate) fn on(&self, node: &str) -> Self {
        Self { node_name: node.to_owned(), ..self.clone() }
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let taken = ports.filter_map(|p| {
        let port = p.host_port.filter(|p| *p > 0)?;
        let ip = p.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
        Some(HostPort { ip, protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), port })
    });
    taken.collect()
}

fn required_nodes(affinity: &Affinity) -> Option<NodeSelector> {
    let required = affinity.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()?;
    Some(NodeSelector::new(required))
}

fn preferred_nodes(affinity: &Affinity) -> Vec<Weighted<NodeTerm>> {
    let node = affinity.node_affinity.as_ref();
    let preferred = node.and_then(|n| n.preferred_during_scheduling_ignored_during_execution.as_ref());
    let terms = preferred.into_iter().flatten();
    terms.map(|p| Weighted { weight: p.weight.into(), term: NodeTerm::new(&p.preference) }).collect()
}

fn affinity_terms(affinity: &Affinity, namespace: &str, own: &Labels) -> PodTerms {
    let Some(affinity) = &affinity.pod_affinity else { return PodTerms::default() };
    let required = affinity.required_during_scheduling_ignored_during_execution.iter().flatten();
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    PodTerms {
        required: required.map(|t| PodTerm::new(t, namespace, own)).collect(),
        preferred: preferred
            .map(|p| Weighted { weight: p.weight.into(), term: PodTerm::new(&p.pod_affinity_term, namespace, own) })
            .collect(),
    }
}

fn anti_affinity_terms(affinity: &Affinity, namespace: &str, own: &Labels) -> PodTerms {
    let Some(affinity) = &affinity.pod_anti_affinity else { return PodTerms::default() };
    let required = affinity.required_during_scheduling_ignored_during_execution.iter().flatten();
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    PodTerms {
        required: required.map(|t| PodTerm::new(t, namespace, own)).collect(),
        preferred: preferred
            .map(|p| Weighted { weight: p.weight.into(), term: PodTerm::new(&p.pod_affinity_term, namespace, own) })
            .collect(),
    }
}

fn images(spec: &PodSpec) -> BTreeSet<String> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers.filter_map(|c| c.image.as_deref()).map(normalized_image).collect()
}

/// `nginx` as `nginx:latest`, as nodes report it.
pub(crate) fn normalized_image(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || image.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}
