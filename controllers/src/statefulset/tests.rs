//! Tables of steps.

use serde_json::{Value, json};

use super::*;

fn set(spec: Value) -> StatefulSet {
    let mut value = json!({"metadata": {"name": "db", "namespace": "ns", "uid": "s"}, "spec": {
        "replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c"}],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "other", "emptyDir": {}}]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}});
    json_patch::merge(&mut value["spec"], &spec);
    serde_json::from_value(value).unwrap()
}

/// `+` ready, `-` not ready, `x` ending, `!` failed, `?` pending; then the revision.
fn pod(number: i32, state: &str) -> Arc<Pod> {
    let (sign, revision) = state.split_at(1);
    let ready = if matches!(sign, "+" | "x") { "True" } else { "False" };
    let phase = match sign {
        "!" => "Failed",
        "?" => "Pending",
        _ => "Running",
    };
    let value = json!({"metadata": {"name": format!("db-{number}"), "uid": number.to_string(),
            "labels": {"app": "db", "controller-revision-hash": revision},
            "deletionTimestamp": (sign == "x").then_some("2024-01-01T00:00:00Z")},
        "spec": {"containers": []}, "status": {"phase": phase, "conditions": [
            {"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:00Z"}]}});
    Arc::new(serde_json::from_value(value).unwrap())
}

fn observe<'a>(set: &'a StatefulSet, pods: &[&str]) -> Observed<'a> {
    let number = |at: usize| i32::try_from(at).unwrap();
    let present = pods.iter().enumerate().filter(|(_, state)| !state.is_empty());
    Observed {
        set,
        pods: present.map(|(at, state)| pod(number(at), state)).collect(),
        current: ("old".to_owned(), set.spec.template.clone()),
        update: ("new".to_owned(), set.spec.template.clone()),
        now: Timestamp::from_second(1000).unwrap(),
    }
}

fn steps(set: &StatefulSet, pods: &[&str]) -> Vec<String> {
    let plan = plan(&observe(set, pods));
    let name = |pod: &Pod| pod.metadata.name.clone().unwrap().replace("db-", "");
    let of = |sign: &'static str, pods: &[Arc<Pod>]| -> Vec<String> {
        pods.iter().map(|pod| format!("{sign}{}", name(pod))).collect()
    };
    let created = plan.steps.create.iter().map(|pod| format!("+{}", name(pod)));
    created.chain(of("?", &plan.steps.provide)).chain(of("-", &plan.steps.delete)).collect()
}

#[test]
fn one_after_the_other() {
    let set = set(json!({}));
    for (pods, expected) in [
        (&[][..], vec!["+0"]),
        (&["-new"], vec![]),
        (&["?new", "?new"], vec!["?0"]),
        (&["+new"], vec!["+1"]),
        (&["+new", "", "+new"], vec!["+1"]),
        (&["+new", "!new", "+new"], vec!["-1"]),
        (&["+new", "xnew", "+new"], vec![]),
        (&["+new", "+new", "+new"], vec![]),
        // Too many: the highest goes, but not while a lower one is not well.
        (&["+new", "+new", "+new", "+new", "+new"], vec!["-4"]),
        (&["+new", "+new", "+new", "+new", "xnew"], vec![]),
        (&["+new", "-new", "+new", "+new"], vec![]),
        (&["+new", "+new", "+new", "-new", "-new"], vec![]),
        (&["+new", "+new", "+new", "-new"], vec!["-3"]),
        // Another template: from the highest down.
        (&["+old", "+old", "+old"], vec!["-2"]),
        (&["+old", "+old", "-new"], vec![]),
        (&["+old", "+old", "+new"], vec!["-1"]),
    ] {
        assert_eq!(steps(&set, pods), expected, "{pods:?}");
    }
}

#[test]
fn sets_of_any_size_are_planned_in_pieces() {
    let huge =
        |policy: &str| set(json!({"podManagementPolicy": policy, "replicas": i32::MAX, "ordinals": {"start": 1}}));
    let (ordered, parallel) = (huge("OrderedReady"), huge("Parallel"));
    assert_eq!(plan(&observe(&ordered, &[])).steps.create.len(), 1);
    assert_eq!(plan(&observe(&parallel, &[])).steps.create.len(), BURST);
}

#[test]
fn a_share_that_may_be_unavailable_is_rounded_down() {
    for (share, pods, expected) in
        [(json!("25%"), 10, vec!["-9", "-8"]), (json!("25%"), 3, vec!["-2"]), (json!(3), 10, vec!["-9", "-8", "-7"])]
    {
        let set = set(
            json!({"replicas": pods, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": share}}}),
        );
        assert_eq!(steps(&set, &vec!["+old"; pods]), expected, "{share} of {pods}");
    }
}

#[test]
fn all_at_once() {
    let set = set(json!({"podManagementPolicy": "Parallel"}));
    for (pods, expected) in [
        (&[][..], vec!["+0", "+1", "+2"]),
        (&["-new", "", "!new"], vec!["+1", "-2"]),
        (&["?new", "-new", "?new"], vec!["?0", "?2"]),
        (&["+new", "+new", "+new", "-new", "+new"], vec!["-4", "-3"]),
    ] {
        assert_eq!(steps(&set, pods), expected, "{pods:?}");
    }
}

#[test]
fn strategies_bound_the_update() {
    let old = ["+old"; 3];
    let strategy = |value: Value| set(json!({"updateStrategy": value}));
    for (value, expected) in [
        (json!({"type": "OnDelete"}), vec![]),
        (json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}), vec!["-2"]),
        (json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}), vec![]),
        (json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}), vec!["-2", "-1"]),
    ] {
        assert_eq!(steps(&strategy(value.clone()), &old), expected, "{value}");
    }
    let partitioned = strategy(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}));
    let made = plan(&observe(&partitioned, &["", "+new", "+new"])).steps.create;
    assert_eq!(revision(&made[0]), "old", "below the partition the former template stays");
}

#[test]
fn pods_have_names_and_volumes() {
    let set = set(json!({"ordinals": {"start": 5}}));
    let pod = plan(&observe(&set, &[])).steps.create.remove(0);
    assert_eq!(pod.metadata.name.as_deref(), Some("db-5"));
    assert_eq!(pod.metadata.labels.as_ref().unwrap()["apps.kubernetes.io/pod-index"], "5");
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-5"), Some("db")));
    let volumes = spec.volumes.as_ref().unwrap();
    assert_eq!(volumes[0].persistent_volume_claim.as_ref().unwrap().claim_name, "data-db-5");
    assert_eq!(volumes.len(), 2);
    let claim = super::super::pod::claims(&set, &pod).remove(0);
    assert_eq!(claim.metadata.labels.unwrap()["app"], "db");
}

#[test]
fn the_status_tells_how_far_it_is() {
    let set = set(json!({}));
    let told = |pods: &[&str]| {
        let status = plan(&observe(&set, pods)).status;
        let counts = [Some(status.replicas), status.ready_replicas, status.current_replicas, status.updated_replicas];
        (counts.map(Option::unwrap_or_default), status.current_revision.unwrap())
    };
    assert_eq!(told(&["+old", "+old", "-new"]), ([3, 2, 2, 1], "old".to_owned()));
    assert_eq!(told(&["+new", "+new", "+new"]), ([3, 3, 3, 3], "new".to_owned()));
}
