//! What services are given, and when it comes back.

use std::collections::BTreeSet;
use std::time::Duration;

use daemon::Drain;
use futures::FutureExt as _;
use serde_json::json;

use super::*;
use crate::registry::Config;
use crate::registry::tests::{Answer, Server, server, servers_of, servers_with};

const SERVICES: &str = "/api/v1/namespaces/n/services";
const BLOCKS: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

fn service(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    if spec.get("ports").is_none() {
        spec["ports"] = json!([{"port": 80}]);
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

async fn make(server: &Server, name: &str, spec: &Value) -> Answer {
    server.create(SERVICES, &service(name, spec)).await
}

async fn block(server: &Server, name: &str, cidr: &str) {
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name}, "spec": {"cidrs": [cidr]},
    });
    assert_eq!(server.create(BLOCKS, &object).await.code, 201);
    // A write is taken from when it has arrived.
    server.list(BLOCKS).await;
}

/// The address objects, as name and parent.
async fn held(server: &Server) -> Vec<String> {
    let list = server.list(ADDRESSES).await.body;
    let shown = |object: &Value| {
        let parent = &object["spec"]["parentRef"];
        format!("{} {}/{}", object["metadata"]["name"], parent["namespace"], parent["name"]).replace('"', "")
    };
    list["items"].as_array().unwrap().iter().map(shown).collect()
}

fn ip(made: &Answer) -> String {
    assert_eq!(made.code, 201, "{}", made.body);
    made.body["spec"]["clusterIP"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn addresses_are_given_out_once_and_come_back() {
    let server = server().await;
    block(&server, "kubernetes", "10.96.0.0/28").await;
    let mut ips = BTreeSet::new();
    for number in 0..14 {
        ips.insert(ip(&make(&server, &format!("s{number}"), &json!({})).await));
    }
    assert_eq!(ips.len(), 14, "all different, network and broadcast left out: {ips:?}");
    assert_eq!(held(&server).await.len(), 14);
    let full = make(&server, "t", &json!({})).await;
    assert_eq!(full.code, 500);
    let message = full.body["message"].as_str().unwrap();
    assert!(message.contains("failed to allocate a serviceIP for Service \"t\": range is full"), "{message}");
    let third = server.get(&format!("{SERVICES}/s3")).await.body["spec"]["clusterIP"].clone();
    assert_eq!(server.delete(&format!("{SERVICES}/s3"), &json!({})).await.code, 200);
    assert_eq!(held(&server).await.len(), 13, "it went with its service");
    assert_eq!(json!(ip(&make(&server, "t", &json!({})).await)), third);
}

#[tokio::test]
async fn an_address_is_an_object_of_its_service() {
    let server = server().await;
    let address = ip(&make(&server, "s", &json!({})).await);
    let object = server.get(&format!("{ADDRESSES}/{address}")).await.body;
    let labels = json!({
        "ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    });
    assert_eq!(object["metadata"]["labels"], labels);
    assert_eq!(object["spec"], json!({"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}));
    for headless in [json!({"clusterIP": "None"}), json!({"type": "ExternalName", "externalName": "x.example.com"})] {
        assert_eq!(make(&server, "h", &headless).await.code, 201);
        server.delete(&format!("{SERVICES}/h"), &json!({})).await;
    }
    assert_eq!(held(&server).await, [format!("{address} n/s")]);
    let options = json!({}).to_string();
    server.send(crate::request::Verb::DeleteCollection, SERVICES, &[], &options).await;
    assert_eq!(held(&server).await, [""; 0]);
}

#[tokio::test]
async fn asked_addresses_are_checked() {
    let server = server().await;
    let asked = json!({"clusterIP": "10.96.0.1"});
    let made = make(&server, "s", &asked).await.body;
    assert_eq!(made["spec"]["clusterIPs"], json!(["10.96.0.1"]));
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(made["spec"]["ipFamilyPolicy"], "SingleStack");
    let message = async |spec| {
        let refused = make(&server, "t", &spec).await;
        assert_eq!(refused.code, 422, "{}", refused.body);
        refused.body["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        message(asked).await,
        "Service \"t\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.1\"]: failed to allocate IP 10.96.0.1: provided IP is already allocated"
    );
    for outside in ["10.0.0.1", "10.96.0.0", "10.96.255.255"] {
        let why = "the provided network does not match the current range";
        assert!(message(json!({"clusterIP": outside})).await.ends_with(why), "{outside}");
    }
    let nameless = server.create(SERVICES, &service("", &json!({}))).await;
    let text = nameless.body["message"].as_str().unwrap();
    let start = "Service \"\" is invalid: spec.clusterIPs: Invalid value: [\"\"]: failed to allocate IP: IPAddress.networking.k8s.io \"10.96.";
    assert!(text.starts_with(start) && text.ends_with("\" is invalid: spec.parentRef.name: Required value"), "{text}");
}

#[tokio::test]
async fn a_refused_write_and_a_dry_run_keep_nothing() {
    let server = server().await;
    let refused = make(&server, "s", &json!({"clusterIP": "10.96.0.9", "ports": [{"port": 0}]})).await;
    assert_eq!((refused.code, held(&server).await), (422, Vec::new()));
    make(&server, "s", &json!({"clusterIP": "10.96.0.9"})).await;
    let again = make(&server, "s", &json!({"clusterIP": "10.96.0.8"})).await;
    assert_eq!((again.code, held(&server).await), (409, vec!["10.96.0.9 n/s".to_owned()]));
    let dry = async |spec: &Value| server.create(&format!("{SERVICES}?dryRun=All"), &service("d", spec)).await;
    assert_eq!(ip(&dry(&json!({})).await), "10.96.0.0", "a dry run is told the block's own");
    assert_eq!(ip(&dry(&json!({"clusterIP": "10.96.0.9"})).await), "10.96.0.9", "and does not look");
    let outside = dry(&json!({"clusterIP": "10.0.0.1"})).await.body["message"].to_string();
    let why = "the provided IP (10.0.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16";
    assert!(outside.contains(why), "{outside}");
    let ports =
        dry(&json!({"type": "NodePort", "ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "b"}]})).await.body;
    assert_eq!(
        (&ports["spec"]["ports"][0]["nodePort"], &ports["spec"]["ports"][1]["nodePort"]),
        (&json!(32769), &json!(32770))
    );
    assert_eq!(held(&server).await.len(), 1);
    let deleted = server.send(crate::request::Verb::Delete, &format!("{SERVICES}/s?dryRun=All"), &[], "").await;
    assert_eq!((deleted.code, held(&server).await.len()), (200, 1));
}

#[tokio::test]
async fn another_block_extends_the_range_while_it_is_ready() {
    let server = server().await;
    block(&server, "kubernetes", "10.96.0.0/29").await;
    for number in 0..6 {
        ip(&make(&server, &format!("s{number}"), &json!({})).await);
    }
    assert_eq!(make(&server, "t", &json!({})).await.code, 500);
    block(&server, "more", "10.97.0.0/24").await;
    block(&server, "six", "2001:db8::/112").await;
    assert!(ip(&make(&server, "t", &json!({})).await).starts_with("10.97.0."));
    assert_eq!(ip(&make(&server, "u", &json!({"clusterIP": "10.97.0.5"})).await), "10.97.0.5");
    let status = json!({"status": {"conditions": [{
        "type": "Ready", "status": "False", "reason": "Terminating", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}});
    assert_eq!(server.patch(&format!("{BLOCKS}/more/status"), "merge", &status).await.code, 200);
    server.list(BLOCKS).await;
    assert_eq!(make(&server, "v", &json!({})).await.code, 500);
    let asked = make(&server, "v", &json!({"clusterIP": "10.97.0.6"})).await;
    assert!(asked.body["message"].as_str().unwrap().contains("does not match the current range"), "{}", asked.body);
    assert_eq!(server.delete(&format!("{SERVICES}/u"), &json!({})).await.code, 200);
    assert!(!held(&server).await.iter().any(|one| one.starts_with("10.97.0.5 ")), "it comes back from any block");
}

#[tokio::test]
async fn an_update_takes_and_gives_back() {
    let server = server().await;
    let one = format!("{SERVICES}/s");
    make(&server, "s", &json!({"type": "ExternalName", "externalName": "x.example.com"})).await;
    let inner = json!({"spec": {"type": "ClusterIP", "externalName": null}});
    let wrong = json!({"spec": {"type": "ClusterIP", "externalName": null, "sessionAffinity": "Bad"}});
    assert_eq!(server.patch(&one, "merge", &wrong).await.code, 422);
    assert_eq!(held(&server).await, [""; 0], "a refused update keeps nothing");
    let dry = server.patch(&format!("{one}?dryRun=All"), "merge", &inner).await;
    assert_eq!((dry.code, held(&server).await.len()), (200, 0));
    let patched = server.patch(&one, "merge", &inner).await.body;
    let address = patched["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert_eq!(held(&server).await, [format!("{address} n/s")]);
    let named = json!({"spec": {"type": "ExternalName", "externalName": "x.example.com", "clusterIP": null, "clusterIPs": null}});
    let patched = server.patch(&one, "merge", &named).await;
    assert_eq!(patched.code, 200, "{}", patched.body);
    assert_eq!(held(&server).await, [""; 0]);
}

#[tokio::test]
async fn a_preferred_policy_keeps_no_address_of_another_type() {
    let server = server().await;
    let address = ip(&make(&server, "s", &json!({"ipFamilyPolicy": "PreferDualStack"})).await);
    let one = format!("{SERVICES}/s");
    let patched = async |spec| server.patch(&one, "merge", &json!({"spec": spec})).await;
    assert_eq!(patched(json!({"type": "NodePort"})).await.body["spec"]["clusterIP"], json!(address));
    assert_eq!(held(&server).await, [format!("{address} n/s")]);
    let named = patched(json!({"type": "ExternalName", "externalName": "x.example.com"})).await;
    assert_eq!(named.code, 200, "{}", named.body);
    assert_eq!(held(&server).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_one_store_never_give_an_address_twice() {
    let servers = servers_with(2, Vec::new()).await;
    block(&servers[0], "kubernetes", "10.96.0.0/26").await;
    servers[1].list(BLOCKS).await;
    let makes = (0..62).map(|number| {
        let server = &servers[number % 2];
        async move { ip(&make(server, &format!("s{number}"), &json!({})).await) }
    });
    let ips = futures::future::join_all(makes).await;
    assert_eq!(ips.iter().collect::<BTreeSet<_>>().len(), 62, "{ips:?}");
    assert_eq!(held(&servers[0]).await.len(), 62);
    let asked = json!({"clusterIP": ips[0]});
    assert_eq!(make(&servers[1], "t", &asked).await.code, 422);
    assert_eq!(servers[1].delete(&format!("{SERVICES}/s0"), &json!({})).await.code, 200);
    assert_eq!(ip(&make(&servers[0], "t", &asked).await), ips[0]);
}

#[tokio::test]
async fn a_request_that_is_given_up_keeps_no_address() {
    let server = server().await;
    let services = services(&server);
    let mut object = service("s", &json!({"type": "NodePort"}));
    object["metadata"]["namespace"] = json!("n");
    drop(services.begin_create(&mut object, false).await.unwrap());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !held(&server).await.is_empty() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while !services.ports.in_use().await.is_empty() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_a_write_took_stays_until_it_is_known_not_to_be_stored() {
    let server = server().await;
    let services = services(&server);
    let begin = async |name: &str, ip: &str| {
        let mut object = service(name, &json!({"type": "NodePort", "clusterIP": ip}));
        object["metadata"]["namespace"] = json!("n");
        let pending = services.begin_create(&mut object, false).await.unwrap();
        (pending, int(&list(at(&object, "spec"), "ports")[0], "nodePort"))
    };
    let mut kept = Vec::new();

    let (mut unanswered, port) = begin("a", "10.96.0.1").await;
    assert!(unanswered.send(std::future::pending::<Result<(), store::Error>>()).now_or_never().is_none());
    drop(unanswered);
    kept.push(port);

    let unknown = [
        store::Error::Unavailable { operation: "put", reason: "answer lost".into() },
        store::Error::ReadOnly { reason: "disk".into() },
        store::Error::Closed,
    ];
    for (error, ip) in unknown.into_iter().zip(["10.96.0.2", "10.96.0.3", "10.96.0.4"]) {
        let (mut lost, port) = begin("b", ip).await;
        lost.send(async { Err::<(), _>(error) }).await.unwrap_err();
        lost.undo().await;
        kept.push(port);
    }

    let key = store::Key::new(["n", "c"]).unwrap();
    let refusals = [
        store::Error::Conflict { key: key.clone(), current: None },
        store::Error::NotFound { key: key.clone(), revision: 1 },
        store::Error::TooLarge { key, bytes: 2, limit: 1 },
        store::Error::TransactionTooLarge { bytes: 2, limit: 1 },
        store::Error::Full,
    ];
    for error in refusals {
        let (mut refused, _) = begin("c", "10.96.0.9").await;
        refused.send(async { Err::<(), _>(error) }).await.unwrap_err();
        refused.undo().await;
    }
    assert_eq!(held(&server).await, ["10.96.0.1 n/a", "10.96.0.2 n/b", "10.96.0.3 n/b", "10.96.0.4 n/b"]);
    let mut kept: Vec<u16> = kept.into_iter().map(|port| u16::try_from(port).unwrap()).collect();
    kept.sort_unstable();
    assert_eq!(services.ports.in_use().await, kept);
}

#[tokio::test]
async fn an_address_that_has_gone_to_another_service_stays() {
    let servers = servers_with(2, Vec::new()).await;
    let services = services(&servers[1]);
    let parent = |name: &str| Parent { namespace: "n".to_owned(), name: name.to_owned() };
    // The other server's cache may not have any of these yet.
    let ips: Vec<IpAddr> = (1..=20).map(|last| IpAddr::from([10, 96, 0, last])).collect();
    for ip in &ips {
        make(&servers[0], &format!("s{ip}").replace('.', "-"), &json!({"clusterIP": ip})).await;
        services.pool.give_back(&[*ip], &parent("before")).await;
    }
    assert_eq!(held(&servers[0]).await.len(), ips.len());
    for ip in &ips {
        services.pool.give_back(&[*ip], &parent(&format!("s{ip}").replace('.', "-"))).await;
    }
    assert_eq!(held(&servers[0]).await, [""; 0], "its own service gives it back");
}

/// The steps of services over the objects and the ports of a server.
fn services(server: &Server) -> Services {
    let (ports, store) = (30_000..=32_767, server.store.clone());
    let ranges = "10.96.0.0/16".parse::<ipnet::IpNet>().unwrap().into();
    let services = Services::new(ranges, ports, store, Tasks::new(Drain::never()));
    let registry: Arc<dyn Objects> = server.registry.clone();
    services.bind(Arc::downgrade(&registry));
    services
}

async fn create(services: &Services, spec: &Value) -> Result<Value, Status> {
    let mut object = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec});
    services.begin_create(&mut object, false).await?.commit().await;
    Ok(object)
}

#[tokio::test]
async fn node_ports_follow_the_type() {
    let server = server().await;
    let services = services(&server);
    let ports = json!([{"port": 53, "protocol": "TCP", "name": "t"}, {"port": 53, "protocol": "UDP", "name": "u"}]);
    let made = create(&services, &json!({"type": "NodePort", "ports": ports})).await.unwrap();
    let node_port = made["spec"]["ports"][0]["nodePort"].clone();
    assert_eq!(made["spec"]["ports"][1]["nodePort"], node_port, "one number for both protocols");

    // The same document again keeps the numbers.
    let mut same = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"type": "NodePort", "ports": ports}});
    services.begin_update(&mut same, &made, false).await.unwrap().commit().await;
    assert_eq!(same["spec"]["ports"], made["spec"]["ports"]);
    assert_eq!(same["spec"]["clusterIP"], made["spec"]["clusterIP"]);

    let mut inner = made.clone();
    inner["spec"]["type"] = json!("ClusterIP");
    services.begin_update(&mut inner, &made, false).await.unwrap().commit().await;
    let asked = json!([{"port": 1, "nodePort": node_port, "protocol": "TCP"}]);
    let reused = create(&services, &json!({"type": "NodePort", "ports": asked})).await;
    assert!(reused.is_ok(), "the number came back: {reused:?}");
    let outside = json!([{"port": 1, "nodePort": 80, "protocol": "TCP"}]);
    let outside = create(&services, &json!({"type": "NodePort", "ports": outside})).await.unwrap_err();
    assert_eq!(
        outside.message,
        "Service \"s\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"
    );
}

#[tokio::test]
async fn a_local_load_balancer_has_a_health_check_port() {
    let server = server().await;
    let services = services(&server);
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 1}]});
    let made = create(&services, &spec).await.unwrap();
    assert!(made["spec"]["healthCheckNodePort"].as_i64().unwrap() >= 30_000);
    let mut named = made.clone();
    named["spec"]["type"] = json!("ExternalName");
    services.begin_update(&mut named, &made, false).await.unwrap().commit().await;
    assert_eq!(services.ports.in_use().await, [0_u16; 0], "all came back");
    assert!(held(&server).await.is_empty());
}

async fn dual_server() -> Server {
    let ranges = ServiceRanges::dual("10.96.0.0/16".parse().unwrap(), "fd00:96::/112".parse().unwrap()).unwrap();
    servers_of(1, Vec::new(), &Config { service_ips: ranges, ..Config::default() }).await.remove(0)
}

fn ips(answer: &Answer) -> Vec<String> {
    let spec = &answer.body["spec"];
    let ips: Vec<String> = texts(spec, "clusterIPs").map(str::to_owned).collect();
    assert_eq!(ips.first().map(String::as_str), spec["clusterIP"].as_str(), "{}", answer.body);
    ips
}

#[tokio::test]
async fn a_service_of_two_families_has_an_address_of_each() {
    let server = dual_server().await;
    let one = format!("{SERVICES}/s");
    let patched = async |spec: Value| server.patch(&one, "merge", &json!({"spec": spec})).await;
    let all = |ips: &[String]| ips.iter().map(|ip| format!("{ip} n/s")).collect::<Vec<_>>();

    let single = ips(&make(&server, "s", &json!({})).await);
    assert_eq!((single.len(), held(&server).await), (1, all(&single)));
    let wanted = json!({"spec": {"ipFamilyPolicy": "RequireDualStack"}});
    let dry = server.patch(&format!("{one}?dryRun=All"), "merge", &wanted).await;
    assert_eq!((ips(&dry).len(), held(&server).await), (2, all(&single)), "a dry run takes nothing");
    let both = ips(&patched(json!({"ipFamilyPolicy": "RequireDualStack"})).await);
    assert!(both[0] == single[0] && both[1].starts_with("fd00:96::"), "{both:?}");
    assert_eq!(held(&server).await, all(&both));
    let wrong = patched(json!({"ipFamilyPolicy": "SingleStack", "sessionAffinity": "Bad"})).await;
    assert_eq!((wrong.code, held(&server).await), (422, all(&both)), "a refused change gives nothing up");
    let again = ips(&patched(json!({"ipFamilyPolicy": "SingleStack"})).await);
    assert_eq!((&again, held(&server).await), (&single, all(&single)));
    let asked = json!({"ipFamilyPolicy": "PreferDualStack", "clusterIPs": [single[0], "fd00:96::77"]});
    assert_eq!(ips(&patched(asked).await)[1], "fd00:96::77");
    let named = patched(json!({"type": "ExternalName", "externalName": "x.example.com"})).await;
    assert_eq!((named.code, held(&server).await.len()), (200, 0), "{}", named.body);
    let inner = json!({"type": "ClusterIP", "externalName": null, "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "RequireDualStack"});
    let both = ips(&patched(inner).await);
    assert!(both[0].starts_with("fd00:96::") && both[1].starts_with("10.96."), "{both:?}");
    assert_eq!(server.delete(&one, &json!({})).await.code, 200);
    assert_eq!(held(&server).await, [""; 0]);
}

#[tokio::test]
async fn what_was_taken_goes_back_when_the_other_address_cannot_be_had() {
    let server = dual_server().await;
    assert_eq!(make(&server, "first", &json!({"clusterIP": "fd00:96::5"})).await.code, 201);
    let both = json!({
        "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00:96::5"], "ipFamilyPolicy": "RequireDualStack",
    });
    let refused = make(&server, "s", &both).await;
    let message = refused.body["message"].as_str().unwrap();
    let expected = "Service \"s\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.5\",\"fd00:96::5\"]: failed to allocate IP fd00:96::5: provided IP is already allocated";
    assert_eq!((refused.code, message), (422, expected));
    assert_eq!(held(&server).await, ["fd00:96::5 n/first"]);
}
