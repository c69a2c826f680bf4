//! NamespaceLifecycle: nothing is made in a namespace that does not exist or is going, and three namespaces stay.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::{Status, Value, meta};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Attributes, Operation, Plugin};
use crate::objects::{Handle, Ref};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// How long and for how many namespaces the cache is not believed after a deletion, as upstream has it.
const DISTRUST: Duration = Duration::from_secs(30);
const DISTRUSTED_MAX: usize = 100;

pub(super) struct NamespaceLifecycle {
    objects: Handle,
    /// Namespaces whose deletion was asked for, and when, oldest first: the cache may not have it yet.
    deleted: Mutex<VecDeque<(Instant, String)>>,
}

impl NamespaceLifecycle {
    pub(super) fn new(objects: Handle) -> Self {
        Self { objects, deleted: Mutex::default() }
    }

    fn note_deleted(&self, name: &str) {
        let mut deleted = self.deleted.lock();
        if deleted.len() == DISTRUSTED_MAX {
            deleted.pop_front();
        }
        deleted.push_back((Instant::now(), name.to_owned()));
    }

    fn was_deleted(&self, name: &str) -> bool {
        let mut deleted = self.deleted.lock();
        while deleted.front().is_some_and(|(at, _)| at.elapsed() > DISTRUST) {
            deleted.pop_front();
        }
        deleted.iter().any(|(_, found)| found == name)
    }

    async fn namespace(&self, name: &str) -> Result<Arc<Value>, Status> {
        let reference = Ref::cluster("", "namespaces", name);
        let cached = self.objects.get().get(reference).filter(|_| !self.was_deleted(name));
        match cached {
            Some(found) => Ok(found),
            // One that was made a moment ago may not be in the cache either.
            None => self.objects.get().read(reference).await,
        }
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
            Operation::Delete => is_namespace,
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
            if IMMORTAL.contains(&attributes.path.name.as_str()) {
                return Err(attributes.forbidden("this namespace may not be deleted"));
            }
            self.note_deleted(&attributes.path.name);
            return Ok(());
        }
        let name = attributes.path.namespace.as_str();
        let namespace = self.namespace(name).await?;
        if attributes.operation == Operation::Create && is_going(&namespace) {
            let why = format!("unable to create new content in namespace {name} because it is being terminated");
            let cause = format!("namespace {name} is being terminated");
            return Err(attributes.forbidden(&why).with_cause("NamespaceTerminating", cause, "metadata.namespace"));
        }
        Ok(())
    }
}

fn is_going(namespace: &Value) -> bool {
    meta::is_terminating(namespace)
        || meta::find(namespace, "/status/phase").and_then(Value::as_str) == Some("Terminating")
}
