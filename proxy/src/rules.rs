//! The rules of Services, as values. Pure. Chains, comments and order are upstream's, so that people and tools that
//! read a node's tables find what they know.

mod fixed;
mod names;

use std::{fmt::Write as _, net::Ipv4Addr};

use ipnet::Ipv4Net;

pub(crate) use self::fixed::{CANARY, JUMPS, Jump, fixed_chains, to_node_ports};
use self::names::{endpoint_chain, service_chain};
use crate::{
    Config,
    track::{Endpoint, ServicePort},
};

/// A kernel table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Filter,
    Nat,
}

impl Table {
    pub(crate) const ALL: [Self; 2] = [Self::Filter, Self::Nat];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

/// A chain that collects lines of many Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shared {
    /// `nat/KUBE-SERVICES`.
    Services,
    /// `nat/KUBE-NODEPORTS`.
    NodePorts,
    /// `filter/KUBE-SERVICES`: what has no endpoints is refused.
    Refused,
    /// `filter/KUBE-EXTERNAL-SERVICES`: the same for traffic from outside.
    ExternalRefused,
    /// `filter/KUBE-NODEPORTS`: health checks are let in.
    HealthChecks,
    /// `filter/KUBE-PROXY-FIREWALL`: load balancer traffic from elsewhere is dropped.
    Firewall,
}

impl Shared {
    pub(crate) const ALL: [Self; 6] =
        [Self::Services, Self::NodePorts, Self::Refused, Self::ExternalRefused, Self::HealthChecks, Self::Firewall];

    /// Table and chain.
    pub(crate) fn chain(self) -> (Table, &'static str) {
        match self {
            Self::Services => (Table::Nat, "KUBE-SERVICES"),
            Self::NodePorts => (Table::Nat, "KUBE-NODEPORTS"),
            Self::Refused => (Table::Filter, "KUBE-SERVICES"),
            Self::ExternalRefused => (Table::Filter, "KUBE-EXTERNAL-SERVICES"),
            Self::HealthChecks => (Table::Filter, "KUBE-NODEPORTS"),
            Self::Firewall => (Table::Filter, "KUBE-PROXY-FIREWALL"),
        }
    }
}

/// The rules of one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceRules {
    /// Lines for chains that Services share, without `-A CHAIN`.
    pub(crate) shared: Vec<(Shared, String)>,
    /// Chains of the `nat` table that are the Service's own.
    pub(crate) own: Vec<(String, Vec<String>)>,
}

/// What the rules depend on besides the Service.
pub(crate) struct Rules<'a> {
    pub(crate) config: &'a Config,
}

const MARK: &str = "-j KUBE-MARK-MASQ";

impl Rules<'_> {
    /// The rules of a Service's ports.
    pub(crate) fn of(&self, ports: &[ServicePort]) -> ServiceRules {
        let mut rules = ServiceRules::default();
        for port in ports {
            self.internal(port, &mut rules);
            if port.is_external() {
                self.external(port, &mut rules);
            }
            self.chains(port, &mut rules);
        }
        rules
    }

    fn internal(&self, port: &ServicePort, rules: &mut ServiceRules) {
        let ServicePort { name, .. } = port;
        let to = destination(port, port.cluster_ip);
        if !port.internal_endpoints().is_empty() {
            let chain = internal_chain(port);
            rules.shared.push((Shared::Services, format!("{}{to} -j {chain}", comment(name, "cluster IP"))));
            return;
        }
        let (why, target) = if port.cluster_endpoints.is_empty() {
            ("has no endpoints", "REJECT")
        } else {
            ("has no local endpoints", "DROP")
        };
        rules.shared.push((Shared::Refused, format!("{}{to} -j {target}", comment(name, why))));
    }

    fn external(&self, port: &ServicePort, rules: &mut ServiceRules) {
        let name = &port.name;
        let usable = !port.cluster_endpoints.is_empty() || !port.external_endpoints().is_empty();
        let refusal = match (usable, port.external_endpoints().is_empty()) {
            (false, _) => Some(("has no endpoints", "REJECT")),
            (true, true) => Some(("has no local endpoints", "DROP")),
            (true, false) => None,
        };
        for ip in port.external_ips.iter().chain(&port.load_balancer_ips) {
            let is_balancer = port.load_balancer_ips.contains(ip);
            let what = if is_balancer { "loadbalancer IP" } else { "external IP" };
            let to = destination(port, *ip);
            if usable {
                let chain = if is_balancer { balancer_chain(port) } else { service_chain("KUBE-EXT-", port) };
                rules.shared.push((Shared::Services, format!("{}{to} -j {chain}", comment(name, what))));
            }
            if let Some((why, target)) = refusal {
                rules.shared.push((Shared::ExternalRefused, format!("{}{to} -j {target}", comment(name, why))));
            }
            if usable && is_balancer && !port.source_ranges.is_empty() {
                let why = format!("traffic not accepted by {}", balancer_chain(port));
                rules.shared.push((Shared::Firewall, format!("{}{to} -j DROP", comment(name, &why))));
            }
        }
        self.node_port(port, usable, refusal, rules);
    }

    fn node_port(&self, port: &ServicePort, usable: bool, refusal: Option<(&str, &str)>, rules: &mut ServiceRules) {
        let Some(number) = port.node_port else { return };
        let ServicePort { name, protocol, .. } = port;
        let at = format!("-m {protocol} -p {protocol} --dport {number}");
        if usable {
            let chain = service_chain("KUBE-EXT-", port);
            let line = format!("-m comment --comment {name} {at} -j {chain}");
            rules.shared.push((Shared::NodePorts, line));
        }
        if let Some((why, target)) = refusal {
            let line = format!("{}-m addrtype --dst-type LOCAL {at} -j {target}", comment(name, why));
            rules.shared.push((Shared::ExternalRefused, line));
        }
        if let Some(check) = port.health_check_node_port {
            let line = format!("{}-m tcp -p tcp --dport {check} -j ACCEPT", comment(name, "health check node port"));
            if !rules.shared.contains(&(Shared::HealthChecks, line.clone())) {
                rules.shared.push((Shared::HealthChecks, line));
            }
        }
    }

    fn chains(&self, port: &ServicePort, rules: &mut ServiceRules) {
        let needs_local = (port.internal_local || port.external_local) && !port.local_endpoints.is_empty();
        if !port.cluster_endpoints.is_empty() {
            let chain = service_chain("KUBE-SVC-", port);
            rules.own.push((chain, self.balance(port, &port.cluster_endpoints, !port.internal_local)));
        }
        if needs_local {
            let chain = service_chain("KUBE-SVL-", port);
            rules.own.push((chain, self.balance(port, &port.local_endpoints, port.internal_local)));
        }
        if port.is_external() && !(port.cluster_endpoints.is_empty() && port.external_endpoints().is_empty()) {
            rules.own.push((service_chain("KUBE-EXT-", port), self.external_chain(port)));
            if !port.load_balancer_ips.is_empty() && !port.source_ranges.is_empty() {
                rules.own.push((service_chain("KUBE-FW-", port), firewall_chain(port)));
            }
        }
        let mut all: Vec<&Endpoint> = port.cluster_endpoints.iter().chain(&port.local_endpoints).collect();
        all.sort();
        all.dedup();
        rules.own.extend(all.into_iter().map(|e| (endpoint_chain(port, e), endpoint_rules(port, e))));
    }

    /// Masquerading for the cluster IP, then a choice among endpoints with equal chances.
    fn balance(&self, port: &ServicePort, endpoints: &[Endpoint], serves_cluster_ip: bool) -> Vec<String> {
        let mut lines = Vec::new();
        if serves_cluster_ip {
            lines.extend(self.cluster_ip_masquerade(port));
        }
        for endpoint in endpoints.iter().filter(|_| port.affinity_seconds.is_some()) {
            let chain = endpoint_chain(port, endpoint);
            let seconds = port.affinity_seconds.unwrap_or_default();
            lines.push(format!(
                "{}-m recent --name {chain} --rcheck --seconds {seconds} --reap -j {chain}",
                arrow(port, endpoint)
            ));
        }
        for (at, endpoint) in endpoints.iter().enumerate() {
            let mut line = arrow(port, endpoint);
            let left = endpoints.len() - at;
            if left > 1 {
                let chance = 1.0 / left as f64;
                write!(line, "-m statistic --mode random --probability {chance:.10} ")
                    .expect("a String takes every write");
            }
            lines.push(format!("{line}-j {}", endpoint_chain(port, endpoint)));
        }
        lines
    }

    fn cluster_ip_masquerade(&self, port: &ServicePort) -> Option<String> {
        let to = destination(port, port.cluster_ip);
        let what = comment(&port.name, "cluster IP");
        if self.config.masquerade_all {
            return Some(format!("{what}{to} {MARK}"));
        }
        self.config.cluster_cidr.map(|cidr| format!("{what}{to} ! -s {cidr} {MARK}"))
    }

    fn external_chain(&self, port: &ServicePort) -> Vec<String> {
        let name = &port.name;
        let cluster = service_chain("KUBE-SVC-", port);
        let say = |text: String| format!("-m comment --comment \"{text}\" ");
        if !port.external_local {
            let all = say(format!("masquerade traffic for {name} external destinations"));
            return vec![format!("{all}{MARK}"), format!("-j {cluster}")];
        }
        let mut lines = Vec::new();
        if !port.cluster_endpoints.is_empty() {
            let pods = self
                .config
                .cluster_cidr
                .map(|cidr| (cidr, say(format!("pod traffic for {name} external destinations"))));
            lines.extend(pods.map(|(cidr, what)| format!("{what}-s {cidr} -j {cluster}")));
            let own = say(format!("masquerade LOCAL traffic for {name} external destinations"));
            lines.push(format!("{own}-m addrtype --src-type LOCAL {MARK}"));
            let own = say(format!("route LOCAL traffic for {name} external destinations"));
            lines.push(format!("{own}-m addrtype --src-type LOCAL -j {cluster}"));
        }
        if !port.local_endpoints.is_empty() {
            lines.push(format!("-j {}", service_chain("KUBE-SVL-", port)));
        }
        lines
    }
}

/// The chain behind the cluster IP.
fn internal_chain(port: &ServicePort) -> String {
    service_chain(if port.internal_local { "KUBE-SVL-" } else { "KUBE-SVC-" }, port)
}

/// The chain behind a load balancer's address.
fn balancer_chain(port: &ServicePort) -> String {
    service_chain(if port.source_ranges.is_empty() { "KUBE-EXT-" } else { "KUBE-FW-" }, port)
}

fn firewall_chain(port: &ServicePort) -> Vec<String> {
    let external = service_chain("KUBE-EXT-", port);
    let what = comment(&port.name, "loadbalancer IP");
    let from = |range: &Ipv4Net| format!("{what}-s {range} -j {external}");
    let mut lines: Vec<String> = port.source_ranges.iter().map(from).collect();
    // A client behind the load balancer's own address comes back to itself: its source is that address.
    lines.extend(port.load_balancer_ips.iter().map(|ip| format!("{what}-s {ip} -j {external}")));
    lines.push(
        comment(&format!("other traffic to {}", port.name), "will be dropped by KUBE-PROXY-FIREWALL")
            .trim_end()
            .to_owned(),
    );
    lines
}

fn endpoint_rules(port: &ServicePort, endpoint: &Endpoint) -> Vec<String> {
    let ServicePort { name, protocol, .. } = port;
    let Endpoint { ip, port: number } = endpoint;
    let affinity = match port.affinity_seconds {
        Some(_) => format!("-m recent --name {} --set ", endpoint_chain(port, endpoint)),
        None => String::new(),
    };
    vec![
        // A pod that reaches itself through the Service has to see another source.
        format!("-m comment --comment {name} -s {ip} {MARK}"),
        format!(
            "-m comment --comment {name} {affinity}-m {protocol} -p {protocol} -j DNAT --to-destination {ip}:{number}"
        ),
    ]
}

fn destination(port: &ServicePort, ip: Ipv4Addr) -> String {
    let ServicePort { protocol, port: number, .. } = port;
    format!("-m {protocol} -p {protocol} -d {ip} --dport {number}")
}

fn comment(name: &str, what: &str) -> String {
    format!("-m comment --comment \"{name} {what}\" ")
}

fn arrow(port: &ServicePort, endpoint: &Endpoint) -> String {
    format!("-m comment --comment \"{} -> {}:{}\" ", port.name, endpoint.ip, endpoint.port)
}

#[cfg(test)]
mod tests;
