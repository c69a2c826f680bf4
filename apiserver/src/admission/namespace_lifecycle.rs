//! NamespaceLifecycle: nothing is made in a namespace that does not exist or is going, and three namespaces stay.

use api::{Status, Value, meta};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::objects::{Handle, Ref};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle {
    objects: Handle,
}

impl NamespaceLifecycle {
    pub(super) fn new(objects: Handle) -> Self {
        Self { objects }
    }
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let is_namespace = attributes.is("", "namespaces");
        match attributes.operation {
            Operation::Delete => is_namespace && IMMORTAL.contains(&attributes.path.name.as_str()),
            Operation::Create | Operation::Update => {
                !attributes.path.namespace.is_empty()
                    && attributes.path.resource != "namespaces"
                    && attributes.path.group != "authorization.k8s.io"
            }
            Operation::Connect => false,
        }
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if attributes.operation == Operation::Delete {
            return Err(attributes.forbidden("this namespace may not be deleted"));
        }
        let name = attributes.path.namespace.as_str();
        let reference = Ref::cluster("", "namespaces", name);
        // A namespace that was made a moment ago may not be in the cache, and one that goes must not be filled by a cache
        // that lags: a creation looks at what is stored unless the cache says that all is well and nothing else is known.
        let namespace = match self.objects.get().get(reference) {
            Some(found) => found,
            None => self.objects.get().read(reference).await?,
        };
        if attributes.operation == Operation::Create && is_going(&namespace) {
            let why = format!("unable to create new content in namespace {name} because it is being terminated");
            let cause = format!("namespace {name} is being terminated");
            return Err(attributes.forbidden(&why).with_cause("NamespaceTerminating", cause, "metadata.namespace"));
        }
        Ok(())
    }
}

fn is_going(namespace: &Value) -> bool {
    meta::is_terminating(namespace) || namespace.pointer("/status/phase").and_then(Value::as_str) == Some("Terminating")
}
