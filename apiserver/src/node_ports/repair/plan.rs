//! Which ports are in use by what the services say, and what upstream's repair says of the difference: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use api::Value;
use kinds::tree::{at, int, list, text};

use super::super::bitmap::Ports;
use super::super::record;
use crate::addresses::Warning;

/// How often a port without a service is left alone before it goes: a write takes its ports before it is stored.
pub(super) const LEAK_ROUNDS: u8 = 2;

/// What is wrong with one port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    NotAllocated,
    Duplicate,
    OutOfRange,
}

impl Fault {
    /// What the service's owner is told.
    pub(super) fn warning(self, port: i64, range: &RangeInclusive<u16>) -> Warning {
        let (reason, message) = match self {
            Self::NotAllocated => ("PortNotAllocated", format!("Port {port} is not allocated; repairing")),
            Self::Duplicate => (
                "PortAlreadyAllocated",
                format!("Port {port} was assigned to multiple services; please recreate service"),
            ),
            Self::OutOfRange => {
                let range = record::shown(range);
                let message = format!("Port {port} is not within the port range {range}; please recreate service");
                ("PortOutOfRange", message)
            }
        };
        Warning { reason: reason.to_owned(), action: Some("PortAllocation"), message }
    }
}

/// What a look finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Those in use, by services or by writes that may be under way.
    pub(super) ports: Ports,
    /// By the service's place in the list.
    pub(super) faults: Vec<(usize, i64, Fault)>,
    /// How often each port without a service will be left alone.
    pub(super) leaks: BTreeMap<u16, u8>,
    /// Those that are nobody's.
    pub(super) freed: Vec<u16>,
}

/// `stored` is None at the very first look. `patience` is how often a port without a service is left alone.
pub(super) fn plan(
    range: &RangeInclusive<u16>,
    stored: Option<&Ports>,
    services: &[Arc<Value>],
    leaks: &BTreeMap<u16, u8>,
    patience: u8,
) -> Plan {
    let mut ports = Ports::new(range.clone());
    let mut faults = Vec::new();
    for (place, service) in services.iter().enumerate() {
        for number in numbers(service) {
            let fault = match u16::try_from(number).ok().filter(|port| range.contains(port)) {
                None => Some(Fault::OutOfRange),
                Some(port) if !ports.take(port) => Some(Fault::Duplicate),
                Some(port) => stored.is_some_and(|stored| !stored.has(port)).then_some(Fault::NotAllocated),
            };
            faults.extend(fault.map(|fault| (place, number, fault)));
        }
    }
    let is_lost = |port: &u16| range.contains(port) && !ports.has(*port);
    let lost: Vec<u16> = stored.into_iter().flat_map(Ports::iter).filter(is_lost).collect();
    let mut plan = Plan { ports, faults, leaks: BTreeMap::new(), freed: Vec::new() };
    for port in lost {
        match leaks.get(&port).copied().unwrap_or(patience) {
            0 => plan.freed.push(port),
            left => {
                plan.ports.take(port);
                plan.leaks.insert(port, left - 1);
            }
        }
    }
    plan
}

/// The ports of a service. One number for two protocols is one; one number twice for a protocol is two.
fn numbers(service: &Value) -> Vec<i64> {
    let spec = at(service, "spec");
    let mut seen: BTreeSet<(i64, &str)> = BTreeSet::new();
    let mut numbers = Vec::new();
    for port in list(spec, "ports") {
        let number = int(port, "nodePort");
        let known = numbers.contains(&number);
        let is_twice = !seen.insert((number, text(port, "protocol")));
        if number != 0 && (!known || is_twice) {
            numbers.push(number);
        }
    }
    let health = int(spec, "healthCheckNodePort");
    if health != 0 && (!numbers.contains(&health) || seen.contains(&(health, "TCP"))) {
        numbers.push(health);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RANGE: RangeInclusive<u16> = 30_000..=30_099;

    fn service(ports: &[(&str, i64)], health: i64) -> Arc<Value> {
        let ports: Vec<Value> =
            ports.iter().map(|(protocol, port)| json!({"port": 1, "protocol": protocol, "nodePort": port})).collect();
        Arc::new(json!({"spec": {"ports": ports, "healthCheckNodePort": health}}))
    }

    fn ports(numbers: &[u16]) -> Ports {
        let mut ports = Ports::new(RANGE);
        numbers.iter().for_each(|port| assert!(ports.take(*port)));
        ports
    }

    #[test]
    fn faults_are_upstreams() {
        let services = [
            service(&[("TCP", 30_001), ("UDP", 30_001), ("TCP", 0)], 30_002),
            service(&[("TCP", 30_003), ("TCP", 30_001), ("TCP", 80)], 0),
            service(&[("TCP", 30_004), ("TCP", 30_004)], 30_004),
            service(&[("UDP", 30_005)], 30_005),
        ];
        let found = plan(&RANGE, Some(&ports(&[30_001, 30_002, 30_005])), &services, &BTreeMap::new(), LEAK_ROUNDS);
        let expected = [
            (1, 30_003, Fault::NotAllocated),
            (1, 30_001, Fault::Duplicate),
            (1, 80, Fault::OutOfRange),
            (2, 30_004, Fault::NotAllocated),
            (2, 30_004, Fault::Duplicate),
            (2, 30_004, Fault::Duplicate),
        ];
        assert_eq!(found.faults, expected);
        assert_eq!(found.ports, ports(&[30_001, 30_002, 30_003, 30_004, 30_005]));
        let told: Vec<(String, String)> = [Fault::NotAllocated, Fault::Duplicate, Fault::OutOfRange]
            .into_iter()
            .map(|fault| fault.warning(80, &RANGE))
            .map(|warning| (warning.reason, warning.message))
            .collect();
        let expected = [
            ("PortNotAllocated", "Port 80 is not allocated; repairing"),
            ("PortAlreadyAllocated", "Port 80 was assigned to multiple services; please recreate service"),
            ("PortOutOfRange", "Port 80 is not within the port range 30000-30099; please recreate service"),
        ];
        assert_eq!(told, expected.map(|(reason, message)| (reason.to_owned(), message.to_owned())));
        let first = plan(&RANGE, None, &services, &BTreeMap::new(), LEAK_ROUNDS);
        assert!(first.faults.iter().all(|(_, _, fault)| *fault != Fault::NotAllocated), "nothing was recorded yet");
    }

    #[test]
    fn a_port_of_nobody_goes_after_some_rounds() {
        let stored = ports(&[30_001, 30_002]);
        let services = [service(&[("TCP", 30_001)], 0)];
        let mut leaks = BTreeMap::new();
        for round in 0..LEAK_ROUNDS {
            let found = plan(&RANGE, Some(&stored), &services, &leaks, LEAK_ROUNDS);
            assert_eq!((found.ports, found.freed), (stored.clone(), Vec::new()), "{round}");
            leaks = found.leaks;
        }
        let used = plan(&RANGE, Some(&stored), &[service(&[("TCP", 30_002)], 0)], &leaks, LEAK_ROUNDS);
        assert_eq!(used.leaks, BTreeMap::from([(30_001, LEAK_ROUNDS - 1)]), "it has come into use");
        let found = plan(&RANGE, Some(&stored), &services, &leaks, LEAK_ROUNDS);
        assert_eq!((found.ports, found.freed), (ports(&[30_001]), vec![30_002]));
        let alone = plan(&RANGE, Some(&stored), &services, &BTreeMap::new(), 0);
        assert_eq!(alone.freed, [30_002]);
    }

    #[test]
    fn another_range_is_taken_over() {
        let mut stored = Ports::new(29_900..=30_010);
        [29_950, 30_001].into_iter().for_each(|port| assert!(stored.take(port)));
        let services = [service(&[("TCP", 29_950), ("TCP", 30_001)], 0)];
        let found = plan(&RANGE, Some(&stored), &services, &BTreeMap::new(), LEAK_ROUNDS);
        assert_eq!((found.ports, found.faults), (ports(&[30_001]), vec![(0, 29_950, Fault::OutOfRange)]));
        assert_eq!(found.leaks, BTreeMap::new());
    }
}
