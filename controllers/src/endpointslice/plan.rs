//! Which slices a service should have, with as few changes to those it has as possible. Pure.
//!
//! Slices of one service hold endpoints of one address family and one set of ports each. Endpoints stay in their slice;
//! new ones fill slices that change anyway, then the unchanged slice in which the least room would be left, then new
//! slices.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{ObjectReference, Pod, Service},
    discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use reconcile::controller_ref;

use crate::{
    backends::{
        HEADLESS, find_port, hostname, ips, is_backend, is_headless, labels, publishes_not_ready, service_ports,
    },
    pods,
};

pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const RESERVED: [&str; 3] = [MANAGED_BY, SERVICE_NAME, HEADLESS];

const IPV4: &str = "IPv4";
const IPV6: &str = "IPv6";
/// Endpoints in one slice.
const MAX: usize = 100;
const MAX_NAME: usize = 253;

#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
}

/// A pod, and its node that is not known.
pub(super) type Missing = (String, String);

/// The zone of a node, or nothing if there is no such node.
pub(super) type Zone<'a> = &'a dyn Fn(&str) -> Option<Option<String>>;

/// What tells endpoints apart that may stand in the same slice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    addresses: Vec<String>,
    hostname: Option<String>,
    target: Option<(Option<String>, Option<String>)>,
}

type Wanted = BTreeMap<Identity, Endpoint>;
/// Ports in an order of their own.
type PortKey = Vec<(Option<String>, Option<i32>, Option<String>, Option<String>)>;

/// Endpoints by the ports that they offer.
type ByPorts = BTreeMap<PortKey, (Vec<EndpointPort>, Wanted)>;

pub(super) fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    zone: Zone<'_>,
    existing: &[Arc<EndpointSlice>],
) -> (Changes, Option<Missing>) {
    let types = address_types(service);
    let mut changes = Changes::default();
    let mut missing = None;
    for slice in existing.iter().filter(|slice| !types.contains(slice.address_type.as_str())) {
        changes.delete.push(slice.clone());
    }
    for type_ in types {
        let of_type: Vec<_> = existing.iter().filter(|slice| slice.address_type == type_).cloned().collect();
        let planned = plan_type(service, pods, zone, &of_type, type_);
        changes.create.extend(planned.0.create);
        changes.update.extend(planned.0.update);
        changes.delete.extend(planned.0.delete);
        missing = missing.or(planned.1);
    }
    (changes, missing)
}

fn address_types(service: &Service) -> BTreeSet<&'static str> {
    let spec = service.spec.as_ref();
    let families = spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    let types: BTreeSet<_> = families
        .iter()
        .filter_map(|family| match family.as_str() {
            "IPv4" => Some(IPV4),
            "IPv6" => Some(IPV6),
            _ => None,
        })
        .collect();
    if !types.is_empty() {
        return types;
    }
    let address = spec.and_then(|spec| spec.cluster_ip.as_deref()).and_then(|it| it.parse::<IpAddr>().ok());
    match address {
        Some(IpAddr::V4(_)) => [IPV4].into(),
        Some(IpAddr::V6(_)) => [IPV6].into(),
        None => [IPV4, IPV6].into(),
    }
}

fn plan_type(
    service: &Service,
    pods: &[Arc<Pod>],
    zone: Zone<'_>,
    existing: &[Arc<EndpointSlice>],
    type_: &'static str,
) -> (Changes, Option<Missing>) {
    let (wanted, missing) = wanted(service, pods, zone, type_);
    let mut changes = Changes::default();
    let mut present: BTreeMap<PortKey, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        if is_owned(slice, service) {
            present.entry(port_key(slice.ports.as_deref().unwrap_or_default())).or_default().push(slice.clone());
        } else {
            changes.delete.push(slice.clone());
        }
    }
    for (key, (ports, endpoints)) in wanted {
        let slices = present.remove(&key).unwrap_or_default();
        Filling { service, type_, ports, changes: &mut changes }.fill(&slices, endpoints);
    }
    changes.delete.extend(present.into_values().flatten());
    if existing.len() == changes.delete.len() && changes.create.is_empty() {
        keep_placeholder(service, type_, &mut changes);
    }
    reuse(service, &mut changes);
    (changes, missing)
}

/// By their ports, the endpoints there should be. Ports without any endpoint with an address count too.
fn wanted(service: &Service, pods: &[Arc<Pod>], zone: Zone<'_>, type_: &str) -> (ByPorts, Option<Missing>) {
    let mut wanted = ByPorts::new();
    let mut missing = None;
    for pod in pods.iter().filter(|pod| is_backend(pod, true)) {
        let ports = ports(service, pod);
        let (_, endpoints) = wanted.entry(port_key(&ports)).or_insert_with(|| (ports, Wanted::new()));
        let node = pods::node(pod);
        let zone = zone(node);
        if zone.is_none() && !publishes_not_ready(service) {
            missing = missing.or_else(|| Some((pod.metadata.name.clone().unwrap_or_default(), node.to_owned())));
            continue;
        }
        let endpoint = endpoint(service, pod, zone.flatten(), type_);
        if !endpoint.addresses.is_empty() {
            endpoints.insert(identity(&endpoint), endpoint);
        }
    }
    (wanted, missing)
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(find_port(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    };
    service_ports(service).iter().filter_map(port).collect()
}

fn port_key(ports: &[EndpointPort]) -> PortKey {
    let part = |it: &EndpointPort| (it.name.clone(), it.port, it.protocol.clone(), it.app_protocol.clone());
    let mut key: PortKey = ports.iter().map(part).collect();
    key.sort_unstable();
    key
}

fn endpoint(service: &Service, pod: &Pod, zone: Option<String>, type_: &str) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let is_type = |ip: &&str| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == (type_ == IPV6));
    let node = Some(pods::node(pod).to_owned()).filter(|node| !node.is_empty());
    let ready = publishes_not_ready(service) || (serving && !terminating);
    Endpoint {
        hints: distribution(service).filter(|_| ready).and_then(|it| hints(it, node.as_deref(), zone.as_deref())),
        addresses: ips(pod).filter(is_type).map(str::to_owned).collect(),
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        node_name: node,
        zone,
        hostname: hostname(pod, service),
        deprecated_topology: None,
    }
}

/// Where the service's traffic is to go, if it says so. One that asks for hints by annotation is left without any: they
/// would be a guess from the sizes of nodes, which is not made here.
fn distribution(service: &Service) -> Option<&str> {
    let annotations = service.metadata.annotations.as_ref();
    let mode = annotations.and_then(|it| it.get(TOPOLOGY_MODE).or_else(|| it.get(TOPOLOGY_HINTS)));
    if matches!(mode.map(String::as_str), Some("Auto" | "auto")) {
        return None;
    }
    service.spec.as_ref()?.traffic_distribution.as_deref()
}

/// For whom an endpoint is meant: for its own zone, and, if that is asked for, for its own node before.
fn hints(distribution: &str, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    let for_nodes = node.map(|node| vec![ForNode { name: node.to_owned() }]);
    let hints = match distribution {
        "PreferClose" | "PreferSameZone" => EndpointHints { for_zones, for_nodes: None },
        "PreferSameNode" => EndpointHints { for_zones, for_nodes },
        _ => return None,
    };
    (hints != EndpointHints::default()).then_some(hints)
}

fn identity(endpoint: &Endpoint) -> Identity {
    let mut addresses = endpoint.addresses.clone();
    addresses.sort_unstable();
    let target = endpoint.target_ref.as_ref().map(|it| (it.namespace.clone(), it.name.clone()));
    Identity { addresses, hostname: endpoint.hostname.clone(), target }
}

/// Equal but for what does not matter.
fn same(one: &Endpoint, other: &Endpoint) -> bool {
    let target = |it: &Endpoint| it.target_ref.clone().map(|it| ObjectReference { resource_version: None, ..it });
    one.node_name == other.node_name
        && one.zone == other.zone
        && one.hints == other.hints
        && one.conditions == other.conditions
        && target(one) == target(other)
}

fn is_owned(slice: &EndpointSlice, service: &Service) -> bool {
    let owners = slice.metadata.owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .any(|it| Some(&it.uid) == service.metadata.uid.as_ref() && it.kind == "Service" && it.api_version == "v1")
}

/// Puts the endpoints of one set of ports into slices.
struct Filling<'a> {
    service: &'a Service,
    type_: &'static str,
    ports: Vec<EndpointPort>,
    changes: &'a mut Changes,
}

impl Filling<'_> {
    fn fill(mut self, existing: &[Arc<EndpointSlice>], mut wanted: Wanted) {
        let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
        for slice in existing {
            let kept = keep(slice, &mut wanted);
            let relabeled = labels(self.service, &RESERVED) != own_labels(slice);
            match kept {
                Some(endpoints) if endpoints.is_empty() => self.changes.delete.push(slice.clone()),
                Some(endpoints) => changed.push(self.changed(slice, endpoints)),
                None if relabeled => changed.push(self.changed(slice, slice.endpoints.clone().unwrap_or_default())),
                None => unchanged.push(slice.clone()),
            }
        }
        let mut rest = wanted.into_values();
        changed.sort_by_key(|slice| std::cmp::Reverse(length(slice)));
        for slice in &mut changed {
            top_up(slice, &mut rest);
        }
        while rest.len() > 0 {
            let mut slice = self.take_to_fill(&mut unchanged, rest.len());
            top_up(&mut slice, &mut rest);
            let is_new = slice.metadata.name.is_none();
            if is_new { self.changes.create.push(slice) } else { changed.push(slice) }
        }
        self.changes.update.append(&mut changed);
    }

    fn changed(&self, slice: &EndpointSlice, endpoints: Vec<Endpoint>) -> EndpointSlice {
        let mut changed = slice.clone();
        changed.endpoints = Some(endpoints);
        changed.metadata.labels = Some(slice_labels(self.service));
        changed
    }

    /// The unchanged slice that the rest fits into best, else a new one.
    fn take_to_fill(&mut self, unchanged: &mut Vec<Arc<EndpointSlice>>, rest: usize) -> EndpointSlice {
        let room = |slice: &EndpointSlice| MAX.checked_sub(rest + length(slice));
        let fitting = unchanged.iter().enumerate().filter_map(|(at, slice)| Some((room(slice)?, at)));
        match fitting.min().filter(|_| rest < MAX) {
            Some((_, at)) => (*unchanged.swap_remove(at)).clone(),
            None => new_slice(self.service, self.type_, std::mem::take(&mut self.ports.clone())),
        }
    }
}

fn length(slice: &EndpointSlice) -> usize {
    slice.endpoints.as_ref().map_or(0, Vec::len)
}

fn top_up(slice: &mut EndpointSlice, rest: &mut impl Iterator<Item = Endpoint>) {
    let endpoints = slice.endpoints.get_or_insert_default();
    let room = MAX.saturating_sub(endpoints.len());
    endpoints.extend(rest.by_ref().take(room));
}

/// The endpoints that a slice keeps, as they are now, or nothing when it stays as it is. They are taken out of `wanted`.
fn keep(slice: &EndpointSlice, wanted: &mut Wanted) -> Option<Vec<Endpoint>> {
    let present = slice.endpoints.as_deref().unwrap_or_default();
    let mut changed = false;
    let mut kept = Vec::with_capacity(present.len());
    for endpoint in present {
        match wanted.remove(&identity(endpoint)) {
            None => changed = true,
            Some(now) => {
                changed |= !same(&now, endpoint);
                kept.push(now);
            }
        }
    }
    changed.then_some(kept)
}

fn own_labels(slice: &EndpointSlice) -> BTreeMap<String, String> {
    let mut labels = slice.metadata.labels.clone().unwrap_or_default();
    labels.retain(|name, _| !RESERVED.contains(&name.as_str()));
    labels
}

fn slice_labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = labels(service, &RESERVED);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

fn new_slice(service: &Service, type_: &str, ports: Vec<EndpointPort>) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let prefix = if name.len() < MAX_NAME { format!("{name}-") } else { name };
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(prefix),
            namespace: service.metadata.namespace.clone(),
            labels: Some(slice_labels(service)),
            owner_references: Some(vec![controller_ref(service)]),
            ..ObjectMeta::default()
        },
        address_type: type_.to_owned(),
        ports: Some(ports),
        endpoints: Some(Vec::new()),
    }
}

/// A service without endpoints has one empty slice, so that it can be told from one that nobody has looked at.
fn keep_placeholder(service: &Service, type_: &str, changes: &mut Changes) {
    let placeholder = new_slice(service, type_, Vec::new());
    let is_placeholder = |slice: &EndpointSlice| {
        length(slice) == 0
            && slice.ports.as_deref().unwrap_or_default().is_empty()
            && slice.metadata.labels == placeholder.metadata.labels
            && slice.metadata.owner_references == placeholder.metadata.owner_references
    };
    if changes.delete.len() == 1 && is_placeholder(&changes.delete[0]) {
        changes.delete.clear();
    } else {
        changes.create.push(placeholder);
    }
}

/// Writes new slices over ones that would be deleted: one change instead of two, and the name stays.
fn reuse(service: &Service, changes: &mut Changes) {
    let mut deleted = Vec::new();
    for slice in std::mem::take(&mut changes.delete) {
        match changes.create.pop() {
            Some(mut new) if new.address_type == slice.address_type && is_owned(&slice, service) => {
                new.metadata.name.clone_from(&slice.metadata.name);
                new.metadata.generate_name = None;
                // Written only over what was seen.
                new.metadata.resource_version.clone_from(&slice.metadata.resource_version);
                new.metadata.uid.clone_from(&slice.metadata.uid);
                changes.update.push(new);
            }
            other => {
                changes.create.extend(other);
                deleted.push(slice);
            }
        }
    }
    changes.delete = deleted;
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
