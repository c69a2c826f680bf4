//! Tables of requests.

use pki::Profile;
use serde_json::{Value, json};

use super::*;

fn request(signer: &str, usages: &[&str], user: &str, more: Value) -> CertificateSigningRequest {
    let mut value = json!({"metadata": {"name": "r", "creationTimestamp": "2024-01-01T00:00:00Z"}, "spec": {
        "request": "", "signerName": signer, "usages": usages, "username": user}});
    json_patch::merge(&mut value, &more);
    serde_json::from_value(value).unwrap()
}

fn parsed(profile: Profile) -> CertificateRequest {
    CertificateRequest::from_pem(&CertificateRequest::create(&profile).unwrap().0).unwrap()
}

fn node_client() -> CertificateRequest {
    parsed(Profile::client("system:node:one", ["system:nodes"]))
}

fn node_server(names: &[&str]) -> CertificateRequest {
    parsed(Profile::server("system:node:one", names.iter().copied()).organizations(["system:nodes"]))
}

const CLIENT_USAGES: [&str; 2] = ["digital signature", "client auth"];
const SERVER_USAGES: [&str; 2] = ["digital signature", "server auth"];

#[test]
fn kubelets_are_recognized() {
    let permissions = |request: CertificateSigningRequest, parsed: &CertificateRequest| -> Vec<&str> {
        let node = serde_json::from_value(json!({"metadata": {"name": "one"},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}))
        .unwrap();
        recognize(&request, parsed, Some(&node)).into_iter().map(|it| it.permission).collect()
    };
    let client = |user: &str| request(KUBELET_CLIENT, &CLIENT_USAGES, user, json!({}));
    assert_eq!(permissions(client("system:bootstrap:abcdef"), &node_client()), ["nodeclient"]);
    assert_eq!(permissions(client("system:node:one"), &node_client()), ["selfnodeclient", "nodeclient"]);
    let person = parsed(Profile::client("jane", ["system:masters"]));
    assert_eq!(permissions(client("jane"), &person), [""; 0]);
    let server = |user: &str| request(KUBELET_SERVING, &SERVER_USAGES, user, json!({}));
    assert_eq!(permissions(server("system:node:one"), &node_server(&["one", "10.0.0.1"])), ["selfnodeserver"]);
    assert_eq!(permissions(server("system:node:one"), &node_server(&["one", "10.0.0.2"])), [""; 0]);
    assert_eq!(permissions(server("system:node:two"), &node_server(&["one"])), [""; 0]);
}

#[test]
fn signers_check_what_they_sign() {
    let limit = Duration::from_secs(3600);
    let reason = |signer: &str, usages: &[&str], parsed: &CertificateRequest| {
        let request = request(signer, usages, "u", json!({}));
        options(&request, parsed, limit).map(|it| it.err().unwrap_or_default())
    };
    let ok = Some(String::new());
    assert_eq!(reason(KUBELET_CLIENT, &CLIENT_USAGES, &node_client()), ok);
    assert_eq!(reason(KUBELET_SERVING, &SERVER_USAGES, &node_server(&["one"])), ok);
    assert_eq!(reason("example.com/own", &CLIENT_USAGES, &node_client()), None);
    let told = |text: &str| Some(text.to_owned());
    assert_eq!(
        reason(KUBELET_CLIENT, &["server auth"], &node_client()),
        told("usages did not match [client auth digital signature key encipherment]")
    );
    assert_eq!(
        reason(KUBELET_CLIENT, &CLIENT_USAGES, &node_server(&["one"])),
        told("DNS subjectAltNames are not allowed")
    );
    assert_eq!(reason(KUBELET_SERVING, &SERVER_USAGES, &node_client()), told("DNS or IP subjectAltName is required"));
    assert_eq!(
        reason(CLIENT, &["server auth"], &node_client()),
        told("invalid usage for client certificate: server auth")
    );
}

#[test]
fn lifetimes_have_limits() {
    for (asked, expected) in [(json!(null), 3600), (json!(60), 600), (json!(1200), 1200), (json!(99999), 3600)] {
        let request = request(LEGACY, &CLIENT_USAGES, "u", json!({"spec": {"expirationSeconds": asked}}));
        let options = options(&request, &node_client(), Duration::from_secs(3600)).unwrap().unwrap();
        assert_eq!(options.lifetime.as_secs(), expected);
    }
}

#[test]
fn old_requests_go() {
    let now = |hours: i64| "2024-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours);
    let condition = |type_: &str| json!({"type": type_, "status": "True", "lastUpdateTime": "2024-01-01T00:00:00Z"});
    let issued = json!({"status": {"certificate": "eA==", "conditions": [condition("Approved")]}});
    let approved = json!({"status": {"conditions": [condition("Approved")]}});
    let denied = json!({"status": {"conditions": [condition("Denied")]}});
    for (more, hours) in [(json!({}), 24), (issued, 1), (approved, 24), (denied, 1)] {
        let request = request(CLIENT, &[], "u", more);
        assert_eq!(age(&request, now(hours)), Age::Old);
        assert_eq!(age(&request, now(hours - 1)), Age::Young(Duration::from_secs(3600)));
    }
}

#[test]
fn decisions_are_final() {
    let mut it = request(KUBELET_CLIENT, &CLIENT_USAGES, "system:node:one", json!({}));
    assert!(!is_decided(&it) && !is_signable(&it));
    approve(&mut it, &SELF_CLIENT, Timestamp::from_second(0).unwrap());
    assert!(is_decided(&it) && is_signable(&it));
    fail(&mut it, "why", Time(Timestamp::from_second(0).unwrap()));
    assert!(!is_signable(&it));
}

#[test]
fn pods_requests_go_after_a_quarter_of_an_hour() {
    let request: PodCertificateRequest = serde_json::from_value(json!({
        "metadata": {"name": "r", "namespace": "n", "creationTimestamp": "2024-01-01T00:00:00Z"}, "spec": {
            "maxExpirationSeconds": 3600, "nodeName": "a", "nodeUID": "u", "podName": "p", "podUID": "u",
            "serviceAccountName": "s", "serviceAccountUID": "u", "signerName": "example.com/s"}}))
    .unwrap();
    let left = |at: &str| pod_request_left(&request, at.parse().unwrap()).as_secs();
    assert_eq!(left("2024-01-01T00:00:00Z"), 900);
    assert_eq!(left("2024-01-01T00:14:59Z"), 1);
    assert_eq!(left("2024-01-01T00:15:00Z"), 0);
    assert_eq!(left("2023-12-31T23:00:00Z"), 900, "a clock that is behind");
}
