//! Which claim gets which volume, as table tests.

use jiff::Timestamp;
use reconcile::Change;
use serde_json::{Value, json};

use super::*;

fn claim(extra: &Value) -> PersistentVolumeClaim {
    let mut value = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u", "resourceVersion": "7"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "5Gi"}}}});
    json_patch::merge(&mut value, extra);
    serde_json::from_value(value).unwrap()
}

fn volume(name: &str, size: &str, extra: &Value) -> Arc<PersistentVolume> {
    let mut value = json!({"metadata": {"name": name}, "status": {"phase": "Available"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "persistentVolumeReclaimPolicy": "Retain"}});
    json_patch::merge(&mut value, extra);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn class(mode: &str, provisioner: &str) -> Arc<StorageClass> {
    let value = json!({"metadata": {"name": "fast"}, "provisioner": provisioner, "volumeBindingMode": mode});
    Arc::new(serde_json::from_value(value).unwrap())
}

fn step(claim: &PersistentVolumeClaim, volumes: &[Arc<PersistentVolume>], class: Option<Arc<StorageClass>>) -> String {
    let around = Surroundings { volumes, class, default_class: None, waiting_pods: vec!["p".to_owned()] };
    shown(claim::plan(claim, &around))
}

fn shown(step: ClaimStep) -> String {
    match step {
        ClaimStep::Nothing => "nothing".to_owned(),
        ClaimStep::Bind(volume) => format!("bind {}", volume.name_any()),
        ClaimStep::Wait { event } => format!("wait {}", event.map_or("", |(_, reason, _)| reason)),
        ClaimStep::SetClass(name) => format!("class {name}"),
        ClaimStep::HandOver { provisioner } => format!("hand over to {provisioner}"),
        ClaimStep::Lose { reason, .. } => format!("lose {reason}"),
    }
}

#[test]
fn the_smallest_fitting_volume_is_bound() {
    let many = json!({"spec": {"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}});
    let of = |extra: Value| volume("x", "6Gi", &extra);
    let cases: Vec<(Vec<Arc<PersistentVolume>>, &str)> = vec![
        (
            vec![volume("a", "4Gi", &json!({})), volume("b", "9Gi", &json!({})), volume("d", "6Gi", &json!({}))],
            "bind d",
        ),
        (vec![volume("a", "5Gi", &many), volume("b", "9Gi", &json!({}))], "bind b"),
        (vec![of(json!({"spec": {"storageClassName": "fast"}}))], "wait FailedBinding"),
        (vec![of(json!({"spec": {"accessModes": ["ReadOnlyMany"]}}))], "wait FailedBinding"),
        (vec![of(json!({"spec": {"volumeMode": "Block"}}))], "wait FailedBinding"),
        (vec![of(json!({"status": {"phase": "Released"}}))], "wait FailedBinding"),
        (vec![of(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))], "wait FailedBinding"),
        (vec![of(json!({"spec": {"claimRef": {"namespace": "n", "name": "other"}}}))], "wait FailedBinding"),
        (
            vec![volume("a", "5Gi", &json!({})), of(json!({"spec": {"claimRef": {"namespace": "n", "name": "c"}}}))],
            "bind x",
        ),
    ];
    for (volumes, expected) in cases {
        assert_eq!(step(&claim(&json!({})), &volumes, None), expected, "{volumes:?}");
    }
    let picky = claim(&json!({"spec": {"selector": {"matchLabels": {"tier": "gold"}}}}));
    let gold = volume("gold", "50Gi", &json!({"metadata": {"labels": {"tier": "gold"}}}));
    assert_eq!(step(&picky, &[volume("a", "5Gi", &json!({})), gold], None), "bind gold");
}

#[test]
fn a_class_says_when_and_by_whom() {
    let fast = claim(&json!({"spec": {"storageClassName": "fast"}}));
    let placed = claim(&json!({"spec": {"storageClassName": "fast"},
        "metadata": {"annotations": {"volume.kubernetes.io/selected-node": "node"}}}));
    let free = [volume("a", "5Gi", &json!({"spec": {"storageClassName": "fast"}}))];
    let later = || Some(class("WaitForFirstConsumer", "csi.example.com"));
    assert_eq!(step(&fast, &free, later()), "wait WaitForPodScheduled");
    assert_eq!(step(&placed, &[], later()), "hand over to csi.example.com");
    assert_eq!(step(&fast, &free, Some(class("Immediate", "csi.example.com"))), "bind a");
    assert_eq!(step(&fast, &[], Some(class("Immediate", "csi.example.com"))), "hand over to csi.example.com");
    assert_eq!(step(&fast, &[], Some(class("Immediate", "kubernetes.io/no-provisioner"))), "wait ProvisioningFailed");
    assert_eq!(step(&fast, &[], None), "wait ProvisioningFailed");
    let unsaid = claim(&json!({"spec": {"storageClassName": null}}));
    let around =
        Surroundings { volumes: &[], class: None, default_class: Some("fast".to_owned()), waiting_pods: Vec::new() };
    assert_eq!(shown(claim::plan(&unsaid, &around)), "class fast");
    assert_eq!(shown(claim::plan(&claim(&json!({})), &around)), "wait FailedBinding", "no class was chosen");
}

#[test]
fn a_volume_may_be_asked_for_by_name() {
    let asked = claim(&json!({"spec": {"volumeName": "v"}}));
    let v = |extra: Value| [volume("v", "5Gi", &extra)];
    assert_eq!(step(&asked, &[], None), "wait ");
    assert_eq!(step(&asked, &v(json!({})), None), "bind v");
    assert_eq!(step(&asked, &v(json!({"spec": {"capacity": {"storage": "1Gi"}}})), None), "wait VolumeMismatch");
    assert_eq!(step(&asked, &v(json!({"spec": {"claimRef": {"namespace": "n", "name": "c"}}})), None), "bind v");
    assert_eq!(
        step(&asked, &v(json!({"spec": {"claimRef": {"namespace": "n", "name": "d"}}})), None),
        "wait FailedBinding"
    );
}

#[test]
fn a_bound_claim_is_kept_or_lost() {
    let bound = |extra: Value| {
        let mut all = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "v"}});
        json_patch::merge(&mut all, &extra);
        claim(&all)
    };
    let v =
        |uid: &str| [volume("v", "5Gi", &json!({"spec": {"claimRef": {"namespace": "n", "name": "c", "uid": uid}}}))];
    assert_eq!(step(&bound(json!({})), &v("u"), None), "bind v");
    assert_eq!(step(&bound(json!({})), &v("former"), None), "lose ClaimMisbound");
    assert_eq!(step(&bound(json!({})), &[], None), "lose ClaimLost");
    assert_eq!(step(&bound(json!({"status": {"phase": "Lost"}})), &[], None), "nothing");
    assert_eq!(step(&bound(json!({"spec": {"volumeName": null}})), &v("u"), None), "lose ClaimLost");
}

#[test]
fn a_binding_is_written_once() {
    let (pending, free) = (claim(&json!({"status": {"phase": "Pending"}})), volume("v", "8Gi", &json!({})));
    let volume = bind::bound_volume(&free, &pending).unwrap();
    let reference = bind::claim_ref(&volume).unwrap();
    assert_eq!((reference.name.as_deref(), reference.uid.as_deref()), (Some("c"), Some("u")));
    assert!(volume.annotations().contains_key(bind::BOUND_BY_CONTROLLER));
    assert!(bind::bound_volume(&volume, &pending).is_none());
    let named = bind::bound_claim(&pending, &volume).unwrap();
    assert_eq!(bind::volume_name(&named), "v");
    assert!(bind::bound_claim(&named, &volume).is_none());
    let status = bind::bound_status(&named, &volume);
    assert_eq!(
        (status.phase.as_deref(), status.capacity.as_ref().unwrap()["storage"].0.as_str()),
        (Some("Bound"), "8Gi")
    );
    let mut enlarged = volume.clone();
    enlarged.annotations_mut().insert("volume.alpha.kubernetes.io/pre-resize-capacity".to_owned(), "6Gi".to_owned());
    assert_eq!(bind::bound_status(&named, &enlarged).capacity.unwrap()["storage"].0, "6Gi");
    let bound = PersistentVolumeClaim { status: Some(status.clone()), ..named };
    assert_eq!(bind::bound_status(&bound, &volume), status);
    let unbound = bind::unbound_volume(&volume);
    assert!(bind::claim_ref(&unbound).is_none() && unbound.metadata.annotations.is_none());
}

#[test]
fn a_volume_that_was_kept_for_a_claim_stays_so() {
    let kept = volume("v", "8Gi", &json!({"spec": {"claimRef": {"namespace": "n", "name": "c"}}}));
    let bound = bind::bound_volume(&kept, &claim(&json!({}))).unwrap();
    assert!(!bound.annotations().contains_key(bind::BOUND_BY_CONTROLLER));
    let unbound = bind::unbound_volume(&bound);
    let reference = bind::claim_ref(&unbound).unwrap();
    assert_eq!((reference.name.as_deref(), reference.uid.as_deref()), (Some("c"), None));
}

#[test]
fn volumes_follow_their_claims() {
    let bound = |extra: Value| {
        let mut all =
            json!({"spec": {"claimRef": {"namespace": "n", "name": "c", "uid": "u"}}, "status": {"phase": "Bound"}});
        json_patch::merge(&mut all, &extra);
        volume("v", "8Gi", &all)
    };
    let mine = claim(&json!({"spec": {"volumeName": "v"}}));
    let elsewhere = claim(&json!({"spec": {"volumeName": "w"}}));
    let made = json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "x"}}, "spec": {"persistentVolumeReclaimPolicy": "Delete"}});
    let cases = [
        (volume("v", "8Gi", &json!({"status": null})), None, VolumeStep::Phase("Available")),
        (volume("v", "8Gi", &json!({})), None, VolumeStep::Nothing),
        (bound(json!({})), Some(&mine), VolumeStep::Nothing),
        (bound(json!({"status": {"phase": "Available"}})), Some(&mine), VolumeStep::Phase("Bound")),
        (bound(json!({})), None, VolumeStep::Reclaim),
        (bound(json!({})), Some(&elsewhere), VolumeStep::Unbind),
        (bound(made), Some(&elsewhere), VolumeStep::Reclaim),
        (bound(json!({})), Some(&claim(&json!({}))), VolumeStep::WakeClaim(Key::new("n", "c"))),
        (bound(json!({"spec": {"volumeMode": "Block"}})), Some(&claim(&json!({}))), VolumeStep::Mismatch),
    ];
    for (volume, claim, expected) in cases {
        assert_eq!(volume::plan(&volume, claim), expected, "{volume:?}");
    }
}

#[test]
fn reclaiming_needs_somebody_who_can() {
    let reason = |policy: &str, annotations: Value| {
        let extra =
            json!({"metadata": {"annotations": annotations}, "spec": {"persistentVolumeReclaimPolicy": policy}});
        volume::refuse_to_reclaim(&volume("v", "8Gi", &extra)).map(|(reason, _)| reason)
    };
    assert_eq!(reason("Retain", json!({})), None);
    assert_eq!(reason("Delete", json!({"pv.kubernetes.io/provisioned-by": "csi.example.com"})), None);
    assert_eq!(reason("Delete", json!({})), Some("VolumeFailedDelete"));
    assert_eq!(reason("Recycle", json!({})), Some("VolumeFailedRecycle"));
    let released = bind::with_phase(&volume("v", "1Gi", &json!({})), "Released", "", Timestamp::UNIX_EPOCH).unwrap();
    assert!(
        volume::is_released(&released) && bind::with_phase(&released, "Released", "", Timestamp::UNIX_EPOCH).is_none()
    );
}

#[test]
fn the_newest_default_class_counts() {
    let class = |name: &str, made: &str, default: &str| {
        let value = json!({"metadata": {"name": name, "creationTimestamp": made,
            "annotations": {"storageclass.kubernetes.io/is-default-class": default}}, "provisioner": "p"});
        Arc::new(serde_json::from_value::<StorageClass>(value).unwrap())
    };
    let classes = [
        class("b", "2026-01-02T00:00:00Z", "true"),
        class("a", "2026-01-02T00:00:00Z", "true"),
        class("old", "2026-01-01T00:00:00Z", "true"),
        class("no", "2026-01-03T00:00:00Z", "false"),
    ];
    assert_eq!(claim::default_class(&classes).as_deref(), Some("a"));
}

#[test]
fn a_volume_wakes_open_claims_when_it_may_be_taken() {
    let of = |extra: Value| volume("v", "1Gi", &extra);
    let in_class = |phase: &str| of(json!({"spec": {"storageClassName": "fast"}, "status": {"phase": phase}}));
    let updated = |old: Arc<PersistentVolume>, new: Arc<PersistentVolume>| Change::Updated { old, new };
    let renamed = json!({"metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "slow"}}});
    let cases = [
        (Change::Added(in_class("Available")), Some("fast")),
        (Change::Added(in_class("Bound")), None),
        (Change::Deleted(in_class("Available")), None),
        (updated(in_class("Pending"), in_class("Available")), Some("fast")),
        (updated(in_class("Available"), in_class("Bound")), None),
        (updated(in_class("Available"), in_class("Available")), None),
        (updated(of(json!({})), of(json!({"metadata": {"annotations": {"a": "b"}}}))), None),
        (updated(of(json!({})), of(json!({"metadata": {"labels": {"a": "b"}}}))), Some("")),
        (updated(of(json!({})), volume("v", "2Gi", &json!({}))), Some("")),
        (updated(of(json!({})), of(renamed)), Some("slow")),
    ];
    for (change, expected) in cases {
        assert_eq!(volume::freed_in(&change), expected, "{change:?}");
    }
    assert_eq!(claim::open_class(&claim(&json!({"spec": {"storageClassName": "fast"}}))).as_deref(), Some("fast"));
    assert_eq!(claim::open_class(&claim(&json!({"spec": {"volumeName": "v"}}))), None);
    let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}});
    assert_eq!(claim::open_class(&claim(&bound)), None);
}

#[test]
fn why_a_claim_waits_is_said_once() {
    let (told, waiting) = (Told::default(), claim(&json!({})));
    assert!(told.is_news(&waiting, "FailedBinding", "none fits"));
    assert!(!told.is_news(&waiting, "FailedBinding", "none fits"));
    assert!(told.is_news(&waiting, "VolumeMismatch", "too small"));
    assert!(told.is_news(&waiting, "FailedBinding", "none fits"));
    let successor = claim(&json!({"metadata": {"uid": "w"}}));
    assert!(told.is_news(&successor, "FailedBinding", "none fits"));
    told.forget(&Key::of(&successor));
    assert!(told.is_news(&successor, "FailedBinding", "none fits"));
    let wait =
        claim::plan(&waiting, &Surroundings { volumes: &[], class: None, default_class: None, waiting_pods: vec![] });
    assert!(wait.is_wait() && !ClaimStep::Nothing.is_wait());
}
