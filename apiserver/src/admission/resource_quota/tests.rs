//! Charges to quotas, and refusals, as upstream words them.

use futures::StreamExt;
use serde_json::json;

use super::*;
use crate::objects::Change;
use crate::registry::tests::{Server, server_with};
use crate::request::Verb;

const NOW: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

fn quota(name: &str, spec: &Value, hard: &Value, used: &Value) -> Quota {
    let tree = json!({"metadata": {"name": name}, "spec": spec, "status": {"hard": hard, "used": used}});
    Quota::read(Arc::new(tree))
}

fn pod(cpu: &str) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

fn charge(new: &Value, old: Option<&Value>) -> Charge {
    Charge::new(Evaluator::Pods, &Write { subresource: "", new, old })
}

#[test]
fn refusals_are_upstreams() {
    let none = json!({});
    let cases = [
        (
            json!({"requests.cpu": "1", "pods": "5"}),
            json!({"requests.cpu": "800m", "pods": "2"}),
            "exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=800m, limited: requests.cpu=1",
        ),
        (
            json!({"cpu": "1", "pods": "2"}),
            json!({"cpu": "800m", "pods": "2"}),
            "exceeded quota: q, requested: cpu=500m,pods=1, used: cpu=800m,pods=2, limited: cpu=1,pods=2",
        ),
        (
            json!({"limits.memory": "1Gi", "memory": "1Gi"}),
            json!({"limits.memory": "0", "memory": "0"}),
            "failed quota: q: must specify limits.memory for: c; memory for: c",
        ),
        (json!({"pods": "5", "cpu": "1"}), json!({"pods": "1"}), "status unknown for quota: q, resources: cpu,pods"),
    ];
    for (hard, used, expected) in cases {
        let quotas = [quota("q", &none, &hard, &used)];
        let refused = charge(&pod("500m"), None).against(&quotas, NOW).map(|_| ());
        assert_eq!(refused, Err(expected.to_owned()));
    }
}

#[test]
fn a_write_is_charged_to_every_quota_that_is_about_it() {
    let quotas = [
        quota("all", &json!({}), &json!({"pods": "5", "cpu": "2"}), &json!({"pods": "1", "cpu": "250m"})),
        quota("ending", &json!({"scopes": ["Terminating"]}), &json!({"pods": "5"}), &json!({"pods": "0"})),
        quota("other", &json!({}), &json!({"services": "5"}), &json!({"services": "0"})),
    ];
    let shown = |quotas: &[Quota]| quotas.iter().map(|quota| quota.used.to_string()).collect::<Vec<_>>();
    let charged = charge(&pod("500m"), None).against(&quotas, NOW).unwrap();
    assert_eq!(shown(&charged), ["cpu=750m,pods=2", "pods=0", "services=0"]);
    // A deadline brings the pod into a second quota, and costs nothing in the first.
    let mut ending = pod("500m");
    ending["spec"]["activeDeadlineSeconds"] = json!(1);
    let charged = charge(&ending, Some(&pod("500m"))).against(&charged, NOW).unwrap();
    assert_eq!(shown(&charged), ["cpu=750m,pods=2", "pods=1", "services=0"]);
    let bigger = charge(&pod("1"), Some(&pod("500m"))).against(&charged, NOW).unwrap();
    assert_eq!(shown(&bigger)[0], "cpu=1250m,pods=2");
}

/// A server whose namespace `n` has a quota that has been counted.
async fn counted(hard: &Value, used: &Value) -> Server {
    let objects = Handle::default();
    let plugin = ResourceQuota::new(objects.clone(), Tasks::new(daemon::Drain::never()));
    let server = server_with(vec![Arc::new(plugin)]).await;
    objects.bind(server.registry.clone());
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}});
    let mut quota = server.create("/api/v1/namespaces/n/resourcequotas", &quota).await.body;
    quota["status"] = json!({ "hard": hard, "used": used });
    let written = server.put("/api/v1/namespaces/n/resourcequotas/q/status", &quota).await;
    assert_eq!(written.code, 200, "{}", written.body);
    known_counted(objects.get()).await;
    server
}

/// Waits until the cache, which may lag behind the store, knows of a counted quota.
async fn known_counted(objects: &dyn Objects) {
    let mut changes = objects.changes("", RESOURCE);
    let counted = async {
        while let Some(change) = changes.next().await {
            if matches!(change, Change::Put(quota) if quota["status"]["used"].is_object()) {
                return;
            }
        }
        panic!("the changes ended");
    };
    tokio::time::timeout(Duration::from_secs(10), counted).await.expect("the cache follows the store");
}

async fn used(server: &Server) -> Value {
    server.get("/api/v1/namespaces/n/resourcequotas/q").await.body["status"]["used"].clone()
}

#[tokio::test]
async fn creates_are_charged_until_the_quota_is_full() {
    let server =
        counted(&json!({"secrets": "3", "count/secrets": "9"}), &json!({"secrets": "1", "count/secrets": "1"})).await;
    let secret = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    let path = "/api/v1/namespaces/n/secrets";
    let names = ["a", "b", "c", "d", "e"].map(secret);
    let answers = futures::future::join_all(names.iter().map(|secret| server.create(path, secret))).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.code == 201);
    assert_eq!((made.len(), refused.len()), (2, 3));
    assert_eq!(used(&server).await, json!({"secrets": "3", "count/secrets": "3"}));
    let message = refused[0].body["message"].as_str().unwrap();
    let expected = "is forbidden: exceeded quota: q, requested: secrets=1, used: secrets=3, limited: secrets=3";
    assert_eq!(refused[0].code, 403);
    assert!(message.starts_with("secrets \"") && message.ends_with(expected), "{message}");
}

#[tokio::test]
async fn a_dry_run_is_checked_and_not_charged() {
    let server = counted(
        &json!({"services": "1", "services.nodeports": "0"}),
        &json!({"services": "0", "services.nodeports": "0"}),
    )
    .await;
    let service = |kind: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
            "spec": {"type": kind, "ports": [{"port": 80}]}})
    };
    let path = "/api/v1/namespaces/n/services";
    let dry = server.send(Verb::Create, &format!("{path}?dryRun=All"), &[], &service("NodePort").to_string()).await;
    assert_eq!(dry.code, 403);
    let dry = server.send(Verb::Create, &format!("{path}?dryRun=All"), &[], &service("ClusterIP").to_string()).await;
    assert_eq!(dry.code, 201);
    assert_eq!(used(&server).await["services"], "0");
    assert_eq!(server.create(path, &service("ClusterIP")).await.code, 201);
    assert_eq!(used(&server).await["services"], "1");
    let changed = server.patch(&format!("{path}/s"), "merge", &json!({"spec": {"type": "NodePort"}})).await;
    assert_eq!(changed.code, 403, "{}", changed.body);
}
