//! Namespaces: deletion is a phase, and the last finalizer of `spec` ends it.

use api::{Value, meta};
use async_trait::async_trait;
use jiff::Timestamp;
use kinds::tree::{at, enter, list, put};

use super::{DeleteStep, Hooks};
use crate::registry::options::{DeleteOptions, Propagation};

/// The steps of namespaces.
pub(super) struct Namespaces;

#[async_trait]
impl Hooks for Namespaces {
    fn may_go(&self, namespace: &Value) -> bool {
        list(at(namespace, "spec"), "finalizers").is_empty()
    }

    fn precondition_failed(&self, field: &str, asked: &str, found: &str) -> Option<String> {
        Some(format!("Precondition failed: {field} in precondition: {asked}, {field} in object meta: {found}"))
    }

    fn delete_step(&self, namespace: &mut Value, options: &DeleteOptions, now: Timestamp) -> DeleteStep {
        if meta::is_terminating(namespace) {
            return if self.may_go(namespace) { DeleteStep::Generic } else { DeleteStep::Nothing };
        }
        meta::set(namespace, "deletionTimestamp", api::time::seconds(now).into());
        put(enter(namespace, "status"), "phase", "Terminating");
        let finalizers = finalizers(namespace, options);
        let finalizers = if finalizers.is_empty() { Value::Null } else { finalizers.into() };
        meta::set(namespace, "finalizers", finalizers);
        DeleteStep::Keep
    }
}

fn finalizers(namespace: &Value, options: &DeleteOptions) -> Vec<String> {
    const ORPHAN: &str = "orphan";
    const FOREGROUND: &str = "foregroundDeletion";
    let asked = match (options.orphan_dependents, options.propagation) {
        (Some(orphan), _) => Some((orphan, !orphan)),
        (None, Some(policy)) => Some((policy == Propagation::Orphan, policy == Propagation::Foreground)),
        (None, None) => None,
    };
    let mut kept: Vec<String> = meta::finalizers(namespace).map(str::to_owned).collect();
    let Some((orphan, foreground)) = asked else { return kept };
    kept.retain(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND);
    if orphan {
        kept.push(ORPHAN.to_owned());
    }
    if foreground {
        kept.push(FOREGROUND.to_owned());
    }
    kept
}
