//! A Service and its slices as the rules need them: one value per port, with the endpoints that may be used. Pure.

use std::{net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;
use k8s_openapi::api::{
    core::v1::{Service, ServicePort as ApiPort, ServiceSpec},
    discovery::v1::{Endpoint as ApiEndpoint, EndpointPort, EndpointSlice},
};

/// Namespace and name.
pub(crate) type ServiceKey = (String, String);

const LABEL_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;

/// Where this proxy is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The node: its endpoints are the local ones.
    pub(crate) node: &'a str,
    /// The node's zone; empty when it has none.
    pub(crate) zone: &'a str,
}

impl<'a> From<&'a str> for Place<'a> {
    fn from(node: &'a str) -> Self {
        Self { node, zone: "" }
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServicePort {
    /// `namespace/name:port`, without the colon when the port has no name.
    pub(crate) name: String,
    /// In lower case.
    pub(crate) protocol: String,
    pub(crate) cluster_ip: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) node_port: Option<u16>,
    pub(crate) external_ips: Vec<Ipv4Addr>,
    /// Addresses that a load balancer sends to with the destination untouched.
    pub(crate) load_balancer_ips: Vec<Ipv4Addr>,
    /// Who may use the load balancer's addresses; everybody when empty.
    pub(crate) source_ranges: Vec<Ipv4Net>,
    pub(crate) internal_local: bool,
    pub(crate) external_local: bool,
    /// Seconds that a client stays with its endpoint.
    pub(crate) affinity_seconds: Option<i32>,
    pub(crate) health_check_node_port: Option<u16>,
    /// What traffic under the policy `Cluster` may use.
    pub(crate) cluster_endpoints: Vec<Endpoint>,
    /// What traffic under the policy `Local` may use.
    pub(crate) local_endpoints: Vec<Endpoint>,
    /// Everything that serves, wherever it is: flows to these go on.
    pub(crate) serving: Vec<Endpoint>,
    /// Ready endpoints on this node, for the health check.
    pub(crate) local_ready: usize,
}

impl ServicePort {
    /// What traffic to the cluster IP may use.
    pub(crate) fn internal_endpoints(&self) -> &[Endpoint] {
        if self.internal_local { &self.local_endpoints } else { &self.cluster_endpoints }
    }

    /// What traffic from outside may use.
    pub(crate) fn external_endpoints(&self) -> &[Endpoint] {
        if self.external_local { &self.local_endpoints } else { &self.cluster_endpoints }
    }

    /// The port can be reached by something else than its cluster IP.
    pub(crate) fn is_external(&self) -> bool {
        self.node_port.is_some() || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }
}

/// Where packets can be sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Endpoint {
    pub(crate) ip: Ipv4Addr,
    pub(crate) port: u16,
}

/// An endpoint with what decides whether it is used.
#[derive(Clone, Debug)]
struct Candidate {
    endpoint: Endpoint,
    ready: bool,
    serving: bool,
    terminating: bool,
    local: bool,
    /// Nodes and zones that it is meant for.
    for_nodes: Vec<String>,
    for_zones: Vec<String>,
}

/// The ports of a Service; none when it is not this proxy's to serve.
pub(crate) fn ports<'a>(
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    place: impl Into<Place<'a>>,
) -> Vec<ServicePort> {
    let place = place.into();
    let Some(spec) = service.spec.as_ref() else { return Vec::new() };
    let labels = service.metadata.labels.as_ref();
    let other_proxy = labels.is_some_and(|l| l.contains_key(LABEL_PROXY_NAME));
    let Some(cluster_ip) = cluster_ip(spec).filter(|_| !other_proxy && !is_external_name(spec)) else {
        return Vec::new();
    };
    let ports = spec.ports.iter().flatten();
    ports.filter_map(|port| service_port(service, spec, port, cluster_ip, slices, place)).collect()
}

fn is_external_name(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("ExternalName")
}

fn cluster_ip(spec: &ServiceSpec) -> Option<Ipv4Addr> {
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    all.into_iter().find_map(|ip| ip.parse().ok())
}

fn service_port(
    service: &Service,
    spec: &ServiceSpec,
    port: &ApiPort,
    cluster_ip: Ipv4Addr,
    slices: &[Arc<EndpointSlice>],
    place: Place<'_>,
) -> Option<ServicePort> {
    let meta = &service.metadata;
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or(""));
    let port_name = port.name.as_deref().filter(|n| !n.is_empty());
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let candidates = candidates(slices, (port_name.unwrap_or(""), protocol), place.node);
    let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    Some(ServicePort {
        name: port_name.map_or_else(|| format!("{namespace}/{name}"), |port| format!("{namespace}/{name}:{port}")),
        protocol: protocol.to_ascii_lowercase(),
        cluster_ip,
        port: u16::try_from(port.port).ok()?,
        node_port: port.node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0),
        external_ips: spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect(),
        load_balancer_ips: load_balancer_ips(service),
        source_ranges: spec
            .load_balancer_source_ranges
            .iter()
            .flatten()
            .filter_map(|r| r.trim().parse().ok())
            .collect(),
        internal_local: local(&spec.internal_traffic_policy),
        external_local: local(&spec.external_traffic_policy),
        affinity_seconds: affinity_seconds(spec),
        health_check_node_port: spec.health_check_node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0),
        cluster_endpoints: endpoints(&near(usable(&candidates, |_| true), place)),
        local_endpoints: endpoints(&usable(&candidates, |c| c.local)),
        serving: candidates.iter().filter(|c| c.serving).map(|c| c.endpoint.clone()).collect(),
        local_ready: candidates.iter().filter(|c| c.local && c.ready).count(),
    })
}

fn load_balancer_ips(service: &Service) -> Vec<Ipv4Addr> {
    let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = status.and_then(|l| l.ingress.as_ref()).into_iter().flatten();
    let virtual_ips = ingress.filter(|i| i.ip_mode.as_deref() != Some("Proxy"));
    virtual_ips.filter_map(|i| i.ip.as_ref()?.parse().ok()).collect()
}

fn affinity_seconds(spec: &ServiceSpec) -> Option<i32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let client_ip = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    Some(client_ip.and_then(|c| c.timeout_seconds).unwrap_or(DEFAULT_AFFINITY_SECONDS))
}

/// What slices have behind a port: one of the same name and protocol. A service may just have changed its port's
/// protocol, and its slices follow later.
fn candidates(slices: &[Arc<EndpointSlice>], wanted: (&str, &str), node: &str) -> Vec<Candidate> {
    let is_it = |p: &&EndpointPort| (p.name.as_deref().unwrap_or(""), p.protocol.as_deref().unwrap_or("TCP")) == wanted;
    let mut found: Vec<Candidate> = Vec::new();
    for slice in slices.iter().filter(|s| s.address_type == "IPv4") {
        let Some(port) = slice.ports.iter().flatten().find(is_it) else {
            continue;
        };
        found.extend(slice.endpoints.iter().flatten().filter_map(|e| candidate(e, port, node)));
    }
    found.sort_by(|a, b| a.endpoint.cmp(&b.endpoint).then(b.ready.cmp(&a.ready)));
    found.dedup_by(|later, first| later.endpoint == first.endpoint);
    found
}

fn candidate(endpoint: &ApiEndpoint, port: &EndpointPort, node: &str) -> Option<Candidate> {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let hints = endpoint.hints.clone().unwrap_or_default();
    let ip: Ipv4Addr = endpoint.addresses.first()?.parse().ok()?;
    // The API takes none of these; were one there, a Service would open this node's own loopback to everybody.
    if ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_unspecified() || ip.is_broadcast() {
        return None;
    }
    Some(Candidate {
        endpoint: Endpoint { ip, port: u16::try_from(port.port?).ok()? },
        ready,
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        local: endpoint.node_name.as_deref() == Some(node),
        for_nodes: hints.for_nodes.into_iter().flatten().map(|node| node.name).collect(),
        for_zones: hints.for_zones.into_iter().flatten().map(|zone| zone.name).collect(),
    })
}

/// Ready endpoints; without any, those that still serve while they end.
fn usable(candidates: &[Candidate], may: impl Fn(&Candidate) -> bool) -> Vec<&Candidate> {
    let pick = |wanted: &dyn Fn(&Candidate) -> bool| -> Vec<&Candidate> {
        candidates.iter().filter(|c| may(c) && wanted(c)).collect()
    };
    let ready = pick(&|c| c.ready);
    if ready.is_empty() { pick(&|c| c.serving && c.terminating) } else { ready }
}

/// Those that are meant for this node, else for its zone. That counts when every ready one says for whom it is meant, and
/// at least one is meant for here; else all.
fn near<'a>(usable: Vec<&'a Candidate>, place: Place<'_>) -> Vec<&'a Candidate> {
    if usable.iter().any(|candidate| !candidate.ready) {
        return usable;
    }
    let meant = |hints: fn(&Candidate) -> &[String], here: &str| {
        let told = usable.iter().all(|candidate| !hints(candidate).is_empty());
        let is_meant = |candidate: &&&'a Candidate| hints(candidate).iter().any(|hint| hint == here);
        let near: Vec<&Candidate> = usable.iter().filter(is_meant).copied().collect();
        Some(near).filter(|near| told && !near.is_empty())
    };
    meant(|it| &it.for_nodes, place.node).or_else(|| meant(|it| &it.for_zones, place.zone)).unwrap_or(usable)
}

fn endpoints(candidates: &[&Candidate]) -> Vec<Endpoint> {
    candidates.iter().map(|candidate| candidate.endpoint.clone()).collect()
}

#[cfg(test)]
pub(crate) mod tests;
