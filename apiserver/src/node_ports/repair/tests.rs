//! What is recorded at start, and what goes.

use serde_json::json;

use super::super::bitmap::Ports;
use super::super::{NodePorts, Refused};
use super::*;
use crate::registry::tests::{Server, server};

const PATH: &str = "/api/v1/namespaces/n/services";
const RANGE: RangeInclusive<u16> = 30_000..=32_767;

fn repair(server: &Server, range: RangeInclusive<u16>, alone: bool) -> Repair {
    let handle = Handle::default();
    handle.bind(server.registry.clone());
    Repair::new(handle, server.store.clone(), range, alone)
}

async fn service(server: &Server, name: &str, node_port: u16) {
    let object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": node_port}]},
    });
    let made = server.create(PATH, &object).await;
    assert_eq!(made.code, 201, "{}", made.body);
}

/// Writes what is said to be in use, whoever has it.
async fn record(server: &Server, range: RangeInclusive<u16>, numbers: &[u16]) {
    let mut ports = Ports::new(range);
    numbers.iter().for_each(|port| assert!(ports.take(*port)));
    let place = Place::new(server.store.clone());
    let revision = place.read().await.unwrap().map(|record| record.revision);
    place.write(&ports, revision).await.unwrap();
}

async fn in_use(server: &Server) -> Vec<u16> {
    let record = Place::new(server.store.clone()).read().await.unwrap().unwrap();
    record.ports.iter().collect()
}

async fn told(server: &Server) -> Vec<String> {
    let list = server.list("/api/v1/events").await.body;
    let shown = |event: &Value| {
        assert_eq!(event["reportingComponent"], CONTROLLER, "{event}");
        assert_eq!(event["action"], "PortAllocation", "{event}");
        format!("{} {}", event["involvedObject"]["name"], event["reason"]).replace('"', "")
    };
    let mut all: Vec<String> = list["items"].as_array().unwrap().iter().map(shown).collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn a_port_that_is_not_recorded_comes_back_and_is_told_of_once() {
    let server = server().await;
    service(&server, "a", 30_001).await;
    service(&server, "b", 30_002).await;
    record(&server, RANGE, &[30_002]).await;
    service(&server, "c", 30_001).await;
    let mut repair = repair(&server, RANGE, false);
    record(&server, RANGE, &[30_002]).await;
    repair.catch_up().await;
    assert_eq!(in_use(&server).await, [30_001, 30_002]);
    let expected = ["a PortNotAllocated", "c PortAlreadyAllocated"];
    assert_eq!(told(&server).await, expected);
    repair.look(plan::LEAK_ROUNDS).await.unwrap();
    assert_eq!(told(&server).await, expected);
}

#[tokio::test]
async fn a_port_of_nobody_goes_at_once_when_nobody_can_be_writing() {
    let server = server().await;
    service(&server, "a", 30_001).await;
    record(&server, RANGE, &[30_001, 30_007]).await;
    let mut shared = repair(&server, RANGE, false);
    shared.catch_up().await;
    assert_eq!(in_use(&server).await, [30_001, 30_007], "another server may be in the middle of a write");
    shared.look(plan::LEAK_ROUNDS).await.unwrap();
    assert_eq!(in_use(&server).await, [30_001, 30_007]);
    shared.look(plan::LEAK_ROUNDS).await.unwrap();
    assert_eq!(in_use(&server).await, [30_001]);
    record(&server, RANGE, &[30_001, 30_007]).await;
    repair(&server, RANGE, true).catch_up().await;
    assert_eq!(in_use(&server).await, [30_001]);
    assert!(told(&server).await.is_empty());
}

/// As a server that is started with another flag.
#[tokio::test]
async fn another_range_counts_from_the_repair_on() {
    let server = server().await;
    service(&server, "a", 30_001).await;
    service(&server, "b", 32_000).await;
    let range = 30_000..=30_099;
    let ports = NodePorts::new(server.store.clone(), range.clone(), &daemon::Tasks::new(Drain::never()));
    let refusal = ports.take(vec![30_002]).await.unwrap_err();
    assert!(matches!(refusal.why, Refused::Mismatched), "{refusal:?}");
    repair(&server, range, false).catch_up().await;
    assert_eq!(in_use(&server).await, [30_001]);
    assert_eq!(told(&server).await, ["b PortOutOfRange"]);
    assert_eq!(ports.take(vec![30_002]).await.unwrap().keep(), [30_002]);
    assert_eq!(in_use(&server).await, [30_001, 30_002]);
}
