//! Keeps services and the address objects of their cluster IPs in step, as upstream's ipallocator-repair-controller.
//!
//! A service without its object gets one: it was made before there were such objects, or somebody has removed it. An
//! object without its service goes: a server has ended between the two writes, or could not give it back. What is seen in
//! a cache is asked of the store again before anything is done about it, because the two collections are cached apart.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{Reason, Status, Value, meta};
use daemon::{Backoff, Drain};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use ipnet::IpNet;
use jiff::SignedDuration;
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue};

use self::plan::{Fate, Fault, Holder};
use super::{ADDRESSES, BLOCKS, DEFAULT_BLOCK, GROUP, Parent, SERVICES, ServiceRanges};
use crate::objects::{Change, Handle, Manager, Objects, Ref};

const CONTROLLER: &str = "ipallocator-repair-controller";
const RETRY_BASE: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How many services and addresses are looked at together.
const KEYS_AT_ONCE: usize = 64;
/// How long after a change it is looked at: by then the write that goes with it has been made and has arrived.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Service(Parent),
    Address(String),
}

/// See the module's documentation.
pub(crate) struct Repair {
    objects: Handle,
    /// The ranges of the server's flag, which count until they are an object.
    ranges: ServiceRanges,
    /// No other server writes: what is unfinished when this one starts stays so.
    alone: bool,
    /// How long a write may be under way.
    patience: SignedDuration,
    changes: BoxStream<'static, (bool, Change)>,
    queue: Queue,
    /// Services whose address is another service's, by address.
    waiting: BTreeMap<String, BTreeSet<Parent>>,
    /// The addresses that name a service, whether it has them or not.
    held: BTreeMap<Parent, BTreeSet<String>>,
}

/// What is to be looked at now and later.
#[derive(Default)]
struct Queue {
    now: BTreeSet<Key>,
    later: DelayQueue<Key>,
    timers: HashMap<Key, (delay_queue::Key, Instant)>,
    failures: HashMap<Key, Backoff>,
}

impl Queue {
    fn add(&mut self, key: Key) {
        if let Some((timer, _)) = self.timers.remove(&key) {
            self.later.remove(&timer);
        }
        self.now.insert(key);
    }

    /// The earliest time counts.
    fn add_after(&mut self, key: Key, delay: Duration) {
        if self.now.contains(&key) {
            return;
        }
        let at = Instant::now() + delay;
        match self.timers.get_mut(&key) {
            Some((timer, known)) if at < *known => {
                self.later.reset_at(timer, at);
                *known = at;
            }
            Some(_) => {}
            None => {
                let timer = self.later.insert_at(key.clone(), at);
                self.timers.insert(key, (timer, at));
            }
        }
    }

    /// Waits for the next timer, for ever when there is none.
    async fn elapsed(&mut self) -> Key {
        match self.later.next().await {
            Some(expired) => {
                let key = expired.into_inner();
                self.timers.remove(&key);
                key
            }
            None => std::future::pending().await,
        }
    }
}

impl Repair {
    /// `alone` says that no other server shares the store.
    pub(crate) fn new(objects: Handle, ranges: ServiceRanges, alone: bool) -> Self {
        let services = objects.get().changes("", SERVICES).map(|change| (true, change));
        let addresses = objects.get().changes(GROUP, ADDRESSES.resource).map(|change| (false, change));
        let changes = futures::stream::select(services, addresses).boxed();
        let (queue, waiting, held) = (Queue::default(), BTreeMap::new(), BTreeMap::new());
        Self { objects, ranges, alone, patience: plan::WRITE_TIMEOUT, changes, queue, waiting, held }
    }

    /// Looks at everything that is stored once, as often as it takes to succeed: an address that is in use and has no
    /// object could be given out a second time.
    pub(crate) async fn catch_up(&mut self) {
        let mut synced = 0;
        while synced < 2 {
            match self.changes.next().await {
                Some((_, Change::Synced)) => synced += 1,
                Some((true, Change::Put(service))) => self.queue.add(Key::Service(Parent::of_service(&service))),
                Some((false, Change::Put(address))) => {
                    self.hold(&address);
                    self.queue.add(Key::Address(meta::name(&address).to_owned()));
                }
                Some((of_services, change)) => self.see(of_services, change),
                None => break,
            }
        }
        // Nobody can be in the middle of a write yet.
        let patience = if self.alone { SignedDuration::ZERO } else { self.patience };
        self.work(patience).await;
        while !self.queue.failures.is_empty() {
            let key = self.queue.elapsed().await;
            self.queue.add(key);
            self.work(patience).await;
        }
    }

    /// Follows all changes until the drain.
    pub(crate) async fn run(mut self, drain: Drain) {
        loop {
            tokio::select! {
                () = drain.cancelled() => return,
                change = self.changes.next() => {
                    let Some((of_services, change)) = change else { return };
                    self.see(of_services, change);
                }
                key = self.queue.elapsed() => self.queue.add(key),
            }
            let patience = self.patience;
            if drain.run(self.work(patience)).await.is_none() {
                return;
            }
        }
    }

    fn see(&mut self, of_services: bool, change: Change) {
        let mut add = |key| self.queue.add_after(key, SETTLE_TIME);
        match (of_services, change) {
            (true, Change::Put(service)) => {
                let (parent, own) = (Parent::of_service(&service), super::cluster_ips(&service));
                // An address that it has given up may still be there.
                let held = self.held.get(&parent).into_iter().flatten();
                held.filter(|ip| !own.contains(&ip.as_str())).for_each(|ip| add(Key::Address(ip.clone())));
                add(Key::Service(parent));
            }
            (true, Change::Deleted(service)) => {
                let held = self.held.get(&Parent::of_service(&service)).into_iter().flatten().map(String::as_str);
                let all: BTreeSet<&str> = super::cluster_ips(&service).into_iter().chain(held).collect();
                all.into_iter().for_each(|ip| add(Key::Address(ip.to_owned())));
            }
            (false, Change::Put(address)) => {
                add(Key::Address(meta::name(&address).to_owned()));
                self.hold(&address);
            }
            (false, Change::Deleted(address)) => {
                let waiting = self.waiting.remove(meta::name(&address)).into_iter().flatten();
                waiting.chain(Parent::of_address(&address)).for_each(|service| add(Key::Service(service)));
                self.let_go(&address);
            }
            (_, Change::Synced) => {}
        }
    }

    fn hold(&mut self, address: &Value) {
        if let Some(parent) = Parent::of_address(address) {
            self.held.entry(parent).or_default().insert(meta::name(address).to_owned());
        }
    }

    fn let_go(&mut self, address: &Value) {
        let Some(parent) = Parent::of_address(address) else { return };
        if let Some(held) = self.held.get_mut(&parent) {
            held.remove(meta::name(address));
            if held.is_empty() {
                self.held.remove(&parent);
            }
        }
    }

    /// Works off what is to be looked at now: services first, because they may have the address that seems to be nobody's.
    async fn work(&mut self, patience: SignedDuration) {
        while !self.queue.now.is_empty() {
            let mut keys: Vec<Key> = std::mem::take(&mut self.queue.now).into_iter().collect();
            while !keys.is_empty() {
                let some: Vec<Key> = keys.drain(..keys.len().min(KEYS_AT_ONCE)).collect();
                let look = Look::new(self.objects.get(), self.ranges, patience);
                let outcomes = futures::future::join_all(some.iter().map(|key| look.at(key))).await;
                some.into_iter().zip(outcomes).for_each(|(key, outcome)| self.settle(key, outcome));
            }
        }
    }

    fn settle(&mut self, key: Key, outcome: Result<Outcome, Status>) {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::warn!(?key, %error, "cannot repair a service address yet");
                let backoff = self.queue.failures.entry(key.clone());
                let delay =
                    backoff.or_insert_with(|| Backoff::new(RETRY_BASE, RETRY_MAX).with_jitter(0.2)).next_delay();
                return self.queue.add_after(key, delay);
            }
        };
        self.queue.failures.remove(&key);
        if let Key::Service(service) = &key {
            for ip in outcome.taken {
                self.waiting.entry(ip).or_default().insert(service.clone());
            }
        }
        if let Some(delay) = outcome.again {
            self.queue.add_after(key, delay);
        }
    }
}

/// What came of a look.
#[derive(Default)]
struct Outcome {
    /// When it has to be looked at again.
    again: Option<Duration>,
    /// Addresses of the service that are another service's.
    taken: Vec<String>,
}

/// What came of one cluster IP.
enum Mended {
    /// It is right, or cannot be put right.
    Done,
    /// Another service has it.
    Taken,
    /// It may be another service's by then.
    Later(Duration),
}

/// What is wrong with one cluster IP, and its object.
enum Judged {
    Faults(Vec<Fault>, Option<Arc<Value>>),
    /// That is known only after this time.
    Waits(SignedDuration),
}

/// A look at one service or address.
struct Look<'a> {
    objects: &'a dyn Objects,
    nets: Vec<IpNet>,
    patience: SignedDuration,
}

impl<'a> Look<'a> {
    fn new(objects: &'a dyn Objects, ranges: ServiceRanges, patience: SignedDuration) -> Self {
        let blocks = objects.list(BLOCKS);
        let has_default = blocks.iter().any(|object| meta::name(object) == DEFAULT_BLOCK);
        let default = ranges.iter().filter(|_| !has_default);
        let nets = super::all_blocks(&blocks).iter().map(|block| block.net).chain(default).collect();
        Self { objects, nets, patience }
    }

    async fn at(&self, key: &Key) -> Result<Outcome, Status> {
        match key {
            Key::Service(service) => self.at_service(service).await,
            Key::Address(name) => self.at_address(name).await,
        }
    }

    async fn at_service(&self, parent: &Parent) -> Result<Outcome, Status> {
        let mut outcome = Outcome::default();
        let Some(service) = self.objects.get(parent.service()) else { return Ok(outcome) };
        let right = |ip: &&str| {
            let found = self.objects.get(super::address(ip));
            found.is_some_and(|found| self.is_right(&found, ip, parent))
        };
        if super::cluster_ips(&service).iter().all(right) {
            return Ok(outcome);
        }
        // Something is wrong, or a cache is behind.
        let Some(service) = self.read(parent.service()).await? else { return Ok(outcome) };
        for ip in super::cluster_ips(&service) {
            match self.repair(&service, parent, ip).await? {
                Mended::Done => {}
                Mended::Taken => outcome.taken.push(ip.to_owned()),
                Mended::Later(delay) => outcome.again = Some(outcome.again.map_or(delay, |other| other.min(delay))),
            }
        }
        Ok(outcome)
    }

    fn is_right(&self, address: &Value, ip: &str, parent: &Parent) -> bool {
        let is_fine = |ip| self.is_in_range(ip) && plan::faults(address, ip, Holder::Same).is_empty();
        Parent::of_address(address).as_ref() == Some(parent) && ip.parse::<IpAddr>().is_ok_and(is_fine)
    }

    /// Puts one cluster IP right.
    async fn repair(&self, service: &Value, parent: &Parent, ip: &str) -> Result<Mended, Status> {
        let Ok(address) = ip.parse::<IpAddr>() else {
            super::events::warn(self.objects, CONTROLLER, service, &plan::not_valid()).await;
            return Ok(Mended::Done);
        };
        let name = address.to_string();
        let (faults, found) = match self.judge(parent, address, &name).await? {
            Judged::Waits(time) => return Ok(Mended::Later(time.unsigned_abs() + SETTLE_TIME)),
            Judged::Faults(faults, found) => (faults, found),
        };
        for fault in &faults {
            if let Some(warning) = fault.warning(address, parent) {
                super::events::warn(self.objects, CONTROLLER, service, &warning).await;
            }
        }
        if faults.contains(&Fault::Taken) {
            return Ok(Mended::Taken);
        }
        if !faults.iter().any(|fault| fault.is_repaired()) {
            return Ok(Mended::Done);
        }
        if let Some(found) = found {
            self.remove(&name, meta::uid(&found)).await?;
        }
        match self.objects.create(ADDRESSES, super::object(address, parent), Manager::SERVER).await {
            Ok(_) => Ok(Mended::Done),
            // Another server has repaired it, or another service has taken it: one has to look whose it is now.
            Err(error) if error.reason == Reason::AlreadyExists => Ok(Mended::Later(SETTLE_TIME)),
            Err(error) => Err(error),
        }
    }

    async fn judge(&self, parent: &Parent, ip: IpAddr, name: &str) -> Result<Judged, Status> {
        if !self.is_in_range(ip) {
            return Ok(Judged::Faults(vec![Fault::OutOfRange], None));
        }
        let Some(found) = self.read(super::address(name)).await? else {
            return Ok(Judged::Faults(vec![Fault::Missing], None));
        };
        let other = match Parent::of_address(&found) {
            Some(other) if other != *parent => self.read(other.service()).await?,
            _ => None,
        };
        Ok(match plan::holder(&found, parent, other.as_deref(), daemon::clock::now(), self.patience) {
            Holder::Coming(time) => Judged::Waits(time),
            holder => Judged::Faults(plan::faults(&found, ip, holder), Some(found)),
        })
    }

    fn is_in_range(&self, ip: IpAddr) -> bool {
        self.nets.iter().any(|net| super::contains(net, ip))
    }

    async fn at_address(&self, name: &str) -> Result<Outcome, Status> {
        let mut outcome = Outcome::default();
        let Some(address) = self.objects.get(super::address(name)) else { return Ok(outcome) };
        let parent = Parent::of_address(&address);
        let service = parent.as_ref().and_then(|parent| self.objects.get(parent.service()));
        if self.fate(&address, service.as_deref()) == Fate::Stays {
            return Ok(outcome);
        }
        let Some(address) = self.read(super::address(name)).await? else { return Ok(outcome) };
        // It may be another object by now: one that was put right meanwhile has another parent.
        let service = match &Parent::of_address(&address) {
            Some(parent) => self.read(parent.service()).await?,
            None => None,
        };
        match self.fate(&address, service.as_deref()) {
            Fate::Stays => {}
            Fate::Waits(time) => outcome.again = Some(time.unsigned_abs() + SETTLE_TIME),
            Fate::Goes(warning) => {
                super::events::warn(self.objects, CONTROLLER, &address, &warning).await;
                self.remove(name, meta::uid(&address)).await?;
            }
        }
        Ok(outcome)
    }

    fn fate(&self, address: &Value, service: Option<&Value>) -> Fate {
        plan::fate(address, service, daemon::clock::now(), self.patience)
    }

    /// Removes this object and none that has taken its place.
    async fn remove(&self, name: &str, uid: &str) -> Result<(), Status> {
        match self.objects.delete(super::address(name), Some(uid)).await {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.reason, Reason::NotFound | Reason::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// An object as the store has it; None when it is not there.
    async fn read(&self, object: Ref<'_>) -> Result<Option<Arc<Value>>, Status> {
        match self.objects.read(object).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.reason == Reason::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
