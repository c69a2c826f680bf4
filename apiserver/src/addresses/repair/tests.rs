//! What is put right at start, and afterwards.

use daemon::Tasks;
use serde_json::json;

use super::*;
use crate::registry::tests::{Server, server};

const SERVICES: &str = "/api/v1/namespaces/n/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

fn repair(server: &Server, alone: bool) -> Repair {
    let handle = Handle::default();
    handle.bind(server.registry.clone());
    Repair::new(handle, "10.96.0.0/16".parse().unwrap(), alone)
}

async fn service(server: &Server, name: &str, ip: &str) {
    let object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"clusterIP": ip, "ports": [{"port": 80}]},
    });
    let made = server.create(SERVICES, &object).await;
    assert_eq!(made.code, 201, "{}", made.body);
}

async fn address(server: &Server, name: &str, parent: Value, labels: Value) {
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": name, "labels": labels},
        "spec": {"parentRef": parent},
    });
    assert_eq!(server.create(ADDRESSES, &object).await.code, 201);
}

async fn remove(server: &Server, name: &str) {
    assert_eq!(server.delete(&format!("{ADDRESSES}/{name}"), &json!({})).await.code, 200);
}

fn own_labels() -> Value {
    super::super::object("10.0.0.1".parse().unwrap(), &parent("")).pointer("/metadata/labels").unwrap().clone()
}

fn parent(name: &str) -> Parent {
    Parent { namespace: "n".to_owned(), name: name.to_owned() }
}

fn of_service(name: &str) -> Value {
    json!({"resource": "services", "namespace": "n", "name": name})
}

/// Every address with the service or other object that it belongs to.
async fn held(server: &Server) -> Vec<String> {
    let list = server.list(ADDRESSES).await.body;
    let shown =
        |object: &Value| format!("{} {}", meta::name(object), object["spec"]["parentRef"]["name"]).replace('"', "");
    list["items"].as_array().unwrap().iter().map(shown).collect()
}

/// The reasons of all events, in order of their objects.
async fn told(server: &Server) -> Vec<String> {
    let list = server.list("/api/v1/events").await.body;
    let mut reasons: Vec<String> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            assert_eq!(event["reportingComponent"], CONTROLLER, "{event}");
            format!("{} {}", event["involvedObject"]["name"], event["reason"]).replace('"', "")
        })
        .collect();
    reasons.sort_unstable();
    reasons
}

/// As a cluster that is older than address objects: its services have none.
#[tokio::test]
async fn services_without_an_object_get_one_at_start() {
    let server = server().await;
    for number in 1..=3 {
        let ip = format!("10.96.0.{number}");
        service(&server, &format!("s{number}"), &ip).await;
        remove(&server, &ip).await;
    }
    service(&server, "t", "10.96.0.4").await;
    server.list(ADDRESSES).await;
    repair(&server, false).catch_up().await;
    assert_eq!(held(&server).await, ["10.96.0.1 s1", "10.96.0.2 s2", "10.96.0.3 s3", "10.96.0.4 t"]);
    let expected = ["s1 ClusterIPNotAllocated", "s2 ClusterIPNotAllocated", "s3 ClusterIPNotAllocated"];
    assert_eq!(told(&server).await, expected);
    repair(&server, false).catch_up().await;
    assert_eq!(told(&server).await, expected, "nothing is wrong any more");
}

#[tokio::test]
async fn an_object_that_is_wrong_is_made_again() {
    let server = server().await;
    let services =
        [("gateway", "10.96.0.1"), ("nobody", "10.96.0.11"), ("bare", "10.96.0.21"), ("outside", "10.96.0.99")];
    for (name, ip) in services {
        service(&server, name, ip).await;
        remove(&server, ip).await;
    }
    address(&server, "10.96.0.1", json!({"group": "g.example.com", "resource": "gateways", "name": "g"}), json!({}))
        .await;
    address(&server, "10.96.0.11", of_service("none"), own_labels()).await;
    address(&server, "10.96.0.21", of_service("bare"), json!({})).await;
    let block = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ["10.96.0.0/27"]},
    });
    server.create("/apis/networking.k8s.io/v1/servicecidrs", &block).await;
    server.list("/apis/networking.k8s.io/v1/servicecidrs").await;
    server.list(ADDRESSES).await;
    repair(&server, false).catch_up().await;
    assert_eq!(held(&server).await, ["10.96.0.1 gateway", "10.96.0.11 nobody", "10.96.0.21 bare"]);
    assert_eq!(
        told(&server).await,
        ["gateway ClusterIPNotAllocated", "nobody ClusterIPNotAllocated", "outside ClusterIPOutOfRange"]
    );
    let labels = server.get(&format!("{ADDRESSES}/10.96.0.21")).await.body["metadata"]["labels"].clone();
    assert_eq!(labels, own_labels());
}

#[tokio::test]
async fn what_a_crash_has_left_behind_goes_when_nobody_can_be_writing() {
    let server = server().await;
    service(&server, "s", "10.96.0.1").await;
    address(&server, "10.96.0.2", of_service("never-stored"), own_labels()).await;
    address(&server, "10.96.0.3", of_service("s"), own_labels()).await;
    address(&server, "10.96.0.4", of_service("never-stored"), json!({"kept": "yes"})).await;
    server.list(ADDRESSES).await;
    let all = ["10.96.0.1 s", "10.96.0.2 never-stored", "10.96.0.3 s", "10.96.0.4 never-stored"];
    repair(&server, false).catch_up().await;
    assert_eq!(held(&server).await, all, "another server may be in the middle of a write");
    // The times of objects are whole seconds.
    let deadline = Instant::now() + Duration::from_secs(10);
    while held(&server).await.len() > 2 {
        assert!(Instant::now() < deadline, "{:?}", held(&server).await);
        repair(&server, true).catch_up().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(held(&server).await, ["10.96.0.1 s", "10.96.0.4 never-stored"]);
    assert_eq!(told(&server).await, ["10.96.0.2 IPAddressNotAllocated", "10.96.0.3 IPAddressWrongReference"]);
}

#[tokio::test]
async fn an_object_that_somebody_removes_comes_back() {
    let server = server().await;
    let tasks = Tasks::new(Drain::never());
    let mut repair = repair(&server, false);
    repair.catch_up().await;
    tasks.spawn("repair", repair.run(Drain::never()));
    service(&server, "s", "10.96.0.1").await;
    service(&server, "t", "10.96.0.2").await;
    remove(&server, "10.96.0.1").await;
    assert_eq!(server.delete(&format!("{SERVICES}/t"), &json!({})).await.code, 200);
    let deadline = Instant::now() + Duration::from_secs(20);
    while held(&server).await != ["10.96.0.1 s"] {
        assert!(Instant::now() < deadline, "{:?}", held(&server).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(told(&server).await, ["s ClusterIPNotAllocated"]);
}

/// Two services with one address, as older releases could make them: one has the object, the other waits for it.
#[tokio::test]
async fn a_service_gets_its_object_once_another_gives_it_up() {
    let server = server().await;
    let tasks = Tasks::new(Drain::never());
    service(&server, "first", "10.96.0.1").await;
    remove(&server, "10.96.0.1").await;
    service(&server, "second", "10.96.0.1").await;
    server.list(ADDRESSES).await;
    let mut repair = repair(&server, false);
    repair.catch_up().await;
    assert_eq!(held(&server).await, ["10.96.0.1 second"]);
    assert_eq!(told(&server).await, ["first ClusterIPAlreadyAllocated"]);
    tasks.spawn("repair", repair.run(Drain::never()));
    assert_eq!(server.delete(&format!("{SERVICES}/second"), &json!({})).await.code, 200);
    let deadline = Instant::now() + Duration::from_secs(20);
    while held(&server).await != ["10.96.0.1 first"] {
        assert!(Instant::now() < deadline, "{:?}", held(&server).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
