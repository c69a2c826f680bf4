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
use ipnet::IpNet;
use kinds::tree::{at, enter, int, list, list_mut, put, text, texts};
use store::Store;

use self::pool::{Pool, Refused};
use self::ports::Plan;
use super::{Allocation, Hooks, Pending};
use crate::addresses::{HEADLESS, Parent, cluster_ips};
use crate::node_ports::NodePorts;
use crate::objects::Objects;

#[cfg(test)]
mod tests;

/// The steps of services.
pub(super) struct Services {
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
    fn finish(mut self, numbers: Changed<u16>) -> Pending {
        let mut taken = self.0.take().expect("it is taken here alone");
        taken.numbers = numbers;
        Pending::of(*taken)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(taken) = self.0.take() {
            taken.abandon();
        }
    }
}

impl Services {
    /// Services whose cluster IPs come from this block, as long as no block is stored.
    pub(super) fn new(block: IpNet, ports: RangeInclusive<u16>, store: Arc<dyn Store>, tasks: Tasks) -> Self {
        Self { pool: Arc::new(Pool::new(block)), ports: NodePorts::new(store, ports, &tasks), tasks }
    }

    /// Allocates the ports that go with these addresses. They go back when there are none.
    async fn with_ports(
        &self,
        service: &mut Value,
        parent: Parent,
        ips: Changed<IpAddr>,
        mut plan: Plan,
        dry_run: bool,
    ) -> Result<Pending, Status> {
        let (pool, ports, tasks) = (self.pool.clone(), self.ports.clone(), self.tasks.clone());
        let taken = Taken { pool, ports, tasks, parent, ips, numbers: Changed::nothing() };
        let unfinished = Unfinished(Some(Box::new(taken)));
        let (numbers, outcome) = match self.take_ports(service, &mut plan, dry_run).await {
            Ok((taken, outcome)) => (Changed { taken, released: std::mem::take(&mut plan.released) }, outcome),
            Err(status) => (Changed::nothing(), Err(status)),
        };
        let pending = unfinished.finish(if dry_run { Changed::nothing() } else { numbers });
        match outcome {
            Ok(()) => Ok(pending),
            Err(status) => {
                pending.undo().await;
                Err(status)
            }
        }
    }

    /// Takes ports and puts them into the service; there may be a reason to refuse it even so.
    async fn take_ports(
        &self,
        service: &mut Value,
        plan: &mut Plan,
        dry_run: bool,
    ) -> Result<(Vec<u16>, Result<(), Status>), Status> {
        let wanted = plan.numbers();
        if wanted.is_empty() {
            return Ok((Vec::new(), plan.fill(service, &[])));
        }
        if dry_run {
            let given = self.ports.pretend(&wanted).await.map_err(|refusal| plan.refused(service, refusal))?;
            return Ok((Vec::new(), plan.fill(service, &given)));
        }
        let taken = self.ports.take(wanted).await.map_err(|refusal| plan.refused(service, refusal))?.keep();
        let given: Vec<i64> = taken.iter().copied().map(i64::from).collect();
        let outcome = plan.fill(service, &given);
        Ok((taken, outcome))
    }

    /// Gives a service its cluster IP and returns it when it was taken for it.
    async fn allocate_ip(&self, service: &mut Value, dry_run: bool) -> Result<Vec<IpAddr>, Status> {
        let first = texts(at(service, "spec"), "clusterIPs").next().unwrap_or("").to_owned();
        if is_external_name(service) || first == HEADLESS {
            return Ok(Vec::new());
        }
        let asked = match first.as_str() {
            "" => None,
            // Validation has the words for what is no address.
            text => match text.parse() {
                Ok(ip) => Some(ip),
                Err(_) => return Ok(Vec::new()),
            },
        };
        let ip = self.take(asked, &Parent::of_service(service), dry_run).await;
        let ip = ip.map_err(|why| refusal(service, &first, why))?;
        if asked.is_none() {
            let spec = enter(service, "spec");
            put(spec, "clusterIP", ip.to_string());
            put(spec, "clusterIPs", vec![ip.to_string()]);
        }
        Ok(if dry_run { Vec::new() } else { vec![ip] })
    }

    async fn take(&self, asked: Option<IpAddr>, parent: &Parent, dry_run: bool) -> Result<IpAddr, Refused> {
        match asked {
            _ if dry_run => self.pool.pretend(asked),
            Some(ip) => self.pool.take(ip, parent).await.map(|()| ip),
            None => self.pool.take_any(parent).await,
        }
    }

    /// The addresses that an update takes and gives up.
    async fn change_ip(&self, new: &mut Value, old: &Value, dry_run: bool) -> Result<Changed<IpAddr>, Status> {
        if families::keeps_preferred(new, old) {
            return Ok(Changed::nothing());
        }
        if is_external_name(old) && !is_external_name(new) {
            return Ok(Changed { taken: self.allocate_ip(new, dry_run).await?, released: Vec::new() });
        }
        if dry_run || is_external_name(old) || !is_external_name(new) {
            return Ok(Changed::nothing());
        }
        Ok(Changed { taken: Vec::new(), released: addresses_of(old) })
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
        families::init(service, None)?;
        let ips = Changed { taken: self.allocate_ip(service, dry_run).await?, released: Vec::new() };
        let plan = Plan::of_new(service);
        let parent = Parent::of_service(service);
        self.with_ports(service, parent, ips, plan, dry_run).await
    }

    async fn begin_update(&self, new: &mut Value, old: &Value, dry_run: bool) -> Result<Pending, Status> {
        keep_allocated(new, old);
        families::normalise_ips(new, old);
        families::init(new, Some(old))?;
        let ips = self.change_ip(new, old, dry_run).await?;
        let plan = Plan::of_changed(new, old);
        self.with_ports(new, Parent::of_service(old), ips, plan, dry_run).await
    }

    async fn deleted(&self, service: &Value) {
        let (ips, parent) = (addresses_of(service), Parent::of_service(service));
        tokio::join!(self.ports.release(ports_of(service)), self.pool.give_back(&ips, &parent));
    }
}

/// The refusal of an address, as upstream words it.
fn refusal(service: &Value, asked: &str, why: Refused) -> Status {
    let name = meta::name(service);
    let detail = match why {
        Refused::Full if asked.is_empty() => {
            return Status::internal(format!("failed to allocate a serviceIP for Service {name:?}: {why}"));
        }
        why if asked.is_empty() => format!("failed to allocate IP: {why}"),
        why => format!("failed to allocate IP {asked}: {why}"),
    };
    let spec = Path::new("spec");
    // The place of the one that was to be found is there already.
    let shown =
        if asked.is_empty() { vec![Value::from("")].into() } else { at(at(service, "spec"), "clusterIPs").clone() };
    invalid(service, &spec.child("clusterIPs"), shown, &detail)
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
