//! Nobody grants what they do not hold: roles and bindings are only written by who has every permission in them, or the
//! permission to `escalate` or `bind`. Mirrors upstream's `pkg/registry/rbac/*/policybased`.

use std::sync::Arc;

use api::{Status, Value, meta};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::authorize::rbac::{GROUP, Rbac};
use crate::authorize::{self, Authorizer as _, MASTERS, Resource, Rule, Target, Union};

pub(super) struct RbacEscalation {
    rbac: Rbac,
    authorizer: Union,
}

impl RbacEscalation {
    pub(super) fn new(rbac: Rbac, authorizer: Union) -> Self {
        Self { rbac, authorizer }
    }

    fn may(&self, attributes: &Attributes<'_>, verb: &str, resource: &str, name: &str) -> bool {
        let namespace = attributes.path.namespace.as_str();
        let asked = Resource { group: GROUP, version: "*", namespace, resource, name, ..Resource::default() };
        let target = Target::Resource(asked);
        self.authorizer.authorize(&authorize::Attributes { user: &attributes.context.user, verb, target }).is_allowed()
    }

    fn confirm(&self, attributes: &Attributes<'_>, rules: &[Rule]) -> Result<(), Status> {
        let user = &attributes.context.user;
        let confirmed = self.rbac.confirm_no_escalation(user, &attributes.path.namespace, rules);
        confirmed.map_err(|why| attributes.forbidden(&why))
    }

    fn check_role(&self, attributes: &Attributes<'_>, role: &Value) -> Result<(), Status> {
        if self.may(attributes, "escalate", &attributes.path.resource, &attributes.path.name) {
            return Ok(());
        }
        self.confirm(attributes, &Rule::all_of(role))?;
        let is_aggregated = has_selectors(role) || attributes.old.is_some_and(has_selectors);
        if is_aggregated && self.confirm(attributes, &Rule::full_authority()).is_err() {
            return Err(attributes.forbidden("must have cluster-admin privileges to use the aggregationRule"));
        }
        Ok(())
    }

    fn check_binding(&self, attributes: &Attributes<'_>, binding: &Value) -> Result<(), Status> {
        let text =
            |field: &str| meta::find(binding, &format!("/roleRef/{field}")).and_then(Value::as_str).unwrap_or_default();
        let (kind, name) = (text("kind"), text("name"));
        let resource = if kind == "Role" { "roles" } else { "clusterroles" };
        if self.may(attributes, "bind", resource, name) {
            return Ok(());
        }
        let rules: Arc<[Rule]> = self
            .rbac
            .role_rules(kind, name, &attributes.path.namespace)
            .map_err(|_| Status::not_found(GROUP, &attributes.path.resource, name))?;
        self.confirm(attributes, &rules)
    }
}

#[async_trait]
impl Plugin for RbacEscalation {
    fn name(&self) -> &'static str {
        "RbacEscalation"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.path.group == GROUP
            && matches!(attributes.operation, Operation::Create | Operation::Update)
            && !attributes.context.user.groups.iter().any(|group| group == MASTERS)
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let Some(object) = &attributes.object else {
            return Ok(());
        };
        if attributes.old.is_some_and(|old| differs_for_collection_only(object, old)) {
            return Ok(());
        }
        match attributes.path.resource.as_str() {
            "roles" | "clusterroles" => self.check_role(attributes, object),
            _ => self.check_binding(attributes, object),
        }
    }
}

fn has_selectors(role: &Value) -> bool {
    let selectors = meta::find(role, "/aggregationRule/clusterRoleSelectors").and_then(Value::as_array);
    selectors.is_some_and(|list| !list.is_empty())
}

/// Only what the garbage collector writes has changed: owners and finalizers.
fn differs_for_collection_only(new: &Value, old: &Value) -> bool {
    let stripped = |object: &Value| {
        let mut object = object.clone();
        for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
            meta::set(&mut object, field, Value::Null);
        }
        object
    };
    stripped(new) == stripped(old)
}
