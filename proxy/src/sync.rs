//! The loop: changed keys in, one transaction out.

use std::{collections::HashMap, fs, sync::Arc, time::Duration};

use daemon::{Backoff, Tasks};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use reconcile::Queue;
use tracing::{debug, error, info, warn};

use crate::{
    Config, Error, conntrack,
    health::{Checks, Health},
    iptables,
    rules::{Rules, ServiceRules},
    track::{ServiceKey, ServicePort, ports},
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
}

impl Proxier {
    pub(crate) fn new(config: Config, health: Health, tasks: Tasks) -> Self {
        Self { config, health, checks: Checks::new(tasks), written: Written::default(), ports: HashMap::new() }
    }

    /// Works until it is dropped. `look` reads a Service and its slices from the caches.
    pub(crate) async fn follow(mut self, queue: &Queue<ServiceKey>, look: impl Fn(&ServiceKey) -> Option<Seen>) {
        self.allow_localhost();
        let keys = batch(queue, None).await;
        let removals = self.take_over(&keys, &look).await.1;
        self.write_all(&removals).await;
        info!(services = self.ports.len(), "the tables are written");
        loop {
            match tokio::time::timeout(LOOK, queue.next()).await {
                Ok(first) => self.sync(&batch(queue, Some(first)).await, &look).await,
                Err(_) => self.look().await,
            }
        }
    }

    async fn sync(&mut self, keys: &[ServiceKey], look: &impl Fn(&ServiceKey) -> Option<Seen>) {
        let (changes, removals) = self.take_over(keys, look).await;
        let transaction = self.written.change(&self.config, changes);
        if transaction.is_empty() {
            return;
        }
        match iptables::restore(&transaction.text()).await {
            Ok(()) => self.wrote(&removals).await,
            Err(failure) => {
                warn!(%failure, "a change was refused; writing everything");
                self.write_all(&removals).await;
            }
        }
    }

    /// Computes the Services' new ports and rules and keeps them.
    async fn take_over(
        &mut self,
        keys: &[ServiceKey],
        look: &impl Fn(&ServiceKey) -> Option<Seen>,
    ) -> (Vec<(ServiceKey, ServiceRules)>, Vec<conntrack::Removal>) {
        let (mut changes, mut removals) = (Vec::new(), Vec::new());
        for key in keys {
            let new = look(key).map(|(s, slices)| ports(&s, &slices, &self.config.node_name)).unwrap_or_default();
            let old = self.ports.get(key).map(Vec::as_slice).unwrap_or_default();
            removals.extend(conntrack::stale(old, &new));
            self.checks.set(key, &new).await;
            changes.push((key.clone(), Rules { config: &self.config }.of(&new)));
            if new.is_empty() {
                self.ports.remove(key);
            } else {
                self.ports.insert(key.clone(), new);
            }
        }
        (changes, removals)
    }

    /// Writes everything, until it succeeds.
    async fn write_all(&mut self, removals: &[conntrack::Removal]) {
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
        self.wrote(removals).await;
    }

    /// One Service that the kernel has no match for must not stop all others. True when there were some, and they were
    /// set aside.
    async fn set_aside_culprits(&mut self) -> bool {
        let written = &self.written;
        let probe = |keys: &[ServiceKey]| {
            let text = written.probe(keys).text();
            async move { iptables::restore(&text).await }
        };
        let found = culprits(&written.keys(), probe).await;
        if let Err(failure) = iptables::restore(&Written::end_of_probe().text()).await {
            warn!(%failure, "the chains of a probe stay");
        }
        let found = match found {
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

    async fn try_write_all(&self) -> Result<(), Error> {
        let mut transaction = self.written.all(&self.config);
        transaction.remove_stale(iptables::present_chains().await?);
        iptables::restore(&transaction.text()).await?;
        iptables::ensure_jumps().await
    }

    async fn wrote(&self, removals: &[conntrack::Removal]) {
        self.health.report(true);
        if let Err(failure) = conntrack::remove(removals).await {
            warn!(%failure, "old connections may go on to endpoints that are gone");
        }
    }

    async fn look(&mut self) {
        match iptables::is_intact().await {
            Ok(true) => self.health.report(true),
            Ok(false) => {
                warn!("somebody removed the rules; writing everything");
                self.write_all(&[]).await;
            }
            Err(failure) => debug!(%failure, "the tables cannot be looked at"),
        }
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

/// Everything that waits, with `first`; the queue has seen the keys off when it returns, because one task works.
async fn batch(queue: &Queue<ServiceKey>, first: Option<ServiceKey>) -> Vec<ServiceKey> {
    let mut keys: Vec<ServiceKey> = first.into_iter().collect();
    while !queue.is_empty() && keys.len() < MAX_BATCH {
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
