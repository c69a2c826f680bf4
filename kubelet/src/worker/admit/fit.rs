//! Whether the pod fits beside the others: what the scheduler has looked at, looked at again, because not every pod
//! comes from the scheduler. Pure.

use std::collections::{BTreeMap, BTreeSet};

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

use crate::pod;
use crate::spec::resources::requests;

/// The node as the pods on it see it.
pub(super) struct Place<'a> {
    /// None until it was read from the API: then labels, taints and others' resources are not known.
    pub node: Option<&'a Node>,
    pub own_labels: &'a BTreeMap<String, String>,
    pub allocatable: &'a BTreeMap<String, WireQuantity>,
}

/// Reason and message, as upstream's.
pub(super) struct Refusal {
    pub reason: String,
    pub message: String,
}

fn predicate(name: &str, why: &str) -> Refusal {
    Refusal { reason: name.to_owned(), message: format!("Predicate {name} failed: {why}") }
}

/// The first thing that is against it.
pub(super) fn check(pod: &Pod, others: &[&Pod], place: &Place<'_>) -> Option<Refusal> {
    shortage(pod, others, place)
        .or_else(|| {
            let fits = wants(pod, place);
            (!fits).then(|| predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"))
        })
        .or_else(|| {
            let taken = ports_clash(pod, others);
            taken.then(|| predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports"))
        })
        .or_else(|| {
            let refused = !pod::is_static(pod) && !tolerates_all(pod, place);
            refused.then(|| predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate"))
        })
}

pub(super) fn shortage(pod: &Pod, others: &[&Pod], place: &Place<'_>) -> Option<Refusal> {
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let room = amount(place.allocatable.get("pods"), "pods").unwrap_or(i64::MAX);
    if count >= room {
        return Some(insufficient("pods", 1, count, room));
    }
    let wanted = requests(pod);
    wanted.iter().filter(|(_, wanted)| **wanted > 0).find_map(|(name, wanted)| {
        // What the node does not have is somebody else's to hand out.
        let capacity = capacity(name, place)?;
        let used = others.iter().filter_map(|other| requests(other).get(name).copied()).fold(0, i64::saturating_add);
        (wanted.saturating_add(used) > capacity).then(|| insufficient(name, *wanted, used, capacity))
    })
}

fn capacity(name: &str, place: &Place<'_>) -> Option<i64> {
    let of_node = place.node.and_then(|node| node.status.as_ref()?.allocatable.as_ref());
    amount(place.allocatable.get(name), name).or_else(|| amount(of_node.and_then(|list| list.get(name)), name))
}

fn amount(quantity: Option<&WireQuantity>, name: &str) -> Option<i64> {
    let parsed = quantity?.0.parse::<Quantity>().ok()?;
    Some(if name == "cpu" { parsed.milli_value() } else { parsed.value() })
}

fn insufficient(name: &str, requested: i64, used: i64, capacity: i64) -> Refusal {
    Refusal {
        reason: format!("OutOf{name}"),
        message: format!(
            "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    }
}

/// Its node selector and its required node affinity. A label that nobody has told of yet cannot disagree.
fn wants(pod: &Pod, place: &Place<'_>) -> bool {
    let spec = pod::spec(pod);
    let of_node = place.node.and_then(|node| node.metadata.labels.as_ref());
    let label = |name: &str| of_node.and_then(|labels| labels.get(name)).or_else(|| place.own_labels.get(name));
    let unknown = |name: &str| place.node.is_none() && !place.own_labels.contains_key(name);
    let selected = |(name, value): (&String, &String)| unknown(name) || label(name) == Some(value);
    if !spec.node_selector.iter().flatten().all(selected) {
        return false;
    }
    let required = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = required.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref());
    let (Some(required), Some(node)) = (required, place.node) else { return true };
    required.node_selector_terms.iter().any(|term| matches(term, node))
}

/// A term without requirements matches nothing.
fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
    let field = |key: &str| node.metadata.name.as_deref().filter(|_| key == "metadata.name");
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|one| holds(one, label(&one.key)))
        && fields.iter().all(|one| holds(one, field(&one.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|one| one == value));
    let numbers = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, bound)| value > bound),
        "Lt" => numbers().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

/// Address, protocol and number; the unspecified address is all of them.
fn host_ports(pod: &Pod) -> BTreeSet<(String, String, i32)> {
    let sidecars = pod::init_containers(pod).iter().filter(|container| pod::is_sidecar(container));
    let containers = pod::spec(pod).containers.iter().chain(sidecars);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| Some((port, port.host_port.filter(|number| *number > 0)?)));
    let text = |text: &Option<String>, default: &str| text.clone().filter(|t| !t.is_empty()).unwrap_or(default.into());
    taken.map(|(port, number)| (text(&port.host_ip, "0.0.0.0"), text(&port.protocol, "TCP"), number)).collect()
}

fn ports_clash(pod: &Pod, others: &[&Pod]) -> bool {
    let own = host_ports(pod);
    if own.is_empty() {
        return false;
    }
    let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
    let clash = |a: &(String, String, i32), b: &(String, String, i32)| {
        a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || any(&a.0) || any(&b.0))
    };
    others.iter().any(|other| host_ports(other).iter().any(|theirs| own.iter().any(|ours| clash(ours, theirs))))
}

/// Only of taints that would send it away again at once.
fn tolerates_all(pod: &Pod, place: &Place<'_>) -> bool {
    let taints = place.node.and_then(|node| node.spec.as_ref()?.taints.as_ref());
    let tolerations = pod::spec(pod).tolerations.as_deref().unwrap_or_default();
    let mut severe = taints.into_iter().flatten().filter(|taint| taint.effect == "NoExecute");
    severe.all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let names =
        |text: &Option<String>, other: &str| text.as_deref().is_none_or(|text| text.is_empty() || text == other);
    let (own, value) = (toleration.value.as_deref().unwrap_or(""), taint.value.as_deref().unwrap_or(""));
    let numbers = || Some((value.parse::<i64>().ok()?, own.parse::<i64>().ok()?));
    names(&toleration.effect, &taint.effect)
        && names(&toleration.key, &taint.key)
        && match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => own == value,
            "Exists" => true,
            "Gt" => numbers().is_some_and(|(value, own)| value > own),
            "Lt" => numbers().is_some_and(|(value, own)| value < own),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pod::tests::pod;

    fn refused(spec: Value, others: &[Pod]) -> Option<String> {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n", "labels": {"disk": "ssd"}},
            "spec": {"taints": [{"key": "gone", "effect": "NoExecute"}, {"key": "soft", "effect": "NoSchedule"}]},
            "status": {"allocatable": {"example.com/gpu": "1"}},
        }))
        .unwrap();
        let quantities = [("cpu", "1"), ("memory", "1Gi"), ("ephemeral-storage", "100"), ("pods", "3")];
        let allocatable = quantities.map(|(name, value)| (name.to_owned(), WireQuantity(value.into()))).into();
        let own_labels = BTreeMap::from([("kubernetes.io/os".to_owned(), "linux".to_owned())]);
        let place = Place { node: Some(&node), own_labels: &own_labels, allocatable: &allocatable };
        let others: Vec<&Pod> = others.iter().collect();
        check(&pod(spec), &others, &place).map(|refusal| format!("{}: {}", refusal.reason, refusal.message))
    }

    fn spec(more: &Value) -> Value {
        let mut spec = json!({"containers": [{"name": "c"}], "tolerations": [{"operator": "Exists"}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    }

    #[test]
    fn together_more_than_there_are_numbers_for() {
        let huge = json!({"requests": {"memory": "5E"}});
        let spec = spec(&json!({"containers": [{"name": "a", "resources": huge}, {"name": "b", "resources": huge}]}));
        let others = [pod(spec.clone()), pod(spec.clone())];
        for others in [&[] as &[Pod], &others] {
            let why = refused(spec.clone(), others).unwrap();
            assert!(why.starts_with("OutOfmemory:"), "{why}");
        }
    }

    #[test]
    fn what_is_against_a_pod() {
        let asks = |name: &str, amount: &str| {
            spec(&json!({"containers": [{"name": "c", "resources": {"requests": {name: amount}}}]}))
        };
        let affinity = |value: &str| {
            spec(&json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": [value]}]}]}}}}))
        };
        for (spec, expected) in [
            (spec(&json!({})), None),
            (
                asks("cpu", "1001m"),
                Some("OutOfcpu: Node didn't have enough resource: cpu, requested: 1001, used: 0, capacity: 1000"),
            ),
            (
                asks("ephemeral-storage", "101"),
                Some(
                    "OutOfephemeral-storage: Node didn't have enough resource: ephemeral-storage, requested: 101, used: 0, capacity: 100",
                ),
            ),
            (
                asks("example.com/gpu", "2"),
                Some(
                    "OutOfexample.com/gpu: Node didn't have enough resource: example.com/gpu, requested: 2, used: 0, capacity: 1",
                ),
            ),
            (asks("example.com/elsewhere", "2"), None),
            (
                spec(&json!({"overhead": {"cpu": "2"}})),
                Some("OutOfcpu: Node didn't have enough resource: cpu, requested: 2000, used: 0, capacity: 1000"),
            ),
            (spec(&json!({"nodeSelector": {"disk": "ssd", "kubernetes.io/os": "linux"}})), None),
            (
                spec(&json!({"nodeSelector": {"disk": "tape"}})),
                Some("NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"),
            ),
            (affinity("ssd"), None),
            (
                affinity("tape"),
                Some("NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"),
            ),
            (spec(&json!({"tolerations": [{"key": "gone"}]})), None),
            (
                spec(&json!({"tolerations": []})),
                Some(
                    "TaintToleration: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
                ),
            ),
        ] {
            assert_eq!(refused(spec.clone(), &[]).as_deref(), expected, "{spec}");
        }
    }

    #[test]
    fn what_others_have_taken() {
        let port = |ip: &str, protocol: &str| {
            let ports = json!([{"containerPort": 1, "hostPort": 80, "hostIP": ip, "protocol": protocol}]);
            spec(
                &json!({"containers": [{"name": "c", "ports": ports, "resources": {"requests": {"memory": "600Mi"}}}]}),
            )
        };
        let free = |ip: &str, protocol: &str| {
            let mut spec = port(ip, protocol);
            spec["containers"][0]["resources"] = json!({});
            spec
        };
        let other = pod(port("10.0.0.1", "TCP"));
        let full = refused(port("10.0.0.2", "TCP"), std::slice::from_ref(&other)).unwrap();
        assert!(full.starts_with("OutOfmemory:"), "{full}");
        for (ip, protocol, clashes) in
            [("10.0.0.1", "TCP", true), ("10.0.0.1", "UDP", false), ("10.0.0.2", "TCP", false), ("", "TCP", true)]
        {
            let answer = refused(free(ip, protocol), std::slice::from_ref(&other));
            assert_eq!(answer.is_some_and(|text| text.starts_with("NodePorts")), clashes, "{ip} {protocol}");
        }
        let crowd = vec![pod(spec(&json!({}))); 3];
        assert!(refused(spec(&json!({})), &crowd).unwrap().starts_with("OutOfpods"));
    }
}
