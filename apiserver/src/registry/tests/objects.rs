//! The life of an object: create, get, list, watch, update, delete.

use serde_json::json;

use super::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn a_config_map_lives_and_goes() {
    let server = server().await;
    let made = server.create(MAPS, &config_map("a", &json!({"k": "v"}))).await;
    assert_eq!(made.code, 201, "{made:?}");
    let metadata = &made.body["metadata"];
    assert_eq!((&metadata["namespace"], &metadata["name"]), (&json!("default"), &json!("a")));
    assert!(metadata["uid"].is_string() && metadata["creationTimestamp"].is_string(), "{made:?}");
    assert_eq!(server.get(&format!("{MAPS}/a")).await.body, made.body);

    let again = server.create(MAPS, &config_map("a", &json!({}))).await;
    assert_eq!((again.code, again.body["message"].as_str()), (409, Some("configmaps \"a\" already exists")));

    let mut changed = made.body.clone();
    changed["data"]["k"] = json!("w");
    let put = server.put(&format!("{MAPS}/a"), &changed).await;
    assert_eq!((put.code, &put.body["data"]["k"]), (200, &json!("w")), "{put:?}");
    assert_ne!(put.body["metadata"]["resourceVersion"], metadata["resourceVersion"]);
    let stale = server.put(&format!("{MAPS}/a"), &made.body).await;
    assert_eq!((stale.code, stale.body["reason"].as_str()), (409, Some("Conflict")), "{stale:?}");
    let same = server.put(&format!("{MAPS}/a"), &put.body).await;
    assert_eq!(same.body, put.body, "nothing changed, so nothing is written");

    let gone = server.delete(&format!("{MAPS}/a"), &json!(null)).await;
    assert_eq!((gone.code, gone.body["status"].as_str()), (200, Some("Success")));
    assert_eq!(gone.body["details"]["uid"], metadata["uid"]);
    let missing = server.get(&format!("{MAPS}/a")).await;
    assert_eq!((missing.code, missing.body["message"].as_str()), (404, Some("configmaps \"a\" not found")));
}

#[tokio::test]
async fn lists_are_paged_at_one_revision() {
    let server = server().await;
    for name in ["a", "b", "c"] {
        let mut map = config_map(name, &json!({}));
        map["metadata"]["labels"] = json!({"name": name});
        server.create(MAPS, &map).await;
    }
    let first = server.list(&format!("{MAPS}?limit=2")).await.body;
    assert_eq!(first["kind"], "ConfigMapList");
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    assert_eq!(names(&first), ["a", "b"]);
    assert!(first["items"][0].get("kind").is_none());
    server.delete(&format!("{MAPS}/c"), &json!(null)).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = server.list(&format!("{MAPS}?limit=2&continue={token}")).await.body;
    assert_eq!(names(&second), ["c"], "the second page is as old as the first");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert!(second["metadata"].get("continue").is_none());

    let selected = server.list(&format!("{MAPS}?labelSelector=name%20in%20(b,c)")).await.body;
    assert_eq!(names(&selected), ["b"]);
    let one = server.list("/api/v1/configmaps?fieldSelector=metadata.name%3Da").await.body;
    assert_eq!(names(&one), ["a"]);
    let unknown = server.list(&format!("{MAPS}?fieldSelector=spec.x%3Da")).await;
    assert_eq!(unknown.code, 400, "{unknown:?}");
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn watches_tell_everything_once() {
    let server = server().await;
    server.create(MAPS, &config_map("a", &json!({}))).await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = server.watch(&format!("{MAPS}?{query}"), &[]).await;
    assert_eq!(events.brief().await, "ADDED a");
    let end = events.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["kind"], "ConfigMap");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");

    let mut selected = server.watch(&format!("{MAPS}?labelSelector=on%3Dyes"), &[]).await;
    let mut map = config_map("b", &json!({}));
    map["metadata"]["labels"] = json!({"on": "yes"});
    server.create(MAPS, &map).await;
    map["metadata"]["labels"] = json!({"on": "no"});
    let hidden = server.put(&format!("{MAPS}/b"), &map).await.body;
    server.delete(&format!("{MAPS}/b"), &json!(null)).await;
    for expected in ["ADDED b", "MODIFIED b", "DELETED b"] {
        assert_eq!(events.brief().await, expected);
    }
    assert_eq!(selected.brief().await, "ADDED b");
    let left = selected.next().await.unwrap();
    assert_eq!(left["type"], "DELETED");
    assert_eq!(left["object"]["metadata"]["labels"]["on"], "yes", "as the client knew it");
    assert_eq!(left["object"]["metadata"]["resourceVersion"], hidden["metadata"]["resourceVersion"]);
}

/// Those that ask for the same share what is made of an event; nobody gets what another kind of watch asked for.
#[tokio::test]
async fn equal_watches_see_the_same_and_others_their_own() {
    let server = server().await;
    let partial = [("accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")];
    let selected = format!("{MAPS}?labelSelector=on%3Dyes");
    let elsewhere = MAPS.replace("/default/", "/other/");
    let from = server.registry.store.revision().await.unwrap();
    let mut all = vec![server.watch(MAPS, &[]).await, server.watch(MAPS, &[]).await];
    let mut some = vec![server.watch(&selected, &[]).await, server.watch(&selected, &[]).await];
    let mut metadata = vec![server.watch(MAPS, &partial).await, server.watch(MAPS, &partial).await];
    let mut other = vec![server.watch(&elsewhere, &[]).await, server.watch(&elsewhere, &[]).await];
    let mut labelled = config_map("b", &json!({"k": "v"}));
    labelled["metadata"]["labels"] = json!({"on": "yes"});
    server.create(MAPS, &config_map("a", &json!({}))).await;
    server.create(MAPS, &labelled).await;
    server.create(&elsewhere, &config_map("c", &json!({}))).await;
    server.delete(&format!("{MAPS}/b"), &json!(null)).await;
    for watch in &mut all {
        for expected in ["ADDED a", "ADDED b", "DELETED b"] {
            assert_eq!(watch.brief().await, expected);
        }
    }
    for watch in &mut some {
        assert_eq!((watch.brief().await, watch.brief().await), ("ADDED b".to_owned(), "DELETED b".to_owned()));
    }
    for watch in &mut metadata {
        watch.next().await.unwrap();
        let b = watch.next().await.unwrap();
        assert_eq!(
            (&b["object"]["kind"], &b["object"]["metadata"]["name"]),
            (&json!("PartialObjectMetadata"), &json!("b"))
        );
        assert!(b["object"].get("data").is_none(), "{b}");
    }
    for watch in &mut other {
        assert_eq!(watch.brief().await, "ADDED c");
    }
    // Late and alone in its class, from the same point in history.
    drop(all);
    let mut late = server.watch(&format!("{MAPS}?resourceVersion={from}"), &[]).await;
    for expected in ["ADDED a", "ADDED b", "DELETED b"] {
        assert_eq!(late.brief().await, expected);
    }
}

#[tokio::test]
async fn pods_are_found_by_their_node() {
    let server = server().await;
    let pods = MAPS.replace("configmaps", "pods");
    for (name, node) in [("a", "n1"), ("b", "n2"), ("c", "n1"), ("d", "")] {
        let containers = json!([{"name": "main", "image": "x"}]);
        let spec = json!({"nodeName": node, "serviceAccountName": "default", "containers": containers});
        let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name}, "spec": spec});
        let made = server.create(&pods, &pod).await;
        assert_eq!(made.code, 201, "{made:?}");
    }
    let select = |terms: &str| format!("/api/v1/pods?fieldSelector={}", terms.replace('=', "%3D").replace(',', "%2C"));
    for (terms, expected) in [
        ("spec.nodeName=n1", &["a", "c"][..]),
        ("spec.nodeName=n3", &[]),
        ("spec.nodeName=", &["d"]),
        ("spec.nodeName!=n1", &["b", "d"]),
        ("spec.nodeName=n1,metadata.name=c", &["c"]),
    ] {
        assert_eq!(names(&server.list(&select(terms)).await.body), expected, "{terms}");
    }
    let page = server.list(&format!("{}&limit=1", select("spec.nodeName=n1"))).await.body;
    assert_eq!(names(&page), ["a"]);
    let token = page["metadata"]["continue"].as_str().unwrap();
    let rest = server.list(&format!("{}&continue={token}", select("spec.nodeName=n1"))).await.body;
    assert_eq!(names(&rest), ["c"]);
    let mut events = server.watch(&select("spec.nodeName=n1"), &[]).await;
    assert_eq!((events.brief().await, events.brief().await), ("ADDED a".to_owned(), "ADDED c".to_owned()));
}

#[tokio::test]
async fn an_expired_page_can_be_continued_at_the_newest_version() {
    let server = server().await;
    for name in ["a", "b", "c"] {
        server.create(MAPS, &config_map(name, &json!({}))).await;
    }
    let first = server.list(&format!("{MAPS}?limit=1")).await.body;
    let token = first["metadata"]["continue"].as_str().unwrap();
    server.create(MAPS, &config_map("d", &json!({}))).await;
    let store = &server.registry.store;
    store.compact(store.revision().await.unwrap()).await.unwrap();
    let expired = server.list(&format!("{MAPS}?limit=1&continue={token}")).await;
    assert_eq!((expired.code, expired.body["reason"].as_str()), (410, Some("Expired")), "{expired:?}");
    let fresh = expired.body["metadata"]["continue"].as_str().unwrap();
    let rest = server.list(&format!("{MAPS}?continue={fresh}")).await;
    assert_eq!(names(&rest.body), ["b", "c", "d"], "inconsistent, but going on: {rest:?}");
    let old = server.list(&format!("{MAPS}?resourceVersion=2&resourceVersionMatch=Exact")).await;
    assert_eq!(old.body["message"], "The resourceVersion for the provided list is too old.");
}

#[tokio::test]
async fn concurrent_patches_are_all_kept() {
    let server = Arc::new(server().await);
    server.create(MAPS, &config_map("a", &json!({}))).await;
    let patches = (0..20).map(|n| {
        let server = server.clone();
        async move {
            let patch = json!({"data": {format!("k{n}"): "v"}});
            let answer = server.patch(&format!("{MAPS}/a"), "merge", &patch).await;
            assert_eq!(answer.code, 200, "{answer:?}");
        }
    });
    futures::future::join_all(patches).await;
    let map = server.get(&format!("{MAPS}/a")).await.body;
    assert_eq!(map["data"].as_object().unwrap().len(), 20);
}

#[tokio::test]
async fn watches_can_be_tables_or_metadata() {
    let server = server().await;
    server.create(MAPS, &config_map("a", &json!({"k": "v"}))).await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let mut events = server.watch(MAPS, &table).await;
    let first = events.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert!(!first["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    server.create(MAPS, &config_map("b", &json!({}))).await;
    let second = events.next().await.unwrap();
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
    assert_eq!(second["object"]["columnDefinitions"], Value::Null, "columns are told once");
    let partial = [("accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")];
    let mut events = server.watch(&format!("{MAPS}?fieldSelector=metadata.name%3Db"), &partial).await;
    let only = events.next().await.unwrap();
    assert_eq!(only["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(only["object"]["metadata"]["name"], "b");
    assert!(only["object"].get("data").is_none());
}

#[tokio::test]
async fn the_server_follows_its_own_objects() {
    use crate::objects::{Change, Manager, Objects as _, Ref};
    use futures::StreamExt as _;

    let server = server().await;
    let registry = &server.registry;
    let maps = Ref::collection("", "configmaps", "default");
    let a = Ref { name: "a", ..maps };
    registry.create(maps, config_map("a", &json!({})), Manager::SERVER).await.unwrap();
    registry.list_newest(maps).await.unwrap();
    let mut changes = registry.changes("", "configmaps");
    let mut next = async || tokio::time::timeout(Duration::from_secs(10), changes.next()).await.unwrap().unwrap();
    assert!(matches!(next().await, Change::Put(object) if api::meta::name(&object) == "a"));
    assert!(matches!(next().await, Change::Synced));
    let mut object = (*registry.read(a).await.unwrap()).clone();
    object["data"] = json!({"k": "v"});
    registry.update(a, "", object, Manager::SERVER).await.unwrap();
    assert!(matches!(next().await, Change::Put(object) if object["data"]["k"] == "v"));
    registry.delete(a, None).await.unwrap();
    assert!(matches!(next().await, Change::Deleted(object) if object["data"]["k"] == "v"));
    assert!(registry.read(a).await.is_err());
}

#[tokio::test]
async fn the_server_follows_objects_with_a_text() {
    use crate::objects::{Change, Manager, Objects as _, Ref};
    use futures::StreamExt as _;

    let server = server().await;
    let registry = &server.registry;
    let maps = Ref::collection("", "configmaps", "default");
    let map = |name: &str, data: Value| registry.create(maps, config_map(name, &data), Manager::SERVER);
    let change = async |name: &str, data: Value| {
        let object = Ref { name, ..maps };
        let mut changed = (*registry.read(object).await.unwrap()).clone();
        changed["data"] = data;
        registry.update(object, "", changed, Manager::SERVER).await.unwrap();
    };
    map("a", json!({"k": "v"})).await.unwrap();
    map("b", json!({"other": "k"})).await.unwrap();
    registry.list_newest(maps).await.unwrap();
    let mut changes = registry.changes_with("", "configmaps", "data.k");
    let mut next = async || tokio::time::timeout(Duration::from_secs(10), changes.next()).await.unwrap().unwrap();
    assert!(matches!(next().await, Change::Put(object) if api::meta::name(&object) == "a"));
    assert!(matches!(next().await, Change::Synced));
    map("c", json!({})).await.unwrap();
    change("b", json!({"k": "w"})).await;
    assert!(matches!(next().await, Change::Put(object) if object["data"]["k"] == "w"));
    change("a", json!({"k": ""})).await;
    assert!(matches!(next().await, Change::Deleted(object) if api::meta::name(&object) == "a"));
    registry.delete(Ref { name: "a", ..maps }, None).await.unwrap();
    registry.delete(Ref { name: "b", ..maps }, None).await.unwrap();
    assert!(matches!(next().await, Change::Deleted(object) if api::meta::name(&object) == "b"));
}
