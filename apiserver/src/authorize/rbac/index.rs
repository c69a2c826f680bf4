//! Bindings by subject, roles by name.

use std::collections::HashMap;
use std::sync::Arc;

use api::{Value, meta};

use crate::authorize::Rule;
use crate::request::User;

/// Whom a binding names: a user (also a service account, by its user name) or a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// A subject as its binding has it, for messages.
#[derive(Clone, Debug)]
struct Named {
    subject: Subject,
    text: String,
}

/// A role binding or cluster role binding.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    namespace: String,
    name: String,
    pub(super) role_kind: String,
    pub(super) role_name: String,
    subjects: Vec<Named>,
}

/// Bindings of one scope by their names.
type Scope = HashMap<String, Arc<Binding>>;

/// The index. The empty namespace is the cluster's scope.
#[derive(Default)]
pub(super) struct Index {
    roles: HashMap<(String, String), Arc<[Rule]>>,
    bindings: HashMap<(String, String), Arc<Binding>>,
    by_subject: HashMap<Subject, HashMap<String, Scope>>,
}

impl Index {
    pub(super) fn put_role(&mut self, role: &Value) {
        self.roles.insert(key(role), Rule::all_of(role).into());
    }

    pub(super) fn remove_role(&mut self, role: &Value) {
        self.roles.remove(&key(role));
    }

    pub(super) fn put_binding(&mut self, object: &Value) {
        self.remove_binding(object);
        let binding = Arc::new(Binding::from_value(object));
        for named in &binding.subjects {
            let scopes = self.by_subject.entry(named.subject.clone()).or_default();
            scopes.entry(binding.namespace.clone()).or_default().insert(binding.name.clone(), binding.clone());
        }
        self.bindings.insert(key(object), binding);
    }

    pub(super) fn remove_binding(&mut self, object: &Value) {
        let Some(binding) = self.bindings.remove(&key(object)) else {
            return;
        };
        for named in &binding.subjects {
            let Some(scopes) = self.by_subject.get_mut(&named.subject) else {
                continue;
            };
            if let Some(scope) = scopes.get_mut(&binding.namespace) {
                scope.remove(&binding.name);
            }
            scopes.retain(|_, scope| !scope.is_empty());
            if scopes.is_empty() {
                self.by_subject.remove(&named.subject);
            }
        }
    }

    /// The bindings of one scope that name the user or one of the user's groups.
    pub(super) fn bindings<'a>(&'a self, user: &User, scope: &'a str) -> impl Iterator<Item = &'a Arc<Binding>> {
        let groups = user.groups.iter().map(|group| Subject::Group(group.clone()));
        let subjects: Vec<Subject> = std::iter::once(Subject::User(user.name.clone())).chain(groups).collect();
        let scopes = subjects.into_iter().filter_map(|subject| self.by_subject.get(&subject));
        scopes.filter_map(move |scopes| scopes.get(scope)).flat_map(HashMap::values)
    }

    /// The rules of a role as a binding of `namespace` names it.
    pub(super) fn role(&self, kind: &str, name: &str, namespace: &str) -> Result<Arc<[Rule]>, String> {
        let (namespace, resource) = match kind {
            "Role" => (namespace, "role"),
            "ClusterRole" => ("", "clusterrole"),
            other => return Err(format!("unsupported role reference kind: {other:?}")),
        };
        let found = self.roles.get(&(namespace.to_owned(), name.to_owned())).cloned();
        found.ok_or_else(|| format!("{resource}.{} {name:?} not found", super::GROUP))
    }
}

impl Binding {
    fn from_value(object: &Value) -> Self {
        let namespace = meta::namespace(object).to_owned();
        let role =
            |field: &str| object.pointer(&format!("/roleRef/{field}")).and_then(Value::as_str).unwrap_or_default();
        let subjects = object.get("subjects").and_then(Value::as_array).into_iter().flatten();
        Self {
            name: meta::name(object).to_owned(),
            role_kind: role("kind").to_owned(),
            role_name: role("name").to_owned(),
            subjects: subjects.filter_map(|subject| Named::from_value(subject, &namespace)).collect(),
            namespace,
        }
    }

    /// As in the reason of a permission.
    pub(super) fn describe(&self, user: &User) -> String {
        let (kind, name) = match self.namespace.as_str() {
            "" => ("ClusterRoleBinding", self.name.clone()),
            namespace => ("RoleBinding", format!("{}/{namespace}", self.name)),
        };
        let applies = |named: &&Named| match &named.subject {
            Subject::User(name) => *name == user.name,
            Subject::Group(name) => user.groups.contains(name),
        };
        let subject = self.subjects.iter().find(applies).map(|named| named.text.as_str()).unwrap_or_default();
        format!("{kind} {name:?} of {} {:?} to {subject}", self.role_kind, self.role_name)
    }
}

impl Named {
    fn from_value(subject: &Value, namespace: &str) -> Option<Self> {
        let text = |field: &str| subject.get(field).and_then(Value::as_str).unwrap_or_default();
        let name = text("name");
        let (subject, shown) = match text("kind") {
            "User" => (Subject::User(name.to_owned()), name.to_owned()),
            "Group" => (Subject::Group(name.to_owned()), name.to_owned()),
            "ServiceAccount" => {
                let namespace = Some(text("namespace")).filter(|own| !own.is_empty()).unwrap_or(namespace);
                if namespace.is_empty() {
                    return None;
                }
                (Subject::User(format!("system:serviceaccount:{namespace}:{name}")), format!("{name}/{namespace}"))
            }
            _ => return None,
        };
        Some(Self { subject, text: format!("{} {shown:?}", text("kind")) })
    }
}

fn key(object: &Value) -> (String, String) {
    (meta::namespace(object).to_owned(), meta::name(object).to_owned())
}
