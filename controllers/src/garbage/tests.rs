//! Tables of the graph and of decisions.

use std::{collections::BTreeSet, sync::Arc};

use kube::api::ApiResource;
use serde_json::json;

use super::*;
use crate::{
    discovery::Resource,
    garbage::graph::{Graph, Todo, Uid},
};

fn resource() -> Arc<Resource> {
    let api = ApiResource {
        group: String::new(),
        version: "v1".to_owned(),
        api_version: "v1".to_owned(),
        kind: "Thing".to_owned(),
        plural: "things".to_owned(),
    };
    Arc::new(Resource { api, namespaced: true, verbs: BTreeSet::new() })
}

/// An object with owners; a `!` after an owner's name says that it blocks its deletion.
fn meta(uid: &str, owners: &[&str], deleted_with: Option<&str>) -> ObjectMeta {
    let owners: Vec<_> = owners
        .iter()
        .map(|it| {
            let uid = it.trim_end_matches('!');
            json!({"apiVersion": "v1", "kind": "Thing", "name": uid, "uid": uid, "blockOwnerDeletion": it.ends_with('!')})
        })
        .collect();
    let deleted = deleted_with.map(|_| "2024-01-01T00:00:00Z");
    serde_json::from_value(json!({"name": uid, "uid": uid, "ownerReferences": owners, "deletionTimestamp": deleted,
        "finalizers": deleted_with.into_iter().collect::<Vec<_>>(), "resourceVersion": "7"}))
    .unwrap()
}

fn told(todo: Vec<Todo>) -> Vec<String> {
    let tell = |it: Todo| match it {
        Todo::Check(uid) => format!("check {uid}"),
        Todo::Orphan(uid) => format!("orphan {uid}"),
    };
    todo.into_iter().map(tell).collect()
}

#[test]
fn the_graph_says_what_to_look_at() {
    let (mut graph, resource) = (Graph::default(), resource());
    let mut apply = |meta: &ObjectMeta| told(graph.apply(&resource, meta));
    assert_eq!(apply(&meta("early", &["owner"], None)), ["check early"], "its owner is not known yet");
    assert_eq!(apply(&meta("owner", &[], None)), [""; 0]);
    assert_eq!(apply(&meta("late", &["owner!"], None)), [""; 0]);
    assert_eq!(apply(&meta("owner", &[], Some(FOREGROUND))), ["check early", "check late", "check owner"]);
    assert_eq!(apply(&meta("owner", &[], Some(FOREGROUND))), [""; 0], "once");
    assert_eq!(apply(&meta("late", &["owner"], None)), ["check owner", "check late"], "it no longer blocks");
    assert_eq!(apply(&meta("other", &[], Some(ORPHAN))), ["orphan other"]);
    assert_eq!(told(graph.remove("owner")), ["check early", "check late"]);
}

#[test]
fn only_doubtful_objects_are_suspects() {
    let (mut graph, resource) = (Graph::default(), resource());
    for it in [
        meta("owner", &[], None),
        meta("fine", &["owner"], None),
        meta("lost", &["gone"], None),
        meta("free", &[], None),
        meta("ending", &["gone"], Some("x")),
        meta("waiting", &[], Some(FOREGROUND)),
    ] {
        graph.apply(&resource, &it);
    }
    let suspects = ["owner", "fine", "lost", "free", "ending", "waiting"].map(|it| graph.suspect(it).is_some());
    assert_eq!(suspects, [false, false, true, false, false, true]);
    let listed: BTreeSet<Uid> = ["fine"].map(Uid::from).into();
    assert_eq!(told(graph.retain(&resource, &listed)), ["check fine"]);
    assert!(graph.suspect("fine").is_some() && graph.suspect("lost").is_none());
}

#[test]
fn an_owner_waits_for_blocking_dependents() {
    let (mut graph, resource) = (Graph::default(), resource());
    graph.apply(&resource, &meta("owner", &[], Some(FOREGROUND)));
    graph.apply(&resource, &meta("a", &["owner!"], None));
    graph.apply(&resource, &meta("b", &["owner"], None));
    assert_eq!(graph.blocking("owner"), ["a"].map(Uid::from));
    assert_eq!(told(graph.remove("a")), ["check owner"]);
    assert!(graph.blocking("owner").is_empty());
}

#[test]
fn owners_decide() {
    use OwnerState::{Absent, Solid, Waiting};
    let item = meta("item", &["a", "b"], None);
    let owners = item.owner_references.clone().unwrap();
    let mut graph = Graph::default();
    graph.apply(&resource(), &meta("child", &["item"], None));
    let children = graph.dependents("item");
    graph.apply(&resource(), &meta("child", &["item"], Some(FOREGROUND)));
    let circle = graph.dependents("item");
    let delete = |propagation, unblock| Action::Delete { propagation, unblock };
    for (states, dependents, expected) in [
        ([Solid, Solid], &[][..], Action::Nothing),
        ([Solid, Absent], &[], Action::Release(vec![owners[0].clone()])),
        ([Waiting, Solid], &children, Action::Release(vec![owners[1].clone()])),
        ([Absent, Absent], &children, delete(PropagationPolicy::Background, false)),
        ([Absent, Waiting], &[], delete(PropagationPolicy::Background, false)),
        ([Absent, Waiting], &children, delete(PropagationPolicy::Foreground, false)),
        ([Waiting, Waiting], &circle, delete(PropagationPolicy::Foreground, true)),
    ] {
        let classified = owners.iter().cloned().zip(states).collect();
        assert_eq!(decide(&item, classified, dependents), expected, "{states:?} with {} dependents", dependents.len());
    }
    assert_eq!(decide(&item, Vec::new(), &[]), Action::Nothing);
}

#[test]
fn patches_name_the_version_they_apply_to() {
    let item = meta("item", &["a"], Some(FOREGROUND));
    let expected = json!({"metadata": {"uid": "item", "resourceVersion": "7", "finalizers": null}});
    assert_eq!(finalizer_patch(&item, FOREGROUND), Some(expected));
    assert_eq!(finalizer_patch(&item, ORPHAN), None);
    let expected = json!({"metadata": {"uid": "item", "resourceVersion": "7", "ownerReferences": null}});
    assert_eq!(owners_patch(&item, &without(&item, "a")), expected);
    assert_eq!(unblocked(&meta("item", &["a!"], None))[0].block_owner_deletion, Some(false));
}
