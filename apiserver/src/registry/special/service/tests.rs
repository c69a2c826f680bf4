//! What services are given, and when it comes back.

use serde_json::json;

use super::*;

fn services() -> Services {
    Services::new("10.96.0.0/28".parse().unwrap(), 30_000..=30_009)
}

fn service(spec: Value) -> Value {
    json!({"metadata": {"name": "s"}, "spec": spec})
}

async fn create(services: &Services, mut object: Value) -> Result<Value, Status> {
    services.begin_create(&mut object, false).await?.commit();
    Ok(object)
}

#[tokio::test]
async fn addresses_are_given_out_once_and_come_back() {
    let services = services();
    let mut made = Vec::new();
    for _ in 0..14 {
        made.push(create(&services, service(json!({"type": "ClusterIP"}))).await.unwrap());
    }
    let mut ips: Vec<&str> = made.iter().map(|s| s["spec"]["clusterIP"].as_str().unwrap()).collect();
    ips.sort_unstable();
    ips.dedup();
    assert_eq!(ips.len(), 14, "all different, network and broadcast left out");
    let full = create(&services, service(json!({"type": "ClusterIP"}))).await.unwrap_err();
    assert!(full.message.contains("failed to allocate a serviceIP for Service \"s\": range is full"), "{full:?}");
    services.deleted(&made[3]);
    let again = create(&services, service(json!({"type": "ClusterIP"}))).await.unwrap();
    assert_eq!(again["spec"]["clusterIP"], made[3]["spec"]["clusterIP"]);
}

#[tokio::test]
async fn asked_addresses_are_checked() {
    let services = services();
    let asked = service(json!({"type": "ClusterIP", "clusterIP": "10.96.0.1"}));
    let made = create(&services, asked.clone()).await.unwrap();
    assert_eq!(made["spec"]["clusterIPs"], json!(["10.96.0.1"]));
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(made["spec"]["ipFamilyPolicy"], "SingleStack");
    let taken = create(&services, asked).await.unwrap_err();
    assert_eq!(
        taken.message,
        "Service \"s\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.1\"]: failed to allocate IP 10.96.0.1: provided IP is already allocated"
    );
    let outside = service(json!({"type": "ClusterIP", "clusterIP": "10.0.0.1"}));
    let outside = create(&services, outside).await.unwrap_err();
    assert!(outside.message.contains("the provided network does not match the current range"), "{outside:?}");
    let headless = create(&services, service(json!({"type": "ClusterIP", "clusterIP": "None"}))).await.unwrap();
    assert_eq!(headless["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    let named = create(&services, service(json!({"type": "ExternalName"}))).await.unwrap();
    assert!(named["spec"].get("clusterIP").is_none());
}

#[tokio::test]
async fn a_refused_write_and_a_dry_run_keep_nothing() {
    let services = services();
    let asked = service(json!({"type": "ClusterIP", "clusterIP": "10.96.0.1"}));
    drop(services.begin_create(&mut asked.clone(), false).await.unwrap());
    services.begin_create(&mut asked.clone(), true).await.unwrap().commit();
    create(&services, asked).await.unwrap();
}

#[tokio::test]
async fn node_ports_follow_the_type() {
    let services = services();
    let ports = json!([{"port": 53, "protocol": "TCP", "name": "t"}, {"port": 53, "protocol": "UDP", "name": "u"}]);
    let made = create(&services, service(json!({"type": "NodePort", "ports": ports}))).await.unwrap();
    let node_port = made["spec"]["ports"][0]["nodePort"].clone();
    assert_eq!(made["spec"]["ports"][1]["nodePort"], node_port, "one number for both protocols");

    // The same document again keeps the numbers.
    let mut same = service(json!({"type": "NodePort", "ports": ports}));
    services.begin_update(&mut same, &made, false).await.unwrap().commit();
    assert_eq!(same["spec"]["ports"], made["spec"]["ports"]);
    assert_eq!(same["spec"]["clusterIP"], made["spec"]["clusterIP"]);

    let mut inner = made.clone();
    inner["spec"]["type"] = json!("ClusterIP");
    services.begin_update(&mut inner, &made, false).await.unwrap().commit();
    let asked = json!([{"port": 1, "nodePort": node_port, "protocol": "TCP"}]);
    let reused = create(&services, service(json!({"type": "NodePort", "ports": asked}))).await;
    assert!(reused.is_ok(), "the number came back: {reused:?}");
    let outside = json!([{"port": 1, "nodePort": 80, "protocol": "TCP"}]);
    let outside = create(&services, service(json!({"type": "NodePort", "ports": outside}))).await.unwrap_err();
    assert_eq!(
        outside.message,
        "Service \"s\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-30009"
    );
}

#[tokio::test]
async fn a_local_load_balancer_has_a_health_check_port() {
    let services = services();
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 1}]});
    let made = create(&services, service(spec)).await.unwrap();
    assert!(made["spec"]["healthCheckNodePort"].as_i64().unwrap() >= 30_000);
    let mut named = made.clone();
    named["spec"]["type"] = json!("ExternalName");
    services.begin_update(&mut named, &made, false).await.unwrap().commit();
    let fresh = format!("{:?}", self::services().allocations.lock());
    assert_eq!(format!("{:?}", services.allocations.lock()), fresh, "all came back");
}
