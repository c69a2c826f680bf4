//! Policy rules: what one rule allows, and whether some rules cover others.
//!
//! Mirrors upstream's `pkg/apis/rbac/v1/evaluation_helpers.go` and `component-helpers/auth/rbac/validation`.

use std::collections::BTreeSet;

use api::Value;
use serde_json::json;

use super::{Attributes, Target};

/// A `PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// `*` is all of them.
    pub verbs: Vec<String>,
    /// `*` is all of them.
    pub groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    pub resources: Vec<String>,
    /// Empty is all of them.
    pub names: Vec<String>,
    /// Paths, a trailing `*` matches the rest.
    pub urls: Vec<String>,
}

impl Rule {
    /// Every rule of a role object.
    pub fn all_of(role: &Value) -> Vec<Self> {
        let rules = role.get("rules").and_then(Value::as_array);
        rules.into_iter().flatten().map(Self::from_value).collect()
    }

    fn from_value(rule: &Value) -> Self {
        let list = |field: &str| {
            let texts = rule.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        Self {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            urls: list("nonResourceURLs"),
        }
    }

    /// A rule for everything on resources, and one for everything on paths.
    pub fn full_authority() -> [Self; 2] {
        let star = || vec!["*".to_owned()];
        let resources = Self { verbs: star(), groups: star(), resources: star(), ..Self::default() };
        [resources, Self { verbs: star(), urls: star(), ..Self::default() }]
    }

    /// The rule allows the request.
    pub fn allows(&self, request: &Attributes<'_>) -> bool {
        if !has_or_all(&self.verbs, request.verb) {
            return false;
        }
        match &request.target {
            Target::Path(path) => self.urls.iter().any(|url| url_covers(url, path)),
            Target::Resource(asked) => {
                has_or_all(&self.groups, asked.group)
                    && self.resources.iter().any(|own| resource_matches(own, asked.resource, asked.subresource))
                    && (self.names.is_empty() || self.names.iter().any(|name| name == asked.name))
            }
        }
    }

    /// The same, split into rules with one verb, group, resource and name each.
    fn split(&self) -> Vec<Self> {
        let mut parts = Vec::new();
        let one = |text: &String| vec![text.clone()];
        for group in &self.groups {
            for (resource, verb) in product(&self.resources, &self.verbs) {
                let part = Self { verbs: one(verb), groups: one(group), resources: one(resource), ..Self::default() };
                if self.names.is_empty() {
                    parts.push(part);
                    continue;
                }
                parts.extend(self.names.iter().map(|name| Self { names: one(name), ..part.clone() }));
            }
        }
        for (url, verb) in product(&self.urls, &self.verbs) {
            parts.push(Self { verbs: one(verb), urls: one(url), ..Self::default() });
        }
        parts
    }

    /// This rule covers a part made by [`Rule::split`].
    fn covers(&self, part: &Self) -> bool {
        let all = |own: &[String], asked: &[String]| asked.iter().all(|text| has_or_all(own, text));
        let resource = |path: &String| {
            self.resources.iter().any(|own| {
                let behind = path.split_once('/').map(|(_, subresource)| subresource);
                own == "*" || own == path || behind.is_some_and(|s| own.strip_prefix("*/") == Some(s))
            })
        };
        let names =
            self.names.is_empty() || (!part.names.is_empty() && part.names.iter().all(|n| self.names.contains(n)));
        all(&self.verbs, &part.verbs)
            && all(&self.groups, &part.groups)
            && part.resources.iter().all(resource)
            && names
            && part.urls.iter().all(|url| self.urls.iter().any(|own| own == url || url_covers(own, url)))
    }

    /// As in a `PolicyRule`, empty lists left out.
    pub fn to_value(&self) -> Value {
        let mut value = json!({"verbs": self.verbs});
        let lists = [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ];
        for (field, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            value[field] = json!(list);
        }
        value
    }

    /// As upstream writes it into refusals.
    fn describe(&self) -> String {
        let lists = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let parts = lists.iter().filter(|(_, list)| !list.is_empty());
        let parts: Vec<String> = parts.map(|(name, list)| format!("{name}:{}", quoted(list))).collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// What `asked` grants and `own` does not hold, one description a line; None when everything is held.
pub(super) fn missing(own: &[Rule], asked: &[Rule]) -> Option<String> {
    let parts = asked.iter().flat_map(Rule::split);
    let uncovered: Vec<Rule> = parts.filter(|part| !own.iter().any(|rule| rule.covers(part))).collect();
    if uncovered.is_empty() {
        return None;
    }
    let lines: BTreeSet<String> = compact(uncovered).iter().map(Rule::describe).collect();
    Some(lines.into_iter().collect::<Vec<_>>().join("\n"))
}

/// Joins the verbs of rules that are the same otherwise, as upstream's `CompactRules`.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut joined: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = |known: &&mut Rule| {
            known.groups == rule.groups
                && known.resources == rule.resources
                && known.names == rule.names
                && known.urls == rule.urls
        };
        match joined.iter_mut().find(same).filter(|_| rule.urls.is_empty()) {
            Some(known) => known.verbs.extend(rule.verbs),
            None => joined.push(rule),
        }
    }
    joined
}

/// `["a" "b"]`, as Go prints a list of quoted strings.
pub fn quoted(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(" "))
}

fn product<'a>(a: &'a [String], b: &'a [String]) -> impl Iterator<Item = (&'a String, &'a String)> {
    a.iter().flat_map(move |x| b.iter().map(move |y| (x, y)))
}

fn has_or_all(list: &[String], asked: &str) -> bool {
    list.iter().any(|own| own == "*" || own == asked)
}

fn resource_matches(own: &str, resource: &str, subresource: &str) -> bool {
    if own == "*" {
        return true;
    }
    if subresource.is_empty() {
        return own == resource;
    }
    match own.split_once('/') {
        Some((own_resource, own_subresource)) => {
            own_subresource == subresource && (own_resource == "*" || own_resource == resource)
        }
        None => false,
    }
}

fn url_covers(own: &str, path: &str) -> bool {
    own == "*" || own == path || own.ends_with('*') && path.starts_with(own.trim_end_matches('*'))
}

#[cfg(test)]
mod tests;
