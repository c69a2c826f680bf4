//! Whole rules of Services, as the tables get them.

use serde_json::{Value, json};

use super::*;
use crate::track::{
    ports,
    tests::{service, slice},
};

fn config() -> Config {
    Config {
        node_name: "a".to_owned(),
        cluster_cidr: Some("10.244.0.0/16".parse().unwrap()),
        masquerade_all: false,
        healthz_bind_address: "127.0.0.1:0".parse().unwrap(),
        localhost_nodeports: true,
        nodeport_addresses: Vec::new(),
    }
}

fn text(spec: Value, endpoints: &[(&str, &str, Value)]) -> String {
    let ports = ports(&service(spec), &[slice(endpoints)], "a");
    let rules = Rules { config: &config() }.of(&ports);
    let shared = rules.shared.iter().map(|(s, line)| format!("{}/{} {line}", s.chain().0.name(), s.chain().1));
    let own = rules.own.iter().flat_map(|(chain, lines)| lines.iter().map(move |line| format!("{chain} {line}")));
    shared.chain(own).collect::<Vec<_>>().join("\n")
}

fn ready(ip: &'static str, node: &'static str) -> (&'static str, &'static str, Value) {
    (ip, node, json!({"ready": true}))
}

#[test]
fn cluster_ip() {
    let spec = json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]});
    let endpoints = [ready("10.244.0.2", "a"), ready("10.244.1.2", "b")];
    insta::assert_snapshot!(text(spec, &endpoints));
}

#[test]
fn node_port_with_affinity_and_local_traffic() {
    let spec = json!({
        "clusterIP": "10.96.0.7", "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000,
        "sessionAffinity": "ClientIP", "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
    });
    let endpoints = [ready("10.244.0.2", "a"), ready("10.244.1.2", "b")];
    insta::assert_snapshot!(text(spec, &endpoints));
}

#[test]
fn external_addresses_without_local_endpoints() {
    let spec = json!({
        "clusterIP": "10.96.0.7", "type": "NodePort", "externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.9"],
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
    });
    insta::assert_snapshot!(text(spec, &[ready("10.244.1.2", "b")]));
}

#[test]
fn no_endpoints() {
    let spec = json!({"clusterIP": "10.96.0.7", "type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    insta::assert_snapshot!(text(spec, &[]));
}

#[test]
fn load_balancer_with_source_ranges() {
    let mut service = service(json!({
        "clusterIP": "10.96.0.7", "type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24"],
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
    }));
    service.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.50"}]}})).unwrap();
    let endpoints = [ready("10.244.0.2", "a")];
    let ports = ports(&service, &[slice(&endpoints)], "a");
    let rules = Rules { config: &config() }.of(&ports);
    let shared: Vec<String> =
        rules.shared.iter().map(|(s, l)| format!("{} {l}", s.chain().1)).filter(|l| l.contains("192.0.2.50")).collect();
    insta::assert_snapshot!(shared.join("\n"));
}

#[test]
fn a_load_balancer_without_endpoints_refuses_at_once() {
    let mut service = service(json!({
        "clusterIP": "10.96.0.7", "type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24"],
        "ports": [{"name": "http", "port": 80}],
    }));
    service.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.50"}]}})).unwrap();
    let rules = Rules { config: &config() }.of(&ports(&service, &[], "a"));
    let chains: Vec<Shared> = rules.shared.iter().map(|(shared, _)| *shared).collect();
    assert_eq!(chains, [Shared::Refused, Shared::ExternalRefused]);
}

#[test]
fn chain_names_are_upstreams() {
    let spec = json!({"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]});
    let mut kubernetes = service(spec);
    kubernetes.metadata.name = Some("kubernetes".to_owned());
    let found = ports(&kubernetes, &[], "a");
    assert_eq!(service_chain("KUBE-SVC-", &found[0]), "KUBE-SVC-NPX46M4PTMTKRN6Y");
}
