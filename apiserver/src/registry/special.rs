//! What single kinds do beyond the generic engine. Architecture invariant: the only part of the registry that names a kind.

mod autoscaling;
mod binding;
mod component_status;
mod events;
mod eviction;
mod namespace;
mod scale;
mod service;

use std::sync::{Arc, Weak};
use std::time::Duration;

use api::{Status, Value};
use async_trait::async_trait;
use daemon::Tasks;
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::json;
use store::{Error, Store};

use super::call::Call;
use super::options::{DeleteOptions, WriteOptions};
use super::{Config, Registry};
use crate::answer::{self, Body, Response};
use crate::negotiate::{self, Accept, Format};
use crate::objects::Objects;
use crate::request::{Context, ResourcePath, Verb};

/// Steps of the write pipeline that a kind takes part in.
#[async_trait]
pub(crate) trait Hooks: Send + Sync + 'static {
    /// Before anything else: where the objects of other kinds are.
    fn bind(&self, _objects: Weak<dyn Objects>) {}

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
    async fn deleted(&self, _object: &Value) {}

    /// An object without finalizers that is being deleted may be removed.
    fn may_go(&self, _object: &Value) -> bool {
        true
    }

    /// A deletion that has a step of its own before the generic one. It may change the object.
    fn delete_step(&self, _object: &mut Value, _options: &DeleteOptions, _now: Timestamp) -> DeleteStep {
        DeleteStep::Generic
    }

    /// The words for a deletion of what is not as it was asked for to be, where they are not the generic ones.
    fn precondition_failed(&self, _field: &str, _asked: &str, _found: &str) -> Option<String> {
        None
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

/// What a write has taken before it is known whether it is stored.
#[async_trait]
pub(crate) trait Allocation: Send {
    /// The write is stored: what it gives up goes back.
    async fn commit(self: Box<Self>);

    /// The write is not stored: what was taken goes back.
    async fn undo(self: Box<Self>);

    /// As [`Allocation::undo`], behind the back of a request that was given up.
    fn abandon(self: Box<Self>);
}

/// The allocation of a write that may still fail. One that is dropped is abandoned, unless the write may be stored.
#[derive(Default)]
pub(crate) struct Pending {
    allocation: Option<Box<dyn Allocation>>,
    /// The store has been asked to write and has not refused: what was taken may be in use.
    sent: bool,
}

impl Pending {
    /// Nothing to keep or undo.
    pub(crate) fn nothing() -> Self {
        Self::default()
    }

    /// This allocation.
    pub(crate) fn of(allocation: impl Allocation + 'static) -> Self {
        Self { allocation: Some(Box::new(allocation)), sent: false }
    }

    /// Sends the write to the store. From here on nothing goes back but by a refusal: a write whose answer is lost or
    /// not waited for may be stored, and then holds what was taken. If it is not, the repairs find it.
    pub(crate) async fn send<T>(&mut self, write: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Error> {
        self.sent = true;
        let outcome = write.await;
        self.sent = !outcome.as_ref().is_err_and(writes_nothing);
        outcome
    }

    /// The write is stored.
    pub(crate) async fn commit(mut self) {
        if let Some(allocation) = self.allocation.take() {
            allocation.commit().await;
        }
    }

    /// The write is not stored, as far as that is known.
    pub(crate) async fn undo(mut self) {
        if let Some(allocation) = self.allocation.take().filter(|_| !self.sent) {
            allocation.undo().await;
        }
    }

    /// The outcome of what follows on an allocation, which is undone when that has failed.
    pub(crate) async fn unless_failed<T>(self, outcome: Result<T, Status>) -> Result<(T, Self), Status> {
        match outcome {
            Ok(done) => Ok((done, self)),
            Err(status) => {
                self.undo().await;
                Err(status)
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(allocation) = self.allocation.take().filter(|_| !self.sent) {
            allocation.abandon();
        }
    }
}

/// The store's refusal to write; after its other failures a write may still be found stored.
const fn writes_nothing(error: &Error) -> bool {
    matches!(
        error,
        Error::Conflict { .. }
            | Error::NotFound { .. }
            | Error::TooLarge { .. }
            | Error::TransactionTooLarge { .. }
            | Error::Full
    )
}

/// A kind without steps of its own.
struct Plain;

impl Hooks for Plain {}

/// The steps of a resource.
pub(crate) fn hooks(
    config: &Config,
    (group, resource): (&str, &str),
    store: &Arc<dyn Store>,
    tasks: &Tasks,
) -> Arc<dyn Hooks> {
    match (group, resource) {
        ("", "events") => Arc::new(events::Events { ttl: config.event_ttl }),
        ("", "namespaces") => Arc::new(namespace::Namespaces),
        ("", "services") => {
            let (ranges, ports) = (config.service_ips, config.node_ports.clone());
            Arc::new(service::Services::new(ranges, ports, store.clone(), tasks.clone()))
        }
        ("batch", "jobs") => Arc::new(Jobs),
        _ => Arc::new(Plain),
    }
}

/// The steps of jobs: their pods stay unless the caller says otherwise, which is worth a word.
struct Jobs;

impl Hooks for Jobs {
    fn delete_warning(&self, options: &DeleteOptions) -> Option<&'static str> {
        let silent = options.propagation.is_none() && options.orphan_dependents.is_none();
        silent.then_some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
        )
    }
}

/// A part of an object that is read and written as a kind of its own.
pub(crate) trait Part: Send + Sync {
    /// The part; apiVersion and kind are set by the caller.
    fn of(&self, object: &Value) -> Result<Value, Status>;

    /// The object with a changed part.
    fn into(&self, object: &Value, part: &Value) -> Result<Value, Status>;
}

/// The part that a subresource shows; None when it shows the object itself.
pub(crate) fn part(group: &str, resource: &str, subresource: &str) -> Option<&'static dyn Part> {
    match subresource {
        "scale" => scale::of(group, resource),
        _ => None,
    }
}

/// The cells of a part's table row.
pub(crate) fn part_cells(part: &Value, now: Timestamp) -> Vec<Value> {
    scale::cells(part, now)
}

/// A subresource that does something when it is created.
#[async_trait]
pub(crate) trait Action: Send + Sync {
    /// Reads the body, does it, and answers.
    async fn run(
        &self,
        call: &Call<'_>,
        body: &[u8],
        format: Format,
        options: &WriteOptions,
    ) -> Result<Response, Status>;
}

/// The action of a subresource.
pub(crate) fn action(group: &str, resource: &str, subresource: &str) -> Option<&'static dyn Action> {
    match (group, resource, subresource) {
        ("", "pods", "binding") => Some(&binding::Bind),
        ("", "pods", "eviction") => Some(&eviction::Evict),
        _ => None,
    }
}

/// A request on a resource that is not stored.
pub(crate) async fn unstored(
    registry: &Registry,
    (context, path): (&Context, &ResourcePath),
    accept: Accept,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Status> {
    match (path.group.as_str(), path.resource.as_str(), path.verb) {
        ("", "componentstatuses", _) => component_status::answer(registry, path, accept).await,
        ("", "bindings", Verb::Create) => {
            let endpoint = registry.endpoint("", "v1", "pods").ok_or_else(Status::unknown_path)?;
            let call = Call { registry, endpoint, context, path, accept };
            let options = call.write_options("CreateOptions")?;
            let format = negotiate::content(headers)?;
            binding::Bind.run(&call, &answer::read(body).await?, format, &options).await
        }
        _ => Err(Status::unknown_path()),
    }
}

/// A `Status` of success, as answered by actions.
pub(crate) fn success(code: u16) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code })
}

/// How a resource is served in another version than it is stored in.
pub(crate) trait Conversion: Send + Sync {
    /// Stored to served; apiVersion and kind are set by the caller.
    fn to_served(&self, stored: Value) -> Value;

    /// Served to stored.
    fn to_stored(&self, served: Value) -> Value;

    /// The stored name of a selectable field; None when the served version does not know it.
    fn field<'a>(&self, served: &'a str) -> Option<&'a str> {
        Some(served)
    }

    /// The kind's rules are written for the stored version and not for the served one.
    fn rules_are_stored(&self) -> bool {
        false
    }
}

/// The conversion of a resource that is stored otherwise than it is served.
pub(crate) fn conversion(group: &str, version: &str, resource: &str) -> Option<&'static dyn Conversion> {
    match (group, version, resource) {
        ("autoscaling", "v1", "horizontalpodautoscalers") => Some(&autoscaling::AutoscalerV1),
        ("events.k8s.io", _, "events") => Some(&events::NewEvents),
        _ => None,
    }
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
