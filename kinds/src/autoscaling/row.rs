//! The table row of an autoscaler.

use api::Value;
use jiff::Timestamp;
use serde_json::json;

use crate::rows;
use crate::tree::{at, dig, int, list, opt_int, opt_text, text};

const SHOWN: usize = 2;
const UNKNOWN: &str = "<unknown>";

/// The cells of an autoscaler's row.
pub(super) fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (at(object, "spec"), at(object, "status"));
    let target = at(spec, "scaleTargetRef");
    let least = opt_int(spec, "minReplicas").map_or(rows::UNSET.to_owned(), |least| least.to_string());
    vec![
        rows::name(object),
        json!(format!("{}/{}", text(target, "kind"), text(target, "name"))),
        json!(metrics(list(spec, "metrics"), list(status, "currentMetrics"))),
        json!(least),
        json!(int(spec, "maxReplicas")),
        json!(int(status, "currentReplicas")),
        rows::age(object, now),
    ]
}

fn metrics(specs: &[Value], current: &[Value]) -> String {
    if specs.is_empty() {
        return rows::NONE.to_owned();
    }
    let shown: Vec<String> = specs
        .iter()
        .enumerate()
        .take(SHOWN)
        .map(|(index, spec)| metric(spec, current.get(index).unwrap_or(&Value::Null)))
        .collect();
    let joined = shown.join(", ");
    if specs.len() > SHOWN { format!("{joined} + {} more...", specs.len() - SHOWN) } else { joined }
}

fn metric(spec: &Value, status: &Value) -> String {
    let field = match text(spec, "type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let goal = dig(spec, &[field, "target"]);
    let reported = status.get(field).filter(|source| !source.is_null());
    let now = at(reported.unwrap_or(&Value::Null), "current");
    let average = opt_text(goal, "averageValue");
    let or_zero =
        |value: Option<&str>| if reported.is_some() { value.unwrap_or("0").to_owned() } else { UNKNOWN.to_owned() };
    if matches!(field, "resource" | "containerResource") {
        let name = text(at(spec, field), "name");
        if let Some(average) = average {
            return format!("{name}: {}/{average}", or_zero(opt_text(now, "averageValue")));
        }
        let share = |holder: &Value| opt_int(holder, "averageUtilization").map(|share| format!("{share}%"));
        let now = share(now).unwrap_or_else(|| UNKNOWN.to_owned());
        return format!("{name}: {now}/{}", share(goal).unwrap_or_else(|| "<auto>".to_owned()));
    }
    match average {
        Some(average) if field == "pods" => format!("{}/{average}", or_zero(opt_text(now, "averageValue"))),
        Some(average) => format!("{}/{average} (avg)", opt_text(now, "averageValue").unwrap_or(UNKNOWN)),
        None => format!("{}/{}", or_zero(opt_text(now, "value")), opt_text(goal, "value").unwrap_or("0")),
    }
}
