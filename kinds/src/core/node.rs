//! Nodes.

use api::Value;
use api::field::{ErrorKind, FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::core::pod_spec::scheduling::taint_effect;
use crate::ip;
use crate::names::{self};
use crate::object_meta::{self, label_key};
use crate::resource_name::{amounts, default_list, validate_amount};
use crate::rows;
use crate::strategy::{Request, Strategy, keep_content, keep_status};
use crate::tree::{at, default_to, enter_some, entries, flag, list, put, remove, some, text, texts};

/// The node strategy.
#[derive(Debug)]
pub(crate) struct Node;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const CIDR_CHANGE: &str = "node updates may not change podCIDR except from \"\" to valid";

impl Strategy for Node {
    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        plural_cidr(object);
        if let Some(status) = enter_some(object, "status") {
            let capacity = at(status, "capacity").clone();
            if !capacity.is_null() {
                default_to(status, "allocatable", capacity);
            }
            default_list(status.get_mut("capacity"));
            default_list(status.get_mut("allocatable"));
        }
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        if let Some(spec) = enter_some(object, "spec") {
            remove(spec, "configSource");
        }
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        validate(new, errors);
        validate_change(new, old, errors);
    }

    fn prepare_subresource(&self, _subresource: &str, new: &mut Value, old: &Value, _: &Request<'_>) {
        keep_content(new, old);
    }

    fn validate_subresource(
        &self,
        _subresource: &str,
        new: &Value,
        old: &Value,
        _request: &Request<'_>,
        errors: &mut FieldErrors,
    ) {
        validate_change(new, old, errors);
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let spec = at(new, "spec");
        let mut warnings = Vec::new();
        if some(spec, "configSource").is_some() {
            warnings.push("spec.configSource: the feature is removed".to_owned());
        }
        if !text(spec, "externalID").is_empty() {
            let warning = "spec.externalID: this field is deprecated, and is unused by Kubernetes";
            warnings.push(warning.to_owned());
        }
        warnings
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn selectable_field(&self, object: &Value, _field: &str) -> String {
        flag(at(object, "spec"), "unschedulable").to_string()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        Some(row(object, now))
    }
}

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let status = at(object, "status");
    let info = at(status, "nodeInfo");
    let ready = list(status, "conditions").iter().rfind(|c| text(c, "type") == "Ready");
    let mut state = match ready.map(|condition| text(condition, "status")) {
        None => "Unknown",
        Some("True") => "Ready",
        Some(_) => "NotReady",
    }
    .to_owned();
    if flag(at(object, "spec"), "unschedulable") {
        state.push_str(",SchedulingDisabled");
    }
    let address = |kind: &str| {
        let found = list(status, "addresses").iter().find(|a| text(a, "type") == kind);
        json!(found.map_or(rows::NONE, |a| text(a, "address")))
    };
    let known = |field: &str| match text(info, field) {
        "" => "<unknown>".to_owned(),
        text => text.to_owned(),
    };
    let mut kernel = known("kernelVersion");
    if !text(info, "architecture").is_empty() {
        kernel.push_str(&format!(" ({})", text(info, "architecture")));
    }
    vec![
        rows::name(object),
        json!(state),
        json!(rows::or_none(&roles(object))),
        rows::age(object, now),
        json!(text(info, "kubeletVersion")),
        address("InternalIP"),
        address("ExternalIP"),
        json!(known("osImage")),
        json!(kernel),
        json!(known("containerRuntimeVersion")),
    ]
}

fn roles(object: &Value) -> String {
    let mut roles: Vec<&str> = entries(at(object, "metadata"), "labels")
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None => value.as_str().filter(|_| key == "kubernetes.io/role"),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

/// Older clients know one range only.
fn plural_cidr(object: &mut Value) {
    let Some(spec) = enter_some(object, "spec") else {
        return;
    };
    let single = text(spec, "podCIDR").to_owned();
    let first = texts(spec, "podCIDRs").next().map(str::to_owned);
    match (single.as_str(), first) {
        ("", Some(first)) => put(spec, "podCIDR", first),
        ("", None) => {}
        (cidr, Some(first)) if cidr == first => {}
        (cidr, _) => put(spec, "podCIDRs", json!([cidr])),
    }
}

fn validate(object: &Value, errors: &mut FieldErrors) {
    let (path, spec) = (Path::new("metadata"), at(object, "spec"));
    taints(spec, &path.child("taints"), errors);
    amounts_of(object, errors);
    declared_features(object, errors);
    let cidrs: Vec<&str> = texts(spec, "podCIDRs").collect();
    let path = Path::new("spec");
    let path = path.child("podCIDRs");
    for (i, cidr) in cidrs.iter().enumerate() {
        ip::validate_cidr_lenient(cidr, &[], &path.index(i), errors);
    }
    let addresses = cidrs.iter().map(|cidr| cidr.split_once('/').map_or(*cidr, |(ip, _)| ip));
    if let Some(i) = cidrs.iter().position(|cidr| ip::parse_cidr(cidr).is_none()).filter(|_| cidrs.len() > 1) {
        let detail = format!(
            "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[{i}]: <nil> (invalid CIDR address: {})",
            cidrs[i]
        );
        object_meta::internal(&path, &detail, errors);
    }
    if cidrs.len() > 1 && (cidrs.len() > 2 || !ip::is_dual_stack(addresses)) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.invalid(&path, at(spec, "podCIDRs").clone(), detail);
    }
}

fn taints(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let taints = list(spec, "taints");
    for (i, taint) in taints.iter().enumerate() {
        let path = path.index(i);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        label_key(key, &path.child("key"), errors);
        let complaints = names::label_value(value);
        if !complaints.is_empty() {
            errors.invalid(&path.child("value"), value, &complaints.join(";"));
        }
        match effect {
            "" => errors.required(&path.child("effect"), ""),
            effect => taint_effect(effect, &path.child("effect"), errors),
        }
        if taints[..i].iter().any(|t| text(t, "key") == key && text(t, "effect") == effect) {
            let time = some(taint, "timeAdded").map_or("null".to_owned(), Value::to_string);
            let shown = format!(
                r#"{{"Key":{},"Value":{},"Effect":{},"TimeAdded":{time}}}"#,
                json!(key),
                json!(value),
                json!(effect)
            );
            let message = format!("Duplicate value: {shown}: taints must be unique by key and effect pair");
            errors.push(ErrorKind::Duplicate, &path, message);
        }
    }
}

fn amounts_of(object: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status");
    for field in ["capacity", "allocatable"] {
        let path = path.child(field);
        for (name, amount) in amounts(at(at(object, "status"), field)) {
            validate_amount(name, &amount, &path.child(name), errors);
        }
    }
}

fn declared_features(object: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status");
    let path = path.child("declaredFeatures");
    let features: Vec<&str> = texts(at(object, "status"), "declaredFeatures").collect();
    for (i, pair) in features.windows(2).enumerate() {
        if pair[0] == pair[1] {
            errors.duplicate(&path.index(i + 1), pair[1]);
        } else if pair[0] > pair[1] {
            errors.invalid(&path.index(i + 1), pair[1], "list must be sorted alphabetically");
        }
    }
}

fn validate_change(new: &Value, old: &Value, errors: &mut FieldErrors) {
    amounts_of(new, errors);
    declared_features(new, errors);
    let (spec, old_spec, path) = (at(new, "spec"), at(old, "spec"), Path::new("spec"));
    let status = Path::new("status");
    let addresses = list(at(new, "status"), "addresses");
    for (i, address) in addresses.iter().enumerate() {
        if addresses[..i].contains(address) {
            let shown = format!(
                r#"Duplicate value: {{"Type":{},"Address":{}}}"#,
                json!(text(address, "type")),
                json!(text(address, "address"))
            );
            errors.push(ErrorKind::Duplicate, &status.child("addresses").index(i), shown);
        }
    }
    let (now, before): (Vec<&str>, Vec<&str>) =
        (texts(spec, "podCIDRs").collect(), texts(old_spec, "podCIDRs").collect());
    if !before.is_empty() {
        let changes = if now.len() == before.len() {
            now.iter().zip(&before).filter(|(now, before)| now != before).count()
        } else {
            1
        };
        for _ in 0..changes {
            errors.forbidden(&path.child("podCIDRs"), CIDR_CHANGE);
        }
    }
    provider(text(spec, "providerID"), text(old_spec, "providerID"), &path, errors);
    taints(spec, &Path::new("metadata").child("taints"), errors);
    if text(spec, "externalID") != text(old_spec, "externalID") {
        errors.forbidden(&path.child("externalID"), "may not be updated");
    }
}

fn provider(now: &str, before: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("providerID");
    if !before.is_empty() && now.is_empty() {
        errors.invalid(&path, Value::Null, "field cannot be cleared once set");
    } else if !before.is_empty() && now != before {
        errors.invalid(&path, Value::Null, "field cannot be modified once set");
    }
}
