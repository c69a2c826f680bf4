//! What the cells of several kinds' table rows have in common.

use api::{Value, meta};
use jiff::Timestamp;
use serde_json::json;

use crate::age;
use crate::tree::{at, entries, list, text, texts};

#[cfg(test)]
mod tests;

/// What a cell says when there is nothing to say.
pub(crate) const NONE: &str = "<none>";
/// What a cell says when a field is not set.
pub(crate) const UNSET: &str = "<unset>";

/// An object's name.
pub(crate) fn name(object: &Value) -> Value {
    json!(meta::name(object))
}

/// An object's age.
pub(crate) fn age(object: &Value, now: Timestamp) -> Value {
    json!(age::of(object, now))
}

/// The text, or `<none>`.
pub(crate) fn or_none(text: &str) -> &str {
    if text.is_empty() { NONE } else { text }
}

/// The text, or `<unset>`.
pub(crate) fn or_unset(text: &str) -> &str {
    if text.is_empty() { UNSET } else { text }
}

/// The names and the images of a pod specification's containers, each joined by commas.
pub(crate) fn names_and_images(spec: &Value) -> [Value; 2] {
    let joined = |field: &str| {
        let all: Vec<&str> = list(spec, "containers").iter().map(|c| text(c, field)).collect();
        json!(all.join(","))
    };
    [joined("name"), joined("image")]
}

/// A map of labels as `a=b,c=d`, or `<none>`.
pub(crate) fn labels(holder: &Value, field: &str) -> String {
    let all: Vec<String> = entries(holder, field).map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))).collect();
    or_none(&all.join(",")).to_owned()
}

/// A label selector as text, or `<none>`.
pub(crate) fn selector(selector: &Value) -> String {
    or_none(&selector_text(selector)).to_owned()
}

/// A label selector as text: `a=b,c in (d,e),!f`, sorted by key; empty when it selects everything or nothing.
pub(crate) fn selector_text(selector: &Value) -> String {
    let mut requirements: Vec<(String, String)> = entries(selector, "matchLabels")
        .map(|(key, value)| (key.to_owned(), format!("{key}={}", value.as_str().unwrap_or(""))))
        .collect();
    for expression in list(selector, "matchExpressions") {
        let key = text(expression, "key");
        let mut values: Vec<&str> = texts(expression, "values").collect();
        values.sort_unstable();
        let values = values.join(",");
        let shown = match text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        requirements.push((key.to_owned(), shown));
    }
    requirements.sort_by(|a, b| a.0.cmp(&b.0));
    let shown: Vec<String> = requirements.into_iter().map(|(_, shown)| shown).collect();
    shown.join(",")
}

/// The first few of a list, and how many more there are.
pub(crate) fn with_more(shown: &[String], count: usize, max: usize) -> String {
    let joined = shown.join(",");
    if count > max { format!("{joined} + {} more...", count - max) } else { joined }
}

/// The addresses or host names of `status.loadBalancer`, sorted.
pub(crate) fn load_balancer(object: &Value) -> Vec<String> {
    let ingress = list(at(at(object, "status"), "loadBalancer"), "ingress");
    let mut all: Vec<String> = ingress
        .iter()
        .map(|entry| match text(entry, "ip") {
            "" => text(entry, "hostname"),
            ip => ip,
        })
        .filter(|address| !address.is_empty())
        .map(str::to_owned)
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}
