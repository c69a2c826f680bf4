//! The block of the server's flag as an object, as upstream's kubernetes-service-cidr-controller keeps it: made when it
//! is missing, said to be ready when nobody has said anything of it, and never changed when it differs from the flag.

use std::sync::Arc;
use std::time::Duration;

use api::{Reason, Status, Value, meta};
use daemon::{Backoff, Drain, Tasks};
use futures::{Stream, StreamExt as _};
use ipnet::IpNet;
use kinds::tree::{at, list, text, texts};
use serde_json::json;

use super::events::{self, Warning};
use super::{BLOCKS, DEFAULT_BLOCK, GROUP};
use crate::health::Flag;
use crate::objects::{Change, Handle, Manager, Ref};

const CONTROLLER: &str = "kubernetes-service-cidr-controller";
const RETRY_BASE: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Keeps the block until the drain; `there` is set once it exists.
pub(crate) fn keep(objects: Handle, block: IpNet, there: Flag, tasks: &Tasks) {
    let changes = objects.get().changes(GROUP, BLOCKS.resource);
    let drain = tasks.drain().clone();
    let mut keeper =
        Keeper { objects, block: block.trunc().to_string(), found: None, synced: false, told: Told::default() };
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
    /// As the flag has it.
    block: String,
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
        tracing::info!(block = self.block, "making the default ServiceCIDR");
        let object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": DEFAULT_BLOCK},
            "spec": {"cidrs": [self.block]},
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
        if meta::is_terminating(found) {
            return Ok(());
        }
        let cidrs: Vec<&str> = texts(at(found, "spec"), "cidrs").collect();
        if cidrs != [self.block.as_str()] {
            if !std::mem::replace(&mut self.told.differs, true) {
                let (found_cidrs, own) = (cidrs.join(" "), &self.block);
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
