//! The object that a service should have. Pure.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};

use crate::{
    backends::{
        HEADLESS, TRIGGER_TIME, find_port, hostname, ips, is_backend, is_headless, labels, publishes_not_ready,
        service_ports,
    },
    pods,
};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in one object; more are left out, and an annotation says so.
const CAPACITY: usize = 1000;

/// The object to write, unless the present one will do.
pub(super) fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    present: Option<&Endpoints>,
    trigger: Option<Timestamp>,
) -> Option<Endpoints> {
    let mut subsets = subsets(service, pods);
    let truncated = truncate(&mut subsets);
    let mut wanted = present.cloned().unwrap_or_default();
    if present.is_none() {
        wanted.metadata.name.clone_from(&service.metadata.name);
        wanted.metadata.namespace.clone_from(&service.metadata.namespace);
    }
    let mut new_labels = labels(service, &[HEADLESS, MANAGED_BY]);
    if is_headless(service) {
        new_labels.insert(HEADLESS.to_owned(), String::new());
    }
    new_labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let marked =
        present.is_some_and(|it| it.metadata.annotations.as_ref().is_some_and(|it| it.contains_key(OVER_CAPACITY)));
    let same_labels = wanted.metadata.labels.as_ref() == Some(&new_labels);
    if present.is_some_and(|it| same_subsets(it, &subsets)) && same_labels && marked == truncated {
        return None;
    }
    wanted.metadata.labels = Some(new_labels);
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    match trigger {
        Some(at) => drop(annotations.insert(TRIGGER_TIME.to_owned(), at.to_string())),
        None => drop(annotations.remove(TRIGGER_TIME)),
    }
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    wanted.subsets = Some(subsets).filter(|it| !it.is_empty());
    Some(wanted)
}

fn same_subsets(present: &Endpoints, wanted: &[EndpointSubset]) -> bool {
    let strip = |subset: &EndpointSubset| {
        let mut subset = subset.clone();
        for address in [&mut subset.addresses, &mut subset.not_ready_addresses].into_iter().flatten().flatten() {
            if let Some(target) = &mut address.target_ref {
                target.resource_version = None;
            }
        }
        subset
    };
    present.subsets.iter().flatten().map(strip).eq(wanted.iter().map(strip))
}

/// An address: what it is sorted by, whether it is ready, and itself.
type Addresses = BTreeMap<(String, String), (bool, EndpointAddress)>;
/// A port in an order of its own.
type Port = (Option<String>, i32, Option<String>, Option<String>);

/// One subset for each set of addresses that offer the same ports.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let mut by_port: BTreeMap<Option<Port>, Addresses> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| is_backend(pod, publishes_not_ready(service))) {
        let Some(address) = address(service, pod) else { continue };
        let ready = publishes_not_ready(service) || pods::is_ready(pod);
        let key = (address.ip.clone(), pod.metadata.uid.clone().unwrap_or_default());
        for port in ports(service, pod) {
            by_port.entry(port).or_default().insert(key.clone(), (ready, address.clone()));
        }
    }
    // The same addresses, with all the ports that they offer.
    let mut by_addresses: Vec<(Addresses, Vec<Port>)> = Vec::new();
    for (port, addresses) in by_port {
        match by_addresses.iter_mut().find(|(present, _)| *present == addresses) {
            Some((_, ports)) => ports.extend(port),
            None => by_addresses.push((addresses, port.into_iter().collect())),
        }
    }
    by_addresses.into_iter().map(|(addresses, ports)| subset(addresses, ports)).collect()
}

fn subset(addresses: Addresses, ports: Vec<Port>) -> EndpointSubset {
    let (ready, not_ready): (Vec<_>, Vec<_>) = addresses.into_values().partition(|(ready, _)| *ready);
    let list = |list: Vec<(bool, EndpointAddress)>| {
        Some(list.into_iter().map(|(_, address)| address).collect::<Vec<_>>()).filter(|it| !it.is_empty())
    };
    let port = |(name, port, protocol, app_protocol)| EndpointPort { name, port, protocol, app_protocol };
    EndpointSubset {
        addresses: list(ready),
        not_ready_addresses: list(not_ready),
        ports: Some(ports.into_iter().map(port).collect::<Vec<_>>()).filter(|it| !it.is_empty()),
    }
}

/// Of the family of the service's own address.
fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let spec = service.spec.as_ref();
    let own = spec.and_then(|spec| spec.cluster_ip.as_deref()).and_then(|it| it.parse::<IpAddr>().ok());
    let family = spec.and_then(|spec| spec.ip_families.as_ref()).and_then(|it| it.first());
    let wants_v6 = own.map_or_else(|| family.is_some_and(|it| it == "IPv6"), |own| own.is_ipv6());
    let ip = ips(pod).find(|ip| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == wants_v6))?;
    let node = pods::node(pod);
    Some(EndpointAddress {
        ip: ip.to_owned(),
        hostname: hostname(pod, service),
        node_name: Some(node.to_owned()).filter(|node| !node.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    })
}

/// A headless service without ports has addresses all the same.
fn ports(service: &Service, pod: &Pod) -> Vec<Option<Port>> {
    let declared = service_ports(service);
    if declared.is_empty() {
        return if is_headless(service) { vec![None] } else { Vec::new() };
    }
    let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
        let number = find_port(pod, port)?;
        let name = port.name.clone().filter(|name| !name.is_empty());
        Some(Some((name, number, port.protocol.clone(), port.app_protocol.clone())))
    };
    declared.iter().filter_map(port).collect()
}

/// Cuts down to the capacity: not ready addresses first, each subset in proportion.
fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let length = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|it| length(&it.addresses)).sum();
    let not_ready: usize = subsets.iter().map(|it| length(&it.not_ready_addresses)).sum();
    if ready + not_ready <= CAPACITY {
        return false;
    }
    let cut_ready = ready > CAPACITY;
    let (total, room) = if cut_ready { (ready, CAPACITY) } else { (not_ready, CAPACITY - ready) };
    let mut left = room;
    for subset in subsets {
        if cut_ready {
            subset.not_ready_addresses = None;
        }
        let list = if cut_ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        let share = (length(list) * room).div_ceil(total).min(left);
        if let Some(addresses) = list {
            addresses.truncate(share);
            left -= addresses.len();
        }
        *list = list.take().filter(|it| !it.is_empty());
    }
    true
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
