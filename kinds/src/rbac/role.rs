//! Roles and ClusterRoles.

use api::Value;
use api::field::{FieldErrors, Path};

use crate::object_meta::label_selector;
use crate::strategy::{NameRule, Request, Strategy};
use crate::tree::{list, some};

/// A role in a namespace.
#[derive(Debug)]
pub(crate) struct Role;

/// A role at cluster scope, which may also speak of URLs and be aggregated from others.
#[derive(Debug)]
pub(crate) struct ClusterRole;

impl Strategy for Role {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        rules(object, true, errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        rules(new, true, errors);
    }
}

impl Strategy for ClusterRole {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        cluster_role(object, errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        cluster_role(new, errors);
    }
}

fn cluster_role(object: &Value, errors: &mut FieldErrors) {
    if let Some(aggregation) = some(object, "aggregationRule") {
        let path = Path::new("aggregationRule");
        let path = path.child("clusterRoleSelectors");
        let selectors = list(aggregation, "clusterRoleSelectors");
        if selectors.is_empty() {
            let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.required(&path, detail);
        }
        for (i, selector) in selectors.iter().enumerate() {
            let path = path.index(i);
            let before = errors.0.len();
            label_selector(selector, &path, errors);
            if errors.0.len() > before {
                errors.invalid(&path, Value::Null, "invalid label selector.");
            }
        }
    }
    rules(object, false, errors);
}

fn rules(object: &Value, namespaced: bool, errors: &mut FieldErrors) {
    let path = Path::new("rules");
    let rules = list(object, "rules");
    for (i, rule) in rules.iter().enumerate() {
        self::rule(rule, namespaced, &path.index(i), errors);
    }
    // Declarative rules come last upstream.
    for (i, _) in rules.iter().enumerate().filter(|(_, rule)| list(rule, "verbs").is_empty()) {
        errors.required(&path.index(i).child("verbs"), "");
    }
}

fn rule(rule: &Value, namespaced: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    let urls = list(rule, "nonResourceURLs");
    if urls.is_empty() {
        if list(rule, "apiGroups").is_empty() {
            let detail = "resource rules must supply at least one api group";
            errors.required(&path.child("apiGroups"), detail);
        }
        if list(rule, "resources").is_empty() {
            let detail = "resource rules must supply at least one resource";
            errors.required(&path.child("resources"), detail);
        }
        return;
    }
    let path = path.child("nonResourceURLs");
    if namespaced {
        let detail = "namespaced rules cannot apply to non-resource URLs";
        errors.invalid(&path, urls.to_vec(), detail);
    }
    if ["apiGroups", "resources", "resourceNames"].iter().any(|f| !list(rule, f).is_empty()) {
        let detail = "rules cannot apply to both regular resources and non-resource URLs";
        errors.invalid(&path, urls.to_vec(), detail);
    }
}
