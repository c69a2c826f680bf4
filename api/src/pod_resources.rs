//! What a whole pod asks for. Mirrors upstream's `k8s.io/component-helpers/resource`.

use crate::Value;
use crate::amounts::Amounts;

/// The half of a container's `resources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What is set aside.
    Requests,
    /// What is allowed at most.
    Limits,
}

impl Part {
    fn field(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// A resource for which a pod as a whole may ask.
pub fn is_pod_level(name: &str) -> bool {
    name == "cpu" || name == "memory" || name.starts_with("hugepages-")
}

/// The pod asks for resources as a whole.
pub fn has_pod_level(pod: &Value) -> bool {
    let named = |part: Part| crate::meta::find(pod, "/spec/resources").and_then(|r| r.get(part.field())?.as_object());
    [Part::Requests, Part::Limits].into_iter().filter_map(named).flatten().any(|(name, _)| is_pod_level(name))
}

/// What the specification asks for, without overhead: containers and sidecars together, or the biggest moment of the
/// pod's start; what the pod asks for as a whole comes first where `counts` says so.
pub fn of_spec(pod: &Value, part: Part, counts: fn(&str) -> bool) -> Amounts {
    let mut total = aggregate(pod, |container, _| half(container, part));
    override_by_pod(&mut total, pod, part, counts);
    total
}

/// What a pod takes up now: the most of what it asks for, what it was given and what it runs with, and the overhead.
pub fn of_pod(pod: &Value, part: Part) -> Amounts {
    let infeasible = is_resize_infeasible(pod);
    let mut total = aggregate(pod, |container, _| asked(container, part, infeasible));
    total.raise(&aggregate(pod, |container, status| {
        let runs_with = status.and_then(|status| half(status, part));
        runs_with.or_else(|| given(status, part)).or_else(|| asked(container, part, infeasible))
    }));
    total
        .raise(&aggregate(pod, |container, status| given(status, part).or_else(|| asked(container, part, infeasible))));
    override_by_pod(&mut total, pod, part, is_pod_level);
    add_overhead(&mut total, pod, part);
    total
}

fn half(holder: &Value, part: Part) -> Option<&Value> {
    holder.get("resources")?.get(part.field()).filter(|half| !half.is_null())
}

/// What cannot be had on the node does not count.
fn asked(container: &Value, part: Part, infeasible: bool) -> Option<&Value> {
    half(container, part).filter(|_| !infeasible)
}

/// What the kubelet has set aside; it sets no limits aside.
fn given(status: Option<&Value>, part: Part) -> Option<&Value> {
    status?.get("allocatedResources").filter(|given| part == Part::Requests && !given.is_null())
}

/// Limits without a bound stay so.
fn add_overhead(total: &mut Amounts, pod: &Value, part: Part) {
    let overhead = Amounts::read(crate::meta::find(pod, "/spec/overhead"));
    let is_bound = |name: &str| total.get(name).is_some_and(|amount| !amount.is_zero());
    let counted = overhead.only(|name| part == Part::Requests || is_bound(name));
    total.add(&counted);
}

fn override_by_pod(total: &mut Amounts, pod: &Value, part: Part, counts: fn(&str) -> bool) {
    let whole = Amounts::read(crate::meta::find(pod, "/spec/resources").and_then(|r| r.get(part.field())));
    total.extend(whole.iter().filter(|(name, _)| counts(name)).map(|(name, amount)| (name.to_owned(), amount.clone())));
}

fn is_resize_infeasible(pod: &Value) -> bool {
    let pending = items(pod, "/status/conditions").find(|condition| condition["type"] == "PodResizePending");
    pending.is_some_and(|condition| condition["reason"] == "Infeasible")
}

/// Containers run together; an init container runs with the sidecars before it.
fn aggregate<'a>(pod: &'a Value, of: impl Fn(&'a Value, Option<&'a Value>) -> Option<&'a Value>) -> Amounts {
    let of = |container| Amounts::read(of(container, status_of(pod, container)));
    let mut total = Amounts::default();
    for container in items(pod, "/spec/containers") {
        total.add(&of(container));
    }
    let (mut sidecars, mut start) = (Amounts::default(), Amounts::default());
    for container in items(pod, "/spec/initContainers") {
        let own = of(container);
        if container["restartPolicy"] == "Always" {
            total.add(&own);
            sidecars.add(&own);
            start.raise(&sidecars);
            continue;
        }
        let mut moment = own;
        moment.add(&sidecars);
        start.raise(&moment);
    }
    total.raise(&start);
    total
}

fn status_of<'a>(pod: &'a Value, container: &Value) -> Option<&'a Value> {
    let statuses = ["/status/containerStatuses", "/status/initContainerStatuses"];
    statuses.into_iter().flat_map(|list| items(pod, list)).find(|status| status.get("name") == container.get("name"))
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    crate::meta::find(value, pointer).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_counts_its_biggest_moment() {
        let pod = json!({"spec": {
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "2"}}},
            ],
        }});
        assert_eq!(of_spec(&pod, Part::Requests, |_| false).to_string(), "cpu=2500m");
    }

    #[test]
    fn the_pod_as_a_whole_and_its_overhead_count() {
        let pod = json!({"spec": {
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2"}}}],
            "resources": {"requests": {"cpu": "3"}},
            "overhead": {"cpu": "250m", "memory": "1Gi"},
        }});
        assert_eq!(of_pod(&pod, Part::Requests).to_string(), "cpu=3250m,memory=2Gi");
        assert_eq!(of_pod(&pod, Part::Limits).to_string(), "cpu=2250m");
        assert!(has_pod_level(&pod));
    }

    #[test]
    fn what_was_given_counts_until_a_resize_is_done() {
        let mut pod = json!({
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {"containerStatuses": [{"name": "c", "allocatedResources": {"cpu": "2"}}]},
        });
        assert_eq!(of_pod(&pod, Part::Requests).to_string(), "cpu=2");
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("5");
        assert_eq!(of_pod(&pod, Part::Requests).to_string(), "cpu=5");
        pod["status"]["conditions"] = json!([{"type": "PodResizePending", "reason": "Infeasible"}]);
        assert_eq!(of_pod(&pod, Part::Requests).to_string(), "cpu=2");
    }
}
