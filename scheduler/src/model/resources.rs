//! Amounts of resources: CPU in thousandths, everything else in its own unit.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
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
pub(crate) fn requests(spec: &PodSpec, for_scoring: bool) -> Resources {
    let of = |container: &Container| {
        let list = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        let asked = Resources::of(list.into_iter().flatten());
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
    let whole = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    override_with(&mut total, &Resources::of(whole.into_iter().flatten()));
    total.add(&Resources::of(spec.overhead.iter().flatten()));
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
            let parsed: PodSpec = serde_json::from_value(spec.clone()).unwrap();
            assert_eq!(requests(&parsed, false).milli_cpu, expected, "{spec}");
        }
    }
}
