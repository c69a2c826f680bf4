//! What is put right at start, and afterwards.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use daemon::Tasks;
use serde_json::json;

use super::*;
use crate::admission::{Attributes, Operation, Plugin};
use crate::registry::tests::{Server, server, server_with};

const SERVICES: &str = "/api/v1/namespaces/n/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

/// Refuses the next writes of address objects.
#[derive(Default)]
struct Refusing {
    creates: AtomicUsize,
    deletes: AtomicUsize,
}

#[async_trait]
impl Plugin for Refusing {
    fn name(&self) -> &'static str {
        "Refusing"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is(GROUP, "ipaddresses")
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let left = match attributes.operation {
            Operation::Create => &self.creates,
            Operation::Delete => &self.deletes,
            _ => return Ok(()),
        };
        let refused = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if refused { Err(Status::internal("not now")) } else { Ok(()) }
    }
}

fn repair(server: &Server, alone: bool) -> Repair {
    let handle = Handle::default();
    handle.bind(server.registry.clone());
    Repair::new(handle, "10.96.0.0/16".parse::<IpNet>().unwrap().into(), alone)
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
    let held_now = held(&server).await;
    assert_eq!(held_now, ["10.96.0.1 gateway", "10.96.0.11 none", "10.96.0.21 bare"], "its write may be under way");
    repair(&server, true).catch_up().await;
    assert_eq!(held(&server).await, ["10.96.0.1 gateway", "10.96.0.11 nobody", "10.96.0.21 bare"]);
    let mut told = told(&server).await;
    // The object may be looked at before its service is.
    told.retain(|one| !one.starts_with("10.96.0.11 "));
    assert_eq!(
        told,
        [
            "gateway ClusterIPNotAllocated",
            "nobody ClusterIPNotAllocated",
            "outside ClusterIPOutOfRange",
            "outside ClusterIPOutOfRange"
        ]
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

/// A service that has become another type has given its address up, and nothing happens to the address any more.
#[tokio::test]
async fn an_address_that_could_not_be_given_back_goes() {
    let refusing = Arc::new(Refusing::default());
    let server = server_with(vec![refusing.clone()]).await;
    let tasks = Tasks::new(Drain::never());
    service(&server, "s", "10.96.0.1").await;
    service(&server, "t", "10.96.0.2").await;
    server.list(ADDRESSES).await;
    server.list(SERVICES).await;
    let mut repair = repair(&server, false);
    repair.patience = SignedDuration::ZERO;
    repair.catch_up().await;
    tasks.spawn("repair", repair.run(Drain::never()));
    refusing.deletes.store(1, Ordering::SeqCst);
    let named = json!({"spec": {
        "type": "ExternalName", "externalName": "x.example.com", "clusterIP": null, "clusterIPs": null,
    }});
    let patched = server.patch(&format!("{SERVICES}/s"), "merge", &named).await;
    assert_eq!((patched.code, refusing.deletes.load(Ordering::SeqCst)), (200, 0), "{}", patched.body);
    let deadline = Instant::now() + Duration::from_secs(20);
    while held(&server).await != ["10.96.0.2 t"] {
        assert!(Instant::now() < deadline, "{:?}", held(&server).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(told(&server).await, ["10.96.0.1 IPAddressWrongReference"]);
}

#[tokio::test]
async fn the_start_waits_until_every_address_in_use_has_its_object() {
    let refusing = Arc::new(Refusing::default());
    let server = server_with(vec![refusing.clone()]).await;
    for number in 1..=3 {
        let ip = format!("10.96.0.{number}");
        service(&server, &format!("s{number}"), &ip).await;
        remove(&server, &ip).await;
    }
    server.list(ADDRESSES).await;
    refusing.creates.store(5, Ordering::SeqCst);
    repair(&server, false).catch_up().await;
    assert_eq!(held(&server).await, ["10.96.0.1 s1", "10.96.0.2 s2", "10.96.0.3 s3"]);
}

/// Of two services with one address whose object is nobody's, one gets it, and the other one must not take it for its own.
#[tokio::test]
async fn an_object_that_another_service_gets_meanwhile_is_its() {
    let server = server().await;
    let tasks = Tasks::new(Drain::never());
    for name in ["a", "b"] {
        service(&server, name, "10.96.0.1").await;
        remove(&server, "10.96.0.1").await;
    }
    address(&server, "10.96.0.1", json!({"group": "g.example.com", "resource": "gateways", "name": "g"}), json!({}))
        .await;
    server.list(ADDRESSES).await;
    let mut repair = repair(&server, false);
    repair.catch_up().await;
    tasks.spawn("repair", repair.run(Drain::never()));
    let deadline = Instant::now() + Duration::from_secs(20);
    let told_of_both = async || {
        let told = told(&server).await;
        told.iter().filter(|one| one.ends_with("ClusterIPAlreadyAllocated")).count()
    };
    while told_of_both().await == 0 {
        assert!(Instant::now() < deadline, "{:?}", told(&server).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let holder = held(&server).await.remove(0);
    let (holder, other) = if holder.ends_with('a') { ("a", "b") } else { ("b", "a") };
    assert!(told(&server).await.contains(&format!("{other} ClusterIPAlreadyAllocated")));
    assert_eq!(server.delete(&format!("{SERVICES}/{holder}"), &json!({})).await.code, 200);
    while held(&server).await != [format!("10.96.0.1 {other}")] {
        assert!(Instant::now() < deadline, "{:?}", held(&server).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
