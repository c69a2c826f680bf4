//! Which taints a node's conditions ask for. Pure.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::health::ready;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

/// Condition type, its status, and the taint that goes with it.
const CONDITIONS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// Taints to add and to remove, by key and effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TaintChange {
    add: Vec<(&'static str, &'static str)>,
    remove: Vec<(&'static str, &'static str)>,
}

impl TaintChange {
    pub(super) fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// The node's taints after the change, if it changes them.
    pub(super) fn apply(&self, node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
        let is = |taint: &Taint, it: &(&str, &str)| taint.key == it.0 && taint.effect == it.1;
        let present = taints(node);
        let mut after: Vec<Taint> = present.to_vec();
        after.retain(|taint| !self.remove.iter().any(|it| is(taint, it)));
        for it in &self.add {
            if !after.iter().any(|taint| is(taint, it)) {
                let (key, effect) = (it.0.to_owned(), it.1.to_owned());
                after.push(Taint { key, effect, value: None, time_added: Some(Time(now)) });
            }
        }
        (after != present).then_some(after)
    }
}

fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

fn has(node: &Node, key: &str, effect: &str) -> bool {
    taints(node).iter().any(|taint| taint.key == key && taint.effect == effect)
}

/// Taints against scheduling: one for each condition that is not as it should be, and for a cordon.
pub(super) fn no_schedule(node: &Node) -> TaintChange {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_so = |type_: &str, status: &str| conditions.iter().any(|it| it.type_ == type_ && it.status == status);
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let wanted = CONDITIONS.into_iter().map(|(type_, status, key)| (key, is_so(type_, status)));
    let mut change = TaintChange::default();
    for (key, wanted) in wanted.chain([(UNSCHEDULABLE, cordoned)]) {
        match (wanted, has(node, key, NO_SCHEDULE)) {
            (true, false) => change.add.push((key, NO_SCHEDULE)),
            (false, true) => change.remove.push((key, NO_SCHEDULE)),
            _ => {}
        }
    }
    change
}

/// A change of the taints that end pods.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Execution {
    pub(super) taints: TaintChange,
    /// It puts a node under sentence that was not, and has to wait for its turn.
    pub(super) is_limited: bool,
}

/// The taint that ends pods for the status of the Ready condition. While all nodes are down none is set: it is more
/// likely that this controller is cut off.
pub(super) fn no_execute(node: &Node, status: Option<&str>, all_down: bool) -> Option<Execution> {
    let status = status.or_else(|| ready(node).map(|it| it.status.as_str()))?;
    let wanted = match status {
        _ if all_down => None,
        "False" => Some(NOT_READY),
        "Unknown" => Some(UNREACHABLE),
        _ => None,
    };
    let mut taints = TaintChange::default();
    for key in [NOT_READY, UNREACHABLE] {
        if Some(key) != wanted && has(node, key, NO_EXECUTE) {
            taints.remove.push((key, NO_EXECUTE));
        }
    }
    if let Some(key) = wanted.filter(|key| !has(node, key, NO_EXECUTE)) {
        taints.add.push((key, NO_EXECUTE));
    }
    let is_limited = !taints.add.is_empty() && taints.remove.is_empty();
    (!taints.is_empty()).then_some(Execution { taints, is_limited })
}
