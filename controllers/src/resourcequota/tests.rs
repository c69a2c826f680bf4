//! What a quota counts again, and when.

use kube::{core::PartialObjectMeta, runtime::watcher::Event};
use serde_json::json;

use super::{counts::Objects, plan::Quota, *};
use crate::metadata::Metadata;

fn quota(value: serde_json::Value) -> ResourceQuota {
    serde_json::from_value(value).unwrap()
}

fn amounts(value: serde_json::Value) -> Amounts {
    Amounts::read(Some(&value))
}

#[test]
fn a_status_is_written_when_it_says_something_else() {
    let spec = json!({"hard": {"pods": "5", "cpu": "1000m", "gold/unknown": "1"}});
    let new = Quota::read(&quota(json!({"metadata": {"name": "q"}, "spec": spec})));
    let (hard, used) = new.status(&amounts(json!({"pods": "2", "cpu": "0"}))).unwrap();
    assert_eq!((hard.to_string().as_str(), used.to_string().as_str()), ("cpu=1,gold/unknown=1,pods=5", "cpu=0,pods=2"));
    let status = json!({"hard": {"pods": "5", "cpu": "1", "gold/unknown": "1"}, "used": {"pods": "2", "cpu": "0"}});
    let counted = Quota::read(&quota(json!({"metadata": {"name": "q"}, "spec": spec, "status": status})));
    assert!(counted.status(&amounts(json!({"pods": "2", "cpu": "0m"}))).is_none());
    let (_, used) = counted.status(&amounts(json!({"pods": "1"}))).unwrap();
    assert_eq!(used.to_string(), "cpu=0,pods=1");
}

#[test]
fn what_is_no_longer_limited_is_no_longer_shown() {
    let status = json!({"hard": {"pods": "5", "cpu": "1"}, "used": {"pods": "2", "cpu": "0"}});
    let changed = quota(json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "6"}}, "status": status}));
    let (hard, used) = Quota::read(&changed).status(&amounts(json!({"pods": "2"}))).unwrap();
    assert_eq!((hard.to_string().as_str(), used.to_string().as_str()), ("pods=6", "pods=2"));
    assert!(plan::limits(&changed, &Evaluator::Pods) && !plan::limits(&changed, &Evaluator::Services));
}

#[test]
fn a_list_replaces_what_was_there() {
    let object = |namespace: &str, name: &str| -> Metadata {
        let meta = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"namespace": namespace, "name": name}});
        serde_json::from_value::<PartialObjectMeta<_>>(meta).unwrap()
    };
    let mut objects = Objects::default();
    let list = |objects: &mut Objects, names: &[(&str, &str)]| {
        objects.take(Event::Init);
        for (namespace, name) in names {
            assert!(objects.take(Event::InitApply(object(namespace, name))).is_empty());
        }
        objects.take(Event::InitDone)
    };
    assert!(list(&mut objects, &[("a", "x"), ("a", "y"), ("b", "x")]).is_empty());
    assert_eq!((objects.number("a"), objects.number("b"), objects.number("c")), (2, 1, 0));
    objects.take(Event::Apply(object("a", "z")));
    assert_eq!(objects.take(Event::Delete(object("b", "x"))), ["b"]);
    assert_eq!((objects.number("a"), objects.number("b")), (3, 0));
    assert_eq!(list(&mut objects, &[("a", "z"), ("a", "new")]), ["a"]);
    assert_eq!(objects.number("a"), 2);
}

#[tokio::test]
async fn a_charge_is_looked_at_later_and_a_limit_at_once() {
    let (informer, feed) = Informer::<ResourceQuota>::detached();
    let queue = Queue::<Key>::new();
    let changed = queue.clone();
    informer.handle(move |change| quota_changed(change, &changed));
    let version = |version: &str, hard: &str, used: &str| {
        quota(json!({"metadata": {"name": "q", "namespace": "n", "resourceVersion": version},
            "spec": {"hard": {"pods": hard}}, "status": {"used": {"pods": used}}}))
    };
    feed.apply(version("1", "5", "0"));
    let key = queue.next().await;
    queue.done(&key);
    feed.apply(version("2", "5", "1"));
    assert_eq!(queue.len(), 0);
    feed.apply(version("3", "6", "1"));
    assert_eq!(queue.len(), 1);
}
