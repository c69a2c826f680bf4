//! Rules of writes: names, finalizers, grace, propagation, dry runs, validation of fields.

use serde_json::json;

use super::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i:1"}], "terminationGracePeriodSeconds": 30},
    })
}

#[tokio::test]
async fn bodies_are_checked_against_the_path() {
    let server = server().await;
    let other = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a", "namespace": "other"}});
    let cases = [
        (other, 400, "the namespace of the provided object does not match the namespace sent on the request"),
        (json!({"kind": "ConfigMap", "apiVersion": "apps/v1"}), 400, "ConfigMap in version"),
        (json!({"metadata": {"name": "A_b"}}), 422, "metadata.name: Invalid value: \"A_b\""),
        (json!({}), 422, "metadata.name: Required value: name or generateName is required"),
        (
            json!({"metadata": {"name": "a", "resourceVersion": "5"}}),
            500,
            "resourceVersion should not be set on objects to be created",
        ),
    ];
    for (body, code, text) in cases {
        let refused = server.create(MAPS, &body).await;
        assert_eq!(refused.code, code, "{body}: {refused:?}");
        assert!(refused.body["message"].as_str().unwrap().contains(text), "{body}: {refused:?}");
    }
    server.create(MAPS, &config_map("a", &json!({}))).await;
    let renamed = server.put(&format!("{MAPS}/a"), &config_map("b", &json!({}))).await;
    assert_eq!(renamed.code, 400);
    assert_eq!(renamed.body["message"], "the name of the object (b) does not match the name on the URL (a)");
}

#[tokio::test]
async fn a_kind_with_fields_to_select_by_says_whether_its_namespace_is_one() {
    let server = server().await;
    for (path, code) in [
        ("/api/v1/pods", 200),
        ("/api/v1/secrets", 200),
        ("/api/v1/configmaps", 200),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", 200),
        ("/api/v1/nodes", 400),
        ("/apis/certificates.k8s.io/v1/certificatesigningrequests", 400),
        ("/apis/certificates.k8s.io/v1/podcertificaterequests", 400),
    ] {
        let answer = server.list(&format!("{path}?fieldSelector=metadata.namespace%3Da")).await;
        assert_eq!(answer.code, code, "{path}: {answer:?}");
        if code == 400 {
            assert_eq!(answer.body["message"], "field label not supported: metadata.namespace", "{path}");
        }
        assert_eq!(server.list(&format!("{path}?fieldSelector=metadata.name%3Da")).await.code, 200, "{path}");
    }
}

#[tokio::test]
async fn unknown_fields_are_ignored_told_or_refused() {
    let server = server().await;
    let body = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": {}});
    let strict = server.create(&format!("{MAPS}?fieldValidation=Strict"), &body).await;
    assert_eq!(strict.code, 400);
    assert_eq!(
        strict.body["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"spec\""
    );
    let warned = server.create(&format!("{MAPS}?dryRun=All"), &body).await;
    assert_eq!((warned.code, warned.warnings), (201, vec!["unknown field \"spec\"".to_owned()]));
    let ignored = server.create(&format!("{MAPS}?fieldValidation=Ignore"), &body).await;
    assert_eq!((ignored.code, ignored.warnings.len()), (201, 0));
    assert!(ignored.body.get("spec").is_none());
}

#[tokio::test]
async fn names_are_generated() {
    let server = server().await;
    let body = json!({"metadata": {"generateName": "web-"}});
    let made = server.create(MAPS, &body).await;
    let name = made.body["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{made:?}");
}

/// Deletes each pod as soon as it is to go, as the controller does that collects pods without a node.
async fn collect_pods(store: Arc<dyn store::Store>) {
    let pods = store::KeyPrefix::new(["pods"]).unwrap();
    let mut events = store.watch(pods, 0).await.unwrap();
    while let Ok(batch) = events.next().await {
        for event in &batch.events {
            let Some(entry) = &event.current else { continue };
            if String::from_utf8_lossy(&entry.value).contains("deletionTimestamp") {
                // The request that marked it may be faster.
                let _ = store.delete(entry.key.clone(), store::Expect::Any).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deletion_that_another_one_completes_has_succeeded() {
    let server = server().await;
    let mut collector = tokio::task::JoinSet::new();
    collector.spawn(collect_pods(server.registry.store.clone()));
    for number in 0..200 {
        let name = format!("p{number}");
        server.create(PODS, &pod(&name)).await;
        let answer = server.delete(&format!("{PODS}/{name}"), &json!({})).await;
        assert_eq!(answer.code, 200, "{answer:?}");
    }
    collector.abort_all();
}

#[tokio::test]
async fn pods_go_gracefully() {
    let server = server().await;
    server.create(PODS, &pod("free")).await;
    let free = server.delete(&format!("{PODS}/free"), &json!(null)).await;
    assert_eq!((free.code, free.body["kind"].as_str()), (200, Some("Pod")), "an unscheduled pod goes at once");
    assert_eq!(server.get(&format!("{PODS}/free")).await.code, 404);

    let mut bound = pod("bound");
    bound["spec"]["nodeName"] = json!("n");
    server.create(PODS, &bound).await;
    let path = format!("{PODS}/bound");
    let first = server.delete(&path, &json!(null)).await;
    assert_eq!(first.body["metadata"]["deletionGracePeriodSeconds"], 30, "{first:?}");
    let longer = server.delete(&path, &json!({"gracePeriodSeconds": 60})).await;
    assert_eq!(longer.body["metadata"]["deletionGracePeriodSeconds"], 30, "only shorter");
    let shorter = server.delete(&path, &json!({"gracePeriodSeconds": 5})).await;
    assert_eq!(shorter.body["metadata"]["deletionGracePeriodSeconds"], 5);
    let other = server.delete(&path, &json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "x"}})).await;
    assert_eq!(other.code, 409);
    assert!(other.body["message"].as_str().unwrap().contains("the UID in the precondition (x) does not match the UID"));
    assert_eq!(server.delete(&path, &json!({"gracePeriodSeconds": 0})).await.code, 200);
    assert_eq!(server.get(&path).await.code, 404);
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let server = server().await;
    let mut map = config_map("a", &json!({}));
    map["metadata"]["finalizers"] = json!(["example.com/f"]);
    server.create(MAPS, &map).await;
    let path = format!("{MAPS}/a");
    let kept = server.delete(&path, &json!({"propagationPolicy": "Foreground"})).await;
    assert_eq!(kept.body["metadata"]["finalizers"], json!(["example.com/f", "foregroundDeletion"]), "{kept:?}");
    assert_eq!(kept.body["metadata"]["deletionGracePeriodSeconds"], 0);
    let taken = server.create(MAPS, &map).await;
    assert_eq!(taken.body["message"], "object is being deleted: configmaps \"a\" already exists");
    let added = server.patch(&path, "merge", &json!({"metadata": {"finalizers": ["example.com/g"]}})).await;
    assert_eq!(added.code, 422, "{added:?}");
    let emptied = server.patch(&path, "merge", &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(emptied.code, 200, "{emptied:?}");
    assert_eq!(server.get(&path).await.code, 404, "the last finalizer takes the object with it");
}

#[tokio::test]
async fn patches_change_and_retry() {
    let server = server().await;
    let path = format!("{MAPS}/a");
    assert_eq!(server.patch(&path, "merge", &json!({})).await.code, 404);
    server.create(MAPS, &config_map("a", &json!({"k": "v"}))).await;
    let merged = server.patch(&path, "merge", &json!({"data": {"k": null, "l": "m"}})).await;
    assert_eq!(merged.body["data"], json!({"l": "m"}), "{merged:?}");
    let failed = server.patch(&path, "json", &json!([{"op": "test", "path": "/data/l", "value": "x"}])).await;
    assert_eq!(failed.code, 422);
    let stale = server.patch(&path, "merge", &json!({"metadata": {"resourceVersion": "1"}, "data": {"x": "y"}})).await;
    assert_eq!(stale.code, 409, "{stale:?}");
    let apply = server.send(Verb::Patch, &path, &[("content-type", "application/apply-patch+yaml")], "{}").await;
    assert_eq!(apply.code, 422, "an apply needs a manager: {apply:?}");
    let same = server.patch(&path, "merge", &json!({"data": {"l": "m"}})).await;
    assert_eq!(same.body, merged.body, "nothing changed, so nothing is written");
}

#[tokio::test]
async fn scale_is_a_part_of_its_workload() {
    let server = server().await;
    let all = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]});
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    let made = server.create(all, &json!({"metadata": {"name": "d"}, "spec": spec})).await;
    assert_eq!(made.code, 201, "{made:?}");
    let path = format!("{all}/d/scale");
    let scale = server.get(&path).await.body;
    assert_eq!((scale["kind"].as_str(), scale["apiVersion"].as_str()), (Some("Scale"), Some("autoscaling/v1")));
    assert_eq!(scale["status"]["selector"], "a=b");
    let patched = server.patch(&path, "merge", &json!({"spec": {"replicas": 5}})).await;
    assert_eq!((patched.code, &patched.body["spec"]["replicas"]), (200, &json!(5)), "{patched:?}");
    let deployment = server.get(&format!("{all}/d")).await.body;
    assert_eq!(deployment["spec"]["replicas"], 5);
    let stale = server.put(&path, &scale).await;
    assert_eq!(stale.code, 409, "{stale:?}");
    let negative = server.patch(&path, "merge", &json!({"spec": {"replicas": -1}})).await;
    assert_eq!((negative.code, negative.body["details"]["kind"].as_str()), (422, Some("Scale")), "{negative:?}");
}

#[tokio::test]
async fn pods_are_bound_once() {
    let server = server().await;
    server.create(PODS, &pod("a")).await;
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}});
    let bound = server.create(&format!("{PODS}/a/binding"), &binding).await;
    assert_eq!((bound.code, bound.body["status"].as_str()), (201, Some("Success")), "{bound:?}");
    let pod = server.get(&format!("{PODS}/a")).await.body;
    assert_eq!(pod["spec"]["nodeName"], "n");
    assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
    let again = server.create(&format!("{PODS}/a/binding"), &binding).await;
    assert_eq!(again.code, 409);
    assert_eq!(
        again.body["message"],
        "Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned to node \"n\""
    );
}

#[tokio::test]
async fn evictions_respect_budgets() {
    let server = server().await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let mut running = pod("a");
    running["spec"]["nodeName"] = json!("n");
    server.create(PODS, &running).await;
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    let ready = server.patch(&format!("{PODS}/a/status"), "merge", &status).await;
    assert_eq!(ready.code, 200, "{ready:?}");
    let budget =
        json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}});
    assert_eq!(server.create(budgets, &budget).await.code, 201);
    let counts = json!({"status": {
        "observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1,
    }});
    let counted = server.patch(&format!("{budgets}/b/status"), "merge", &counts).await;
    assert_eq!(counted.code, 200, "{counted:?}");
    let eviction = json!({"metadata": {"name": "a"}});
    let refused = server.create(&format!("{PODS}/a/eviction"), &eviction).await;
    assert_eq!(refused.code, 429, "{refused:?}");
    assert_eq!(refused.body["message"], "Cannot evict pod as it would violate the pod's disruption budget.");
    let cause = &refused.body["details"]["causes"][0];
    assert_eq!(cause["reason"], "DisruptionBudget");
    assert_eq!(cause["message"], "The disruption budget b needs 1 healthy pods and has 1 currently");
    server.patch(&format!("{budgets}/b/status"), "merge", &json!({"status": {"disruptionsAllowed": 1}})).await;
    let evicted = server.create(&format!("{PODS}/a/eviction"), &eviction).await;
    assert_eq!(evicted.code, 201, "{evicted:?}");
    let pod = server.get(&format!("{PODS}/a")).await.body;
    assert!(pod["metadata"]["deletionTimestamp"].is_string(), "{pod}");
    assert!(pod["status"]["conditions"].to_string().contains("EvictionByEvictionAPI"), "{pod}");
    let left = server.get(&format!("{budgets}/b")).await.body;
    assert_eq!(left["status"]["disruptionsAllowed"], 0);
    assert!(left["status"]["disruptedPods"]["a"].is_string());
}

#[tokio::test]
async fn namespaces_end_in_two_steps() {
    let server = server().await;
    let all = "/api/v1/namespaces";
    let made = server.create(all, &json!({"metadata": {"name": "n"}})).await;
    assert_eq!(made.code, 201, "{made:?}");
    assert_eq!(made.body["spec"]["finalizers"], json!(["kubernetes"]), "{made:?}");
    let deleted = server.delete(&format!("{all}/n"), &json!(null)).await;
    assert_eq!((deleted.code, deleted.body["status"]["phase"].as_str()), (200, Some("Terminating")), "{deleted:?}");
    let mut emptied = deleted.body.clone();
    emptied["spec"]["finalizers"] = json!([]);
    let finalized = server.put(&format!("{all}/n/finalize"), &emptied).await;
    assert_eq!(finalized.code, 200, "{finalized:?}");
    assert_eq!(server.get(&format!("{all}/n")).await.code, 404);
}

#[tokio::test]
async fn put_creates_where_the_kind_allows_it() {
    let server = server().await;
    let lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let body = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "h", "leaseDurationSeconds": 5}});
    let made = server.put(lease, &body).await;
    assert_eq!(made.code, 201, "{made:?}");
    let unversioned = server.put(lease, &body).await;
    assert_eq!(unversioned.code, 422, "{unversioned:?}");
    assert!(unversioned.body["message"].as_str().unwrap().contains("must be specified for an update"));
    assert_eq!(server.put(&format!("{MAPS}/none"), &config_map("none", &json!({}))).await.code, 404);
}

#[tokio::test]
async fn managed_fields_that_do_not_fit_are_left_out() {
    let server = server().await;
    let named = |name: &str, data: Value| {
        // More than the store takes of one object.
        let fields: api::Map<String, Value> =
            (0..2_000).map(|i| (format!("f:{}{i}", "x".repeat(1_000)), json!({}))).collect();
        let entry = json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": fields}});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "managedFields": [entry]}, "data": data})
    };
    let made = server.create(MAPS, &named("big", json!({}))).await;
    assert_eq!(made.code, 201, "{}", made.body["message"]);
    assert_eq!(made.body["metadata"].get("managedFields"), None);
    let put = server.put(&format!("{MAPS}/big"), &named("big", json!({"k": "v"}))).await;
    assert_eq!((put.code, put.body["data"]["k"].as_str()), (200, Some("v")));
    assert_eq!(put.body["metadata"].get("managedFields"), None);
}

#[tokio::test]
async fn a_key_that_a_configuration_has_twice_is_reported() {
    let server = server().await;
    let apply = [("content-type", "application/apply-patch+yaml")];
    let path = format!("{MAPS}/twice?fieldManager=m");
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: twice}\ndata:\n  a: b\n  a: c\n";
    let warned = server.send(Verb::Patch, &path, &apply, body).await;
    assert_eq!(warned.code, 201, "{warned:?}");
    assert_eq!(warned.warnings, ["line 6: key \"a\" already set in map"]);
    // Asked for a key's repetition before it is asked for a name.
    let twice = "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: b\n  a: c\n";
    let refused = server.send(Verb::Patch, &format!("{path}&fieldValidation=Strict"), &apply, twice).await;
    let said = refused.body["message"].as_str().unwrap();
    assert_eq!(refused.code, 400, "{refused:?}");
    assert!(said.starts_with("error strict decoding patch: error converting YAML to JSON: yaml: unmarshal"), "{said}");
}
