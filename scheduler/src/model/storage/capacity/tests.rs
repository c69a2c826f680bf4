//! Where there is room for volumes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::{Value, json};

use super::*;
use crate::model::storage::Conflict;

const GIB: i64 = 1 << 30;

fn claim(name: &str, size: Option<&str>, annotations: Value) -> Arc<PersistentVolumeClaim> {
    let requests = size.map_or(json!({}), |size| json!({"storage": size}));
    let claim = json!({"metadata": {"name": name, "namespace": "ns", "annotations": annotations},
        "spec": {"storageClassName": "fast", "resources": {"requests": requests}}});
    Arc::new(serde_json::from_value(claim).unwrap())
}

fn room(class: &str, zone: Option<&str>, capacity: Option<&str>, largest: Option<&str>) -> CSIStorageCapacity {
    let topology = zone.map(|zone| json!({"matchLabels": {"zone": zone}}));
    serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "driver"}, "storageClassName": class,
        "nodeTopology": topology, "capacity": capacity, "maximumVolumeSize": largest}))
    .unwrap()
}

/// With a class `fast` of the driver `d`.
fn storage(tracked: Option<bool>, rooms: Vec<CSIStorageCapacity>) -> Storage {
    let class = json!({"metadata": {"name": "fast"}, "provisioner": "d", "volumeBindingMode": "WaitForFirstConsumer"});
    let mut storage = Storage::default();
    storage.classes.insert("fast".into(), Arc::new(serde_json::from_value(class).unwrap()));
    if let Some(tracked) = tracked {
        let driver = json!({"metadata": {"name": "d"}, "spec": {"storageCapacity": tracked}});
        storage.drivers.insert("d".into(), Arc::new(serde_json::from_value(driver).unwrap()));
    }
    for (index, room) in rooms.into_iter().enumerate() {
        storage.capacities.insert(reconcile::Key::new("driver", index.to_string()), Arc::new(room));
    }
    storage
}

fn zone(name: &str) -> Labels {
    Labels::from([("zone".to_owned(), name.to_owned())])
}

fn planned(storage: &Storage, claim: Arc<PersistentVolumeClaim>) -> Result<(), Conflict> {
    storage.plan(&storage.sort(vec![claim]), "n", &zone("a")).map(drop)
}

#[test]
fn a_volume_is_made_where_its_driver_has_room() {
    let of = |zone: &str, capacity: &str| room("fast", Some(zone), Some(capacity), None);
    let largest = |largest: &str| room("fast", Some("a"), Some("100Gi"), Some(largest));
    let other = room("slow", Some("a"), Some("100Gi"), None);
    let nowhere = room("fast", None, Some("100Gi"), None);
    let unknown = room("fast", Some("a"), None, None);
    for (why, tracked, rooms, enough) in [
        ("no driver is known", None, vec![], true),
        ("the driver does not tell", Some(false), vec![], true),
        ("nothing is published", Some(true), vec![], false),
        ("enough", Some(true), vec![of("a", "5Gi")], true),
        ("too little", Some(true), vec![of("a", "4Gi")], false),
        ("a second pool has it", Some(true), vec![of("a", "4Gi"), of("a", "6Gi")], true),
        ("elsewhere", Some(true), vec![of("b", "5Gi")], false),
        ("volumes may not be so large", Some(true), vec![largest("4Gi")], false),
        ("volumes may be so large", Some(true), vec![largest("5Gi")], true),
        ("of another class", Some(true), vec![other], false),
        ("reached from nowhere", Some(true), vec![nowhere], false),
        ("of a size that nobody knows", Some(true), vec![unknown], false),
    ] {
        let storage = storage(tracked, rooms);
        let expected = if enough { Ok(()) } else { Err(Conflict::Space) };
        assert_eq!(planned(&storage, claim("c", Some("5Gi"), json!({}))), expected, "{why}");
        // The driver is asked again when a node was chosen once.
        let chosen = claim("c", Some("5Gi"), json!({super::super::SELECTED_NODE: "n"}));
        assert_eq!(planned(&storage, chosen), expected, "{why}, chosen before");
        assert_eq!(planned(&storage, claim("c", None, json!({}))), Ok(()), "{why}, of no size");
    }
}

#[test]
fn more_room_is_better() {
    let (c, d) = (claim("c", Some("5Gi"), json!({})), claim("d", Some("1Gi"), json!({})));
    let with = |capacity: &str| storage(Some(true), vec![room("fast", Some("a"), Some(capacity), None)]);
    let provision = |claims: &[&Arc<PersistentVolumeClaim>]| Plan {
        bind: Vec::new(),
        provision: claims.iter().map(|claim| (*claim).clone()).collect(),
    };
    for (capacity, claims, expected) in [
        ("10Gi", vec![&c], 50),
        ("100Gi", vec![&c], 95),
        ("10Gi", vec![&c, &d], 40),
        ("5Gi", vec![&c], 0),
        ("5Gi", vec![&c, &d], 0),
        ("1Gi", vec![&c], 0),
    ] {
        assert_eq!(with(capacity).score(&provision(&claims), &zone("a")), expected, "{capacity}");
    }
    assert_eq!(with("10Gi").score(&Plan::default(), &zone("a")), 0);
    assert_eq!(storage(None, vec![]).score(&provision(&[&c]), &zone("a")), 0, "nobody tells");

    let volume: PersistentVolume = serde_json::from_value(
        json!({"metadata": {"name": "v"}, "spec": {"storageClassName": "fast", "capacity": {"storage": "20Gi"}}}),
    )
    .unwrap();
    let plan = Plan { bind: vec![(Arc::new(volume), c.clone())], provision: vec![d.clone()] };
    assert_eq!(with("1Gi").score(&plan, &zone("a")), 75, "only what is there already counts");
}

#[test]
fn scores_are_rounded_means() {
    let used = |requested: i64, capacity: i64| Use { requested: requested * GIB, capacity: capacity * GIB }.score();
    assert_eq!((used(1, 3), used(0, 0), used(0, 1)), (67, 0, 100));
    assert_eq!(Use { requested: i64::MAX, capacity: i64::MAX }.score(), 0);
    for (scores, expected) in [(vec![], 0), (vec![67], 67), (vec![67, 100], 84), (vec![1, 1, 2], 1)] {
        assert_eq!(mean(scores.clone()), expected, "{scores:?}");
    }
}

#[test]
fn what_makes_pods_look_again() {
    let of = |capacity: Option<&str>| room("fast", Some("a"), capacity, None);
    for (old, new, grown) in [
        (None, Some("1Gi"), true),
        (Some("1Gi"), Some("2Gi"), true),
        (Some("2Gi"), Some("2048Mi"), false),
        (Some("2Gi"), Some("1Gi"), false),
        (Some("2Gi"), None, false),
    ] {
        assert_eq!(has_grown(&of(old), &of(new)), grown, "{old:?} {new:?}");
    }
}
