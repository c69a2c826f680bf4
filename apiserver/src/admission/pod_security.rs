//! PodSecurity: a namespace's labels say how careful its pods have to be. Mirrors upstream's `pod-security-admission`.
//!
//! `enforce` refuses pods; `warn` warns of pods and of what makes them. Auditing waits for the audit log.

mod checks;
mod policy;

use api::{Status, Value, meta};
use async_trait::async_trait;

use self::policy::{Level, Policy};
use super::{Attributes, Operation, Plugin};
use crate::objects::{Handle, Ref};

const IGNORED: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

/// What holds a pod's template, and where.
const TEMPLATES: [(&str, &str, &str); 8] = [
    ("", "podtemplates", "/template"),
    ("", "replicationcontrollers", "/spec/template"),
    ("apps", "deployments", "/spec/template"),
    ("apps", "replicasets", "/spec/template"),
    ("apps", "statefulsets", "/spec/template"),
    ("apps", "daemonsets", "/spec/template"),
    ("batch", "jobs", "/spec/template"),
    ("batch", "cronjobs", "/spec/jobTemplate/spec/template"),
];

pub(super) struct PodSecurity(pub(super) Handle);

impl PodSecurity {
    async fn policy(&self, namespace: &str) -> Result<Policy, Status> {
        let reference = Ref::cluster("", "namespaces", namespace);
        let found = match self.0.get().get(reference) {
            Some(found) => Ok(found),
            None => self.0.get().read(reference).await,
        };
        let found = found.map_err(|_| Status::internal(format!("failed to lookup namespace {namespace:?}")))?;
        Ok(Policy::read(&found).0)
    }

    async fn pod(&self, attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
        let policy = self.policy(&attributes.path.namespace).await?;
        if attributes.old.is_some_and(|old| !is_significant(pod, old)) {
            return Ok(());
        }
        if let Some(why) = checks::violations(&policy.enforce, pod) {
            return Err(attributes.forbidden(&format!("violates PodSecurity {:?}: {why}", policy.enforce.to_string())));
        }
        warn(attributes, &policy, pod);
        Ok(())
    }
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let is_write = matches!(attributes.operation, Operation::Create | Operation::Update);
        let path = attributes.path;
        let is_pod = path.group.is_empty() && path.resource == "pods" && !IGNORED.contains(&path.subresource.as_str());
        is_write && (is_pod || attributes.is("", "namespaces") || template(attributes).is_some())
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let Some(object) = &attributes.object else {
            return Ok(());
        };
        if attributes.is("", "namespaces") {
            return check_labels(attributes, object);
        }
        if attributes.path.resource == "pods" {
            return self.pod(attributes, object).await;
        }
        let template = template(attributes).and_then(|pointer| meta::find(object, pointer));
        if let (Some(template), Ok(policy)) = (template, self.policy(&attributes.path.namespace).await) {
            warn(attributes, &policy, template);
        }
        Ok(())
    }
}

fn template(attributes: &Attributes<'_>) -> Option<&'static str> {
    TEMPLATES.iter().find(|(group, resource, _)| attributes.is(group, resource)).map(|(_, _, pointer)| *pointer)
}

fn warn(attributes: &Attributes<'_>, policy: &Policy, pod: &Value) {
    if policy.warn.level == Level::Privileged {
        return;
    }
    if let Some(why) = checks::violations(&policy.warn, pod) {
        let text = format!("would violate PodSecurity {:?}: {why}", policy.warn.to_string());
        attributes.context.warnings.add(text);
    }
}

/// Labels have to be right when they are set, and whenever what is wrong with them changes.
fn check_labels(attributes: &Attributes<'_>, namespace: &Value) -> Result<(), Status> {
    let (_, errors) = Policy::read(namespace);
    let known = attributes.old.map(|old| Policy::read(old).1);
    if errors.is_empty() || known.is_some_and(|known| known.0 == errors.0) {
        return Ok(());
    }
    Err(Status::invalid("", "Namespace", meta::name(namespace), &errors))
}

/// Only images and new containers change what a pod may do.
fn is_significant(new: &Value, old: &Value) -> bool {
    let containers = |pod: &Value, field: &str| {
        meta::find(pod, &format!("/spec/{field}")).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let image = |container: &Value| container.get("image").cloned();
    let images = |pod: &Value, field: &str| containers(pod, field).iter().map(image).collect::<Vec<_>>();
    if ["containers", "initContainers"].iter().any(|field| images(new, field) != images(old, field)) {
        return true;
    }
    let known = containers(old, "ephemeralContainers");
    containers(new, "ephemeralContainers").iter().any(|container| {
        let same = known.iter().find(|one| one["name"] == container["name"]);
        same.is_none_or(|one| image(one) != image(container))
    })
}
