//! The loop: changed keys in, one transaction out.

use std::{collections::HashMap, fs, sync::Arc, time::Duration};

use daemon::{Backoff, Tasks};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use reconcile::Queue;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::{
    Config, Error, conntrack,
    health::{Checks, Health},
    iptables,
    rules::{Rules, ServiceRules},
    track::{Place, ServiceKey, ServicePort, ports},
    transaction::Written,
};

/// How often the tables are looked at for what somebody else removed.
const LOOK: Duration = Duration::from_secs(30);
/// Keys that go into one transaction.
const MAX_BATCH: usize = 10_000;
const ROUTE_LOCALNET: &str = "/proc/sys/net/ipv4/conf/all/route_localnet";

type Seen = (Arc<Service>, Vec<Arc<EndpointSlice>>);

pub(crate) struct Proxier {
    config: Config,
    health: Health,
    checks: Checks,
    written: Written,
    ports: HashMap<ServiceKey, Vec<ServicePort>>,
    /// Of this node, as the last sync saw it.
    zone: String,
    /// Flows may lead to endpoints that are gone.
    flows_are_due: bool,
}

/// What the rules are made of, read from the caches.
pub(crate) struct Caches<Look, Zone> {
    /// A Service and its slices.
    pub(crate) look: Look,
    /// This node's zone; empty when it has none.
    pub(crate) zone: Zone,
}

impl Proxier {
    pub(crate) fn new(config: Config, health: Health, tasks: Tasks) -> Self {
        Self {
            config,
            health,
            checks: Checks::new(tasks),
            written: Written::default(),
            ports: HashMap::new(),
            zone: String::new(),
            flows_are_due: false,
        }
    }

    /// Works until it is dropped.
    pub(crate) async fn follow<Look, Zone>(mut self, queue: &Queue<ServiceKey>, caches: Caches<Look, Zone>)
    where
        Look: Fn(&ServiceKey) -> Option<Seen>,
        Zone: Fn() -> String,
    {
        self.allow_localhost();
        // Everything at once: what the first transaction does not have is taken down.
        let keys = batch(queue, None, usize::MAX).await;
        self.take_over(&keys, &caches).await;
        self.write_all().await;
        info!(services = self.ports.len(), "the tables are written");
        let mut due = Instant::now() + LOOK;
        loop {
            let next = tokio::time::timeout_at(due, queue.next()).await.ok();
            if let Some(first) = next {
                self.sync(&batch(queue, Some(first), MAX_BATCH).await, &caches).await;
            }
            // Also when changes never cease.
            if Instant::now() >= due {
                self.look().await;
                due = Instant::now() + LOOK;
            }
        }
    }

    async fn sync<Look, Zone>(&mut self, keys: &[ServiceKey], caches: &Caches<Look, Zone>)
    where
        Look: Fn(&ServiceKey) -> Option<Seen>,
        Zone: Fn() -> String,
    {
        let changes = self.take_over(keys, caches).await;
        let transaction = self.written.change(&self.config, changes);
        if transaction.is_empty() {
            return self.clean_flows().await;
        }
        match iptables::restore(&transaction.text()).await {
            Ok(()) => self.wrote().await,
            Err(failure) => {
                warn!(%failure, "a change was refused; writing everything");
                self.write_all().await;
            }
        }
    }

    /// Computes the Services' new ports and rules and keeps them.
    async fn take_over<Look, Zone>(
        &mut self,
        keys: &[ServiceKey],
        caches: &Caches<Look, Zone>,
    ) -> Vec<(ServiceKey, ServiceRules)>
    where
        Look: Fn(&ServiceKey) -> Option<Seen>,
        Zone: Fn() -> String,
    {
        self.zone = (caches.zone)();
        let mut changes = Vec::new();
        for key in keys {
            let place = Place { node: &self.config.node_name, zone: &self.zone };
            let new = (caches.look)(key).map(|(s, slices)| ports(&s, &slices, place)).unwrap_or_default();
            let old = self.ports.get(key).map(Vec::as_slice).unwrap_or_default();
            self.flows_are_due |= conntrack::concerns(old, &new);
            self.checks.set(key, &new).await;
            changes.push((key.clone(), Rules { config: &self.config }.of(&new)));
            if new.is_empty() {
                self.ports.remove(key);
            } else {
                self.ports.insert(key.clone(), new);
            }
        }
        changes
    }

    /// Writes everything, until it succeeds.
    async fn write_all(&mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30)).with_jitter(0.1);
        // Rules that wait in `changes` of the first call are in `ports` already.
        let all =
            self.ports.iter().map(|(key, ports)| (key.clone(), Rules { config: &self.config }.of(ports))).collect();
        self.written.change(&self.config, all);
        while let Err(failure) = self.try_write_all().await {
            self.health.report(false);
            error!(%failure, "the tables cannot be written; trying again");
            let refused = matches!(failure, Error::Refused { .. });
            if refused && self.set_aside_culprits().await {
                continue;
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
        self.wrote().await;
    }

    /// One Service that the kernel has no match for must not stop all others. True when there were some, and they were
    /// set aside.
    async fn set_aside_culprits(&mut self) -> bool {
        let found = match self.refused_of(&self.written.keys()).await {
            Ok(found) => found,
            Err(failure) => {
                warn!(%failure, "cannot find out whose rules are refused");
                return false;
            }
        };
        for (namespace, name) in &found {
            error!(namespace, name, "the kernel refuses the rules of a service: it is not served");
        }
        let any = !found.is_empty();
        self.written.set_aside(found);
        any
    }

    /// Those of these Services whose rules the kernel does not take.
    async fn refused_of(&self, keys: &[ServiceKey]) -> Result<Vec<ServiceKey>, Error> {
        let probe = |keys: &[ServiceKey]| {
            let text = self.written.probe(keys).text();
            async move { iptables::restore(&text).await }
        };
        let found = culprits(keys, probe).await;
        if let Err(failure) = iptables::restore(&Written::end_of_probe().text()).await {
            warn!(%failure, "the chains of a probe stay");
        }
        found
    }

    /// What was refused may be taken by now: the fault may not have been its own, or a module has been loaded.
    async fn take_back(&mut self) {
        let aside = self.written.aside();
        if aside.is_empty() {
            return;
        }
        match self.refused_of(&aside).await {
            Ok(still) if still.len() < aside.len() => {
                self.written.set_aside_only(still);
                info!("rules that were refused are taken now");
                match self.try_write_all().await {
                    Ok(()) => self.wrote().await,
                    Err(failure) => {
                        warn!(%failure, "a change was refused; writing everything");
                        self.write_all().await;
                    }
                }
            }
            Ok(_) => {}
            Err(failure) => debug!(%failure, "cannot find out whose rules are refused"),
        }
    }

    async fn try_write_all(&self) -> Result<(), Error> {
        let mut transaction = self.written.all(&self.config);
        transaction.remove_stale(iptables::present_chains().await?);
        iptables::restore(&transaction.text()).await?;
        iptables::ensure_jumps().await
    }

    async fn wrote(&mut self) {
        self.health.report(true);
        self.clean_flows().await;
    }

    async fn clean_flows(&mut self) {
        if !std::mem::take(&mut self.flows_are_due) {
            return;
        }
        if let Err(failure) = conntrack::clean(self.ports.values().flatten()).await {
            warn!(%failure, "old connections may go on to endpoints that are gone");
            // Without the program there is nothing to try again.
            self.flows_are_due = matches!(failure, Error::Refused { .. });
        }
    }

    async fn look(&mut self) {
        match iptables::is_intact().await {
            Ok(true) => self.health.report(true),
            Ok(false) => {
                warn!("somebody removed the rules; writing everything");
                self.write_all().await;
            }
            Err(failure) => debug!(%failure, "the tables cannot be looked at"),
        }
        self.take_back().await;
        self.clean_flows().await;
        self.checks.retry().await;
    }

    /// A packet from 127.0.0.1 to a node port leaves for a pod with that source, until it is masqueraded.
    fn allow_localhost(&self) {
        if !self.config.localhost_nodeports {
            return;
        }
        if let Err(error) = fs::write(ROUTE_LOCALNET, "1") {
            warn!(%error, path = ROUTE_LOCALNET, "node ports cannot be reached on 127.0.0.1");
        }
    }
}

/// Those whose rules are refused, found by halves. An error when that has nothing to do with any Service.
async fn culprits<T, Probe>(all: &[T], probe: impl Fn(&[T]) -> Probe) -> Result<Vec<T>, Error>
where
    T: Clone,
    Probe: Future<Output = Result<(), Error>>,
{
    probe(&[]).await?;
    let mut found = Vec::new();
    let mut open = vec![all];
    while let Some(some) = open.pop() {
        match (probe(some).await, some) {
            (Ok(()), _) => {}
            (Err(Error::Refused { .. }), [one]) => found.push(one.clone()),
            (Err(Error::Refused { .. }), some) => {
                let (left, right) = some.split_at(some.len() / 2);
                open.extend([left, right].into_iter().filter(|half| !half.is_empty()));
            }
            (Err(failure), _) => return Err(failure),
        }
    }
    Ok(found)
}

/// Everything that waits up to a limit, with `first`; the queue has seen the keys off when it returns, because one task
/// works.
async fn batch(queue: &Queue<ServiceKey>, first: Option<ServiceKey>, limit: usize) -> Vec<ServiceKey> {
    let mut keys: Vec<ServiceKey> = first.into_iter().collect();
    while !queue.is_empty() && keys.len() < limit {
        keys.push(queue.next().await);
    }
    keys.iter().for_each(|key| queue.done(key));
    keys
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use super::*;

    fn answer(fine: bool) -> Ready<Result<(), Error>> {
        let refused = || Error::Refused { program: "iptables-restore", message: String::new() };
        ready(fine.then_some(()).ok_or_else(refused))
    }

    #[tokio::test]
    async fn culprits_are_found_and_nobody_else() {
        let all: Vec<u32> = (0..1000).collect();
        for bad in [vec![], vec![0], vec![999], vec![3, 4, 700]] {
            let probes = std::cell::Cell::new(0);
            let probe = |some: &[u32]| {
                probes.set(probes.get() + 1);
                answer(some.iter().all(|one| !bad.contains(one)))
            };
            let mut found = culprits(&all, probe).await.unwrap();
            found.sort_unstable();
            assert_eq!(found, bad);
            assert!(probes.get() <= 2 + 22 * bad.len(), "{} probes", probes.get());
        }
    }

    #[tokio::test]
    async fn nobody_is_to_blame_when_nothing_works() {
        assert!(culprits(&[1, 2], |_: &[i32]| answer(false)).await.is_err());
    }
}
