//! Validation of what decides a pod's place: affinity, tolerations, topology spread, gates.

use api::Value;
use api::field::{FieldErrors, Path};

use crate::names::{self, NameRule};
use crate::object_meta::{invalid_each, label_key, label_selector};
use crate::tree::{at, entries, int, list, opt_int, opt_text, some, text, texts};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const WEIGHT: &str = "must be in the range 1-100";
const NEEDS_SELECTOR: &str = "must not be specified when labelSelector is not set";

/// Validates `affinity`.
pub(super) fn affinity(affinity: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(node) = some(affinity, "nodeAffinity") {
        let path = path.child("nodeAffinity");
        if let Some(selector) = some(node, REQUIRED) {
            node_selector(selector, &path.child(REQUIRED), errors);
        }
        let at_terms = path.child(PREFERRED);
        for (i, term) in list(node, PREFERRED).iter().enumerate() {
            let path = at_terms.index(i);
            weight(term, &path, errors);
            node_term(at(term, "preference"), false, &path.child("preference"), errors);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(terms) = some(affinity, kind) else {
            continue;
        };
        let path = path.child(kind);
        let at_terms = path.child(REQUIRED);
        for (i, term) in list(terms, REQUIRED).iter().enumerate() {
            pod_term(term, &at_terms.index(i), errors);
        }
        let at_terms = path.child(PREFERRED);
        for (i, term) in list(terms, PREFERRED).iter().enumerate() {
            let path = at_terms.index(i);
            weight(term, &path, errors);
            pod_term(at(term, "podAffinityTerm"), &path.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let weight = int(term, "weight");
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, WEIGHT);
    }
}

/// Validates a node selector: at least one term, each of requirements on labels and fields.
pub(crate) fn node_selector(selector: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("nodeSelectorTerms");
    let terms = list(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&path, "must have at least one node selector term");
    }
    for (i, term) in terms.iter().enumerate() {
        node_term(term, true, &path.index(i), errors);
    }
}

fn node_term(term: &Value, check_values: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let expressions = path.child("matchExpressions");
    for (i, requirement) in list(term, "matchExpressions").iter().enumerate() {
        node_requirement(requirement, check_values, &expressions.index(i), errors);
    }
    let fields = path.child("matchFields");
    for (i, requirement) in list(term, "matchFields").iter().enumerate() {
        node_field(requirement, &fields.index(i), errors);
    }
}

fn node_requirement(requirement: &Value, check_values: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let count = list(requirement, "values").len();
    let at_values = path.child("values");
    match text(requirement, "operator") {
        "In" | "NotIn" if count == 0 => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.required(&at_values, detail);
        }
        "Exists" | "DoesNotExist" if count > 0 => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.forbidden(&at_values, detail);
        }
        "Gt" | "Lt" if count != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.required(&at_values, detail);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            errors.invalid(&path.child("operator"), other, "not a valid selector operator");
        }
    }
    label_key(text(requirement, "key"), &path.child("key"), errors);
    if check_values {
        for (i, value) in texts(requirement, "values").enumerate() {
            invalid_each(&at_values.index(i), value, names::label_value(value), errors);
        }
    }
}

fn node_field(requirement: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match text(requirement, "operator") {
        "In" | "NotIn" => {
            if list(requirement, "values").len() != 1 {
                let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.required(&path.child("values"), detail);
            }
        }
        other => {
            errors.invalid(&path.child("operator"), other, "not a valid selector operator");
        }
    }
    let key = text(requirement, "key");
    if key != "metadata.name" {
        errors.invalid(&path.child("key"), key, "not a valid field selector key");
        return;
    }
    let at_values = path.child("values");
    for (i, value) in texts(requirement, "values").enumerate() {
        let complaints = NameRule::Dns1123Subdomain.check(value, false);
        invalid_each(&at_values.index(i), value, complaints, errors);
    }
}

fn pod_term(term: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for field in ["labelSelector", "namespaceSelector"] {
        label_selector(at(term, field), &path.child(field), errors);
    }
    for namespace in texts(term, "namespaces") {
        invalid_each(&path.child("namespace"), namespace, names::label(namespace), errors);
    }
    label_keys(term, path, errors);
    let key = text(term, "topologyKey");
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    label_key(key, &path.child("topologyKey"), errors);
}

/// `matchLabelKeys` and `mismatchLabelKeys`, which must not contradict each other or the selector.
fn label_keys(term: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let selector = some(term, "labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = list(term, field);
        if keys.is_empty() {
            continue;
        }
        let path = path.child(field);
        if selector.is_none() {
            errors.forbidden(&path, NEEDS_SELECTOR);
            continue;
        }
        for (i, key) in texts(term, field).enumerate() {
            label_key(key, &path.index(i), errors);
        }
    }
    if let Some(selector) = selector {
        repeated_keys(term, selector, path, errors);
    }
    let at_match = path.child("matchLabelKeys");
    for (i, key) in texts(term, "matchLabelKeys").enumerate() {
        if texts(term, "mismatchLabelKeys").any(|other| other == key) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.invalid(&at_match.index(i), key, detail);
        }
    }
}

fn repeated_keys(term: &Value, selector: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen: Vec<&str> = entries(selector, "matchLabels").map(|(key, _)| key).collect();
    for expression in list(selector, "matchExpressions") {
        let key = text(expression, "key");
        let position = texts(term, "matchLabelKeys").position(|k| k == key);
        if let Some(i) = position.filter(|_| seen.contains(&key)) {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.invalid(&path.index(i), key, detail);
        }
        seen.push(key);
    }
}

/// Validates `tolerations`.
pub(crate) fn tolerations(tolerations: &[Value], path: &Path<'_>, errors: &mut FieldErrors) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let path = path.index(i);
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        if !key.is_empty() {
            label_key(key, &path.child("key"), errors);
        }
        if key.is_empty() && operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&path.child("operator"), operator, detail);
        }
        let effect = text(toleration, "effect");
        if opt_int(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&path.child("effect"), effect, detail);
        }
        toleration_value(operator, text(toleration, "value"), &path.child("operator"), errors);
        if !effect.is_empty() {
            taint_effect(effect, &path.child("effect"), errors);
        }
    }
}

fn toleration_value(operator: &str, value: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    match operator {
        "Equal" | "" => {
            let complaints = names::label_value(value);
            if !complaints.is_empty() {
                errors.invalid(path, value, &complaints.join(";"));
            }
        }
        "Exists" => {
            if !value.is_empty() {
                errors.invalid(path, value, "value must be empty when `operator` is 'Exists'");
            }
        }
        "Lt" | "Gt" => {
            let allowed = ["Equal", "Exists", "Lt", "Gt"];
            super::not_supported_unsorted(path, operator, &allowed, errors);
        }
        other => errors.not_supported(path, other, &["Equal", "Exists"]),
    }
}

/// Validates a taint's effect.
pub(crate) fn taint_effect(effect: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if !EFFECTS.contains(&effect) {
        super::not_supported_unsorted(path, effect, &EFFECTS, errors);
    }
}

/// Validates `topologySpreadConstraints`.
pub(super) fn topology_spread(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let constraints = list(spec, "topologySpreadConstraints");
    for (i, constraint) in constraints.iter().enumerate() {
        let path = path.index(i);
        let (key, action) = (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
        positive(int(constraint, "maxSkew"), &path.child("maxSkew"), errors);
        if key.is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        }
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            let allowed = ["DoNotSchedule", "ScheduleAnyway"];
            errors.not_supported(&path.child("whenUnsatisfiable"), action, &allowed);
        }
        let same = |c: &Value| text(c, "topologyKey") == key && text(c, "whenUnsatisfiable") == action;
        if constraints[i + 1..].iter().any(same) {
            let path = path.child("{topologyKey, whenUnsatisfiable}");
            errors.duplicate(&path, format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = opt_int(constraint, "minDomains") {
            min_domains(domains, action, &path.child("minDomains"), errors);
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = opt_text(constraint, field).filter(|p| !matches!(*p, "Honor" | "Ignore")) {
                errors.not_supported(&path.child(field), policy, &["Honor", "Ignore"]);
            }
        }
        label_keys(constraint, &path, errors);
        label_selector(at(constraint, "labelSelector"), &path.child("labelSelector"), errors);
    }
}

fn min_domains(domains: i64, action: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    positive(domains, path, errors);
    if action != "DoNotSchedule" {
        let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        errors.invalid(path, domains, &detail);
    }
}

/// The number must be above 0.
pub(crate) fn positive(value: i64, path: &Path<'_>, errors: &mut FieldErrors) {
    if value <= 0 {
        errors.invalid(path, value, "must be greater than zero");
    }
}

/// Validates `schedulingGates` and `readinessGates`.
pub(super) fn gates(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let readiness = path.child("readinessGates");
    for (i, gate) in list(spec, "readinessGates").iter().enumerate() {
        let condition = text(gate, "conditionType");
        label_key(condition, &readiness.index(i).child("conditionType"), errors);
    }
    let scheduling = path.child("schedulingGates");
    let gates = list(spec, "schedulingGates");
    for (i, gate) in gates.iter().enumerate() {
        let (path, name) = (scheduling.index(i), text(gate, "name"));
        label_key(name, &path, errors);
        if gates[..i].iter().any(|g| text(g, "name") == name) {
            errors.duplicate(&path, name);
        }
    }
}
