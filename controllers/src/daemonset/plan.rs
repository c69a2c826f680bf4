//! Which nodes need a pod, which pods are too many, and the status. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, DaemonSetStatus},
    core::v1::{Node, Pod, Toleration},
};

use super::{pod, rollout, target};
use crate::{affinity, pods, tainteviction::tolerates};

pub(super) const HASH_LABEL: &str = "controller-revision-hash";
/// Pods made or deleted at once.
const BURST: usize = 250;

/// A set, its pods by node, and what nodes mean for it.
pub(super) struct Observed<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) hash: &'a str,
    /// Name, whether a pod should be there, and whether one that is may stay.
    pub(super) nodes: Vec<(String, bool, bool)>,
    pub(super) pods: BTreeMap<String, Vec<Arc<Pod>>>,
    pub(super) now: Timestamp,
}

/// A pod that ended although daemons do not.
#[derive(Debug)]
pub(super) struct Retired {
    pub(super) pod: Arc<Pod>,
    pub(super) node: String,
    pub(super) succeeded: bool,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Nodes that get a pod.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// Those of `delete` that are worth telling about.
    pub(super) retired: Vec<Retired>,
    pub(super) again: Option<Duration>,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.create.is_empty() && self.delete.is_empty()
    }
}

impl<'a> Observed<'a> {
    pub(super) fn new(
        set: &'a DaemonSet,
        nodes: &[Arc<Node>],
        mine: Vec<Arc<Pod>>,
        hash: &'a str,
        now: Timestamp,
    ) -> Self {
        let template = set.spec.template.spec.clone().unwrap_or_default();
        let tolerations = pod::tolerations(&template);
        let judge = |node: &Arc<Node>| {
            let (should, may) = fits(set, node, &tolerations);
            (node.metadata.name.clone().unwrap_or_default(), should, may)
        };
        let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in mine {
            if let Some(node) = target(&pod) {
                by_node.entry(node).or_default().push(pod);
            }
        }
        by_node.values_mut().for_each(|pods| sort(pods));
        Self { set, hash, nodes: nodes.iter().map(judge).collect(), pods: by_node, now }
    }

    pub(super) fn on(&self, node: &str) -> &[Arc<Pod>] {
        self.pods.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn is_available(&self, pod: &Pod) -> bool {
        pods::is_available(pod, self.set.spec.min_ready_seconds.unwrap_or(0), self.now)
    }

    /// Some pod was made of the template with this hash.
    pub(super) fn uses(&self, hash: Option<&String>) -> bool {
        let label = |pod: &Arc<Pod>| pod.metadata.labels.as_ref().and_then(|it| it.get(HASH_LABEL)) == hash;
        hash.is_some() && self.pods.values().flatten().any(label)
    }

    /// What to do now: the right pods on the right nodes first, then a new template.
    pub(super) fn plan(&self, wait: &mut dyn FnMut(&str) -> Duration) -> Plan {
        let plan = self.manage(wait);
        if !plan.is_empty() {
            return plan;
        }
        // A failed pod that has to stay for a while is looked at again.
        Plan { again: plan.again, ..rollout::plan(self) }
    }

    /// One pod where there should be one, none elsewhere. `wait` says how long a node's failed pod has to stay.
    pub(super) fn manage(&self, wait: &mut dyn FnMut(&str) -> Duration) -> Plan {
        let mut plan = Plan::default();
        for (node, should, may) in &self.nodes {
            let present = self.on(node);
            if *should && present.is_empty() {
                plan.create.push(node.clone());
            } else if *may {
                self.keep_one(node, *should, wait, &mut plan);
            } else {
                plan.delete.extend(present.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).cloned());
            }
        }
        plan.delete.extend(self.strays());
        plan.create.truncate(BURST);
        plan.delete.truncate(BURST);
        plan
    }

    /// Pods that are not bound and are meant for a node that is gone.
    fn strays(&self) -> impl Iterator<Item = Arc<Pod>> {
        let known: BTreeSet<&String> = self.nodes.iter().map(|(name, ..)| name).collect();
        let gone = self.pods.iter().filter(move |(node, _)| !known.contains(node));
        let unbound = |pod: &&Arc<Pod>| pods::node(pod).is_empty() && pod.metadata.deletion_timestamp.is_none();
        gone.flat_map(|(_, pods)| pods).filter(unbound).cloned()
    }

    fn keep_one(&self, node: &str, should: bool, wait: &mut dyn FnMut(&str) -> Duration, plan: &mut Plan) {
        let mut running = Vec::new();
        for pod in self.on(node).iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            let succeeded = match pods::phase(pod) {
                "Failed" => false,
                "Succeeded" => true,
                _ => {
                    running.push(pod.clone());
                    continue;
                }
            };
            let left = if succeeded { Duration::ZERO } else { wait(node) };
            if left.is_zero() {
                plan.delete.push(pod.clone());
                plan.retired.push(Retired { pod: pod.clone(), node: node.to_owned(), succeeded });
            } else {
                plan.again = Some(plan.again.map_or(left, |again| again.min(left)));
            }
        }
        if rollout::surges(self.set) {
            self.keep_two(node, should, running, plan);
        } else {
            plan.delete.extend(running.into_iter().skip(1));
        }
    }

    /// While a new pod starts beside an old one, both stay until the new one is available or the old one is not ready.
    fn keep_two(&self, node: &str, should: bool, running: Vec<Arc<Pod>>, plan: &mut Plan) {
        if running.is_empty() && should {
            plan.create.push(node.to_owned());
        }
        let is_new = |pod: &Arc<Pod>| {
            pod.metadata.labels.as_ref().and_then(|it| it.get(HASH_LABEL)).is_some_and(|it| it == self.hash)
        };
        if running.len() <= 1 {
            return;
        }
        let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(is_new);
        plan.delete.extend(new.iter().skip(1).chain(old.iter().skip(1)).cloned());
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!pods::is_ready(old) || self.is_available(new))
        {
            plan.delete.push(old.clone());
        }
    }

    /// `settled`: what was asked for last has been seen, so that the status is about this generation.
    pub(super) fn status(&self, settled: bool) -> DaemonSetStatus {
        let old = self.set.status.clone().unwrap_or_default();
        let (mut desired, mut current, mut wrong, mut ready, mut updated, mut available) = (0, 0, 0, 0, 0, 0);
        for (node, should, _) in &self.nodes {
            let first = self.on(node).first();
            match (should, first) {
                (true, None) => desired += 1,
                (true, Some(pod)) => {
                    desired += 1;
                    current += 1;
                    ready += i32::from(pods::is_ready(pod));
                    available += i32::from(self.is_available(pod));
                    updated += i32::from(pod::is_updated(self.set, pod, self.hash));
                }
                (false, Some(_)) => wrong += 1,
                (false, None) => {}
            }
        }
        let some = |count: i32| Some(count).filter(|count| *count != 0);
        DaemonSetStatus {
            desired_number_scheduled: desired,
            current_number_scheduled: current,
            number_misscheduled: wrong,
            number_ready: ready,
            updated_number_scheduled: some(updated),
            number_available: some(available),
            number_unavailable: some(desired - available),
            observed_generation: if settled { self.set.metadata.generation } else { old.observed_generation },
            collision_count: old.collision_count,
            conditions: old.conditions,
        }
    }

    pub(super) fn next_check(&self, status: &DaemonSetStatus) -> Option<Duration> {
        let seconds = self.set.spec.min_ready_seconds.and_then(|it| u64::try_from(it).ok()).filter(|it| *it > 0)?;
        (status.number_ready != status.number_available.unwrap_or(0)).then(|| Duration::from_secs(seconds))
    }
}

/// Oldest first, but bound before unbound.
fn sort(pods: &mut [Arc<Pod>]) {
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    pods.sort_by(|one, other| {
        let bound = pods::node(other).is_empty().cmp(&pods::node(one).is_empty()).reverse();
        bound.then_with(|| created(one).cmp(&created(other))).then_with(|| one.metadata.name.cmp(&other.metadata.name))
    });
}

/// Whether a pod should run on a node, and whether one that does may stay.
fn fits(set: &DaemonSet, node: &Node, tolerations: &[Toleration]) -> (bool, bool) {
    let spec = set.spec.template.spec.clone().unwrap_or_default();
    let named = spec.node_name.as_deref().filter(|name| !name.is_empty());
    let is_named = named.is_none_or(|name| node.metadata.name.as_deref() == Some(name));
    if !is_named || !affinity::wants(&spec, node) {
        return (false, false);
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let untolerated = |effects: &[&str]| {
        let mut hard = taints.iter().filter(|taint| effects.contains(&taint.effect.as_str()));
        hard.any(|taint| !tolerations.iter().any(|it| tolerates(it, taint)))
    };
    (!untolerated(&["NoSchedule", "NoExecute"]), !untolerated(&["NoExecute"]))
}

/// Whether two statuses say the same; a field that is not set says zero.
pub(super) fn same_status(one: Option<&DaemonSetStatus>, other: &DaemonSetStatus) -> bool {
    let normal = |it: &DaemonSetStatus| {
        let mut it = it.clone();
        for count in [&mut it.updated_number_scheduled, &mut it.number_available, &mut it.number_unavailable] {
            *count = count.filter(|count| *count != 0);
        }
        it
    };
    one.is_some_and(|one| normal(one) == normal(other))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
