//! What a snapshot shows after single changes.

use serde_json::json;

use super::*;

fn node(name: &str, images: &[&str]) -> Node {
    let images: Vec<_> = images.iter().map(|i| json!({"names": [i], "sizeBytes": 5})).collect();
    serde_json::from_value(json!({
        "metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", "pods": "10"}, "images": images},
    }))
    .unwrap()
}

fn pod(name: &str, node: &str) -> Arc<PodInfo> {
    let object = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"nodeName": node, "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
    }))
    .unwrap();
    Arc::new(PodInfo::new(Arc::new(object)))
}

fn used(cache: &Cache, node: &str) -> i64 {
    cache.snapshot().node(node).map_or(-1, |n| n.requested.milli_cpu)
}

#[test]
fn an_assumed_pod_counts_until_the_api_says_otherwise() {
    let cache = Cache::default();
    cache.set_node(&node("a", &[]));
    cache.set_node(&node("b", &[]));
    cache.assume(pod("p", "a"));
    assert_eq!((used(&cache, "a"), used(&cache, "b")), (1000, 0));
    cache.set_pod(pod("p", "b"));
    assert_eq!((used(&cache, "a"), used(&cache, "b")), (0, 1000));
    cache.forget("p");
    assert_eq!(used(&cache, "b"), 1000, "the API's word stands");
    cache.remove_pod("p");
    assert_eq!(used(&cache, "b"), 0);
    cache.assume(pod("q", "a"));
    cache.forget("q");
    assert_eq!(used(&cache, "a"), 0);
}

#[test]
fn pods_of_a_node_that_comes_later_or_goes_are_not_lost() {
    let cache = Cache::default();
    cache.set_pod(pod("p", "a"));
    assert_eq!((cache.snapshot().len(), used(&cache, "a")), (0, -1));
    cache.set_node(&node("a", &[]));
    assert_eq!((cache.snapshot().len(), used(&cache, "a")), (1, 1000));
    cache.remove_node("a");
    assert_eq!((cache.snapshot().len(), used(&cache, "a")), (0, -1));
    cache.set_node(&node("a", &[]));
    assert_eq!(used(&cache, "a"), 1000);
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let cache = Cache::default();
    cache.set_node(&node("a", &["web"]));
    let before = cache.snapshot();
    cache.set_node(&node("b", &["web", "db:1"]));
    cache.assume(pod("p", "a"));
    assert_eq!((before.len(), before.node("a").unwrap().pods.len(), before.image_spread("web:latest")), (1, 0, 1));
    let after = cache.snapshot();
    assert_eq!((after.image_spread("web:latest"), after.image_spread("db:1")), (2, 1));
    cache.remove_node("b");
    assert_eq!(cache.snapshot().image_spread("db:1"), 0);
}
