//! The rules of an aggregated role. Pure.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::core::{Selector, SelectorExt as _};

/// Each rule once, in the order of selectors and of the names of the roles they match.
pub(super) fn rules(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Vec<PolicyRule> {
    let aggregation = role.aggregation_rule.as_ref().and_then(|it| it.cluster_role_selectors.as_deref());
    let mut taken = BTreeSet::new();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in aggregation.unwrap_or_default() {
        let Ok(selector) = Selector::try_from(selector.clone()) else { continue };
        let mut matching: Vec<_> = all.iter().filter(|it| is_other(it, role) && is_selected(it, &selector)).collect();
        matching.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        for rule in matching.into_iter().flat_map(|it| it.rules.iter().flatten()) {
            let text = serde_json::to_string(rule).expect("a rule is representable as JSON");
            if taken.insert(text) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

fn is_other(it: &ClusterRole, role: &ClusterRole) -> bool {
    it.metadata.name != role.metadata.name
}

fn is_selected(it: &ClusterRole, selector: &Selector) -> bool {
    let labels = it.metadata.labels.clone().unwrap_or_default();
    selector.matches(&labels)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn role(name: &str, label: &str, verbs: &[&str]) -> Arc<ClusterRole> {
        let rules: Vec<_> = verbs.iter().map(|verb| json!({"verbs": [verb]})).collect();
        let value = json!({"metadata": {"name": name, "labels": {label: "true"}}, "rules": rules});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn rules_are_taken_once_and_in_order() {
        let value = json!({"metadata": {"name": "view", "labels": {"to-view": "true"}}, "rules": [{"verbs": ["old"]}],
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to-view": "true"}}]}});
        let view: ClusterRole = serde_json::from_value(value).unwrap();
        let all = [
            role("b", "to-view", &["watch", "get"]),
            role("a", "to-view", &["get", "list"]),
            role("c", "to-edit", &["update"]),
            Arc::new(view.clone()),
        ];
        let verbs: Vec<_> = rules(&view, &all).into_iter().map(|it| it.verbs.join("")).collect();
        assert_eq!(verbs, ["get", "list", "watch"]);
    }
}
