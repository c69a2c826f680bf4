//! The cluster's zone: a question to its records, by the Kubernetes DNS specification. Pure.

use std::net::IpAddr;

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT},
};

use crate::index::{Endpoint, Entry, Index, Port, Reverse, Target};

/// The version of the specification that the zone follows.
const SPECIFICATION: &str = "1.1.0";
const TTL_SECONDS: u32 = 30;
const NEGATIVE_TTL_SECONDS: u32 = 5;

/// What is known about a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Records; none means that the name exists without records of that type.
    Found(Found),
    /// The name does not exist.
    NoSuchName,
    /// The name is not the cluster's.
    NotOurs,
    /// An alias of a name that is not the cluster's: the record, and what still has to be asked.
    Alias(Box<Record>, Name),
}

/// Records for the answer's sections.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) answers: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

impl Found {
    fn of(answers: Vec<Record>) -> Answer {
        Answer::Found(Self { answers, additionals: Vec::new() })
    }

    fn nothing() -> Answer {
        Answer::Found(Self::default())
    }
}

/// The zone of one cluster domain over an index.
pub(crate) struct Zone<'a> {
    pub(crate) domain: &'a Name,
    pub(crate) index: &'a Index,
}

impl Zone<'_> {
    /// Answers a question.
    pub(crate) fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        if !self.domain.zone_of(name) {
            return self.reverse(name, kind);
        }
        // Not `num_labels`, which does not count a `*` in front.
        let below = name.iter().count().saturating_sub(self.domain.iter().count());
        let labels: Vec<String> =
            name.iter().take(below).map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match labels.as_slice() {
            [] => self.apex(name, kind),
            ["dns-version"] => text(name, kind),
            ["svc" | "pod"] => Found::nothing(),
            ["dns", "ns"] | ["ns"] => Found::nothing(),
            [rest @ .., namespace, "svc"] => self.services(name, kind, namespace, rest),
            [rest @ .., namespace, "pod"] => self.pods(name, kind, namespace, rest),
            _ => Answer::NoSuchName,
        }
    }

    /// The record that goes with a negative answer.
    pub(crate) fn authority(&self) -> Record {
        let nameserver = self.below(&["ns", "dns"]);
        let mailbox = self.below(&["hostmaster"]);
        let soa = SOA::new(nameserver, mailbox, 1, 7200, 1800, 86400, NEGATIVE_TTL_SECONDS);
        Record::from_rdata(self.domain.clone(), NEGATIVE_TTL_SECONDS, RData::SOA(soa))
    }

    fn apex(&self, name: &Name, kind: RecordType) -> Answer {
        match kind {
            RecordType::SOA => Found::of(vec![self.authority()]),
            RecordType::NS => Found::of(vec![record(name, RData::NS(NS(self.below(&["ns", "dns"]))))]),
            _ => Found::nothing(),
        }
    }

    fn services(&self, name: &Name, kind: RecordType, namespace: &str, rest: &[&str]) -> Answer {
        let Some((service, front)) = rest.split_last() else {
            return exists(self.index.has_namespace(namespace));
        };
        let Some(entry) = self.index.service(namespace, service) else {
            return Answer::NoSuchName;
        };
        let service_name = self.below(&[service, namespace, "svc"]);
        match front {
            [] => self.service(name, kind, &entry),
            [port, protocol] if port.starts_with('_') && protocol.starts_with('_') => {
                srv(name, kind, &entry, &service_name, &port[1..], &protocol[1..])
            }
            [protocol] if protocol.starts_with('_') => exists(all_ports(&entry).any(|p| p.protocol == protocol[1..])),
            [label] => endpoint(name, kind, &entry, label),
            _ => Answer::NoSuchName,
        }
    }

    fn service(&self, name: &Name, kind: RecordType, entry: &Entry) -> Answer {
        match &entry.target {
            Target::Virtual(ips) => Found::of(ips.iter().filter_map(|ip| address(name, kind, *ip)).collect()),
            Target::Endpoints(endpoints) if endpoints.is_empty() => Answer::NoSuchName,
            Target::Endpoints(endpoints) => {
                let mut ips: Vec<IpAddr> = endpoints.iter().map(|e| e.ip).collect();
                ips.dedup();
                Found::of(ips.into_iter().filter_map(|ip| address(name, kind, ip)).collect())
            }
            Target::External(target) => self.alias(name, kind, target),
        }
    }

    /// An external name that is the cluster's is followed here, once: aliases of aliases are the client's.
    fn alias(&self, name: &Name, kind: RecordType, target: &str) -> Answer {
        let Ok(target) = Name::from_utf8(format!("{}.", target.trim_end_matches('.'))) else {
            return Answer::NoSuchName;
        };
        let alias = record(name, RData::CNAME(CNAME(target.clone())));
        if kind == RecordType::CNAME {
            return Found::of(vec![alias]);
        }
        if !self.domain.zone_of(&target) {
            return Answer::Alias(Box::new(alias), target);
        }
        let mut answers = vec![alias];
        if target != *name
            && let Answer::Found(found) = self.answer_no_alias(&target, kind)
        {
            answers.extend(found.answers);
        }
        Found::of(answers)
    }

    fn answer_no_alias(&self, name: &Name, kind: RecordType) -> Answer {
        let labels: Vec<String> = name.iter().map(|l| String::from_utf8_lossy(l).to_ascii_lowercase()).collect();
        let external = labels.get(1).zip(labels.first()).and_then(|(ns, svc)| self.index.service(ns, svc));
        if external.is_some_and(|entry| matches!(entry.target, Target::External(_))) {
            return Found::nothing();
        }
        self.answer(name, kind)
    }

    /// `10-1-2-3.namespace.pod`: answered for every address, as CoreDNS does for `pods insecure`.
    fn pods(&self, name: &Name, kind: RecordType, namespace: &str, rest: &[&str]) -> Answer {
        if !self.index.has_namespace(namespace) {
            return Answer::NoSuchName;
        }
        match rest {
            [] => Found::nothing(),
            [label] => match undashed(label) {
                Some(ip) => Found::of(address(name, kind, ip).into_iter().collect()),
                None => Answer::NoSuchName,
            },
            _ => Answer::NoSuchName,
        }
    }

    fn reverse(&self, name: &Name, kind: RecordType) -> Answer {
        let Some(ip) = name.parse_arpa_name().ok().filter(|net| net.prefix_len() == net.max_prefix_len()) else {
            return Answer::NotOurs;
        };
        let names = self.index.names(ip.addr());
        if names.is_empty() {
            return Answer::NotOurs;
        }
        if kind != RecordType::PTR {
            return Found::nothing();
        }
        let pointers = names.iter().map(|target| record(name, RData::PTR(PTR(self.name_of(target)))));
        Found::of(pointers.collect())
    }

    fn name_of(&self, reverse: &Reverse) -> Name {
        let (namespace, service) = &reverse.service;
        let labels = reverse.label.iter().map(String::as_str).chain([service, namespace, "svc"]);
        self.below(&labels.collect::<Vec<_>>())
    }

    fn below(&self, labels: &[&str]) -> Name {
        let name = Name::from_labels(labels.iter().map(|l| l.as_bytes())).unwrap_or_default();
        name.append_domain(self.domain).unwrap_or_else(|_| self.domain.clone())
    }
}

fn exists(exists: bool) -> Answer {
    if exists { Found::nothing() } else { Answer::NoSuchName }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL_SECONDS, data)
}

/// None when the address is of the other family.
fn address(name: &Name, kind: RecordType, ip: IpAddr) -> Option<Record> {
    let data = match (ip, kind) {
        (IpAddr::V4(ip), RecordType::A | RecordType::ANY) => RData::A(A(ip)),
        (IpAddr::V6(ip), RecordType::AAAA | RecordType::ANY) => RData::AAAA(AAAA(ip)),
        _ => return None,
    };
    Some(record(name, data))
}

fn text(name: &Name, kind: RecordType) -> Answer {
    if kind != RecordType::TXT {
        return Found::nothing();
    }
    Found::of(vec![record(name, RData::TXT(TXT::new(vec![SPECIFICATION.to_owned()])))])
}

fn endpoint(name: &Name, kind: RecordType, entry: &Entry, label: &str) -> Answer {
    let Target::Endpoints(endpoints) = &entry.target else {
        return Answer::NoSuchName;
    };
    let mut named = endpoints.iter().filter(|e| e.label == label).peekable();
    if named.peek().is_none() {
        return Answer::NoSuchName;
    }
    Found::of(named.filter_map(|e| address(name, kind, e.ip)).collect())
}

fn all_ports(entry: &Entry) -> Box<dyn Iterator<Item = &Port> + '_> {
    match &entry.target {
        Target::Endpoints(endpoints) => Box::new(endpoints.iter().flat_map(|e| &e.ports)),
        _ => Box::new(entry.ports.iter()),
    }
}

fn srv(name: &Name, kind: RecordType, entry: &Entry, service: &Name, port: &str, protocol: &str) -> Answer {
    let matches = |p: &&Port| p.name == port && p.protocol == protocol;
    if !all_ports(entry).any(|p| matches(&p)) {
        return Answer::NoSuchName;
    }
    if kind != RecordType::SRV {
        return Found::nothing();
    }
    let targets: Vec<(u16, Name, Vec<IpAddr>)> = match &entry.target {
        Target::Virtual(ips) => {
            entry.ports.iter().filter(matches).map(|p| (p.number, service.clone(), ips.clone())).collect()
        }
        Target::Endpoints(endpoints) => endpoints.iter().flat_map(|e| endpoint_targets(e, service, &matches)).collect(),
        Target::External(_) => Vec::new(),
    };
    let weight = u16::try_from(100 / targets.len().max(1)).unwrap_or(1).max(1);
    let mut found = Found::default();
    for (number, target, ips) in targets {
        let both = [RecordType::A, RecordType::AAAA];
        found.additionals.extend(ips.iter().flat_map(|ip| both.iter().filter_map(|k| address(&target, *k, *ip))));
        found.answers.push(record(name, RData::SRV(SRV::new(0, weight, number, target))));
    }
    Answer::Found(found)
}

fn endpoint_targets(
    endpoint: &Endpoint,
    service: &Name,
    matches: &dyn Fn(&&Port) -> bool,
) -> Vec<(u16, Name, Vec<IpAddr>)> {
    let target = service.prepend_label(endpoint.label.as_bytes()).unwrap_or_else(|_| service.clone());
    endpoint.ports.iter().filter(matches).map(|p| (p.number, target.clone(), vec![endpoint.ip])).collect()
}

fn undashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4);
    v4.or_else(|| label.replace('-', ":").parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6))
}

#[cfg(test)]
mod tests;
