//! Which certificates of pods a node may ask for.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::admission::Plugin as _;
use crate::authorize::{AlwaysAllow, AlwaysDeny, Union};
use crate::objects::Handle;
use crate::registry::tests::{Server, server_with};
use crate::request::{Context, ResourcePath, Target as Asked, User, Verb, Warnings};

const SIGNER: &str = "example.com/signer";

fn context(node: &str) -> Context {
    Context {
        user: Arc::new(User {
            name: format!("system:node:{node}"),
            groups: vec!["system:nodes".to_owned()],
            ..User::default()
        }),
        target: Arc::new(Asked::Path { verb: String::new(), path: String::new() }),
        query: Arc::default(),
        now: daemon::clock::now(),
        user_agent: "".into(),
        audit_id: "".into(),
        warnings: Warnings::default(),
    }
}

async fn uid(server: &Server, path: &str, object: Value) -> String {
    let made = server.create(path, &object).await;
    assert_eq!(made.code, 201, "{}", made.body);
    meta::uid(&made.body).to_owned()
}

fn pod(name: &str, node: &str, annotations: &Value) -> Value {
    let source = json!({"podCertificate": {"signerName": SIGNER, "keyType": "ED25519", "credentialBundlePath": "c"}});
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "annotations": annotations}, "spec": {
        "nodeName": node, "serviceAccountName": "s", "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "projected": {"sources": [source]}}]}})
}

/// A node with a pod that names the signer, and the request that it may make.
async fn scene() -> (Server, Value) {
    let server = server_with(Vec::new()).await;
    let node =
        uid(&server, "/api/v1/nodes", json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "a"}})).await;
    let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "s"}});
    let account = uid(&server, "/api/v1/namespaces/default/serviceaccounts", account).await;
    let pod = pod("p", "a", &json!({}));
    let pod = uid(&server, "/api/v1/namespaces/default/pods", pod).await;
    let request = json!({"metadata": {"generateName": "req-", "namespace": "default"}, "spec": {
        "signerName": SIGNER, "podName": "p", "podUID": pod, "serviceAccountName": "s", "serviceAccountUID": account,
        "nodeName": "a", "nodeUID": node}});
    (server, request)
}

async fn ask(server: &Server, authorizer: Union, node: &str, request: &Value) -> Result<(), Status> {
    write(server, authorizer, (node, Operation::Create, ""), request).await
}

/// A node's write on a request, or on a part of it.
async fn write(
    server: &Server,
    authorizer: Union,
    (node, operation, part): (&str, Operation, &str),
    request: &Value,
) -> Result<(), Status> {
    let objects = Handle::default();
    objects.bind(server.registry.clone());
    let plugin = NodeRestriction::new(objects, authorizer);
    let path = ResourcePath {
        verb: Verb::Create,
        group: "certificates.k8s.io".to_owned(),
        version: "v1".to_owned(),
        namespace: "default".to_owned(),
        resource: "podcertificaterequests".to_owned(),
        subresource: part.to_owned(),
        name: String::new(),
        tail: String::new(),
    };
    let attributes = Attributes {
        context: &context(node),
        path: &path,
        kind: "PodCertificateRequest",
        operation,
        object: Some(request.clone()),
        old: None,
        dry_run: false,
    };
    plugin.validate(&attributes).await
}

fn nobody() -> Union {
    Union::new(vec![("no", Arc::new(AlwaysDeny))])
}

#[tokio::test]
async fn a_node_asks_for_its_own_pods_and_nothing_else() {
    let (server, good) = scene().await;
    ask(&server, nobody(), "a", &good).await.unwrap();
    let other = ask(&server, nobody(), "b", &good).await.unwrap_err();
    assert!(other.message.ends_with("which is not the requesting node \"b\""), "{}", other.message);
    for (field, value, code, expected) in [
        ("nodeUID", "x", 500, "names node UID \"x\", inconsistent with the running node"),
        ("podName", "gone", 500, "while retrieving pod \"default/gone\" named in the PodCertificateRequest"),
        ("podUID", "x", 500, "contains pod UID (\"x\") which differs from running pod"),
        ("serviceAccountName", "t", 403, "contains serviceAccountName (\"t\") that differs from running pod (\"s\")"),
        (
            "serviceAccountUID",
            "x",
            500,
            "names service account UID \"x\", which differs from the running service account",
        ),
        ("signerName", "example.com/other", 403, "does not mount a podCertificate projected volume for signer"),
    ] {
        let mut request = good.clone();
        request["spec"][field] = json!(value);
        let refused = ask(&server, nobody(), "a", &request).await.unwrap_err();
        assert!(refused.message.contains(expected), "{field}: {}", refused.message);
        assert_eq!(refused.reason.code(), code, "{field}");
    }
    let mut request = good;
    request["spec"]["signerName"] = json!("example.com/other");
    let everything = Union::new(vec![("all", Arc::new(AlwaysAllow))]);
    ask(&server, everything, "a", &request).await.expect("it has the permission to ask for others");
}

#[tokio::test]
async fn a_node_asks_for_no_pod_of_another_and_for_no_mirror() {
    let (server, good) = scene().await;
    for (name, node, annotations, expected) in [
        ("elsewhere", "b", json!({}), "is not running on node \"a\" named in the PodCertificateRequest"),
        ("nowhere", "", json!({}), "is not running on node \"a\" named in the PodCertificateRequest"),
        ("mirror", "a", json!({MIRROR: "m"}), "pod \"default/mirror\" is a mirror pod"),
    ] {
        let made = uid(&server, "/api/v1/namespaces/default/pods", pod(name, node, &annotations)).await;
        let mut request = good.clone();
        request["spec"]["podName"] = json!(name);
        request["spec"]["podUID"] = json!(made);
        let everything = Union::new(vec![("all", Arc::new(AlwaysAllow))]);
        let refused = ask(&server, everything, "a", &request).await.unwrap_err();
        assert!(refused.message.contains(expected), "{name}: {}", refused.message);
        assert_eq!(refused.reason.code(), 403, "{name}");
    }
}

#[tokio::test]
async fn a_node_only_makes_requests() {
    let (server, good) = scene().await;
    for (operation, part, expected) in [
        (Operation::Update, "", "unexpected operation UPDATE"),
        (Operation::Update, "status", "unexpected operation UPDATE"),
        (Operation::Delete, "", "unexpected operation DELETE"),
        (Operation::Create, "status", "unexpected subresource status"),
    ] {
        let everything = Union::new(vec![("all", Arc::new(AlwaysAllow))]);
        let refused = write(&server, everything, ("a", operation, part), &good).await.unwrap_err();
        assert!(refused.message.contains(expected), "{}", refused.message);
        assert_eq!(refused.reason.code(), 403);
    }
}
