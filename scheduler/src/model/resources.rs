//! Amounts of resources: CPU in thousandths, everything else in its own unit.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, Pod, PodSpec},
    apimachinery::pkg::api::resource::Quantity as Text,
};

/// What scoring takes for a container that asks for nothing.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// Amounts by resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) milli_cpu: i64,
    pub(crate) memory: i64,
    pub(crate) ephemeral_storage: i64,
    /// How many pods; only for allocatable amounts.
    pub(crate) pods: i64,
    /// Huge pages and extended resources.
    pub(crate) scalar: BTreeMap<String, i64>,
}

impl Resources {
    /// Reads a resource list. A quantity that cannot be read counts as zero: the API server refused it already.
    pub(crate) fn of<'a>(list: impl IntoIterator<Item = (&'a String, &'a Text)>) -> Self {
        let mut resources = Self::default();
        for (name, text) in list {
            let quantity = Quantity::parse(&text.0).unwrap_or_else(|_| Quantity::zero());
            match name.as_str() {
                "cpu" => resources.milli_cpu = quantity.milli_value(),
                "memory" => resources.memory = quantity.value(),
                "ephemeral-storage" => resources.ephemeral_storage = quantity.value(),
                "pods" => resources.pods = quantity.value(),
                _ => {
                    resources.scalar.insert(name.clone(), quantity.value());
                }
            }
        }
        resources
    }

    /// One amount by its name.
    pub(crate) fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            "pods" => self.pods,
            _ => self.scalar.get(name).copied().unwrap_or(0),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_add(b));
    }

    pub(crate) fn sub(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_sub(b));
    }

    fn max(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, f: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = f(self.milli_cpu, other.milli_cpu);
        self.memory = f(self.memory, other.memory);
        self.ephemeral_storage = f(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            let own = self.scalar.entry(name.clone()).or_default();
            *own = f(*own, *amount);
        }
    }

    fn with_defaults(mut self) -> Self {
        if self.milli_cpu == 0 {
            self.milli_cpu = DEFAULT_MILLI_CPU;
        }
        if self.memory == 0 {
            self.memory = DEFAULT_MEMORY_BYTES;
        }
        self
    }
}

/// What a pod asks for: the larger of its containers together and each init container with the sidecars before it,
/// or what the pod as a whole asks for, plus the overhead of its runtime class. `for_scoring` counts a container that
/// asks for no CPU or memory with a little.
///
/// While a pod is being resized that is the most of what it is to have, what its node has set aside and what it has; a
/// size that its node cannot give it does not count.
pub(crate) fn requests(pod: &Pod, for_scoring: bool) -> Resources {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let is_hopeless = is_infeasible(pod);
    let mut total = Resources::default();
    for state in [State::Wanted, State::Allocated, State::Actual] {
        if !(is_hopeless && state == State::Wanted) {
            total.max(&containers(pod, spec, state, is_hopeless, for_scoring));
        }
    }
    let whole = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    override_with(&mut total, &Resources::of(whole.into_iter().flatten()));
    total.add(&Resources::of(spec.overhead.iter().flatten()));
    total
}

/// Of what is looked at in a pod.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// What its spec says.
    Wanted,
    /// What its node has set aside.
    Allocated,
    /// What its containers have.
    Actual,
}

/// The node can never give the pod the size that its spec says.
fn is_infeasible(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let mut pending = conditions.filter(|condition| condition.type_ == "PodResizePending");
    pending.next().is_some_and(|condition| condition.reason.as_deref() == Some("Infeasible"))
}

fn status_of<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let mut all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    all.find(|status| status.name == container)
}

/// What one container asks for.
fn of_container(pod: &Pod, container: &Container, state: State, is_hopeless: bool) -> Resources {
    let status = status_of(pod, &container.name).filter(|_| state != State::Wanted);
    let allocated = status.and_then(|status| status.allocated_resources.as_ref());
    let actual = status.and_then(|status| status.resources.as_ref()?.requests.as_ref());
    let wanted = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let told = if state == State::Actual { actual.or(allocated) } else { allocated };
    Resources::of(told.or(wanted.filter(|_| !is_hopeless)).into_iter().flatten())
}

fn containers(pod: &Pod, spec: &PodSpec, state: State, is_hopeless: bool, for_scoring: bool) -> Resources {
    let of = |container: &Container| {
        let asked = of_container(pod, container, state, is_hopeless);
        if for_scoring { asked.with_defaults() } else { asked }
    };
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for init in spec.init_containers.iter().flatten() {
        let mut needed = of(init);
        needed.add(&sidecars);
        if init.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&of(init));
        }
        starting.max(&needed);
    }
    let mut total = sidecars;
    spec.containers.iter().for_each(|c| total.add(&of(c)));
    total.max(&starting);
    total
}

/// Amounts that the pod names as a whole replace its containers'.
fn override_with(total: &mut Resources, whole: &Resources) {
    let replace = |own: &mut i64, whole: i64| {
        if whole > 0 {
            *own = whole;
        }
    };
    replace(&mut total.milli_cpu, whole.milli_cpu);
    replace(&mut total.memory, whole.memory);
    total.scalar.extend(whole.scalar.iter().map(|(name, amount)| (name.clone(), *amount)));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_asks_for_the_larger_of_start_and_run() {
        let container = |cpu: &str, restart: Option<&str>| json!({"name": "c", "restartPolicy": restart, "resources": {"requests": {"cpu": cpu}}});
        let cases = [
            (json!({"containers": [container("1", None), container("500m", None)]}), 1500),
            (json!({"containers": [container("1", None)], "initContainers": [container("3", None)]}), 3000),
            (json!({"containers": [container("1", None)], "initContainers": [container("2", Some("Always"))]}), 3000),
            (
                json!({"containers": [container("1", None)],
                       "initContainers": [container("2", Some("Always")), container("4", None)]}),
                6000,
            ),
            (json!({"containers": [container("1", None)], "overhead": {"cpu": "250m"}}), 1250),
            (json!({"containers": [container("1", None)], "resources": {"requests": {"cpu": "2"}}}), 2000),
        ];
        for (spec, expected) in cases {
            let parsed: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            assert_eq!(requests(&parsed, false).milli_cpu, expected, "{spec}");
        }
    }

    #[test]
    fn a_pod_that_is_resized_has_what_it_still_has_and_not_what_it_cannot_get() {
        let pod = |wanted: &str, allocated: &str, actual: &str, reason: Option<&str>| -> Pod {
            let conditions: Vec<_> = reason
                .iter()
                .map(|reason| json!({"type": "PodResizePending", "status": "True", "reason": reason}))
                .collect();
            let status = json!({"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "allocatedResources": {"cpu": allocated}, "resources": {"requests": {"cpu": actual}}});
            let pod = json!({
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": wanted}}}]},
                "status": {"containerStatuses": [status], "conditions": conditions},
            });
            serde_json::from_value(pod).unwrap()
        };
        for (wanted, allocated, actual, reason, expected) in [
            ("1", "1", "1", None, 1000),
            ("3", "1", "1", Some("Deferred"), 3000),
            ("100", "1", "2", Some("Infeasible"), 2000),
            ("1", "3", "3", None, 3000),
            ("1", "1", "3", None, 3000),
        ] {
            let pod = pod(wanted, allocated, actual, reason);
            assert_eq!(requests(&pod, false).milli_cpu, expected, "{wanted} {allocated} {actual} {reason:?}");
        }
    }
}
