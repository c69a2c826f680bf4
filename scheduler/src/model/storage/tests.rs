//! What is bound to what, where.

use serde_json::{Value, json};

use super::*;

fn volume(name: &str, size: &str, change: Value) -> PersistentVolume {
    let mut volume = json!({"metadata": {"name": name, "resourceVersion": "1"}, "status": {"phase": "Available"},
        "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "late"}});
    for (key, value) in change.as_object().unwrap() {
        volume["spec"][key] = value.clone();
    }
    serde_json::from_value(volume).unwrap()
}

fn on(node: &str) -> Value {
    json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "host", "operator": "In", "values": [node]}]}]}}})
}

fn claim(name: &str, size: &str, annotations: Value) -> Arc<PersistentVolumeClaim> {
    let claim = json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "annotations": annotations},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "late",
            "resources": {"requests": {"storage": size}}}});
    Arc::new(serde_json::from_value(claim).unwrap())
}

fn storage(volumes: Vec<PersistentVolume>, provisioner: &str) -> Storage {
    let class = json!({"metadata": {"name": "late"}, "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer"});
    let mut storage = Storage::default();
    storage.classes.insert("late".into(), Arc::new(serde_json::from_value(class).unwrap()));
    for volume in volumes {
        storage.volumes.insert(volume.metadata.name.clone().unwrap(), Arc::new(volume));
    }
    storage
}

/// `claim=volume` for what is bound, `claim` for what is provisioned.
fn planned(storage: &Storage, claims: Vec<Arc<PersistentVolumeClaim>>, node: &str) -> Result<String, Conflict> {
    let labels = Labels::from([("host".to_owned(), node.to_owned())]);
    let sorted = storage.sort(claims);
    assert!(sorted.immediate.is_empty());
    let name = |meta: &Option<String>| meta.clone().unwrap_or_default();
    storage.plan(&sorted, node, &labels).map(|plan| {
        let bound = plan.bind.iter().map(|(v, c)| format!("{}={}", name(&c.metadata.name), name(&v.metadata.name)));
        let provisioned = plan.provision.iter().map(|c| name(&c.metadata.name));
        bound.chain(provisioned).collect::<Vec<_>>().join(" ")
    })
}

#[test]
fn the_smallest_volume_on_the_node_that_fits() {
    let volumes = vec![
        volume("small", "1Gi", on("a")),
        volume("large", "9Gi", on("a")),
        volume("middle", "5Gi", on("a")),
        volume("elsewhere", "4Gi", on("b")),
        volume("block", "4Gi", json!({"volumeMode": "Block"})),
        volume("other", "4Gi", json!({"storageClassName": "other"})),
        volume("shared", "4Gi", json!({"accessModes": ["ReadOnlyMany"]})),
        volume("taken", "4Gi", json!({"claimRef": {"namespace": "ns", "name": "else", "uid": "else"}})),
    ];
    let storage = storage(volumes, NO_PROVISIONER);
    for (claims, node, expected) in [
        (vec![claim("c", "2Gi", json!({}))], "a", Ok("c=middle")),
        (vec![claim("c", "2Gi", json!({}))], "b", Ok("c=elsewhere")),
        (vec![claim("c", "2Gi", json!({})), claim("d", "1Gi", json!({}))], "a", Ok("d=small c=middle")),
        (vec![claim("c", "2Gi", json!({})), claim("d", "2Gi", json!({}))], "b", Err(Conflict::Bind)),
        (vec![claim("c", "99Gi", json!({}))], "a", Err(Conflict::Bind)),
        (vec![claim("else", "2Gi", json!({}))], "a", Ok("else=taken")),
    ] {
        assert_eq!(planned(&storage, claims, node), expected.map(str::to_owned), "{node}");
    }
}

#[test]
fn what_nobody_has_made_is_provisioned_where_it_was_decided() {
    let storage = storage(Vec::new(), "example.com/disks");
    let fresh = || vec![claim("c", "1Gi", json!({}))];
    let chosen = || vec![claim("c", "1Gi", json!({SELECTED_NODE: "a"}))];
    assert_eq!(planned(&storage, fresh(), "a"), Ok("c".into()));
    assert_eq!(planned(&storage, chosen(), "a"), Ok("c".into()));
    assert_eq!(planned(&storage, chosen(), "b"), Err(Conflict::Bind));
}

#[test]
fn a_bound_volume_ties_its_pod_to_its_node() {
    let storage = storage(vec![volume("v", "1Gi", on("a"))], NO_PROVISIONER);
    let bound = |volume: &str| {
        let mut claim = PersistentVolumeClaim::clone(&claim("c", "1Gi", json!({BIND_COMPLETED: "yes"})));
        claim.spec.get_or_insert_default().volume_name = Some(volume.into());
        vec![Arc::new(claim)]
    };
    assert_eq!(planned(&storage, bound("v"), "a"), Ok(String::new()));
    assert_eq!(planned(&storage, bound("v"), "b"), Err(Conflict::Node));
    assert_eq!(planned(&storage, bound("none"), "a"), Err(Conflict::Gone));
}

#[test]
fn the_claims_of_a_pod() {
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": [],
        "volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "b", "emptyDir": {}},
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]}}))
        .unwrap();
    let used: Vec<(String, bool)> =
        used_claims(&pod).into_iter().map(|u| (u.key.to_string(), u.is_ephemeral)).collect();
    assert_eq!(used, [("ns/c".to_owned(), false), ("ns/p-e".to_owned(), true)]);
}

#[test]
fn a_plan_is_done_or_came_apart() {
    let labels = Labels::from([("host".to_owned(), "a".to_owned())]);
    let (free, asked) = (Arc::new(volume("v", "1Gi", on("a"))), claim("c", "1Gi", json!({})));
    let plan = Plan { bind: vec![(free.clone(), asked.clone())], provision: Vec::new() };
    let full = |claim: &PersistentVolumeClaim| {
        let mut claim = claim.clone();
        claim.metadata.annotations.get_or_insert_default().insert(BIND_COMPLETED.into(), "yes".into());
        claim.spec.get_or_insert_default().volume_name = Some("v".into());
        Arc::new(claim)
    };
    let now = |volume: PersistentVolume, claim: Arc<PersistentVolumeClaim>| {
        let mut now = storage(vec![volume], NO_PROVISIONER);
        now.claims.insert(Key::of(&*claim), claim);
        now
    };
    let check = |plan: &Plan, now: &Storage| plan.progress(now, "a", Some(&labels));
    let bound = bound_to(&free, &asked);
    assert_eq!(check(&plan, &now(bound.clone(), asked.clone())), Ok(None));
    assert_eq!(check(&plan, &now(bound.clone(), full(&asked))), Ok(Some(())));
    assert_eq!(check(&plan, &now((*free).clone(), asked.clone())), Err("ClaimRef got reset for pv \"v\"".into()));
    let gone = check(&plan, &storage(vec![bound.clone()], NO_PROVISIONER)).unwrap_err();
    assert_eq!(gone, "failed to check binding: could not find pvc \"ns/c\"");
    assert!(plan.progress(&now(bound.clone(), full(&asked)), "a", None).is_err(), "the node is gone");

    let plan = Plan { bind: Vec::new(), provision: vec![asked.clone()] };
    let chosen = Arc::new(provisioned_on(&asked, "a"));
    assert_eq!(check(&plan, &now((*free).clone(), chosen.clone())), Ok(None));
    assert_eq!(check(&plan, &now(bound, full(&chosen))), Ok(Some(())));
    assert_eq!(check(&plan, &now((*free).clone(), asked)), Err("provisioning failed for PVC \"c\"".into()));
    let elsewhere = volume("v", "1Gi", on("b"));
    let why = check(&plan, &now(elsewhere, full(&chosen))).unwrap_err();
    assert!(why.starts_with("pv \"v\" node affinity doesn't match node \"a\""), "{why}");
}
