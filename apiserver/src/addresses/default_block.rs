//! The blocks of the server's flag as an object, as upstream's kubernetes-service-cidr-controller keeps it: made when it
//! is missing, said to be ready when nobody has said anything of it, given its second block when the flag has got one, and
//! otherwise never changed when it differs from the flag.

use std::sync::Arc;
use std::time::Duration;

use api::{Reason, Status, Value, meta};
use daemon::{Backoff, Drain, Tasks};
use futures::{Stream, StreamExt as _};
use kinds::tree::{at, enter, list, put, text, texts};
use serde_json::json;

use super::events::{self, Warning};
use super::{BLOCKS, DEFAULT_BLOCK, GROUP, ServiceRanges};
use crate::health::Flag;
use crate::objects::{Change, Handle, Manager, Ref};

const CONTROLLER: &str = "kubernetes-service-cidr-controller";
const RETRY_BASE: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Keeps the block until the drain; `there` is set once it exists.
pub(crate) fn keep(objects: Handle, ranges: ServiceRanges, there: Flag, tasks: &Tasks) {
    let changes = objects.get().changes(GROUP, BLOCKS.resource);
    let drain = tasks.drain().clone();
    let blocks = ranges.iter().map(|range| range.to_string()).collect();
    let mut keeper = Keeper { objects, blocks, found: None, synced: false, told: Told::default() };
    tasks.spawn("default-service-cidr", async move {
        let mut changes = changes.filter(|change| std::future::ready(concerns(change)));
        let mut backoff = Backoff::new(RETRY_BASE, RETRY_MAX).with_jitter(0.1);
        let mut again = None;
        while let Some(change) = next(&drain, &mut changes, again).await {
            change.into_iter().for_each(|change| keeper.see(change));
            again = match keeper.settle().await {
                Ok(()) => {
                    backoff.reset();
                    if keeper.found.is_some() {
                        there.set();
                    }
                    None
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot keep the default ServiceCIDR");
                    Some(backoff.next_delay())
                }
            };
        }
    });
}

fn concerns(change: &Change) -> bool {
    match change {
        Change::Synced => true,
        Change::Put(object) | Change::Deleted(object) => meta::name(object) == DEFAULT_BLOCK,
    }
}

/// The next change, or `Some(None)` after a delay; None when the drain begins.
async fn next(
    drain: &Drain,
    changes: &mut (impl Stream<Item = Change> + Unpin),
    delay: Option<Duration>,
) -> Option<Option<Change>> {
    let Some(delay) = delay else { return drain.run(changes.next()).await.flatten().map(Some) };
    match drain.run(tokio::time::timeout(delay, changes.next())).await? {
        Ok(change) => change.map(Some),
        Err(_) => Some(None),
    }
}

/// What is said once.
#[derive(Default)]
struct Told {
    differs: bool,
    not_ready: bool,
}

struct Keeper {
    objects: Handle,
    /// As the flag has them.
    blocks: Vec<String>,
    found: Option<Arc<Value>>,
    synced: bool,
    told: Told,
}

impl Keeper {
    fn see(&mut self, change: Change) {
        match change {
            Change::Synced => self.synced = true,
            Change::Put(object) => self.found = Some(object),
            Change::Deleted(_) => self.found = None,
        }
    }

    async fn settle(&mut self) -> Result<(), Status> {
        if !self.synced {
            return Ok(());
        }
        match self.found.clone() {
            Some(found) => self.judge(&found).await,
            None => self.make().await,
        }
    }

    async fn make(&self) -> Result<(), Status> {
        tracing::info!(blocks = ?self.blocks, "making the default ServiceCIDR");
        let object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": DEFAULT_BLOCK},
            "spec": {"cidrs": self.blocks},
        });
        match self.objects.get().create(BLOCKS, object, Manager::SERVER).await {
            // Its status is set when it comes back among the changes, or by the server that made it.
            Ok(_) => Ok(()),
            Err(error) if error.reason == Reason::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A block on its way out is the controller manager's, and one that differs an administrator's.
    async fn judge(&mut self, found: &Value) -> Result<(), Status> {
        let cidrs: Vec<&str> = texts(at(found, "spec"), "cidrs").collect();
        if self.blocks.len() == 2 && cidrs == self.blocks[..1] {
            return self.upgrade(found).await;
        }
        if meta::is_terminating(found) {
            return Ok(());
        }
        if cidrs != self.blocks {
            if !std::mem::replace(&mut self.told.differs, true) {
                let (found_cidrs, own) = (cidrs.join(" "), self.blocks.join(" "));
                let message = format!(
                    "The default ServiceCIDR [{found_cidrs}] does not match the controller flag configurations [{own}]"
                );
                self.warn(found, "KubernetesDefaultServiceCIDRInconsistent".to_owned(), message).await;
            }
            return Ok(());
        }
        let mut conditions = list(at(found, "status"), "conditions").iter();
        match conditions.find(|condition| text(condition, "type") == "Ready") {
            Some(ready) if text(ready, "status") == "True" => Ok(()),
            Some(ready) if text(ready, "status") == "False" => {
                if !std::mem::replace(&mut self.told.not_ready, true) {
                    let message = format!("Configuration matches, but {}", text(ready, "message"));
                    self.warn(found, text(ready, "reason").to_owned(), message).await;
                }
                Ok(())
            }
            _ => self.say_ready(found).await,
        }
    }

    /// The cluster has got its second family. It comes back among the changes.
    async fn upgrade(&self, found: &Value) -> Result<(), Status> {
        tracing::info!(blocks = ?self.blocks, "giving the default ServiceCIDR its second block");
        let mut changed = found.clone();
        put(enter(&mut changed, "spec"), "cidrs", self.blocks.clone());
        let object = Ref { name: DEFAULT_BLOCK, ..BLOCKS };
        let outcome = self.objects.get().update(object, "", changed, Manager::SERVER).await;
        let Err(error) = outcome else { return Ok(()) };
        // Another server, or an administrator, was there.
        if !matches!(error.reason, Reason::Conflict | Reason::NotFound) {
            let (first, all) = (&self.blocks[0], self.blocks.join(" "));
            let message =
                format!("The default ServiceCIDR can not be upgraded from {first} to dual stack [{all}] : {error}");
            self.warn(found, "KubernetesDefaultServiceCIDRError".to_owned(), message).await;
        }
        Err(error)
    }

    async fn say_ready(&self, found: &Value) -> Result<(), Status> {
        let config = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": DEFAULT_BLOCK},
            "status": {"conditions": [{
                "type": "Ready", "status": "True", "message": "Kubernetes default Service CIDR is ready",
                "lastTransitionTime": api::time::seconds(daemon::clock::now()),
            }]},
        });
        let object = Ref { name: DEFAULT_BLOCK, ..BLOCKS };
        match self.objects.get().apply(object, "status", config, Manager(CONTROLLER)).await {
            Ok(_) => Ok(()),
            // It has gone, and comes back with the next change.
            Err(error) if error.reason == Reason::NotFound => Ok(()),
            Err(error) => {
                let message = "The default ServiceCIDR Status can not be set to Ready=True".to_owned();
                self.warn(found, "KubernetesDefaultServiceCIDRError".to_owned(), message).await;
                Err(error)
            }
        }
    }

    async fn warn(&self, about: &Value, reason: String, message: String) {
        events::warn(self.objects.get(), CONTROLLER, about, &Warning { reason, action: None, message }).await;
    }
}
