//! Services: cluster IPs, node ports and health-check ports are given out before a write and given back after it.
//!
//! A cluster IP is held by an object of its own, a port by a bit in a record: between all servers of a store.

mod families;
mod pool;
mod ports;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};

use api::field::{FieldErrors, Path};
use api::{Status, Value, meta};
use async_trait::async_trait;
use daemon::Tasks;
use kinds::tree::{at, enter, int, list, list_mut, put, text, texts};
use store::Store;

use self::pool::{Pool, Refused};
use self::ports::Plan;
use super::{Allocation, Hooks, Pending};
use crate::addresses::{HEADLESS, Parent, ServiceRanges, cluster_ips};
use crate::node_ports::NodePorts;
use crate::objects::Objects;

#[cfg(test)]
mod tests;

/// The steps of services.
pub(super) struct Services {
    ranges: ServiceRanges,
    pool: Arc<Pool>,
    ports: NodePorts,
    tasks: Tasks,
}

/// What one write has taken, and what it gives up.
struct Taken {
    pool: Arc<Pool>,
    ports: NodePorts,
    tasks: Tasks,
    parent: Parent,
    ips: Changed<IpAddr>,
    numbers: Changed<u16>,
}

struct Changed<T> {
    taken: Vec<T>,
    released: Vec<T>,
}

impl<T> Changed<T> {
    fn nothing() -> Self {
        Self { taken: Vec::new(), released: Vec::new() }
    }
}

impl Taken {
    async fn give_back(&self, ips: &[IpAddr], numbers: Vec<u16>) {
        tokio::join!(self.ports.release(numbers), self.pool.give_back(ips, &self.parent));
    }
}

#[async_trait]
impl Allocation for Taken {
    async fn commit(mut self: Box<Self>) {
        let numbers = std::mem::take(&mut self.numbers.released);
        self.give_back(&self.ips.released, numbers).await;
    }

    async fn undo(mut self: Box<Self>) {
        let numbers = std::mem::take(&mut self.numbers.taken);
        self.give_back(&self.ips.taken, numbers).await;
    }

    fn abandon(self: Box<Self>) {
        let has_taken = !self.ips.taken.is_empty() || !self.numbers.taken.is_empty();
        // Outside of a runtime there is nobody left to do it: the repair of the next server will.
        if has_taken && tokio::runtime::Handle::try_current().is_ok() {
            self.tasks.clone().spawn("service-undo", self.undo());
        }
    }
}

/// Abandons what has been taken when the write is given up before it knows all that it takes.
struct Unfinished(Option<Box<Taken>>);

impl Unfinished {
    fn new(services: &Services, parent: Parent) -> Self {
        let (pool, ports, tasks) = (services.pool.clone(), services.ports.clone(), services.tasks.clone());
        let (ips, numbers) = (Changed::nothing(), Changed::nothing());
        Self(Some(Box::new(Taken { pool, ports, tasks, parent, ips, numbers })))
    }

    fn taken(&mut self) -> &mut Taken {
        self.0.as_mut().expect("it is there until the end")
    }

    /// All goes back when there is something that cannot be had.
    async fn finish(mut self, outcome: Result<(), Status>) -> Result<Pending, Status> {
        let pending = Pending::of(*self.0.take().expect("it is there until the end"));
        pending.unless_failed(outcome).await.map(|((), pending)| pending)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(taken) = self.0.take() {
            taken.abandon();
        }
    }
}

/// What a change does with the addresses of a service.
#[derive(Debug, PartialEq, Eq)]
enum IpChange {
    Keep,
    /// One of each family from this one on.
    Take(usize),
    Release(Vec<IpAddr>),
}

impl IpChange {
    fn of(new: &Value, old: &Value) -> Self {
        if families::keeps_preferred(new, old) {
            return Self::Keep;
        }
        let count = |service| families::families(service).len();
        match (is_external_name(old), is_external_name(new)) {
            (true, true) => Self::Keep,
            (true, false) => Self::Take(0),
            (false, true) => Self::Release(addresses_of(old)),
            _ if is_headless(old) => Self::Keep,
            _ => match (count(old), count(new)) {
                (1, 2) => Self::Take(1),
                (2, 1) => Self::Release(addresses_of(old).split_off(1)),
                _ => Self::Keep,
            },
        }
    }
}

impl Services {
    /// Services whose cluster IPs come from these ranges, as long as no block is stored.
    pub(super) fn new(ranges: ServiceRanges, ports: RangeInclusive<u16>, store: Arc<dyn Store>, tasks: Tasks) -> Self {
        Self { ranges, pool: Arc::new(Pool::new(ranges)), ports: NodePorts::new(store, ports, &tasks), tasks }
    }

    /// Takes what a write needs, and notes what it gives up.
    async fn take_all(
        &self,
        service: &mut Value,
        (ips, mut ports): (IpChange, Plan),
        dry_run: bool,
        taken: &mut Taken,
    ) -> Result<(), Status> {
        match ips {
            IpChange::Keep => {}
            IpChange::Take(from) => self.take_ips(service, from, dry_run, &mut taken.ips.taken).await?,
            IpChange::Release(ips) => taken.ips.released = ips,
        }
        self.take_ports(service, &mut ports, dry_run, &mut taken.numbers.taken).await?;
        taken.numbers.released = ports.released;
        if dry_run {
            (taken.ips.released, taken.numbers.released) = (Vec::new(), Vec::new());
        }
        Ok(())
    }

    /// Takes ports and puts them into the service; what is taken counts even if there is a reason to refuse it.
    async fn take_ports(
        &self,
        service: &mut Value,
        plan: &mut Plan,
        dry_run: bool,
        taken: &mut Vec<u16>,
    ) -> Result<(), Status> {
        let wanted = plan.numbers();
        if wanted.is_empty() {
            return plan.fill(service, &[]);
        }
        if dry_run {
            let given = self.ports.pretend(&wanted).await.map_err(|refusal| plan.refused(service, refusal))?;
            return plan.fill(service, &given);
        }
        *taken = self.ports.take(wanted).await.map_err(|refusal| plan.refused(service, refusal))?.keep();
        let given: Vec<i64> = taken.iter().copied().map(i64::from).collect();
        plan.fill(service, &given)
    }

    /// Gives a service a cluster IP of each of its families, from one on.
    async fn take_ips(
        &self,
        service: &mut Value,
        from: usize,
        dry_run: bool,
        taken: &mut Vec<IpAddr>,
    ) -> Result<(), Status> {
        if is_external_name(service) || is_headless(service) {
            return Ok(());
        }
        let (families, parent) = (families::families(service), Parent::of_service(service));
        let mut ips: Vec<String> = texts(at(service, "spec"), "clusterIPs").map(str::to_owned).collect();
        // The places of those that are to be found are there in what a refusal shows.
        ips.resize(families.len().max(ips.len()), String::new());
        let shown = ips.clone();
        for (family, ip) in families.iter().zip(&mut ips).skip(from) {
            let asked = match ip.as_str() {
                "" => None,
                // Validation has the words for what is no address.
                text => match text.parse() {
                    Ok(asked) => Some(asked),
                    Err(_) => continue,
                },
            };
            let given = self.take_ip(family, asked, &parent, dry_run).await;
            let given = given.map_err(|why| refusal(service, ip, &shown, why))?;
            if !dry_run {
                taken.push(given);
            }
            if asked.is_none() {
                *ip = given.to_string();
            }
        }
        let spec = enter(service, "spec");
        put(spec, "clusterIP", ips[0].clone());
        put(spec, "clusterIPs", ips);
        Ok(())
    }

    async fn take_ip(
        &self,
        family: &str,
        asked: Option<IpAddr>,
        parent: &Parent,
        dry_run: bool,
    ) -> Result<IpAddr, Refused> {
        match asked {
            _ if dry_run => self.pool.pretend(family, asked),
            Some(ip) => self.pool.take(ip, parent).await.map(|()| ip),
            None => self.pool.take_any(family, parent).await,
        }
    }
}

#[async_trait]
impl Hooks for Services {
    fn bind(&self, objects: Weak<dyn Objects>) {
        self.pool.bind(objects);
    }

    async fn begin_create(&self, service: &mut Value, dry_run: bool) -> Result<Pending, Status> {
        let spec = enter(service, "spec");
        let ip = text(spec, "clusterIP").to_owned();
        if !ip.is_empty() && list(spec, "clusterIPs").is_empty() {
            put(spec, "clusterIPs", vec![ip]);
        }
        families::init(service, None, &self.ranges)?;
        let wanted = (IpChange::Take(0), Plan::of_new(service));
        let mut unfinished = Unfinished::new(self, Parent::of_service(service));
        let outcome = self.take_all(service, wanted, dry_run, unfinished.taken()).await;
        unfinished.finish(outcome).await
    }

    async fn begin_update(&self, new: &mut Value, old: &Value, dry_run: bool) -> Result<Pending, Status> {
        keep_allocated(new, old);
        families::normalise_ips(new, old);
        families::init(new, Some(old), &self.ranges)?;
        let wanted = (IpChange::of(new, old), Plan::of_changed(new, old));
        let mut unfinished = Unfinished::new(self, Parent::of_service(old));
        let outcome = self.take_all(new, wanted, dry_run, unfinished.taken()).await;
        unfinished.finish(outcome).await
    }

    async fn deleted(&self, service: &Value) {
        let (ips, parent) = (addresses_of(service), Parent::of_service(service));
        tokio::join!(self.ports.release(ports_of(service)), self.pool.give_back(&ips, &parent));
    }
}

/// The refusal of an address, as upstream words it.
fn refusal(service: &Value, asked: &str, shown: &[String], why: Refused) -> Status {
    let name = meta::name(service);
    let detail = match why {
        Refused::Full if asked.is_empty() => {
            return Status::internal(format!("failed to allocate a serviceIP for Service {name:?}: {why}"));
        }
        why if asked.is_empty() => format!("failed to allocate IP: {why}"),
        why => format!("failed to allocate IP {asked}: {why}"),
    };
    let spec = Path::new("spec");
    invalid(service, &spec.child("clusterIPs"), shown.to_vec(), &detail)
}

fn is_headless(service: &Value) -> bool {
    texts(at(service, "spec"), "clusterIPs").next() == Some(HEADLESS)
}

fn kind_of(service: &Value) -> &str {
    text(at(service, "spec"), "type")
}

fn is_external_name(service: &Value) -> bool {
    kind_of(service) == "ExternalName"
}

fn has_node_ports(service: &Value) -> bool {
    matches!(kind_of(service), "NodePort" | "LoadBalancer")
}

/// Ports are given out unasked.
fn wants_node_ports(service: &Value) -> bool {
    let declined = at(at(service, "spec"), "allocateLoadBalancerNodePorts").as_bool() == Some(false);
    kind_of(service) == "NodePort" || (kind_of(service) == "LoadBalancer" && !declined)
}

fn needs_health_check(service: &Value) -> bool {
    kind_of(service) == "LoadBalancer" && text(at(service, "spec"), "externalTrafficPolicy") == "Local"
}

fn node_ports(service: &Value) -> impl Iterator<Item = u16> {
    let ports = list(at(service, "spec"), "ports").iter().map(|port| int(port, "nodePort"));
    ports.filter(|port| *port != 0).filter_map(|port| u16::try_from(port).ok())
}

fn health_check_port(service: &Value) -> Option<u16> {
    let port = u16::try_from(int(at(service, "spec"), "healthCheckNodePort")).ok();
    port.filter(|port| *port != 0)
}

/// The ports that a stored service holds.
fn ports_of(service: &Value) -> Vec<u16> {
    let mut ports: Vec<u16> = node_ports(service).collect();
    if needs_health_check(service) {
        ports.extend(health_check_port(service));
    }
    ports
}

/// The addresses that a stored service holds.
fn addresses_of(service: &Value) -> Vec<IpAddr> {
    if is_external_name(service) {
        return Vec::new();
    }
    cluster_ips(service).into_iter().filter_map(|ip| ip.parse().ok()).collect()
}

fn invalid(service: &Value, path: &Path<'_>, value: impl Into<Value>, detail: &str) -> Status {
    let mut errors = FieldErrors::new();
    errors.invalid(path, value, detail);
    Status::invalid("", "Service", meta::name(service), &errors)
}

/// Keeps what was given out when the client leaves it open, so that the same document can be sent again.
fn keep_allocated(new: &mut Value, old: &Value) {
    if !is_external_name(old) && !is_external_name(new) {
        let ip = text(at(old, "spec"), "clusterIP").to_owned();
        let ips = at(at(old, "spec"), "clusterIPs").clone();
        let spec = enter(new, "spec");
        if text(spec, "clusterIP").is_empty() {
            put(spec, "clusterIP", ip);
        }
        if list(spec, "clusterIPs").is_empty() && !ips.is_null() {
            put(spec, "clusterIPs", ips);
        }
    }
    if wants_node_ports(old) && wants_node_ports(new) {
        keep_node_ports(new, old);
    }
    if needs_health_check(old) && needs_health_check(new) && health_check_port(new).is_none() {
        put(enter(new, "spec"), "healthCheckNodePort", int(at(old, "spec"), "healthCheckNodePort"));
    }
}

fn keep_node_ports(new: &mut Value, old: &Value) {
    let asked: Vec<u16> = node_ports(new).collect();
    let used: Vec<i64> = node_ports(old).filter(|port| asked.contains(port)).map(i64::from).collect();
    let by_name = |name: &str| {
        let ports = list(at(old, "spec"), "ports").iter();
        ports.filter(|port| text(port, "name") == name).map(|port| int(port, "nodePort")).next_back().unwrap_or(0)
    };
    for port in list_mut(enter(new, "spec"), "ports").filter(|port| int(port, "nodePort") == 0) {
        let before = by_name(text(port, "name"));
        if before != 0 && !used.contains(&before) {
            put(port, "nodePort", before);
        }
    }
}
