//! Bindings of admission policies.

use std::collections::BTreeSet;

use api::Value;
use api::field::{FieldErrors, Path};
use jiff::Timestamp;
use serde_json::json;

use crate::admission::{refuse_static_name, rules, static_name_warning};
use crate::names;
use crate::object_meta::invalid_each;
use crate::rows;
use crate::strategy::{Generation, MetadataCheck, Request, Strategy};
use crate::tree::{at, enter_some, list, some, text, texts};

/// The strategy of policy bindings.
#[derive(Debug)]
pub(crate) struct Bindings {
    /// The policies change objects.
    pub(crate) mutating: bool,
}

const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];

impl Strategy for Bindings {
    fn metadata_check(&self) -> MetadataCheck {
        MetadataCheck::AnyFinalizer
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let spec = enter_some(object, "spec");
        if let Some(resources) = spec.and_then(|spec| enter_some(spec, "matchResources")) {
            rules::default_match(resources);
        }
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        self.validate(object, errors);
        refuse_static_name(object, errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        self.validate(new, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        static_name_warning(new, old)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let spec = at(object, "spec");
        let params = some(spec, "paramRef").map_or(rows::UNSET.to_owned(), shown_params);
        Some(vec![rows::name(object), json!(text(spec, "policyName")), json!(params), rows::age(object, now)])
    }
}

fn shown_params(params: &Value) -> String {
    match (text(params, "name"), text(params, "namespace")) {
        ("", _) => some(params, "selector").map_or(rows::UNSET.to_owned(), selector),
        (name, "") => format!("*/{name}"),
        (name, namespace) => format!("{namespace}/{name}"),
    }
}

/// A label selector as Go's generated method prints it.
fn selector(selector: &Value) -> String {
    let labels: String = crate::tree::entries(selector, "matchLabels")
        .map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or("")))
        .collect();
    let requirements: String = list(selector, "matchExpressions")
        .iter()
        .map(|requirement| {
            let values: Vec<&str> = texts(requirement, "values").collect();
            let (key, operator) = (text(requirement, "key"), text(requirement, "operator"));
            format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{}],}},", values.join(" "))
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{requirements}}},}}"
    )
}

impl Bindings {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), Path::new("spec"));
        match text(spec, "policyName") {
            "" => errors.required(&path.child("policyName"), ""),
            name => invalid_each(&path.child("policyName"), name, names::subdomain(name), errors),
        }
        rules::param_ref(spec, &path, errors);
        rules::match_resources(at(spec, "matchResources"), &path.child("matchResources"), errors);
        if self.mutating {
            rules::no_deletes(at(spec, "matchResources"), &path.child("matchResources"), errors);
        } else {
            actions(spec, &path.child("validationActions"), errors);
        }
    }
}

fn actions(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (index, action) in texts(spec, "validationActions").enumerate() {
        if !ACTIONS.contains(&action) {
            errors.not_supported(&path.index(index), action, &ACTIONS);
        }
        if !seen.insert(action) {
            errors.duplicate(&path.index(index), action);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.invalid(path, list(spec, "validationActions"), detail);
    }
    if seen.is_empty() {
        errors.required(path, "");
    }
}
