//! A table of who owns what.

use k8s_openapi::api::core::v1::Pod;

use super::*;

fn pod(name: &str, owner: Option<&str>, app: &str, deleted: bool) -> Arc<Pod> {
    let owners =
        owner.map(|uid| json!([{"apiVersion": "v1", "kind": "K", "name": "n", "uid": uid, "controller": true}]));
    let deleted = deleted.then_some("2024-01-01T00:00:00Z");
    let value = json!({"metadata": {
        "name": name, "labels": {"app": app}, "ownerReferences": owners, "deletionTimestamp": deleted,
    }});
    Arc::new(serde_json::from_value(value).unwrap())
}

#[test]
fn owners_selectors_and_deletions_decide() {
    let pods = [
        pod("mine", Some("me"), "a", false),
        pod("mine-ending", Some("me"), "a", true),
        pod("mine-other", Some("me"), "b", false),
        pod("other", Some("other"), "a", false),
        pod("orphan", None, "a", false),
        pod("orphan-ending", None, "a", true),
        pod("orphan-other", None, "b", false),
    ];
    let names =
        |pods: &[Arc<Pod>]| -> Vec<String> { pods.iter().map(|it| it.metadata.name.clone().unwrap()).collect() };
    let matching = |pod: &Pod| pod.metadata.labels.as_ref().unwrap()["app"] == "a";
    let mut owner = ObjectMeta { uid: Some("me".to_owned()), ..ObjectMeta::default() };
    let claims = sort(&owner, pods.clone(), matching);
    assert_eq!(names(&claims.owned), ["mine", "mine-ending"]);
    assert_eq!(names(&claims.release), ["mine-other"]);
    assert_eq!(names(&claims.adopt), ["orphan"]);
    owner.deletion_timestamp = pods[1].metadata.deletion_timestamp.clone();
    let claims = sort(&owner, pods, matching);
    assert_eq!(names(&claims.owned), ["mine", "mine-ending"]);
    assert!(claims.release.is_empty() && claims.adopt.is_empty());
}
