//! What single kinds do beyond the generic engine. Architecture invariant: the only part of the registry that names a kind.

use std::sync::Arc;
use std::time::Duration;

use api::{Status, Value};
use async_trait::async_trait;
use jiff::Timestamp;

use super::options::DeleteOptions;

/// Steps of the write pipeline that a kind takes part in.
#[async_trait]
pub(crate) trait Hooks: Send + Sync + 'static {
    /// How long an object lives; None is for ever.
    fn ttl(&self) -> Option<Duration> {
        None
    }

    /// Before validation of a new object: allocates what it needs.
    async fn begin_create(&self, _object: &mut Value, _dry_run: bool) -> Result<Pending, Status> {
        Ok(Pending::nothing())
    }

    /// Before validation of a changed object: allocates what it needs on top, and what it gives up.
    async fn begin_update(&self, _new: &mut Value, _old: &Value, _dry_run: bool) -> Result<Pending, Status> {
        Ok(Pending::nothing())
    }

    /// After an object has been removed for good.
    fn deleted(&self, _object: &Value) {}

    /// An object without finalizers that is being deleted may be removed.
    fn may_go(&self, _object: &Value) -> bool {
        true
    }

    /// A deletion that has a step of its own before the generic one. It may change the object.
    fn delete_step(&self, _object: &mut Value, _options: &DeleteOptions, _now: Timestamp) -> DeleteStep {
        DeleteStep::Generic
    }

    /// A warning for a deletion with these options.
    fn delete_warning(&self, _options: &DeleteOptions) -> Option<&'static str> {
        None
    }
}

/// What a kind does of its own with a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeleteStep {
    /// Nothing.
    Generic,
    /// The changed object is stored, and that is all for now.
    Keep,
    /// The object stays as it is.
    Nothing,
}

/// Allocations of a write that may still fail: undone unless [`Pending::commit`] is called.
#[derive(Default)]
pub(crate) struct Pending {
    commit: Option<Box<dyn FnOnce() + Send>>,
    undo: Option<Box<dyn FnOnce() + Send>>,
}

impl Pending {
    /// Nothing to keep or undo.
    pub(crate) fn nothing() -> Self {
        Self::default()
    }

    /// The write is stored.
    pub(crate) fn commit(mut self) {
        self.undo = None;
        if let Some(commit) = self.commit.take() {
            commit();
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(undo) = self.undo.take() {
            undo();
        }
    }
}

/// A kind without steps of its own.
struct Plain;

impl Hooks for Plain {}

/// The steps of a resource.
pub(crate) fn hooks(_group: &str, _resource: &str) -> Arc<dyn Hooks> {
    Arc::new(Plain)
}

/// How a resource is served in another version than it is stored in.
pub(crate) trait Conversion: Send + Sync {
    /// Stored to served; apiVersion and kind are set by the caller.
    fn to_served(&self, stored: Value) -> Value;

    /// Served to stored.
    fn to_stored(&self, served: Value) -> Value;

    /// The stored name of a selectable field.
    fn field<'a>(&self, served: &'a str) -> &'a str {
        served
    }
}

/// The conversion of a resource that is stored otherwise than it is served.
pub(crate) fn conversion(_group: &str, _version: &str, _resource: &str) -> Option<&'static dyn Conversion> {
    None
}

/// The segments of a resource's keys, as upstream lays them out.
pub(crate) fn key_segments(group: &'static str, resource: &'static str) -> Vec<&'static str> {
    match (group, resource) {
        ("", "replicationcontrollers") => vec!["controllers"],
        ("", "endpoints") => vec!["services", "endpoints"],
        ("", "nodes") => vec!["minions"],
        ("", "services") => vec!["services", "specs"],
        ("networking.k8s.io", "ingresses") => vec!["ingress"],
        ("apiregistration.k8s.io" | "apiextensions.k8s.io", _) => vec![group, resource],
        _ => vec![resource],
    }
}
