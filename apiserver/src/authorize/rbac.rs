//! Role-based access control over an index that follows the four RBAC resources: an answer costs a look-up for each of
//! the user's names, not a walk over all bindings.

mod index;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use daemon::Tasks;
use futures::StreamExt as _;
use parking_lot::RwLock;

use self::index::{Binding, Index};
use super::{Attributes, Authorizer, Rule, Rules, Ruling, Target};
use crate::objects::{Change, Objects};
use crate::request::User;

/// The group of every RBAC resource.
pub const GROUP: &str = "rbac.authorization.k8s.io";

const RESOURCES: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// Permissions out of roles and bindings. Clones share the index.
#[derive(Clone, Default)]
pub struct Rbac {
    index: Arc<RwLock<Index>>,
    synced: Arc<AtomicU8>,
}

impl Rbac {
    /// Fills the index and keeps it up to date until the drain.
    pub fn follow(&self, objects: &dyn Objects, tasks: &Tasks) {
        for resource in RESOURCES {
            let mut changes = objects.changes(GROUP, resource);
            let (rbac, drain) = (self.clone(), tasks.drain().clone());
            tasks.spawn("rbac-index", async move {
                while let Some(Some(change)) = drain.run(changes.next()).await {
                    rbac.apply(resource, change);
                }
            });
        }
    }

    /// Every RBAC object that existed at start is known.
    pub fn is_synced(&self) -> bool {
        usize::from(self.synced.load(Ordering::Acquire)) >= RESOURCES.len()
    }

    fn apply(&self, resource: &str, change: Change) {
        let is_role = matches!(resource, "roles" | "clusterroles");
        match change {
            Change::Synced => drop(self.synced.fetch_add(1, Ordering::AcqRel)),
            Change::Put(object) if is_role => self.index.write().put_role(&object),
            Change::Put(object) => self.index.write().put_binding(&object),
            Change::Deleted(object) if is_role => self.index.write().remove_role(&object),
            Change::Deleted(object) => self.index.write().remove_binding(&object),
        }
    }

    /// The rules of the role that a binding in `namespace` refers to.
    ///
    /// # Errors
    /// With upstream's text when the role does not exist.
    pub fn role_rules(&self, kind: &str, name: &str, namespace: &str) -> Result<Arc<[Rule]>, String> {
        self.index.read().role(kind, name, namespace)
    }

    /// Every rule that applies to a user in a namespace, and what could not be resolved.
    pub fn rules_for(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        self.visit(user, namespace, |_, found| {
            match found {
                Ok(found) => rules.extend(found.iter().cloned()),
                Err(error) => errors.push(error),
            }
            true
        });
        (rules, errors)
    }

    /// Refuses to let a user grant what the user does not hold; the text follows `is forbidden: `.
    ///
    /// # Errors
    /// With upstream's text, naming what is missing.
    pub fn confirm_no_escalation(&self, user: &User, namespace: &str, asked: &[Rule]) -> Result<(), String> {
        let (own, errors) = self.rules_for(user, namespace);
        let Some(lines) = super::rule::missing(&own, asked) else {
            return Ok(());
        };
        let groups = super::rule::quoted(&user.groups);
        let mut text = format!(
            "user {:?} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{lines}",
            user.name
        );
        if !errors.is_empty() {
            let _ = write!(text, "; resolution errors: [{}]", aggregate(&errors));
        }
        Err(text)
    }

    /// Shows `visitor` every binding of a user with its rules until it returns false.
    fn visit(
        &self,
        user: &User,
        namespace: &str,
        mut visitor: impl FnMut(&Binding, Result<Arc<[Rule]>, String>) -> bool,
    ) {
        let index = self.index.read();
        let scopes = if namespace.is_empty() { &[""][..] } else { &["", namespace][..] };
        for scope in scopes {
            for binding in index.bindings(user, scope) {
                if !visitor(binding, index.role(&binding.role_kind, &binding.role_name, scope)) {
                    return;
                }
            }
        }
    }
}

impl Authorizer for Rbac {
    fn authorize(&self, request: &Attributes<'_>) -> Ruling {
        let namespace = match &request.target {
            Target::Resource(resource) => resource.namespace,
            Target::Path(_) => "",
        };
        let mut allowed = None;
        let mut errors = Vec::new();
        self.visit(request.user, namespace, |binding, rules| {
            match rules {
                Ok(rules) if rules.iter().any(|rule| rule.allows(request)) => {
                    allowed = Some(binding.describe(request.user));
                }
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
            allowed.is_none()
        });
        if let Some(source) = allowed {
            return Ruling::allow(format!("RBAC: allowed by {source}"));
        }
        let reason = if errors.is_empty() { String::new() } else { format!("RBAC: {}", aggregate(&errors)) };
        Ruling::no_opinion(reason)
    }

    fn rules(&self, user: &User, namespace: &str) -> Rules {
        let (rules, errors) = self.rules_for(user, namespace);
        let values = |keep: fn(&Rule) -> bool| rules.iter().filter(|rule| keep(rule)).map(Rule::to_value).collect();
        Rules {
            resources: values(|rule| !rule.resources.is_empty()),
            paths: values(|rule| !rule.urls.is_empty()),
            incomplete: false,
            error: aggregate(&errors),
        }
    }
}

/// One error as it is, several in brackets, duplicates dropped: upstream's aggregate.
fn aggregate(errors: &[String]) -> String {
    let mut unique: Vec<&str> = Vec::new();
    for error in errors {
        if !unique.contains(&error.as_str()) {
            unique.push(error);
        }
    }
    match unique.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests;
