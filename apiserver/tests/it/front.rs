//! What stands before the registry: identity, permission, reviews, tokens, documents, headers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;

use crate::server::{Answer, Running};

const DEADLINE: Duration = Duration::from_secs(10);

async fn get(server: &Running, path: &str, user: &str) -> Answer {
    server.send(server.request("GET", path, user), Bytes::new()).await
}

async fn post(server: &Running, path: &str, user: &str, body: &Value) -> Answer {
    let request = server.request("POST", path, user).header(header::CONTENT_TYPE, "application/json");
    server.send(request, body.to_string().into()).await
}

/// Asks again until the answer has the code: indexes follow writes a moment later.
async fn get_until(server: &Running, path: &str, user: &str, code: StatusCode) -> Answer {
    let end = tokio::time::Instant::now() + DEADLINE;
    loop {
        let answer = get(server, path, user).await;
        if answer.code == code || tokio::time::Instant::now() > end {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn message(answer: &Answer) -> String {
    answer.json()["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_before_the_registry() {
    let server = Running::start().await;
    documents(&server).await;
    headers(&server).await;
    identity(&server).await;
    impersonation(&server).await;
    reviews(&server).await;
    tokens(&server).await;
    escalation(&server).await;
    bootstrap(&server).await;
    nodes(&server).await;
}

async fn documents(server: &Running) {
    let version = get(server, "/version", "jane").await.json();
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("37")));
    let text = get(server, "/livez/ping", "").await;
    assert_eq!((text.code, &*text.body), (StatusCode::OK, &b"ok"[..]));
    let verbose = get(server, "/readyz?verbose&exclude=etcd", "jane").await;
    let verbose = String::from_utf8_lossy(&verbose.body).into_owned();
    assert!(verbose.starts_with("[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\n"), "{verbose}");
    assert!(verbose.ends_with("readyz check passed\n"), "{verbose}");
    let list = get(server, "/apis/apps/v1", "jane").await.json();
    assert_eq!(list["kind"], "APIResourceList");
    let missing = get(server, "/nothing/here", "").await;
    assert_eq!((missing.code, &*missing.body), (StatusCode::NOT_FOUND, &b"404 page not found\n"[..]));
    let metrics = get(server, "/metrics", "").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(metrics.contains("# TYPE apiserver_request_total counter\n"), "{metrics}");
}

async fn headers(server: &Running) {
    let request = server.request("GET", "/api/v1/namespaces/default", "").header("audit-id", "mine");
    let answer = server.send(request, Bytes::new()).await;
    assert_eq!(answer.headers["audit-id"], "mine");
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-cache, private");
    assert!(answer.headers.contains_key("x-kubernetes-pf-flowschema-uid"), "{:?}", answer.headers);
    assert!(answer.headers.contains_key("x-kubernetes-pf-prioritylevel-uid"));
    let request = server.request("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles", "");
    let answer = server.send(request.header(header::ACCEPT_ENCODING, "gzip"), Bytes::new()).await;
    // Big enough or not, what says gzip is gzip.
    let is_gzip = answer.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
    assert_eq!(answer.body.starts_with(&[0x1f, 0x8b]), is_gzip);
    let late = get(server, "/api/v1/pods?timeout=soon", "").await;
    assert_eq!(late.code, StatusCode::BAD_REQUEST);
}

async fn identity(server: &Running) {
    let bad = get(server, "/api/v1/pods", "nobody-knows-it").await;
    assert_eq!((bad.code, message(&bad)), (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned()));
    let anonymous = http::Request::get("/api/v1/pods").header("host", "127.0.0.1");
    let anonymous = server.send(anonymous, Bytes::new()).await;
    assert_eq!(anonymous.code, StatusCode::FORBIDDEN);
    assert_eq!(anonymous.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let text = r#"pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" at the cluster scope"#;
    assert_eq!(message(&anonymous), text);
    let forbidden = get(server, "/metrics", "jane").await;
    assert_eq!(message(&forbidden), r#"forbidden: User "jane" cannot get path "/metrics""#);
    let forbidden = get(server, "/api/v1/namespaces/a/pods/b/log", "jane").await;
    let text =
        r#"pods "b" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "a""#;
    assert_eq!(message(&forbidden), text);
}

async fn impersonation(server: &Running) {
    let review = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let json_type = |builder: http::request::Builder| builder.header(header::CONTENT_TYPE, "application/json");
    let acting = json_type(server.request("POST", path, ""))
        .header("impersonate-user", "ann")
        .header("impersonate-group", "dev")
        .header("impersonate-extra-acme.com%2fproject", "x");
    let answer = server.send(acting, review.to_string().into()).await;
    assert_eq!(answer.code, StatusCode::CREATED);
    let user = &answer.json()["status"]["userInfo"];
    assert_eq!(
        *user,
        json!({"username": "ann", "groups": ["dev", "system:authenticated"], "extra": {"acme.com/project": ["x"]}})
    );
    let refused = server.request("GET", "/api", "jane").header("impersonate-user", "ann");
    let refused = server.send(refused, Bytes::new()).await;
    let text = r#"forbidden: User "jane" cannot impersonate-on:user-info:get path "/api""#;
    assert_eq!((refused.code, message(&refused)), (StatusCode::FORBIDDEN, text.to_owned()));
    let nobody = server.request("GET", "/api", "").header("impersonate-group", "dev");
    let nobody = server.send(nobody, Bytes::new()).await;
    assert_eq!(nobody.code, StatusCode::BAD_REQUEST);
    assert!(message(&nobody).ends_with("without impersonating a user name"), "{}", message(&nobody));
}

async fn reviews(server: &Running) {
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let review = |user: &str| {
        json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
            "spec": {"user": user, "resourceAttributes": {"verb": "list", "resource": "nodes"}}})
    };
    let answer = post(server, path, "", &review("system:kube-scheduler")).await;
    assert_eq!(answer.code, StatusCode::CREATED);
    let reason = r#"RBAC: allowed by ClusterRoleBinding "system:kube-scheduler" of ClusterRole "system:kube-scheduler" to User "system:kube-scheduler""#;
    assert_eq!(answer.json()["status"], json!({"allowed": true, "reason": reason}));
    assert_eq!(post(server, path, "", &review("jane")).await.json()["status"], json!({"allowed": false}));
    let empty = json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": {}});
    let refused = post(server, path, "", &empty).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.json()["details"]["causes"].as_array().unwrap().len(), 2);
    let own = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let body =
        json!({"kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1", "spec": {"namespace": "a"}});
    let rules = post(server, own, "jane", &body).await.json();
    assert_eq!(rules["status"]["incomplete"], false);
    assert!(rules["status"]["resourceRules"].as_array().unwrap().len() >= 2, "{rules}");
}

async fn tokens(server: &Running) {
    let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "robot"}});
    let made = post(server, "/api/v1/namespaces/default/serviceaccounts", "", &account).await;
    assert_eq!(made.code, StatusCode::CREATED);
    let path = "/api/v1/namespaces/default/serviceaccounts/robot/token";
    let request = |seconds: i64| json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"expirationSeconds": seconds}});
    let short = post(server, path, "", &request(10)).await;
    assert_eq!(short.code, StatusCode::UNPROCESSABLE_ENTITY);
    let made = post(server, path, "", &request(600)).await;
    assert_eq!(made.code, StatusCode::CREATED);
    let token = made.json()["status"]["token"].as_str().unwrap().to_owned();
    let me = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
    let me = post(server, "/apis/authentication.k8s.io/v1/selfsubjectreviews", &token, &me).await.json();
    let user = &me["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        user["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    let review = |audiences: Value| json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": {"token": token, "audiences": audiences}});
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let good = post(server, path, "", &review(json!([]))).await.json();
    assert_eq!(good["status"]["authenticated"], true);
    let other = post(server, path, "", &review(json!(["elsewhere"]))).await.json();
    assert!(other["status"]["error"].as_str().unwrap().contains("is invalid for the target audiences"), "{other}");
    let keys = get(server, "/openid/v1/jwks", "").await;
    assert_eq!(keys.headers[header::CONTENT_TYPE], "application/jwk-set+json");
    let document = get(server, "/.well-known/openid-configuration", &token).await.json();
    assert!(document["jwks_uri"].as_str().unwrap().ends_with("/openid/v1/jwks"), "{document}");
}

async fn escalation(server: &Running) {
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    let role = |name: &str, rules: Value| json!({"kind": "Role", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}, "rules": rules});
    let author = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create", "get", "list"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
    ]);
    assert_eq!(post(server, roles, "", &role("author", author)).await.code, StatusCode::CREATED);
    let binding = json!({"kind": "RoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "author"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "author"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
    let bindings = roles.replace("roles", "rolebindings");
    assert_eq!(post(server, &bindings, "", &binding).await.code, StatusCode::CREATED);
    get_until(server, roles, "jane", StatusCode::OK).await;
    let held = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    assert_eq!(post(server, roles, "jane", &role("held", held)).await.code, StatusCode::CREATED);
    let more = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
    let refused = post(server, roles, "jane", &role("more", more)).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    let text = "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"jane\" (groups=[\"readers\" \"system:authenticated\"]) is \
                attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}";
    assert_eq!(message(&refused), text);
}

async fn bootstrap(server: &Running) {
    for path in [
        "/api/v1/namespaces/kube-node-lease",
        "/api/v1/namespaces/default/services/kubernetes",
        "/api/v1/namespaces/default/endpoints/kubernetes",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
        "/apis/networking.k8s.io/v1/servicecidrs/kubernetes",
        "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/roles/extension-apiserver-authentication-reader",
        "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/catch-all",
        "/apis/apiregistration.k8s.io/v1/apiservices/v1.",
    ] {
        assert_eq!(get(server, path, "").await.code, StatusCode::OK, "{path}");
    }
    let refused = server.send(server.request("DELETE", "/api/v1/namespaces/default", ""), Bytes::new()).await;
    let text = r#"namespaces "default" is forbidden: this namespace may not be deleted"#;
    assert_eq!((refused.code, message(&refused)), (StatusCode::FORBIDDEN, text.to_owned()));
    let nowhere = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}});
    let refused = post(server, "/api/v1/namespaces/nowhere/configmaps", "", &nowhere).await;
    assert_eq!(
        (refused.code, message(&refused)),
        (StatusCode::NOT_FOUND, r#"namespaces "nowhere" not found"#.to_owned())
    );
}

/// A node writes itself and nothing else.
async fn nodes(server: &Running) {
    let as_node = |method: &str, path: &str| {
        let request = server.request(method, path, "").header("impersonate-user", "system:node:n1");
        request.header("impersonate-group", "system:nodes").header(header::CONTENT_TYPE, "application/json")
    };
    let node = |name: &str, labels: Value| {
        json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "labels": labels}}).to_string()
    };
    let other = server.send(as_node("POST", "/api/v1/nodes"), node("n2", json!({})).into()).await;
    assert_eq!(message(&other), r#"nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2""#);
    let label = json!({"node-restriction.kubernetes.io/x": "y"});
    let labelled = server.send(as_node("POST", "/api/v1/nodes"), node("n1", label).into()).await;
    assert!(message(&labelled).ends_with("labels: node-restriction.kubernetes.io/x"), "{}", message(&labelled));
    let own = server.send(as_node("POST", "/api/v1/nodes"), node("n1", json!({})).into()).await;
    assert_eq!(own.code, StatusCode::CREATED);
    assert_eq!(own.json()["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");
    let secret = server.send(as_node("GET", "/api/v1/namespaces/default/secrets/s"), Bytes::new()).await;
    assert!(message(&secret).ends_with("no relationship found between node 'n1' and this object"));
}

/// A connection may live for days, its certificate for minutes.
#[tokio::test]
async fn a_certificate_ends_before_its_connection() {
    let now = daemon::clock::now();
    let clients = pki::Authority::create("clients", now).unwrap();
    let mut authority_pem = String::new();
    let server = Running::start_with(|authority, folder| {
        authority_pem = authority.certificate_pem().to_owned();
        let file = folder.join("clients.crt");
        std::fs::write(&file, clients.certificate_pem()).unwrap();
        vec![format!("--client-ca-file={}", file.display())]
    })
    .await;
    let lifetime = jiff::SignedDuration::from_secs(3);
    let profile = pki::Profile::client("jane", ["readers"]).lifetime(lifetime);
    let credential = clients.issue(&profile, daemon::clock::now()).unwrap();
    let mut tls = pki::tls::client(&authority_pem, Some(&credential)).unwrap();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut sender = server.connect(&TlsConnector::from(Arc::new(tls))).await;
    let mut asked = Vec::new();
    let end = tokio::time::Instant::now() + DEADLINE;
    // What anybody may read: who had a name is not served as somebody without one.
    while asked.last() != Some(&StatusCode::UNAUTHORIZED) && tokio::time::Instant::now() < end {
        sender.ready().await.unwrap();
        let request = http::Request::get("/version").header(header::HOST, "x").body(Full::new(Bytes::new())).unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        body.collect().await.unwrap();
        asked.push(head.status);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((asked[0], asked.last().copied()), (StatusCode::OK, Some(StatusCode::UNAUTHORIZED)));
}
