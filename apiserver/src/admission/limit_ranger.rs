//! LimitRanger: a namespace's LimitRanges give containers their defaults and bounds. Mirrors upstream's
//! `plugin/pkg/admission/limitranger`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::quantity::Quantity;
use api::{Map, Status, Value, meta};
use async_trait::async_trait;
use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::objects::{Handle, Ref};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Above this, a quantity is compared by whole units.
const MILLI_MAX: i64 = i64::MAX / 1000;

type Amounts = BTreeMap<String, Quantity>;

pub(super) struct LimitRanger(pub(super) Handle);

impl LimitRanger {
    fn ranges(&self, attributes: &Attributes<'_>) -> Vec<Arc<Value>> {
        if attributes.old.is_some_and(meta::is_terminating) {
            return Vec::new();
        }
        self.0.get().list(Ref::collection("", "limitranges", &attributes.path.namespace))
    }
}

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Create => attributes.is("", "pods") || attributes.is("", "persistentvolumeclaims"),
            Operation::Update => {
                attributes.is_part("", "pods", "resize") || attributes.is("", "persistentvolumeclaims")
            }
            _ => false,
        }
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if attributes.path.resource != "pods" {
            return Ok(());
        }
        let ranges = self.ranges(attributes);
        if let Some(pod) = attributes.object.as_mut() {
            ranges.iter().for_each(|range| give_defaults(pod, range));
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let Some(object) = &attributes.object else {
            return Ok(());
        };
        for range in self.ranges(attributes) {
            let errors: Vec<String> = items(&range, "/spec/limits")
                .flat_map(|limit| match attributes.path.resource.as_str() {
                    "pods" => check_pod(object, limit),
                    _ => check_claim(object, limit),
                })
                .collect();
            match errors.as_slice() {
                [] => {}
                [one] => return Err(attributes.forbidden(one)),
                many => return Err(attributes.forbidden(&format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

fn give_defaults(pod: &mut Value, range: &Value) {
    let (mut requests, mut limits) = (Map::new(), Map::new());
    for limit in items(range, "/spec/limits").filter(|limit| limit["type"] == "Container") {
        let of = |field: &str| limit.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
        requests.extend(of("defaultRequest"));
        limits.extend(of("default"));
    }
    let mut notes = Vec::new();
    for (field, word) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod.get_mut("spec").and_then(|spec| spec.get_mut(field)).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            for (part, defaults, what) in [("requests", &requests, "request"), ("limits", &limits, "limit")] {
                let set = fill(container, part, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {what} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    if notes.is_empty() {
        return;
    }
    let annotations = meta::metadata_mut(pod).entry("annotations").or_insert_with(|| json!({}));
    annotations[ANNOTATION] = json!(format!("LimitRanger plugin set: {}", notes.join("; ")));
}

/// Fills what is missing; the names of what was filled, sorted.
fn fill(container: &mut Value, part: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let mut set = BTreeSet::new();
    for (name, value) in defaults {
        if meta::find(container, "/resources").and_then(|r| r.get(part)?.get(name)).is_none() {
            container["resources"][part][name] = value.clone();
            set.insert(name.clone());
        }
    }
    set.into_iter().collect()
}

fn check_pod(pod: &Value, limit: &Value) -> Vec<String> {
    match limit.get("type").and_then(Value::as_str) {
        Some("Container") => {
            let containers = items(pod, "/spec/containers").chain(items(pod, "/spec/initContainers"));
            containers
                .flat_map(|one| bounds("Container", limit, &amounts(one, "requests"), &amounts(one, "limits")))
                .collect()
        }
        Some("Pod") => bounds("Pod", limit, &pod_amounts(pod, "requests"), &pod_amounts(pod, "limits")),
        _ => Vec::new(),
    }
}

fn check_claim(claim: &Value, limit: &Value) -> Vec<String> {
    let kind = "PersistentVolumeClaim";
    if limit["type"] != kind {
        return Vec::new();
    }
    let requests = quantities(meta::find(claim, "/spec/resources/requests"));
    let least = quantities(limit.get("min"));
    let most = quantities(limit.get("max"));
    let least = least.iter().filter_map(|(name, bound)| below(kind, name, bound, requests.get(name), None));
    let most = most.iter().filter_map(|(name, bound)| {
        let head = format!("maximum {name} usage per {kind} is {bound}");
        match requests.get(name) {
            None => Some(format!("{head}.  No request is specified")),
            Some(request) if request > bound => Some(format!("{head}, but request is {request}")),
            Some(_) => None,
        }
    });
    least.chain(most).collect()
}

/// Everything that is out of a limit's bounds.
fn bounds(kind: &str, limit: &Value, requests: &Amounts, limits: &Amounts) -> Vec<String> {
    let of = |field: &str| quantities(limit.get(field));
    let (least, most, ratios) = (of("min"), of("max"), of("maxLimitRequestRatio"));
    let least = least.iter().filter_map(|(name, bound)| below(kind, name, bound, requests.get(name), limits.get(name)));
    let most = most.iter().filter_map(|(name, bound)| above(kind, name, bound, requests.get(name), limits.get(name)));
    let ratios =
        ratios.iter().filter_map(|(name, bound)| ratio(kind, name, bound, requests.get(name), limits.get(name)));
    least.chain(most).chain(ratios).collect()
}

fn below(
    kind: &str,
    name: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let head = format!("minimum {name} usage per {kind} is {bound}");
    let Some(request) = request else {
        return Some(format!("{head}.  No request is specified"));
    };
    if request < bound {
        return Some(format!("{head}, but request is {request}"));
    }
    let limit = limit.filter(|limit| *limit < bound)?;
    Some(format!("{head}, but limit is {limit}"))
}

fn above(
    kind: &str,
    name: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let head = format!("maximum {name} usage per {kind} is {bound}");
    let Some(limit) = limit else {
        return Some(format!("{head}.  No limit is specified"));
    };
    if limit > bound {
        return Some(format!("{head}, but limit is {limit}"));
    }
    let request = request.filter(|request| *request > bound)?;
    Some(format!("{head}, but request is {request}"))
}

fn ratio(
    kind: &str,
    name: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let head = format!("{name} max limit to request ratio per {kind} is {bound}");
    let Some(request) = request.filter(|request| !request.is_zero()) else {
        return Some(format!("{head}, but no request is specified or request is 0"));
    };
    let Some(limit) = limit.filter(|limit| !limit.is_zero()) else {
        return Some(format!("{head}, but no limit is specified or limit is 0"));
    };
    let is_small = request.value() <= MILLI_MAX && limit.value() <= MILLI_MAX;
    let [limit, request] = [limit, request].map(|q| if is_small { q.milli_value() } else { q.value() });
    #[expect(clippy::cast_precision_loss, reason = "upstream compares ratios as floats")]
    let found = limit as f64 / request as f64;
    (found > bound.as_f64()).then(|| format!("{head}, but provided ratio is {found:.6}"))
}

fn amounts(container: &Value, part: &str) -> Amounts {
    quantities(meta::find(container, &format!("/resources/{part}")))
}

fn quantities(value: Option<&Value>) -> Amounts {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), Quantity::from_value(value).ok()?))).collect()
}

/// What a whole pod asks for: containers and sidecars together, or the biggest moment of its start.
fn pod_amounts(pod: &Value, part: &str) -> Amounts {
    let mut total = Amounts::new();
    items(pod, "/spec/containers").for_each(|container| add(&mut total, &amounts(container, part)));
    let (mut sidecars, mut start) = (Amounts::new(), Amounts::new());
    for container in items(pod, "/spec/initContainers") {
        let own = amounts(container, part);
        if container["restartPolicy"] == "Always" {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            raise(&mut start, &sidecars);
            continue;
        }
        let mut moment = own;
        add(&mut moment, &sidecars);
        raise(&mut start, &moment);
    }
    raise(&mut total, &start);
    let whole = quantities(meta::find(pod, &format!("/spec/resources/{part}")));
    let counts = |name: &str| name == "cpu" || name == "memory" || name.starts_with("hugepages-");
    total.extend(whole.into_iter().filter(|(name, _)| counts(name)));
    total
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        total.entry(name.clone()).or_insert_with(Quantity::zero).add(amount);
    }
}

fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let own = total.entry(name.clone()).or_insert_with(Quantity::zero);
        if *own < *amount {
            own.clone_from(amount);
        }
    }
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    meta::find(value, pointer).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_given_and_noted() {
        let mut pod =
            json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]}});
        let range = json!({"spec": {"limits": [{"type": "Container", "default": {"cpu": "2", "memory": "1Gi"},
            "defaultRequest": {"cpu": "100m"}}]}});
        give_defaults(&mut pod, &range);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}})
        );
        let note = "LimitRanger plugin set: cpu request for container c; memory limit for container c";
        assert_eq!(meta::annotation(&pod, ANNOTATION), Some(note));
    }

    #[test]
    fn bounds_are_upstreams() {
        let pod = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": "3"}}}]}});
        let limit = json!({"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "4"}});
        assert_eq!(
            check_pod(&pod, &limit),
            [
                "minimum cpu usage per Container is 100m, but request is 50m",
                "maximum cpu usage per Container is 2, but limit is 3",
                "cpu max limit to request ratio per Container is 4, but provided ratio is 60.000000",
            ]
        );
    }

    #[test]
    fn a_pod_counts_its_biggest_moment() {
        let pod = json!({"spec": {
            "containers": [{"resources": {"requests": {"cpu": "1"}}}],
            "initContainers": [
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
                {"resources": {"requests": {"cpu": "2"}}},
            ],
        }});
        assert_eq!(pod_amounts(&pod, "requests")["cpu"].to_string(), "2500m");
    }
}
