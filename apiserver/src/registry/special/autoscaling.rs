//! `autoscaling/v1` autoscalers: what v1 has no field for is carried in annotations, as upstream does.

use api::{Map, Value, meta};
use kinds::tree::{at, dig, enter, has, list, put, remove, text};
use serde_json::json;

use super::Conversion;

#[cfg(test)]
mod tests;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CARRIED: [&str; 6] = [
    METRICS,
    CURRENT_METRICS,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];
/// What v1 assumes when it names no metric.
const DEFAULT_CPU: i64 = 80;

/// Autoscalers, stored as v2 and served as v1.
pub(super) struct AutoscalerV1;

/// One field of a metric: where v2 has it, and its name in v1.
type Field = (&'static [&'static str], &'static str);

/// A type of metric: its word, its field, and what is in it.
struct Metric {
    kind: &'static str,
    field: &'static str,
    spec: &'static [Field],
    status: &'static [Field],
}

const NAME: Field = (&["metric", "name"], "metricName");

static METRIC_TYPES: [Metric; 5] = [
    Metric {
        kind: "Object",
        field: "object",
        spec: &[
            (&["describedObject"], "target"),
            NAME,
            (&["target", "value"], "targetValue"),
            (&["metric", "selector"], "selector"),
            (&["target", "averageValue"], "averageValue"),
        ],
        status: &[
            (&["describedObject"], "target"),
            NAME,
            (&["current", "value"], "currentValue"),
            (&["metric", "selector"], "selector"),
            (&["current", "averageValue"], "averageValue"),
        ],
    },
    Metric {
        kind: "Pods",
        field: "pods",
        spec: &[NAME, (&["target", "averageValue"], "targetAverageValue"), (&["metric", "selector"], "selector")],
        status: &[NAME, (&["current", "averageValue"], "currentAverageValue"), (&["metric", "selector"], "selector")],
    },
    Metric {
        kind: "Resource",
        field: "resource",
        spec: &[
            (&["name"], "name"),
            (&["target", "averageUtilization"], "targetAverageUtilization"),
            (&["target", "averageValue"], "targetAverageValue"),
        ],
        status: &[
            (&["name"], "name"),
            (&["current", "averageUtilization"], "currentAverageUtilization"),
            (&["current", "averageValue"], "currentAverageValue"),
        ],
    },
    Metric {
        kind: "ContainerResource",
        field: "containerResource",
        spec: &[
            (&["name"], "name"),
            (&["target", "averageUtilization"], "targetAverageUtilization"),
            (&["target", "averageValue"], "targetAverageValue"),
            (&["container"], "container"),
        ],
        status: &[
            (&["name"], "name"),
            (&["current", "averageUtilization"], "currentAverageUtilization"),
            (&["current", "averageValue"], "currentAverageValue"),
            (&["container"], "container"),
        ],
    },
    Metric {
        kind: "External",
        field: "external",
        spec: &[
            NAME,
            (&["metric", "selector"], "metricSelector"),
            (&["target", "value"], "targetValue"),
            (&["target", "averageValue"], "targetAverageValue"),
        ],
        status: &[
            NAME,
            (&["metric", "selector"], "metricSelector"),
            (&["current", "value"], "currentValue"),
            (&["current", "averageValue"], "currentAverageValue"),
        ],
    },
];

/// v2's names of `behavior` and those of the Go struct that upstream puts into the annotation, in its order.
const BEHAVIOR_NAMES: [(&str, &str); 9] = [
    ("scaleUp", "ScaleUp"),
    ("scaleDown", "ScaleDown"),
    ("stabilizationWindowSeconds", "StabilizationWindowSeconds"),
    ("selectPolicy", "SelectPolicy"),
    ("policies", "Policies"),
    ("tolerance", "Tolerance"),
    ("type", "Type"),
    ("value", "Value"),
    ("periodSeconds", "PeriodSeconds"),
];

impl Conversion for AutoscalerV1 {
    fn to_served(&self, mut v2: Value) -> Value {
        drop_carried(&mut v2);
        let spec = at(&v2, "spec");
        let cpu = list(spec, "metrics").iter().find(|metric| is_cpu(metric, "target")).cloned();
        let others = list(spec, "metrics").iter().filter(|metric| !is_cpu(metric, "target"));
        let others: Vec<String> = others.map(|metric| metric_to_v1(metric, |kind| kind.spec)).collect();
        let status = at(&v2, "status");
        let current = list(status, "currentMetrics");
        let current_cpu = current.iter().find(|metric| is_cpu(metric, "current")).cloned();
        let current: Vec<String> = current.iter().map(|metric| metric_to_v1(metric, |kind| kind.status)).collect();
        let conditions = at(status, "conditions").clone();
        let behavior = at(spec, "behavior").clone();
        for (key, texts) in [(METRICS, others), (CURRENT_METRICS, current)] {
            if !texts.is_empty() {
                carry(&mut v2, key, format!("[{}]", texts.join(",")));
            }
        }
        if !behavior.is_null() {
            carry(&mut v2, BEHAVIOR, behavior_to_go(&behavior, &["scaleUp", "scaleDown"]));
        }
        if conditions.as_array().is_some_and(|list| !list.is_empty()) {
            carry(&mut v2, CONDITIONS, conditions.to_string());
        }
        let spec = enter(&mut v2, "spec");
        ["metrics", "behavior"].into_iter().for_each(|field| drop(remove(spec, field)));
        if let Some(cpu) = cpu {
            put(
                spec,
                "targetCPUUtilizationPercentage",
                dig(&cpu, &["resource", "target", "averageUtilization"]).clone(),
            );
        }
        let status = enter(&mut v2, "status");
        ["currentMetrics", "conditions"].into_iter().for_each(|field| drop(remove(status, field)));
        if let Some(cpu) = current_cpu {
            let used = dig(&cpu, &["resource", "current", "averageUtilization"]).clone();
            put(status, "currentCPUUtilizationPercentage", used);
        }
        v2
    }

    fn to_stored(&self, mut v1: Value) -> Value {
        let carried = |key: &str| -> Option<Value> { serde_json::from_str(meta::annotation(&v1, key)?).ok() };
        let (metrics, behavior) = (carried(METRICS), carried(BEHAVIOR));
        let (current, conditions) = (carried(CURRENT_METRICS), carried(CONDITIONS));
        let spec = enter(&mut v1, "spec");
        let mut all: Vec<Value> = metrics_to_v2(metrics.as_ref(), |kind| kind.spec, true);
        match remove(spec, "targetCPUUtilizationPercentage").filter(|value| !value.is_null()) {
            Some(target) => all.push(cpu_metric(target)),
            None if all.is_empty() => all.push(cpu_metric(DEFAULT_CPU.into())),
            None => {}
        }
        put(spec, "metrics", all);
        if let Some(behavior) =
            behavior.as_ref().map(behavior_from_go).filter(|behavior| !kinds::tree::is_empty(behavior))
        {
            put(spec, "behavior", behavior);
        }
        let status = enter(&mut v1, "status");
        let used = remove(status, "currentCPUUtilizationPercentage").filter(|value| !value.is_null());
        if let Some(used) = used {
            let current = json!({ "averageUtilization": used });
            put(
                status,
                "currentMetrics",
                json!([{ "type": "Resource", "resource": { "name": "cpu", "current": current } }]),
            );
        }
        if current.is_some() {
            put(status, "currentMetrics", metrics_to_v2(current.as_ref(), |kind| kind.status, false));
        }
        if let Some(conditions) = conditions {
            put(status, "conditions", conditions);
        }
        drop_carried(&mut v1);
        v1
    }

    fn rules_are_stored(&self) -> bool {
        true
    }
}

fn drop_carried(object: &mut Value) {
    let annotations = object.get_mut("metadata").and_then(|m| m.get_mut("annotations")).and_then(Value::as_object_mut);
    if let Some(annotations) = annotations {
        annotations.retain(|key, _| !CARRIED.contains(&key.as_str()));
    }
}

fn carry(object: &mut Value, key: &str, text: String) {
    put(enter(enter(object, "metadata"), "annotations"), key, text);
}

fn is_cpu(metric: &Value, side: &str) -> bool {
    let resource = at(metric, "resource");
    text(metric, "type") == "Resource"
        && text(resource, "name") == "cpu"
        && has(at(resource, side), "averageUtilization")
}

fn cpu_metric(target: Value) -> Value {
    let target = json!({ "type": "Utilization", "averageUtilization": target });
    json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } })
}

/// JSON with the fields in this order.
fn ordered(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn metric_to_v1(metric: &Value, fields: impl Fn(&Metric) -> &'static [Field]) -> String {
    let kind = text(metric, "type");
    let mut parts = vec![("type", json!(kind).to_string())];
    if let Some(known) = METRIC_TYPES.iter().find(|known| known.kind == kind) {
        let source = at(metric, known.field);
        let values = fields(known).iter().map(|(path, name)| (*name, dig(source, path)));
        let values: Vec<_> = values.filter(|(_, v)| !v.is_null()).map(|(name, v)| (name, v.to_string())).collect();
        parts.push((known.field, ordered(&values)));
    }
    ordered(&parts)
}

fn metrics_to_v2(v1: Option<&Value>, fields: impl Fn(&Metric) -> &'static [Field], spec: bool) -> Vec<Value> {
    let metrics = v1.and_then(Value::as_array).into_iter().flatten();
    metrics.map(|metric| metric_to_v2(metric, &fields, spec)).collect()
}

fn metric_to_v2(metric: &Value, fields: impl Fn(&Metric) -> &'static [Field], spec: bool) -> Value {
    let kind = text(metric, "type");
    let mut converted = json!({ "type": kind });
    let Some(known) = METRIC_TYPES.iter().find(|known| known.kind == kind) else { return converted };
    let source = at(metric, known.field);
    let mut made = Value::Object(Map::new());
    for (path, name) in fields(known).iter().filter(|(_, name)| has(source, name)) {
        let (last, parents) = path.split_last().expect("paths are not empty");
        let holder = parents.iter().fold(&mut made, |holder, parent| enter(holder, parent));
        put(holder, last, at(source, name).clone());
    }
    if spec {
        let kind = target_type(kind, at(&made, "target"));
        put(enter(&mut made, "target"), "type", kind);
    }
    put(&mut converted, known.field, made);
    converted
}

fn target_type(kind: &str, target: &Value) -> &'static str {
    match kind {
        "Resource" | "ContainerResource" if has(target, "averageUtilization") => "Utilization",
        "Object" if !has(target, "averageValue") => "Value",
        "External" if has(target, "value") => "Value",
        _ => "AverageValue",
    }
}

fn behavior_to_go(value: &Value, names: &[&str]) -> String {
    let inner = |name: &str, value: &Value| match (name, value) {
        (_, Value::Null) => "null".to_owned(),
        ("scaleUp" | "scaleDown", rules) => {
            behavior_to_go(rules, &["stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance"])
        }
        ("policies", Value::Array(policies)) => {
            let policies = policies.iter().map(|policy| behavior_to_go(policy, &["type", "value", "periodSeconds"]));
            format!("[{}]", policies.collect::<Vec<_>>().join(","))
        }
        (_, value) => value.to_string(),
    };
    let go_name = |name: &str| BEHAVIOR_NAMES.iter().find(|(own, _)| *own == name).map_or("", |(_, go)| *go);
    let fields: Vec<(&str, String)> = names.iter().map(|name| (go_name(name), inner(name, at(value, name)))).collect();
    ordered(&fields)
}

fn behavior_from_go(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let rename =
                |go: &str| BEHAVIOR_NAMES.iter().find(|(_, own)| own.eq_ignore_ascii_case(go)).map(|(name, _)| *name);
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            let fields = fields.filter_map(|(go, value)| Some((rename(go)?.to_owned(), behavior_from_go(value))));
            Value::Object(fields.collect())
        }
        Value::Array(items) => items.iter().map(behavior_from_go).collect(),
        other => other.clone(),
    }
}
