//! Which endpoints a port may use.

use serde_json::{Value, json};

use super::*;

/// A Service `default/web` with this spec.
pub(crate) fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec})).unwrap()
}

/// A slice of the port `http`, 8080, with these endpoints: address, node, conditions.
pub(crate) fn slice(endpoints: &[(&str, &str, Value)]) -> Arc<EndpointSlice> {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(ip, node, conditions)| json!({"addresses": [ip], "nodeName": node, "conditions": conditions}))
        .collect();
    let slice = json!({
        "metadata": {"name": "web-1"}, "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    });
    Arc::new(serde_json::from_value(slice).unwrap())
}

fn addresses(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(|e| e.ip.to_string()).collect()
}

#[test]
fn ready_endpoints_come_before_those_that_end() {
    let spec = json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"name": "http", "port": 80}]});
    let ending = json!({"ready": false, "serving": true, "terminating": true});
    let cases = [
        (
            vec![("10.1.0.1", "a", json!({"ready": true})), ("10.1.0.2", "b", ending.clone())],
            vec!["10.1.0.1"],
            vec!["10.1.0.1"],
        ),
        (
            vec![("10.1.0.1", "b", json!({"ready": true})), ("10.1.0.2", "a", ending.clone())],
            vec!["10.1.0.1"],
            vec!["10.1.0.2"],
        ),
        (vec![("10.1.0.1", "b", json!({"ready": false}))], vec![], vec![]),
        (vec![("10.1.0.2", "a", ending)], vec!["10.1.0.2"], vec!["10.1.0.2"]),
    ];
    for (endpoints, cluster, local) in cases {
        let found = ports(&service(spec.clone()), &[slice(&endpoints)], "a");
        assert_eq!(addresses(&found[0].cluster_endpoints), cluster, "{endpoints:?}");
        assert_eq!(addresses(&found[0].local_endpoints), local, "{endpoints:?}");
    }
}

#[test]
fn services_that_others_serve_have_no_ports() {
    let port = json!([{"name": "http", "port": 80}]);
    for spec in [
        json!({"clusterIP": "None", "ports": port}),
        json!({"type": "ExternalName", "externalName": "x"}),
        json!({"clusterIP": "fd00::1", "ports": port}),
    ] {
        assert_eq!(ports(&service(spec), &[], "a"), []);
    }
    let mut other = service(json!({"clusterIP": "10.96.0.7", "ports": port}));
    other.metadata.labels = Some([(LABEL_PROXY_NAME.to_owned(), "x".to_owned())].into());
    assert_eq!(ports(&other, &[], "a"), []);
}

#[test]
fn names_and_policies_are_read() {
    let spec = json!({
        "clusterIP": "10.96.0.7", "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local", "type": "NodePort",
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}],
    });
    let found = ports(&service(spec), &[], "a");
    assert_eq!(found[0].name, "default/web:http");
    assert_eq!(
        (found[0].node_port, found[0].external_local, found[0].affinity_seconds),
        (Some(30080), true, Some(10_800))
    );
    assert_eq!((found[1].name.as_str(), found[1].protocol.as_str()), ("default/web", "udp"));
}

#[test]
fn a_port_has_the_endpoints_of_its_protocol() {
    let with = |protocol: &str| {
        let port = json!([{"name": "http", "port": 80, "protocol": protocol}]);
        let found = ports(
            &service(json!({"clusterIP": "10.96.0.7", "ports": port})),
            &[slice(&[("10.1.0.1", "a", json!({}))])],
            "a",
        );
        addresses(&found[0].cluster_endpoints)
    };
    assert_eq!(with("TCP"), ["10.1.0.1"]);
    assert_eq!(with("UDP"), [] as [&str; 0], "the slice is older than the service");
}

#[test]
fn nothing_leads_to_this_nodes_own_loopback() {
    let spec = json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]});
    let all = ["127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", "255.255.255.255", "10.1.0.1"];
    let endpoints: Vec<_> = all.iter().map(|ip| (*ip, "a", json!({}))).collect();
    let ports = ports(&service(spec), &[slice(&endpoints)], "a");
    assert_eq!(addresses(&ports[0].cluster_endpoints), ["10.1.0.1"]);
}

#[test]
fn endpoints_that_are_meant_for_here_are_used() {
    let spec = json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]});
    // Address, node, zone, readiness; without a zone no hint.
    type Given = (&'static str, &'static str, &'static str, bool);
    let slice_of = |given: &[Given], nodes: bool| {
        let endpoint = |(ip, node, zone, ready): &Given| {
            let mut hints = json!({"forZones": [{"name": zone}]});
            if nodes {
                hints["forNodes"] = json!([{"name": node}]);
            }
            let hints = if zone.is_empty() { Value::Null } else { hints };
            json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": ready}, "hints": hints})
        };
        let mut slice = (*slice(&[])).clone();
        let endpoints: Vec<Value> = given.iter().map(endpoint).collect();
        slice.endpoints = serde_json::from_value(json!(endpoints)).unwrap();
        Arc::new(slice)
    };
    let (a, b, c) = (("10.1.0.1", "a", "x", true), ("10.1.0.2", "b", "x", true), ("10.1.0.3", "c", "y", true));
    let all = ["10.1.0.1", "10.1.0.2", "10.1.0.3"];
    for (given, nodes, place, expected) in [
        (vec![a, b, c], false, ("a", "x"), vec!["10.1.0.1", "10.1.0.2"]),
        (vec![a, b, c], false, ("d", "z"), all.to_vec()),
        (vec![a, b, c], false, ("a", ""), all.to_vec()),
        (vec![a, b, c], true, ("a", "x"), vec!["10.1.0.1"]),
        (vec![a, b, c], true, ("d", "y"), vec!["10.1.0.3"]),
        (vec![a, b, ("10.1.0.3", "c", "", true)], false, ("a", "x"), all.to_vec()),
        (vec![a, b, ("10.1.0.3", "c", "", false)], false, ("a", "x"), vec!["10.1.0.1", "10.1.0.2"]),
        (vec![("10.1.0.1", "a", "x", false), b, c], true, ("a", "x"), vec!["10.1.0.2"]),
    ] {
        let place = Place { node: place.0, zone: place.1 };
        let found = ports(&service(spec.clone()), &[slice_of(&given, nodes)], place);
        assert_eq!(addresses(&found[0].cluster_endpoints), expected, "{given:?} {nodes} {place:?}");
    }
}
