//! Requests and limits as cgroup settings and OOM scores.

use std::collections::BTreeMap;

use cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::pod::{self, Qos, qos_class};

const PERIOD_MICROSECONDS: i64 = 100_000;
const MIN_QUOTA_MICROSECONDS: i64 = 1000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const GUARANTEED_SCORE: i64 = -997;
const BEST_EFFORT_SCORE: i64 = 1000;
/// Pods of this priority and above are critical to the node.
const NODE_CRITICAL: i32 = 2_000_001_000;

pub(crate) fn milli(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> i64 {
    parsed(list, name).map_or(0, |q| q.milli_value())
}

pub(crate) fn whole(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> i64 {
    parsed(list, name).map_or(0, |q| q.value())
}

fn parsed(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<api::quantity::Quantity> {
    list?.get(name)?.0.parse().ok()
}

pub(crate) fn shares(milli_cpu: i64) -> i64 {
    (milli_cpu.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// Zero means no limit.
pub(crate) fn quota(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 { 0 } else { (milli_cpu.saturating_mul(PERIOD_MICROSECONDS) / 1000).max(MIN_QUOTA_MICROSECONDS) }
}

pub(crate) fn container(pod: &Pod, container: &Container, memory_capacity: i64) -> v1::LinuxContainerResources {
    let own = container.resources.clone().unwrap_or_default();
    let of_pod = pod::spec(pod).resources.as_ref().and_then(|r| r.limits.as_ref());
    let limit = |value: i64, of_pod: i64| if value == 0 { of_pod } else { value };
    let cpu_limit = limit(milli(own.limits.as_ref(), "cpu"), milli(of_pod, "cpu"));
    let memory_limit = limit(whole(own.limits.as_ref(), "memory"), whole(of_pod, "memory"));
    let requests_cpu = own.requests.as_ref().is_some_and(|list| list.contains_key("cpu"));
    let cpu_request = if requests_cpu { milli(own.requests.as_ref(), "cpu") } else { cpu_limit };
    v1::LinuxContainerResources {
        cpu_shares: shares(cpu_request),
        cpu_period: PERIOD_MICROSECONDS,
        cpu_quota: quota(cpu_limit),
        memory_limit_in_bytes: memory_limit,
        oom_score_adj: oom_score(pod, container, memory_capacity),
        ..v1::LinuxContainerResources::default()
    }
}

/// As [`container`], for one that runs: a limit that is gone has to be lifted, and its OOM score stays.
pub(crate) fn update(pod: &Pod, of: &Container, memory_capacity: i64) -> v1::LinuxContainerResources {
    let unlimited = |value: i64| if value == 0 { -1 } else { value };
    let made = container(pod, of, memory_capacity);
    v1::LinuxContainerResources {
        cpu_quota: unlimited(made.cpu_quota),
        memory_limit_in_bytes: unlimited(made.memory_limit_in_bytes),
        ..made
    }
}

/// Whether two sets of resources differ in one resource's request or limit. Amounts count, not how they are written.
pub(crate) fn differ(a: &ResourceRequirements, b: &ResourceRequirements, name: &str) -> bool {
    let amounts = |r: &ResourceRequirements| {
        let amount = |list: Option<&BTreeMap<String, Quantity>>| {
            if name == "cpu" {
                parsed(list, name).map(|q| q.milli_value())
            } else {
                parsed(list, name).map(|q| q.value())
            }
        };
        (amount(r.requests.as_ref()), amount(r.limits.as_ref()))
    };
    amounts(a) != amounts(b)
}

/// In cpu and memory, which are what can be changed.
pub(crate) fn are_equal(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    !differ(a, b, "cpu") && !differ(a, b, "memory")
}

pub(crate) fn oom_score(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    if pod::spec(pod).priority.is_some_and(|priority| priority >= NODE_CRITICAL) {
        return GUARANTEED_SCORE;
    }
    match qos_class(pod) {
        Qos::Guaranteed => return GUARANTEED_SCORE,
        Qos::BestEffort => return BEST_EFFORT_SCORE,
        Qos::Burstable => {}
    }
    let request = |c: &Container| whole(c.resources.as_ref().and_then(|r| r.requests.as_ref()), "memory");
    let score = |bytes: i64| 1000 - bytes.saturating_mul(1000) / memory_capacity.max(1);
    let mut adjusted = score(request(container));
    if pod::is_sidecar(container) {
        // Never killed before the containers it serves.
        let least = pod::spec(pod).containers.iter().map(request).min().unwrap_or(0);
        adjusted = adjusted.min(score(least));
    }
    // Above guaranteed ones, below best effort.
    adjusted.clamp(1000 + GUARANTEED_SCORE, BEST_EFFORT_SCORE - 1)
}

/// Settings of a pod's own cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PodLimits {
    pub shares: i64,
    /// None means no limit.
    pub quota: Option<i64>,
    pub period: i64,
    pub memory: Option<i64>,
}

impl PodLimits {
    /// The wider of both in everything; no limit is the widest.
    pub(crate) fn at_least(self, other: &Self) -> Self {
        let wider = |a: Option<i64>, b: Option<i64>| Some(a?.max(b?));
        Self {
            shares: self.shares.max(other.shares),
            quota: wider(self.quota, other.quota),
            period: self.period,
            memory: wider(self.memory, other.memory),
        }
    }
}

/// Sums over containers; a limit only when every container has one.
pub(crate) fn pod_limits(pod: &Pod) -> PodLimits {
    let overhead = pod::spec(pod).overhead.as_ref();
    let of_pod = pod::spec(pod).resources.as_ref();
    let summed = || {
        total(pod, |c| {
            let resources = c.resources.as_ref();
            let requested = milli(resources.and_then(|r| r.requests.as_ref()), "cpu");
            if requested == 0 { milli(resources.and_then(|r| r.limits.as_ref()), "cpu") } else { requested }
        })
    };
    let asked = milli(of_pod.and_then(|r| r.requests.as_ref()), "cpu");
    let request = if asked > 0 { asked } else { summed() }.saturating_add(milli(overhead, "cpu"));
    let limit = |name: &str, value: fn(Option<&BTreeMap<String, Quantity>>, &str) -> i64| {
        let of_pod = value(of_pod.and_then(|r| r.limits.as_ref()), name);
        if of_pod > 0 {
            return Some(of_pod.saturating_add(value(overhead, name)));
        }
        let one = |c: &Container| value(c.resources.as_ref().and_then(|r| r.limits.as_ref()), name);
        let all = pod::all_containers(pod).all(|c| one(c) > 0);
        all.then(|| total(pod, one).saturating_add(value(overhead, name)))
    };
    PodLimits {
        shares: shares(request),
        quota: limit("cpu", milli).map(quota),
        period: PERIOD_MICROSECONDS,
        memory: limit("memory", whole),
    }
}

/// What a pod asks for, with what its runtime takes beside it: milli-cpu, and whole units of everything else.
pub(crate) fn requests(pod: &Pod) -> BTreeMap<String, i64> {
    let spec = pod::spec(pod);
    let value = |list: Option<&BTreeMap<String, Quantity>>, name: &str| {
        if name == "cpu" { milli(list, name) } else { whole(list, name) }
    };
    let lists = |c: &Container| c.resources.as_ref().and_then(|r| r.requests.clone()).unwrap_or_default();
    let mut names: std::collections::BTreeSet<String> =
        pod::all_containers(pod).flat_map(|c| lists(c).into_keys()).collect();
    let of_pod = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    names.extend(of_pod.into_iter().chain(spec.overhead.as_ref()).flat_map(|list| list.keys().cloned()));
    let one = |name: String| {
        let summed = || total(pod, |c| value(c.resources.as_ref().and_then(|r| r.requests.as_ref()), &name));
        let asked = match of_pod {
            Some(list) if list.contains_key(&name) => value(of_pod, &name),
            _ => summed(),
        };
        let amount = asked.saturating_add(value(spec.overhead.as_ref(), &name));
        (name, amount)
    };
    names.into_iter().map(one).collect()
}

/// What a pod needs at most at a time: init containers run one by one beside the sidecars before them. Amounts are what
/// a user wrote: together they may be more than there are numbers for.
pub(crate) fn total(pod: &Pod, one: impl Fn(&Container) -> i64) -> i64 {
    let regular = pod::spec(pod).containers.iter().map(&one).fold(0, i64::saturating_add);
    let mut sidecars = 0_i64;
    let mut peak = 0;
    for container in pod::init_containers(pod) {
        if pod::is_sidecar(container) {
            sidecars = sidecars.saturating_add(one(container));
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars.saturating_add(one(container)));
        }
    }
    peak.max(regular.saturating_add(sidecars))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn requests_and_limits() {
        for (resources, expected) in [
            (json!({}), (2, 0, 0)),
            (json!({"requests": {"cpu": "500m"}}), (512, 0, 0)),
            (json!({"limits": {"cpu": "2", "memory": "1Mi"}}), (2048, 200_000, 1_048_576)),
            (json!({"requests": {"cpu": "1"}, "limits": {"cpu": "5m"}}), (1024, 1000, 0)),
        ] {
            let pod = pod(json!({"containers": [{"name": "c", "resources": resources}]}));
            let r = container(&pod, &pod::spec(&pod).containers[0], 1 << 30);
            assert_eq!((r.cpu_shares, r.cpu_quota, r.memory_limit_in_bytes), expected, "{resources}");
        }
    }

    #[test]
    fn oom_scores() {
        for (resources, expected) in [
            (json!({}), 1000),
            (json!({"limits": {"cpu": "1", "memory": "1Mi"}}), -997),
            (json!({"requests": {"memory": "100Mi"}}), 900),
            (json!({"requests": {"cpu": "1"}}), 999),
            (json!({"requests": {"memory": "1000Mi"}}), 3),
        ] {
            let pod = pod(json!({"containers": [{"name": "c", "resources": resources}]}));
            let score = oom_score(&pod, &pod::spec(&pod).containers[0], 1000 << 20);
            assert_eq!(score, expected, "{resources}");
        }
    }

    #[test]
    fn amounts_without_bounds() {
        let huge = json!({"requests": {"memory": "5E", "cpu": "5E"}, "limits": {"memory": "5E", "cpu": "5E"}});
        let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": huge});
        let pod = pod(json!({
            "overhead": {"memory": "5E", "cpu": "5E"},
            "initContainers": [sidecar, {"name": "i", "resources": huge}],
            "containers": [{"name": "a", "resources": huge}, {"name": "b", "resources": huge}]}));
        assert_eq!(requests(&pod).get("memory"), Some(&i64::MAX));
        assert_eq!(pod_limits(&pod).memory, Some(i64::MAX));
        assert_eq!(pod_limits(&pod).shares, MAX_SHARES);
        assert_eq!(container(&pod, &pod::spec(&pod).containers[0], 1 << 30).cpu_shares, MAX_SHARES);
    }

    #[test]
    fn a_pods_own_limits() {
        let pod = pod(json!({
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "3"}, "limits": {"cpu": "3", "memory": "1Mi"}}}],
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}},
                {"name": "b", "resources": {"limits": {"cpu": "1", "memory": "1Mi"}}}]}));
        let limits = pod_limits(&pod);
        assert_eq!(limits, PodLimits { shares: 3072, quota: Some(300_000), period: 100_000, memory: None });
    }
}
