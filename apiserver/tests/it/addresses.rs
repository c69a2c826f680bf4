//! Service addresses of a whole server: what a fresh one has, and what comes back.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::server::Running;

const BLOCK: &str = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes";
const ADDRESS: &str = "/apis/networking.k8s.io/v1/ipaddresses/10.96.0.1";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const SOON: Duration = Duration::from_secs(20);

async fn send(server: &Running, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
    let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let answer = server.send(server.request(method, path, "").header("content-type", media), body).await;
    (answer.code, answer.json())
}

async fn get(server: &Running, path: &str) -> Value {
    send(server, "GET", path, &Value::Null).await.1
}

/// Polls until an object is as it should be.
async fn soon(server: &Running, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let found = get(server, path).await;
        if holds(&found) {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{path}: {found}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn cells(server: &Running, path: &str) -> Vec<Value> {
    let request = server.request("GET", path, "").header("accept", TABLE);
    let table = server.send(request, Bytes::new()).await.json();
    table["rows"][0]["cells"].as_array().unwrap()[..2].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_server_has_its_block_and_its_own_address() {
    let server = Running::start().await;
    let block = get(&server, BLOCK).await;
    assert_eq!(block["spec"], json!({"cidrs": ["10.96.0.0/16"]}));
    let mut condition = block["status"]["conditions"][0].clone();
    assert!(condition["lastTransitionTime"].take().is_string());
    assert_eq!(
        condition,
        json!({
            "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
            "lastTransitionTime": null,
        })
    );
    let managers = block["metadata"]["managedFields"].as_array().unwrap();
    let mut managers: Vec<String> =
        managers.iter().map(|entry| format!("{} {}", entry["manager"], entry["operation"]).replace('"', "")).collect();
    managers.sort_unstable();
    assert_eq!(managers, ["kube-apiserver Update", "kubernetes-service-cidr-controller Apply"]);
    let address = get(&server, ADDRESS).await;
    assert_eq!(
        address["spec"]["parentRef"],
        json!({"resource": "services", "namespace": "default", "name": "kubernetes"})
    );
    let all = |plural| format!("/apis/networking.k8s.io/v1/{plural}");
    assert_eq!(cells(&server, &all("servicecidrs")).await, ["kubernetes", "10.96.0.0/16"]);
    assert_eq!(cells(&server, &all("ipaddresses")).await, ["10.96.0.1", "services/default/kubernetes"]);

    // Nothing guards the block without a controller manager, and it comes back.
    let uid = block["metadata"]["uid"].clone();
    assert_eq!(send(&server, "DELETE", BLOCK, &Value::Null).await.0, StatusCode::OK);
    let is_new =
        |found: &Value| found["metadata"]["uid"] != uid && found["status"]["conditions"][0]["status"] == "True";
    soon(&server, BLOCK, is_new).await;
    assert_eq!(send(&server, "DELETE", ADDRESS, &Value::Null).await.0, StatusCode::OK);
    soon(&server, ADDRESS, |found| found["kind"] == "IPAddress").await;
    let events = get(&server, "/apis/events.k8s.io/v1/namespaces/default/events").await;
    let event = &events["items"][0];
    assert_eq!(event["note"], "Cluster IP [IPv4]: 10.96.0.1 is not allocated; repairing");
    assert_eq!((&event["reason"], &event["action"]), (&json!("ClusterIPNotAllocated"), &json!("ClusterIPAllocation")));
    assert_eq!(event["reportingController"], "ipallocator-repair-controller");
    assert_eq!(event["regarding"]["name"], "kubernetes");
}

/// Puts another object in the default block's place.
async fn replace_block(server: &Running, other: &Value) {
    let all = "/apis/networking.k8s.io/v1/servicecidrs";
    // The server makes its own again: the request has to be there when the old one goes.
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let post = || async { send(server, "POST", all, other).await.0 == StatusCode::CREATED };
        let (_, one, two, three) = tokio::join!(send(server, "DELETE", BLOCK, &Value::Null), post(), post(), post());
        if one || two || three {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline);
    }
}

/// A cluster that gets its second family has a block of the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_one_family_gets_the_second() {
    let flag = "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112".to_owned();
    let server = Running::start_with(|_, _| vec![flag]).await;
    let both = json!(["10.96.0.0/16", "fd00:96::/112"]);
    assert_eq!(get(&server, BLOCK).await["spec"]["cidrs"], both);
    let single = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes", "labels": {"made": "single"}}, "spec": {"cidrs": ["10.96.0.0/16"]},
    });
    replace_block(&server, &single).await;
    let found = soon(&server, BLOCK, |found| {
        found["spec"]["cidrs"] == both && found["status"]["conditions"][0]["status"] == "True"
    })
    .await;
    assert_eq!(found["metadata"]["labels"], single["metadata"]["labels"], "it is the same object");
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"ports": [{"port": 80}], "ipFamilyPolicy": "RequireDualStack"},
    });
    let (code, made) = send(&server, "POST", "/api/v1/namespaces/default/services", &service).await;
    assert_eq!((code, &made["spec"]["ipFamilies"]), (StatusCode::CREATED, &json!(["IPv4", "IPv6"])), "{made}");
}

/// A block that an administrator has made otherwise than the flag says stays, and is told of.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_differs_from_the_flag_stays() {
    let server = Running::start().await;
    let other = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ["10.97.0.0/24"]},
    });
    replace_block(&server, &other).await;
    let told = soon(&server, "/api/v1/namespaces/default/events", |events| {
        let events = events["items"].as_array().into_iter().flatten();
        events.map(|event| &event["reason"]).any(|reason| reason == "KubernetesDefaultServiceCIDRInconsistent")
    })
    .await;
    let text =
        "The default ServiceCIDR [10.97.0.0/24] does not match the controller flag configurations [10.96.0.0/16]";
    assert!(told.to_string().contains(text), "{told}");
    let found = get(&server, BLOCK).await;
    assert_eq!((&found["spec"], &found["status"]), (&other["spec"], &json!({})));
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let (code, made) = send(&server, "POST", "/api/v1/namespaces/default/services", &service).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert!(made["spec"]["clusterIP"].as_str().unwrap().starts_with("10.97.0."), "{made}");
}
