//! Services: cluster IPs, node ports and health-check ports are given out before a write and given back after it.
//!
//! What is in use is known from the stored services, read once at start. The allocator is this process' own: several
//! servers over one store would need upstream's IPAddress objects, which are not kept yet.

mod allocator;
mod families;

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use api::field::{FieldErrors, Path};
use api::{Status, Value, meta};
use async_trait::async_trait;
use ipnet::Ipv4Net;
use kinds::tree::{at, enter, int, list, list_mut, put, text, texts};
use parking_lot::Mutex;

use self::allocator::{Allocations, Draft};
use super::{Hooks, Pending};

#[cfg(test)]
mod tests;

/// `clusterIP` of a headless service.
const HEADLESS: &str = "None";

/// The steps of services.
pub(super) struct Services {
    allocations: Arc<Mutex<Allocations>>,
}

impl Services {
    pub(super) fn new(ips: Ipv4Net, ports: RangeInclusive<u16>) -> Self {
        Self { allocations: Arc::new(Mutex::new(Allocations::new(ips, ports))) }
    }

    /// Allocates on a draft: kept when the write is stored, undone otherwise, and never kept by a dry run.
    fn allocate(
        &self,
        dry_run: bool,
        work: impl FnOnce(&mut Draft<'_>) -> Result<(), Status>,
    ) -> Result<Pending, Status> {
        if dry_run {
            let mut copy = self.allocations.lock().clone();
            work(&mut Draft::new(&mut copy))?;
            return Ok(Pending::nothing());
        }
        let mut allocations = self.allocations.lock();
        let mut draft = Draft::new(&mut allocations);
        let outcome = work(&mut draft);
        let (taken, released) = draft.finish();
        if let Err(status) = outcome {
            allocations.release(&taken);
            return Err(status);
        }
        drop(allocations);
        let (to_commit, to_undo) = (self.allocations.clone(), self.allocations.clone());
        let commit = move || to_commit.lock().release(&released);
        let undo = move || to_undo.lock().release(&taken);
        Ok(Pending { commit: Some(Box::new(commit)), undo: Some(Box::new(undo)) })
    }
}

#[async_trait]
impl Hooks for Services {
    fn rebuild(&self, services: &mut dyn Iterator<Item = Value>) {
        let mut allocations = self.allocations.lock();
        services.for_each(|service| allocations.keep(&allocations_of(&service)));
    }

    async fn begin_create(&self, service: &mut Value, dry_run: bool) -> Result<Pending, Status> {
        let spec = enter(service, "spec");
        let ip = text(spec, "clusterIP").to_owned();
        if !ip.is_empty() && list(spec, "clusterIPs").is_empty() {
            put(spec, "clusterIPs", vec![ip]);
        }
        self.allocate(dry_run, |draft| {
            families::init(service, None)?;
            allocate_ip(service, draft)?;
            allocate_ports(service, draft)?;
            if needs_health_check(service) {
                allocate_health_check(service, draft)?;
            }
            Ok(())
        })
    }

    async fn begin_update(&self, new: &mut Value, old: &Value, dry_run: bool) -> Result<Pending, Status> {
        keep_allocated(new, old);
        families::normalise_ips(new, old);
        self.allocate(dry_run, |draft| {
            families::init(new, Some(old))?;
            update_ip(new, old, draft)?;
            update_ports(new, old, draft)?;
            update_health_check(new, old, draft)
        })
    }

    fn deleted(&self, service: &Value) {
        self.allocations.lock().release(&allocations_of(service));
    }
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

/// Everything that a stored service holds.
fn allocations_of(service: &Value) -> allocator::Set {
    let mut set = allocator::Set::default();
    if !is_external_name(service) {
        set.ips.extend(texts(at(service, "spec"), "clusterIPs").filter_map(|ip| ip.parse::<Ipv4Addr>().ok()));
    }
    set.ports.extend(node_ports(service));
    if needs_health_check(service) {
        set.ports.extend(health_check_port(service));
    }
    set
}

fn invalid(service: &Value, path: &Path<'_>, value: impl Into<Value>, detail: &str) -> Status {
    let mut errors = FieldErrors::new();
    errors.invalid(path, value, detail);
    Status::invalid("", "Service", meta::name(service), &errors)
}

fn allocate_ip(service: &mut Value, draft: &mut Draft<'_>) -> Result<(), Status> {
    let first = texts(at(service, "spec"), "clusterIPs").next().unwrap_or("").to_owned();
    if is_external_name(service) || first == HEADLESS {
        return Ok(());
    }
    let spec = Path::new("spec");
    let path = spec.child("clusterIPs");
    let shown = at(at(service, "spec"), "clusterIPs").clone();
    if first.is_empty() {
        let name = meta::name(service);
        let Some(ip) = draft.next_ip() else {
            return Err(Status::internal(format!(
                "failed to allocate a serviceIP for Service {name:?}: range is full"
            )));
        };
        let spec = enter(service, "spec");
        put(spec, "clusterIP", ip.to_string());
        put(spec, "clusterIPs", vec![ip.to_string()]);
        return Ok(());
    }
    // Validation has the words for what is no address.
    let Ok(ip) = first.parse() else { return Ok(()) };
    draft.take_ip(ip).map_err(|why| invalid(service, &path, shown, &format!("failed to allocate IP {first}: {why}")))
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
        let port = draft.next_port();
        return port.map(i64::from).ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"));
    }
    let spec = Path::new("spec");
    let ports = spec.child("ports");
    let port = ports.index(index);
    draft.take_port(asked).map_err(|why| invalid(service, &port.child("nodePort"), asked, &why))?;
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
        let next = draft.next_port().map(i64::from);
        next.ok_or_else(|| Status::internal("failed to allocate a HealthCheck NodePort 0: range is full"))?
    } else {
        draft.take_port(asked).map_err(|why| {
            Status::internal(format!("failed to allocate requested HealthCheck NodePort {asked}: {why}"))
        })?;
        asked
    };
    put(enter(service, "spec"), "healthCheckNodePort", port);
    Ok(())
}

fn update_ip(new: &mut Value, old: &Value, draft: &mut Draft<'_>) -> Result<(), Status> {
    if families::keeps_preferred(new, old) {
        return Ok(());
    }
    if is_external_name(old) && !is_external_name(new) {
        return allocate_ip(new, draft);
    }
    let first = texts(at(old, "spec"), "clusterIPs").next().unwrap_or("");
    if first == HEADLESS || is_external_name(old) || !is_external_name(new) {
        return Ok(());
    }
    texts(at(old, "spec"), "clusterIPs").filter_map(|ip| ip.parse().ok()).for_each(|ip| draft.release_ip(ip));
    Ok(())
}

fn update_ports(new: &mut Value, old: &Value, draft: &mut Draft<'_>) -> Result<(), Status> {
    let before: Vec<u16> = node_ports(old).collect();
    if !has_node_ports(new) {
        if has_node_ports(old) {
            before.iter().for_each(|port| draft.release_port(*port));
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
    before.iter().filter(|port| !after.contains(port)).for_each(|port| draft.release_port(*port));
    Ok(())
}

fn update_health_check(new: &mut Value, old: &Value, draft: &mut Draft<'_>) -> Result<(), Status> {
    match (needs_health_check(old), needs_health_check(new)) {
        (false, true) => allocate_health_check(new, draft),
        (true, false) => {
            health_check_port(old).into_iter().for_each(|port| draft.release_port(port));
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
