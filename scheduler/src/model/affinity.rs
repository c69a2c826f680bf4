//! Node selectors, pod affinity terms and spread constraints, parsed once.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1 as core,
    apimachinery::pkg::apis::meta::v1::{LabelSelector as ApiSelector, LabelSelectorRequirement},
};

pub(crate) type Labels = BTreeMap<String, String>;

/// One condition on a set of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirement {
    key: String,
    operator: String,
    values: Vec<String>,
}

impl Requirement {
    /// An operator that is not known matches nothing.
    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.get(&self.key).map(String::as_str))
    }

    fn matches_value(&self, value: Option<&str>) -> bool {
        let listed = || value.is_some_and(|v| self.values.iter().any(|x| x == v));
        let numbers = || Some((value?.parse::<i64>().ok()?, self.values.first()?.parse::<i64>().ok()?));
        match self.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => numbers().is_some_and(|(a, b)| a > b),
            "Lt" => numbers().is_some_and(|(a, b)| a < b),
            _ => false,
        }
    }
}

impl From<&core::NodeSelectorRequirement> for Requirement {
    fn from(r: &core::NodeSelectorRequirement) -> Self {
        let values = r.values.clone().unwrap_or_default();
        Self { key: r.key.clone(), operator: r.operator.clone(), values }
    }
}

impl From<&LabelSelectorRequirement> for Requirement {
    fn from(r: &LabelSelectorRequirement) -> Self {
        let values = r.values.clone().unwrap_or_default();
        Self { key: r.key.clone(), operator: r.operator.clone(), values }
    }
}

/// A label selector. None of the API selects nothing, an empty one everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector(Option<Vec<Requirement>>);

impl Selector {
    pub(crate) fn new(selector: Option<&ApiSelector>) -> Self {
        Self(selector.map(|selector| {
            let equal = selector.match_labels.iter().flatten().map(|(key, value)| Requirement {
                key: key.clone(),
                operator: "In".to_owned(),
                values: vec![value.clone()],
            });
            equal.chain(selector.match_expressions.iter().flatten().map(Requirement::from)).collect()
        }))
    }

    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.0.as_ref().is_some_and(|all| all.iter().all(|r| r.matches(labels)))
    }

    /// Adds conditions on the values that a pod itself has for some keys.
    fn narrow(&mut self, keys: Option<&Vec<String>>, operator: &str, own: &Labels) {
        let Some(all) = &mut self.0 else { return };
        let present = keys.into_iter().flatten().filter_map(|key| Some((key, own.get(key)?)));
        all.extend(present.map(|(key, value)| Requirement {
            key: key.clone(),
            operator: operator.to_owned(),
            values: vec![value.clone()],
        }));
    }
}

/// A node selector: any of its terms, all of a term's conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeSelector(Vec<NodeTerm>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeTerm {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

impl NodeTerm {
    pub(crate) fn new(term: &core::NodeSelectorTerm) -> Self {
        let read = |list: &Option<Vec<core::NodeSelectorRequirement>>| list.iter().flatten().map(Into::into).collect();
        Self { labels: read(&term.match_expressions), fields: read(&term.match_fields) }
    }

    /// A term without conditions matches nothing.
    pub(crate) fn matches(&self, name: &str, labels: &Labels) -> bool {
        let empty = self.labels.is_empty() && self.fields.is_empty();
        let field = |r: &Requirement| r.key == "metadata.name" && r.matches_value(Some(name));
        !empty && self.labels.iter().all(|r| r.matches(labels)) && self.fields.iter().all(field)
    }

    /// The names that the term allows, when it says so.
    fn names(&self) -> Option<BTreeSet<String>> {
        let named = self.fields.iter().find(|r| r.key == "metadata.name" && r.operator == "In")?;
        Some(named.values.iter().cloned().collect())
    }
}

impl NodeSelector {
    pub(crate) fn new(selector: &core::NodeSelector) -> Self {
        Self(selector.node_selector_terms.iter().map(NodeTerm::new).collect())
    }

    pub(crate) fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.0.iter().any(|term| term.matches(name, labels))
    }

    /// The only nodes that can match, when every term names its nodes (as a DaemonSet's pods do).
    pub(crate) fn names(&self) -> Option<BTreeSet<String>> {
        let sets: Option<Vec<_>> = self.0.iter().map(NodeTerm::names).collect();
        Some(sets?.into_iter().flatten().collect())
    }
}

/// A term of pod affinity or anti-affinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodTerm {
    selector: Selector,
    namespaces: BTreeSet<String>,
    namespace_selector: Selector,
    pub(crate) topology_key: String,
}

impl PodTerm {
    pub(crate) fn new(term: &core::PodAffinityTerm, namespace: &str, own: &Labels) -> Self {
        let mut selector = Selector::new(term.label_selector.as_ref());
        selector.narrow(term.match_label_keys.as_ref(), "In", own);
        selector.narrow(term.mismatch_label_keys.as_ref(), "NotIn", own);
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        let namespace_selector = Selector::new(term.namespace_selector.as_ref());
        Self { selector, namespaces, namespace_selector, topology_key: term.topology_key.clone() }
    }

    /// `namespace_labels` are those of the pod's namespace.
    pub(crate) fn matches(&self, namespace: &str, labels: &Labels, namespace_labels: Option<&Labels>) -> bool {
        let named = || self.namespaces.contains(namespace);
        let selected = || namespace_labels.is_some_and(|l| self.namespace_selector.matches(l));
        self.selector.matches(labels) && (named() || selected())
    }
}

/// A term with a weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Weighted<T> {
    pub(crate) weight: i64,
    pub(crate) term: T,
}

/// A topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpreadConstraint {
    pub(crate) max_skew: i64,
    pub(crate) topology_key: String,
    pub(crate) hard: bool,
    pub(crate) selector: Selector,
    pub(crate) min_domains: i64,
    /// Nodes that the pod's node affinity excludes do not count.
    pub(crate) honor_affinity: bool,
    /// Nodes with taints that the pod does not tolerate do not count.
    pub(crate) honor_taints: bool,
}

impl SpreadConstraint {
    pub(crate) fn new(constraint: &core::TopologySpreadConstraint, own: &Labels) -> Self {
        let mut selector = Selector::new(constraint.label_selector.as_ref());
        selector.narrow(constraint.match_label_keys.as_ref(), "In", own);
        Self {
            max_skew: constraint.max_skew.into(),
            topology_key: constraint.topology_key.clone(),
            hard: constraint.when_unsatisfiable == "DoNotSchedule",
            selector,
            min_domains: constraint.min_domains.unwrap_or(1).into(),
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}
