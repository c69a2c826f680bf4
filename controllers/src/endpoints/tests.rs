//! Tables of subsets.

use serde_json::{Value, json};

use super::*;

fn service(more: Value) -> Service {
    let mut value = json!({"metadata": {"name": "web", "namespace": "ns", "labels": {"a": "b"}},
        "spec": {"clusterIP": "10.96.0.5", "selector": {"app": "a"}, "ports": [
            {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"},
            {"name": "admin", "port": 81, "targetPort": 9000, "protocol": "TCP"}]}});
    json_patch::merge(&mut value, &more);
    serde_json::from_value(value).unwrap()
}

fn pod(number: usize, ready: bool) -> Arc<Pod> {
    let value = json!({"metadata": {"name": format!("p{number}"), "namespace": "ns", "uid": number.to_string()},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.0.{}.{}", number / 200, number % 200 + 1)}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
    Arc::new(serde_json::from_value(value).unwrap())
}

#[test]
fn what_is_written() {
    let trigger = Timestamp::from_second(1_700_000_000).unwrap();
    let wanted = plan(&service(json!({})), &[pod(1, true), pod(2, false)], None, Some(trigger)).unwrap();
    insta::assert_json_snapshot!(wanted);
    assert!(plan(&service(json!({})), &[pod(1, true), pod(2, false)], Some(&wanted), None).is_none());
    let none = plan(&service(json!({})), &[], Some(&wanted), None).unwrap();
    assert!(none.subsets.is_none() && !none.metadata.annotations.unwrap().contains_key(TRIGGER_TIME));
}

#[test]
fn headless_services_need_no_ports() {
    let headless = service(json!({"spec": {"clusterIP": "None", "ports": null}}));
    let wanted = plan(&headless, &[pod(1, true)], None, None).unwrap();
    let subset = &wanted.subsets.unwrap()[0];
    assert!(subset.ports.is_none() && subset.addresses.as_ref().unwrap().len() == 1);
    assert_eq!(wanted.metadata.labels.unwrap()[HEADLESS], "");
}

#[test]
fn capacity_is_limited() {
    let pods: Vec<_> = (0..1200).map(|number| pod(number, number < 900)).collect();
    let wanted = plan(&service(json!({})), &pods, None, None).unwrap();
    let subset = &wanted.subsets.as_ref().unwrap()[0];
    let counts = [&subset.addresses, &subset.not_ready_addresses].map(|it| it.as_ref().map_or(0, Vec::len));
    assert_eq!(counts, [900, 100]);
    assert_eq!(wanted.metadata.annotations.as_ref().unwrap()[OVER_CAPACITY], "truncated");
    assert!(plan(&service(json!({})), &pods, Some(&wanted), None).is_none());
    assert!(plan(&service(json!({})), &pods[..5], Some(&wanted), None).is_some());
}
