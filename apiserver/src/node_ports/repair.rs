//! Keeps services and the allocated ports in step, as upstream's portallocator-repair-controller: at start, and then every
//! few minutes, because a port that nobody has comes from what did not happen, and no change tells of that.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use api::{Status, Value, meta};
use daemon::{Backoff, Drain};
use store::{Error, Store, UPDATE_ATTEMPTS_MAX};

use self::plan::{Fault, Plan};
use super::record::{self, Place};
use crate::addresses::warn;
use crate::objects::{Handle, Ref};

const CONTROLLER: &str = "portallocator-repair-controller";
const SERVICES: Ref<'static> = Ref::collection("", "services", "");
/// How often everything is looked at; upstream's.
const INTERVAL: Duration = Duration::from_secs(3 * 60);
const RETRY_BASE: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// See the module's documentation.
pub(crate) struct Repair {
    objects: Handle,
    place: Place,
    range: RangeInclusive<u16>,
    /// No other server writes: what is unfinished when this one starts stays so.
    alone: bool,
    leaks: BTreeMap<u16, u8>,
    /// What services have been told of and is still so: UID, port and fault.
    told: BTreeSet<(String, i64, Fault)>,
}

impl Repair {
    /// `alone` says that no other server shares the store.
    pub(crate) fn new(objects: Handle, store: Arc<dyn Store>, range: RangeInclusive<u16>, alone: bool) -> Self {
        let place = Place::new(store);
        Self { objects, place, range, alone, leaks: BTreeMap::new(), told: BTreeSet::new() }
    }

    /// Looks at everything once, as often as it takes to succeed: until then no port can be given out.
    pub(crate) async fn catch_up(&mut self) {
        // Nobody can be in the middle of a write yet.
        let patience = if self.alone { 0 } else { plan::LEAK_ROUNDS };
        let mut backoff = Backoff::new(RETRY_BASE, RETRY_MAX).with_jitter(0.2);
        while let Err(error) = self.look(patience).await {
            tracing::warn!(%error, "cannot repair the allocated node ports yet");
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Looks again and again until the drain.
    pub(crate) async fn run(mut self, drain: Drain) {
        while drain.run(tokio::time::sleep(INTERVAL)).await.is_some() {
            if let Some(Err(error)) = drain.run(self.look(plan::LEAK_ROUNDS)).await {
                tracing::warn!(%error, "cannot repair the allocated node ports");
            }
        }
    }

    async fn look(&mut self, patience: u8) -> Result<(), Status> {
        for _ in 0..UPDATE_ATTEMPTS_MAX {
            // In this order: what has been recorded here and has gone from a service by then is taken as lost for now, and
            // what a service has got since then has changed the record, which is then not written.
            let record = self.place.read().await?;
            let objects = self.objects.get();
            objects.newest(SERVICES).await?;
            let services = objects.list(SERVICES);
            let stored = record.as_ref().map(|record| &record.ports);
            let plan = plan::plan(&self.range, stored, &services, &self.leaks, patience);
            if stored == Some(&plan.ports) {
                self.settle(plan, &services).await;
                return Ok(());
            }
            match self.place.write(&plan.ports, record.map(|record| record.revision)).await {
                Ok(_) => {
                    self.settle(plan, &services).await;
                    return Ok(());
                }
                Err(Error::Conflict { .. } | Error::NotFound { .. }) => {}
                Err(error) => return Err(record::failed(&error)),
            }
        }
        Err(Status::internal("the allocated node ports change too often"))
    }

    /// Tells of what is wrong, once for as long as it is.
    async fn settle(&mut self, plan: Plan, services: &[Arc<Value>]) {
        if !plan.freed.is_empty() {
            tracing::warn!(ports = ?plan.freed, "node ports appear to have leaked: cleaned up");
        }
        self.leaks = plan.leaks;
        let mut told = BTreeSet::new();
        for (place, port, fault) in plan.faults {
            let service = &services[place];
            let one = (meta::uid(service).to_owned(), port, fault);
            if !self.told.contains(&one) && !told.contains(&one) {
                warn(self.objects.get(), CONTROLLER, service, &fault.warning(port, &self.range)).await;
            }
            told.insert(one);
        }
        self.told = told;
    }
}
