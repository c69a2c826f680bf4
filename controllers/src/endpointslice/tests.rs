//! Tables of slices.

use serde_json::{Value, json};

use super::*;

fn service(more: Value) -> Service {
    let mut value = json!({"metadata": {"name": "web", "namespace": "ns", "uid": "s", "labels": {"a": "b"}},
        "spec": {"clusterIP": "10.96.0.5", "ipFamilies": ["IPv4"], "selector": {"app": "a"},
            "ports": [{"port": 80, "targetPort": "http", "protocol": "TCP"}]}});
    json_patch::merge(&mut value, &more);
    serde_json::from_value(value).unwrap()
}

fn pod(number: usize, more: Value) -> Arc<Pod> {
    let mut value = json!({"metadata": {"name": format!("p{number}"), "namespace": "ns", "uid": number.to_string()},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.0.{}.{}", number / 200, number % 200 + 1)}],
            "conditions": [{"type": "Ready", "status": "True"}]}});
    json_patch::merge(&mut value, &more);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn pods(count: usize) -> Vec<Arc<Pod>> {
    (0..count).map(|number| pod(number, json!({}))).collect()
}

fn zone(node: &str) -> Option<Option<String>> {
    (node == "n").then(|| Some("z".to_owned()))
}

/// What the server holds after changes.
fn apply(existing: &[Arc<EndpointSlice>], changes: Changes) -> Vec<Arc<EndpointSlice>> {
    let gone: Vec<_> = changes.delete.iter().chain([]).map(|slice| slice.metadata.name.clone()).collect();
    let updated = |slice: &Arc<EndpointSlice>| changes.update.iter().any(|it| it.metadata.name == slice.metadata.name);
    let mut slices: Vec<_> = existing.to_vec();
    slices.retain(|slice| !gone.contains(&slice.metadata.name) && !updated(slice));
    slices.extend(changes.update.iter().cloned().map(Arc::new));
    for mut slice in changes.create {
        slice.metadata.name = Some(format!("web-{}", slices.len() + 100));
        slices.push(Arc::new(slice));
    }
    slices
}

fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
    let mut sizes: Vec<_> = slices.iter().map(|slice| length(slice)).collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn slices_fill_and_empty_with_few_changes() {
    let service = service(json!({}));
    let mut slices = Vec::new();
    for (count, expected, writes) in [
        (0, vec![0], 1),
        (0, vec![0], 0),
        (250, vec![50, 100, 100], 3),
        (250, vec![50, 100, 100], 0),
        (251, vec![51, 100, 100], 1),
        (310, vec![51, 59, 100, 100], 1),
        (5, vec![1, 4], 4),
        (0, vec![0], 2),
    ] {
        let (changes, missing) = plan(&service, &pods(count), &zone, &slices);
        assert!(missing.is_none());
        let made = changes.create.len() + changes.update.len() + changes.delete.len();
        slices = apply(&slices, changes);
        assert_eq!(sizes(&slices), expected, "{count} pods");
        assert_eq!(made, writes, "writes for {count} pods");
    }
}

#[test]
fn conditions_follow_readiness_and_deletion() {
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let ending = json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}});
    let publish = json!({"spec": {"publishNotReadyAddresses": true}});
    for (more, service_more, expected) in [
        (json!({}), json!({}), (true, true, false)),
        (unready.clone(), json!({}), (false, false, false)),
        (unready, publish.clone(), (true, false, false)),
        (ending.clone(), json!({}), (false, true, true)),
        (ending, publish, (true, true, true)),
    ] {
        let (changes, _) = plan(&service(service_more), &[pod(1, more)], &zone, &[]);
        let endpoint = changes.create[0].endpoints.as_ref().unwrap()[0].clone();
        let told = endpoint.conditions.unwrap();
        assert_eq!((told.ready.unwrap(), told.serving.unwrap(), told.terminating.unwrap()), expected);
        assert_eq!((endpoint.zone.as_deref(), endpoint.node_name.as_deref()), (Some("z"), Some("n")));
    }
}

#[test]
fn what_is_written() {
    let headless = json!({"spec": {"clusterIP": "None"}});
    let named = pod(1, json!({"spec": {"hostname": "h", "subdomain": "web"}}));
    let (changes, _) = plan(&service(headless), &[named], &zone, &[]);
    insta::assert_json_snapshot!(changes.create[0]);
}

#[test]
fn pods_without_address_or_at_their_end_are_left_out() {
    let out = [json!({"status": {"phase": "Failed"}}), json!({"status": {"podIPs": null}})];
    for more in out {
        let (changes, _) = plan(&service(json!({})), &[pod(1, more)], &zone, &[]);
        assert_eq!(sizes(&apply(&[], changes)), [0]);
    }
    let lost = pod(1, json!({"spec": {"nodeName": "lost"}}));
    let (_, missing) = plan(&service(json!({})), &[lost], &zone, &[]);
    assert_eq!(missing, Some(("p1".to_owned(), "lost".to_owned())));
}

#[test]
fn other_ports_and_families_have_slices_of_their_own() {
    let other = json!({"spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 9090}]}]}});
    let dual = json!({"spec": {"ipFamilies": ["IPv4", "IPv6"]}});
    let (changes, _) = plan(&service(dual), &[pod(1, json!({})), pod(2, other)], &zone, &[]);
    let mut told: Vec<_> = changes
        .create
        .iter()
        .map(|it| (it.address_type.as_str(), it.ports.as_ref().unwrap().first().and_then(|it| it.port), length(it)))
        .collect();
    told.sort_unstable();
    assert_eq!(told, [("IPv4", Some(8080), 1), ("IPv4", Some(9090), 1), ("IPv6", None, 0)]);
}

#[test]
fn changed_labels_are_copied() {
    let (changes, _) = plan(&service(json!({})), &pods(1), &zone, &[]);
    let slices = apply(&[], changes);
    let relabeled = service(json!({"metadata": {"labels": {"a": "c"}}}));
    let (changes, _) = plan(&relabeled, &pods(1), &zone, &slices);
    assert_eq!(changes.update[0].metadata.labels.as_ref().unwrap()["a"], "c");
    assert_eq!(changes.update.len(), 1);
}

#[test]
fn traffic_that_is_to_stay_near_gets_hints() {
    let zone = |name: &str| Some(Some(format!("zone-of-{name}")));
    let hints = |service: &Service, pod: Arc<Pod>, existing: &[Arc<EndpointSlice>]| {
        let changes = plan(service, &[pod], &zone, existing).0;
        let slice = changes.create.into_iter().chain(changes.update).next()?;
        Some(serde_json::to_value(&slice.endpoints.unwrap()[0].hints).unwrap())
    };
    let of = |distribution: Value| service(json!({"spec": {"trafficDistribution": distribution}}));
    let (ready, unready) = (json!({}), json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}));
    let near = json!({"forZones": [{"name": "zone-of-n"}]});
    let nearest = json!({"forNodes": [{"name": "n"}], "forZones": [{"name": "zone-of-n"}]});
    for (distribution, more, expected) in [
        (Value::Null, &ready, Value::Null),
        (json!("PreferClose"), &ready, near.clone()),
        (json!("PreferSameZone"), &ready, near),
        (json!("PreferSameNode"), &ready, nearest),
        (json!("PreferSameNode"), &unready, Value::Null),
    ] {
        assert_eq!(
            hints(&of(distribution.clone()), pod(1, more.clone()), &[]),
            Some(expected),
            "{distribution} {more}"
        );
    }
    let mut by_mode = of(json!("PreferSameZone"));
    by_mode.metadata.annotations = Some([(TOPOLOGY_MODE.to_owned(), "Auto".to_owned())].into());
    assert_eq!(hints(&by_mode, pod(1, ready.clone()), &[]), Some(Value::Null));
    let plain = apply(&[], plan(&of(Value::Null), &[pod(1, ready.clone())], &zone, &[]).0);
    assert!(hints(&of(json!("PreferSameZone")), pod(1, ready.clone()), &plain).is_some(), "they come later too");
    let hinted = apply(&plain, plan(&of(json!("PreferSameZone")), &[pod(1, ready.clone())], &zone, &plain).0);
    assert_eq!(hints(&of(json!("PreferSameZone")), pod(1, ready.clone()), &hinted), None, "and stay");
    assert_eq!(hints(&of(Value::Null), pod(1, ready), &hinted), Some(Value::Null), "and go");
}
