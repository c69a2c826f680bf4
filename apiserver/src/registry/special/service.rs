//! Services: cluster IPs, node ports and health-check ports are given out before a write and given back after it.
//!
//! A cluster IP is held by an object of its own, between all servers of a store. Which ports are in use is known from the
//! stored services, read once at start: that allocator is this process' own.

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
use parking_lot::Mutex;

use self::pool::{Pool, Refused};
use self::ports::{Draft, Ports};
use super::{Allocation, Hooks, Pending};
use crate::addresses::{HEADLESS, Parent, cluster_ips};
use crate::objects::Objects;

#[cfg(test)]
mod tests;

/// The steps of services.
pub(super) struct Services {
    pool: Arc<Pool>,
    ports: Arc<Mutex<Ports>>,
    tasks: Tasks,
}

/// What one write has taken, and what it gives up.
struct Taken {
    pool: Arc<Pool>,
    ports: Arc<Mutex<Ports>>,
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

#[async_trait]
impl Allocation for Taken {
    async fn commit(self: Box<Self>) {
        self.ports.lock().release(&self.numbers.released);
        self.pool.give_back(&self.ips.released, &self.parent).await;
    }

    async fn undo(self: Box<Self>) {
        self.ports.lock().release(&self.numbers.taken);
        self.pool.give_back(&self.ips.taken, &self.parent).await;
    }

    fn abandon(self: Box<Self>) {
        // Outside of a runtime there is nobody left to do it: the repair of the next server will.
        if self.ips.taken.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            self.ports.lock().release(&self.numbers.taken);
            return;
        }
        self.tasks.clone().spawn("service-undo", self.undo());
    }
}

impl Services {
    /// Services whose cluster IPs come from this block, as long as no block is stored.
    pub(super) fn new(block: IpNet, ports: RangeInclusive<u16>, tasks: Tasks) -> Self {
        Self { pool: Arc::new(Pool::new(block)), ports: Arc::new(Mutex::new(Ports::new(ports))), tasks }
    }

    /// Allocates the ports that go with these addresses. They go back when there are none.
    async fn with_ports(
        &self,
        parent: Parent,
        ips: Changed<IpAddr>,
        dry_run: bool,
        work: impl FnOnce(&mut Draft<'_>) -> Result<(), Status> + Send,
    ) -> Result<Pending, Status> {
        let (outcome, taken, released) = {
            let mut ports = self.ports.lock();
            let mut draft = Draft::new(&mut ports, dry_run);
            let outcome = work(&mut draft);
            let (taken, released) = draft.finish();
            (outcome, taken, released)
        };
        let (pool, ports, tasks) = (self.pool.clone(), self.ports.clone(), self.tasks.clone());
        let taken = Taken { pool, ports, tasks, parent, ips, numbers: Changed { taken, released } };
        let pending = Pending::of(taken);
        match outcome {
            Ok(()) => Ok(pending),
            Err(status) => {
                pending.undo().await;
                Err(status)
            }
        }
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

    fn rebuild(&self, services: &mut dyn Iterator<Item = Value>) {
        let mut ports = self.ports.lock();
        services.for_each(|service| ports.keep(&ports_of(&service)));
    }

    async fn begin_create(&self, service: &mut Value, dry_run: bool) -> Result<Pending, Status> {
        let spec = enter(service, "spec");
        let ip = text(spec, "clusterIP").to_owned();
        if !ip.is_empty() && list(spec, "clusterIPs").is_empty() {
            put(spec, "clusterIPs", vec![ip]);
        }
        families::init(service, None)?;
        let ips = Changed { taken: self.allocate_ip(service, dry_run).await?, released: Vec::new() };
        let parent = Parent::of_service(service);
        let allocate = |draft: &mut Draft<'_>| {
            allocate_ports(service, draft)?;
            if needs_health_check(service) { allocate_health_check(service, draft) } else { Ok(()) }
        };
        self.with_ports(parent, ips, dry_run, allocate).await
    }

    async fn begin_update(&self, new: &mut Value, old: &Value, dry_run: bool) -> Result<Pending, Status> {
        keep_allocated(new, old);
        families::normalise_ips(new, old);
        families::init(new, Some(old))?;
        let ips = self.change_ip(new, old, dry_run).await?;
        let parent = Parent::of_service(old);
        let change = |draft: &mut Draft<'_>| {
            update_ports(new, old, draft)?;
            update_health_check(new, old, draft)
        };
        self.with_ports(parent, ips, dry_run, change).await
    }

    async fn deleted(&self, service: &Value) {
        self.ports.lock().release(&ports_of(service));
        self.pool.give_back(&addresses_of(service), &Parent::of_service(service)).await;
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

fn allocate_ports(service: &mut Value, draft: &mut Draft<'_>) -> Result<(), Status> {
    if !has_node_ports(service) {
        return Ok(());
    }
    let unasked = wants_node_ports(service);
    let ports: Vec<(i64, i64)> =
        list(at(service, "spec"), "ports").iter().map(|port| (int(port, "port"), int(port, "nodePort"))).collect();
    let mut shared: Vec<(i64, i64)> = Vec::new();
    for (index, (port, asked)) in ports.iter().copied().enumerate() {
        if asked == 0 && !unasked {
            continue;
        }
        let known = shared.iter().find(|(own, _)| *own == port).map(|(_, node_port)| *node_port);
        let chosen = match known {
            None => {
                let wanted = ports.iter().find(|(own, node)| *own == port && *node != 0).map_or(0, |(_, node)| *node);
                let chosen = take_port(service, index, wanted, draft)?;
                shared.push((port, chosen));
                chosen
            }
            Some(known) if asked == 0 || asked == known => known,
            Some(_) => take_port(service, index, asked, draft)?,
        };
        set_node_port(service, index, chosen);
    }
    Ok(())
}

/// Takes the port that is asked for, or any when it is 0.
fn take_port(service: &Value, index: usize, asked: i64, draft: &mut Draft<'_>) -> Result<i64, Status> {
    if asked == 0 {
        return draft.next().ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"));
    }
    let spec = Path::new("spec");
    let ports = spec.child("ports");
    let port = ports.index(index);
    draft.take(asked).map_err(|why| invalid(service, &port.child("nodePort"), asked, &why))?;
    Ok(asked)
}

fn set_node_port(service: &mut Value, index: usize, node_port: i64) {
    if let Some(port) = list_mut(enter(service, "spec"), "ports").nth(index) {
        put(port, "nodePort", node_port);
    }
}

fn allocate_health_check(service: &mut Value, draft: &mut Draft<'_>) -> Result<(), Status> {
    let asked = int(at(service, "spec"), "healthCheckNodePort");
    let port = if asked == 0 {
        let full = "failed to allocate a HealthCheck NodePort 0: range is full";
        draft.next().ok_or_else(|| Status::internal(full))?
    } else {
        draft.take(asked).map_err(|why| {
            Status::internal(format!("failed to allocate requested HealthCheck NodePort {asked}: {why}"))
        })?;
        asked
    };
    put(enter(service, "spec"), "healthCheckNodePort", port);
    Ok(())
}

fn update_ports(new: &mut Value, old: &Value, draft: &mut Draft<'_>) -> Result<(), Status> {
    let before: Vec<u16> = node_ports(old).collect();
    if !has_node_ports(new) {
        if has_node_ports(old) {
            before.iter().for_each(|port| draft.release(*port));
        }
        return Ok(());
    }
    let asked: Vec<(String, i64)> = list(at(new, "spec"), "ports")
        .iter()
        .map(|port| (text(port, "protocol").to_owned(), int(port, "nodePort")))
        .collect();
    let mut seen: Vec<(String, i64)> = Vec::new();
    for (index, (protocol, node_port)) in asked.into_iter().enumerate() {
        if node_port == 0 && !wants_node_ports(new) {
            continue;
        }
        let kept = before.iter().any(|port| i64::from(*port) == node_port);
        let shared = seen.iter().any(|(_, port)| *port == node_port);
        let chosen = if kept || shared { node_port } else { take_port(new, index, node_port, draft)? };
        set_node_port(new, index, chosen);
        if seen.contains(&(protocol.clone(), chosen)) {
            let message = format!("duplicate nodePort: {{{protocol} {chosen}}}");
            return Err(Status::new(api::Reason::Unknown(500), message));
        }
        seen.push((protocol, chosen));
    }
    let after: Vec<u16> = node_ports(new).collect();
    before.iter().filter(|port| !after.contains(port)).for_each(|port| draft.release(*port));
    Ok(())
}

fn update_health_check(new: &mut Value, old: &Value, draft: &mut Draft<'_>) -> Result<(), Status> {
    match (needs_health_check(old), needs_health_check(new)) {
        (false, true) => allocate_health_check(new, draft),
        (true, false) => {
            health_check_port(old).into_iter().for_each(|port| draft.release(port));
            Ok(())
        }
        _ => Ok(()),
    }
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
