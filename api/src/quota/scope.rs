//! Scopes: which objects a quota is about.

use std::collections::BTreeSet;

use crate::Value;

/// One condition that a quota puts on objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// `Terminating`, `PriorityClass` and the like.
    pub scope: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    /// For the first two operators.
    pub values: Vec<String>,
}

impl Requirement {
    /// The conditions of a quota, old and new form.
    pub fn all_of(quota: &Value) -> Vec<Self> {
        let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        let strings = |list: Option<&Value>| -> Vec<String> {
            let list = list.and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let scopes = strings(crate::meta::find(quota, "/spec/scopes")).into_iter();
        let plain = scopes.map(|scope| Self { scope, operator: "Exists".to_owned(), values: Vec::new() });
        let expressions = crate::meta::find(quota, "/spec/scopeSelector/matchExpressions").and_then(Value::as_array);
        let selected = expressions.into_iter().flatten().map(|expression| Self {
            scope: text(expression, "scopeName"),
            operator: text(expression, "operator"),
            values: strings(expression.get("values")),
        });
        plain.chain(selected).collect()
    }

    /// As a selector on a label of the scope's name: None is no such label.
    fn selects(&self, value: Option<&str>) -> bool {
        let listed = || value.is_some_and(|value| self.values.iter().any(|one| one == value));
        match self.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    }
}

/// What scopes ask about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scopes {
    /// Its kind is in none.
    None,
    /// A pod's.
    Pod { has_deadline: bool, is_best_effort: bool, priority_class: String, looks_across_namespaces: bool },
    /// A volume claim's attributes classes: asked for, in use, on the way.
    VolumeClaim { classes: BTreeSet<String> },
}

impl Scopes {
    pub(super) fn meet(&self, requirement: &Requirement) -> bool {
        match self {
            Self::None => false,
            Self::Pod { has_deadline, is_best_effort, priority_class, looks_across_namespaces } => {
                match requirement.scope.as_str() {
                    "Terminating" => *has_deadline,
                    "NotTerminating" => !has_deadline,
                    "BestEffort" => *is_best_effort,
                    "NotBestEffort" => !is_best_effort,
                    "PriorityClass" => {
                        requirement.selects(Some(priority_class.as_str()).filter(|class| !class.is_empty()))
                    }
                    "CrossNamespacePodAffinity" => *looks_across_namespaces,
                    _ => false,
                }
            }
            Self::VolumeClaim { classes } => {
                requirement.scope == "VolumeAttributesClass"
                    && if classes.is_empty() {
                        requirement.selects(None)
                    } else {
                        classes.iter().any(|class| requirement.selects(Some(class)))
                    }
            }
        }
    }
}
