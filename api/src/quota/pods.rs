//! Pods.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::scope::Scopes;
use super::{Measured, whole};
use crate::amounts::Amounts;
use crate::pod_resources::{Part, has_pod_level, of_pod};
use crate::quantity::Quantity;
use crate::{Value, meta};

const COUNT: &str = "count/pods";
const NAMES: [&str; 11] = [
    COUNT,
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "pods",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
/// A quota of one of these wants every container to say how much of it it takes.
const DEMANDED: [&str; 6] = ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";

pub(super) fn counts(name: &str) -> bool {
    NAMES.contains(&name)
        || name.starts_with("hugepages-")
        || name
            .strip_prefix("requests.")
            .is_some_and(|asked| asked.starts_with("hugepages-") || asked.starts_with(DEVICE_CLASS) || !is_native(name))
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A vendor's resource, as a container asks for it.
fn is_extended(name: &str) -> bool {
    name.starts_with(DEVICE_CLASS) || (!is_native(name) && !name.starts_with("requests."))
}

pub(super) fn check(required: &[&str], pod: &Value) -> Result<(), String> {
    if has_pod_level(pod) {
        return Ok(());
    }
    let demanded: Vec<&str> = DEMANDED.into_iter().filter(|name| required.contains(name)).collect();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let containers = ["/spec/containers", "/spec/initContainers"].into_iter().filter_map(|list| meta::find(pod, list));
    for container in containers.filter_map(Value::as_array).flatten() {
        let part = |field: &str| Amounts::read(meta::find(container, "/resources").and_then(|r| r.get(field)));
        let said = compute(&part("requests"), &part("limits"));
        for name in demanded.iter().filter(|name| said.get(name).is_none()) {
            missing.entry(name).or_default().insert(container["name"].as_str().unwrap_or(""));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let each = missing.into_iter().map(|(name, containers)| {
        let containers: Vec<&str> = containers.into_iter().collect();
        format!("{name} for: {}", containers.join(","))
    });
    Err(format!("must specify {}", each.collect::<Vec<_>>().join("; ")))
}

/// Requests and limits under the names that quotas know them by.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::default();
    used.set("pods", whole(1));
    for (name, amount) in requests.iter() {
        let is_plain = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
        if is_plain {
            used.set(name, amount.clone());
        }
        if is_plain || is_extended(name) {
            used.set(format!("requests.{name}"), amount.clone());
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| matches!(*name, "cpu" | "memory" | "ephemeral-storage")) {
        used.set(format!("limits.{name}"), amount.clone());
    }
    used
}

/// Every stored pod counts as an object; as long as it has not ended, it also uses compute resources.
pub(super) fn measure(pod: &Value) -> Measured {
    let count: Amounts = [(COUNT.to_owned(), whole(1))].into_iter().collect();
    let scopes = scopes(pod);
    let phase = meta::find(pod, "/status/phase").and_then(Value::as_str);
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Measured::lasting(count, scopes);
    }
    let mut usage = compute(&of_pod(pod, Part::Requests), &of_pod(pod, Part::Limits));
    usage.add(&count);
    Measured { usage, until: end(pod).map(|end| (end, count)), scopes }
}

/// A pod that should have ended by then is not held against its owner: its node may be lost.
fn end(pod: &Value) -> Option<Timestamp> {
    let deleted = crate::time::parse(meta::text(pod, "deletionTimestamp"))?;
    let grace = meta::metadata(pod)?.get("deletionGracePeriodSeconds")?.as_i64()?;
    deleted.checked_add(SignedDuration::from_secs(grace)).ok()
}

pub(super) fn has_deadline(pod: &Value) -> bool {
    let deadline = meta::find(pod, "/spec/activeDeadlineSeconds").and_then(Value::as_i64);
    deadline.is_some_and(|seconds| seconds >= 0)
}

fn scopes(pod: &Value) -> Scopes {
    let class = meta::find(pod, "/spec/priorityClassName").and_then(Value::as_str).unwrap_or("");
    Scopes::Pod {
        has_deadline: has_deadline(pod),
        is_best_effort: is_best_effort(pod),
        priority_class: class.to_owned(),
        looks_across_namespaces: looks_across_namespaces(pod),
    }
}

fn is_best_effort(pod: &Value) -> bool {
    match meta::find(pod, "/status/qosClass").and_then(Value::as_str).filter(|class| !class.is_empty()) {
        Some(class) => class == "BestEffort",
        None => !asks_for_anything(pod),
    }
}

/// Some container, or the pod as a whole, asks for processor or memory.
fn asks_for_anything(pod: &Value) -> bool {
    let containers = ["/spec/containers", "/spec/initContainers"].into_iter().filter_map(|list| meta::find(pod, list));
    let each = containers.filter_map(Value::as_array).flatten().map(|container| &container["resources"]);
    let amounts = each.chain(meta::find(pod, "/spec/resources")).flat_map(|resources| {
        ["requests", "limits"].into_iter().flat_map(move |part| {
            ["cpu", "memory"]
                .into_iter()
                .filter_map(move |name| Quantity::from_value(resources.get(part)?.get(name)?).ok())
        })
    });
    amounts.into_iter().any(|amount| !amount.is_zero())
}

fn looks_across_namespaces(pod: &Value) -> bool {
    let crosses = |term: &Value| {
        let named = term.get("namespaces").and_then(Value::as_array).is_some_and(|names| !names.is_empty());
        named || term.get("namespaceSelector").is_some_and(|selector| !selector.is_null())
    };
    let affinity = |kind: &str| meta::find(pod, "/spec/affinity").and_then(|affinity| affinity.get(kind));
    ["podAffinity", "podAntiAffinity"].into_iter().filter_map(affinity).any(|kind| {
        let list = |field: &str| kind.get(field).and_then(Value::as_array).into_iter().flatten();
        list("requiredDuringSchedulingIgnoredDuringExecution").any(crosses)
            || list("preferredDuringSchedulingIgnoredDuringExecution").any(|term| crosses(&term["podAffinityTerm"]))
    })
}
