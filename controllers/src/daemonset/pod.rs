//! The pod for one node. Pure.

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration},
};
use reconcile::controller_ref;

use super::plan::HASH_LABEL;
use crate::pod_control::pod_of;

const NAME_FIELD: &str = "metadata.name";
const GENERATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";

/// What a daemon's pod tolerates whatever its template says: key below `node.kubernetes.io/`, and effect.
const TOLERATED: [(&str, &str); 6] = [
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
];

pub(super) fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut tolerations = spec.tolerations.clone().unwrap_or_default();
    let host = spec.host_network.unwrap_or(false).then_some(("network-unavailable", "NoSchedule"));
    for (key, effect) in TOLERATED.into_iter().chain(host) {
        let toleration = Toleration {
            key: Some(format!("node.kubernetes.io/{key}")),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        let same = |it: &&mut Toleration| {
            it.key == toleration.key && it.effect == toleration.effect && it.operator == toleration.operator
        };
        match tolerations.iter_mut().find(same) {
            Some(present) => *present = toleration,
            None => tolerations.push(toleration),
        }
    }
    tolerations
}

pub(super) fn make(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let mut pod = pod_of(&set.spec.template, controller_ref(set));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    if let Some(generation) = generation(set) {
        labels.insert(GENERATION_LABEL.to_owned(), generation.to_owned());
    }
    let spec = pod.spec.get_or_insert_default();
    spec.tolerations = Some(tolerations(spec));
    only_on(spec.affinity.get_or_insert_default(), node);
    pod
}

pub(super) fn generation(set: &DaemonSet) -> Option<&str> {
    set.metadata.annotations.as_ref()?.get(GENERATION).map(String::as_str)
}

/// The pod was made of the present template.
pub(super) fn is_updated(set: &DaemonSet, pod: &Pod, hash: &str) -> bool {
    let label = |name: &str| pod.metadata.labels.as_ref().and_then(|it| it.get(name)).map(String::as_str);
    label(HASH_LABEL) == Some(hash) || generation(set).is_some_and(|it| label(GENERATION_LABEL) == Some(it))
}

/// The scheduler binds it; it can do so only to this node.
fn only_on(affinity: &mut Affinity, node: &str) {
    let requirement = NodeSelectorRequirement {
        key: NAME_FIELD.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![requirement]), ..NodeSelectorTerm::default() };
    let wanted = affinity.node_affinity.get_or_insert_default();
    wanted.required_during_scheduling_ignored_during_execution = Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node that [`make`] meant a pod for.
pub(super) fn wanted_node(pod: &Pod) -> Option<String> {
    let wanted = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &wanted.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let mut fields = terms.iter().filter_map(|term| term.match_fields.as_ref()).flatten();
    let named = fields.find(|it| it.key == NAME_FIELD && it.operator == "In")?;
    match named.values.as_deref()? {
        [name] => Some(name.clone()),
        _ => None,
    }
}
