//! Tables of rollout steps, sizes, revisions and conditions.

use serde_json::{Value, json};

use super::{progress::condition, *};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn deployment(replicas: i32, more: Value) -> Deployment {
    let mut value = json!({"metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "a"}}, "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10, "template": template("new"),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}}});
    json_patch::merge(&mut value, &more);
    serde_json::from_value(value).unwrap()
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

/// A set with its size, how many are available, and the size of the deployment it was made for.
fn set(image: &str, age: i64, size: i32, available: i32, desired: i32, max: i32) -> Arc<ReplicaSet> {
    let mut template = template(image);
    template["metadata"]["labels"]["pod-template-hash"] = json!(image);
    let value = json!({
        "metadata": {"name": format!("web-{image}"), "uid": image, "creationTimestamp": at(1000 - age).to_string(),
            "annotations": {"deployment.kubernetes.io/revision": (100 - age).to_string(),
                "deployment.kubernetes.io/desired-replicas": desired.to_string(),
                "deployment.kubernetes.io/max-replicas": max.to_string()}},
        "spec": {"replicas": size, "selector": {}, "template": template},
        "status": {"replicas": size, "readyReplicas": available, "availableReplicas": available},
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn plan_of(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Plan {
    plan(Observed { deployment, sets: sets.to_vec(), pods: HashMap::new() }, at(1000))
}

fn told(plan: &Plan) -> Vec<String> {
    let tell = |step: &Step| match step {
        Step::Create(set) => Some(format!("create with {}", scale::replicas(set))),
        Step::Update { event, .. } => event.clone().map(|it| it.replace("replica set web-", "")),
        Step::Delete(name) => Some(format!("delete {name}")),
        Step::Status(_) => None,
    };
    plan.steps.iter().filter_map(tell).collect()
}

fn status(plan: &Plan) -> DeploymentStatus {
    let mut statuses = plan.steps.iter().filter_map(|step| match step {
        Step::Status(deployment) => deployment.status.clone(),
        _ => None,
    });
    statuses.next_back().expect("the plan writes the status")
}

#[test]
fn a_rollout_goes_step_by_step() {
    let ten = deployment(10, json!({}));
    for (sets, steps) in [
        (vec![], vec!["create with 10"]),
        (vec![set("old", 9, 10, 10, 10, 13)], vec!["create with 3"]),
        (vec![set("old", 9, 10, 10, 10, 13), set("new", 1, 3, 0, 10, 13)], vec!["Scaled down old from 10 to 8"]),
        (vec![set("old", 9, 8, 8, 10, 13), set("new", 1, 3, 0, 10, 13)], vec!["Scaled up new from 3 to 5"]),
        (vec![set("old", 9, 8, 8, 10, 13), set("new", 1, 5, 0, 10, 13)], vec![]),
        (vec![set("old", 9, 8, 8, 10, 13), set("new", 1, 5, 5, 10, 13)], vec!["Scaled down old from 8 to 3"]),
        // Unhealthy old replicas go first: they are no loss.
        (vec![set("old", 9, 8, 3, 10, 13), set("new", 1, 5, 5, 10, 13)], vec!["Scaled down old from 8 to 3"]),
        (
            vec![set("older", 9, 4, 4, 10, 13), set("old", 5, 4, 0, 10, 13), set("new", 1, 5, 5, 10, 13)],
            vec!["Scaled down older from 4 to 3", "Scaled down old from 4 to 0"],
        ),
        (vec![set("old", 9, 3, 3, 10, 13), set("new", 1, 10, 10, 10, 13)], vec!["Scaled down old from 3 to 0"]),
        (vec![set("old", 9, 0, 0, 10, 13), set("new", 1, 10, 10, 10, 13)], vec![]),
    ] {
        assert_eq!(told(&plan_of(&ten, &sets)), steps, "{} sets", sets.len());
    }
}

#[test]
fn bounds_round_as_upstream_does() {
    for (replicas, surge, unavailable, expected) in [
        (10, json!("25%"), json!("25%"), (3, 2)),
        (1, json!("25%"), json!("25%"), (1, 0)),
        (2, json!("0%"), json!("1%"), (0, 1)),
        (4, json!(2), json!(9), (2, 4)),
        (0, json!("25%"), json!("25%"), (0, 0)),
    ] {
        let rolling =
            json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}});
        let it = deployment(replicas, rolling);
        assert_eq!((scale::max_surge(&it), scale::max_unavailable(&it)), expected, "{replicas} {surge} {unavailable}");
    }
}

#[test]
fn recreating_waits_for_the_old_pods() {
    let recreate = deployment(3, json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}));
    let old = set("old", 9, 3, 3, 3, 3);
    assert_eq!(told(&plan_of(&recreate, &[old])), ["Scaled down old from 3 to 0"]);
    let stopped = set("old", 9, 0, 0, 3, 3);
    let pod: Pod = serde_json::from_value(json!({"status": {"phase": "Running"}})).unwrap();
    let pods = HashMap::from([("old".to_owned(), vec![Arc::new(pod)])]);
    let waiting = Observed { deployment: &recreate, sets: vec![stopped.clone()], pods };
    assert_eq!(told(&plan(waiting, at(1000))), [""; 0]);
    assert_eq!(told(&plan_of(&recreate, &[stopped])), ["create with 3"]);
}

#[test]
fn a_changed_size_is_shared_in_proportion() {
    let mid = |old: i32, new: i32| [set("old", 9, old, old, 10, 13), set("new", 1, new, 0, 10, 13)];
    for (replicas, sets, steps) in [
        (20, mid(8, 5), vec!["Scaled up old from 8 to 15", "Scaled up new from 5 to 10"]),
        (5, mid(8, 5), vec!["Scaled down old from 8 to 4", "Scaled down new from 5 to 3"]),
        (0, mid(8, 5), vec!["Scaled down old from 8 to 0", "Scaled down new from 5 to 0"]),
    ] {
        assert_eq!(told(&plan_of(&deployment(replicas, json!({})), &sets)), steps, "to {replicas}");
    }
    let only = [set("new", 1, 10, 10, 10, 13)];
    assert_eq!(told(&plan_of(&deployment(4, json!({})), &only)), ["Scaled down new from 10 to 4"]);
}

#[test]
fn revisions_count_up_and_remember() {
    let back =
        deployment(1, json!({"metadata": {"annotations": {"note": "x", "deployment.kubernetes.io/revision": "98"}}}));
    let sets = [set("new", 9, 0, 0, 1, 2), set("other", 2, 1, 1, 1, 2)];
    let plan = plan_of(&back, &sets);
    let updated = plan.steps.iter().find_map(|step| match step {
        Step::Update { set, .. } if set.metadata.name.as_deref() == Some("web-new") => Some(set.clone()),
        _ => None,
    });
    let annotations = updated.unwrap().metadata.annotations.clone().unwrap();
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "99");
    assert_eq!(annotations["deployment.kubernetes.io/revision-history"], "91");
    assert_eq!(annotations["note"], "x");
    let Some(Step::Status(changed)) = plan.steps.last() else { panic!("the revision is written") };
    assert_eq!(changed.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"], "99");
}

#[test]
fn conditions_tell_progress_and_its_end() {
    let observed = |reason: &str, second: i64| {
        json!({"status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "conditions": [
            {"type": "Progressing", "status": "True", "reason": reason,
             "lastUpdateTime": at(second).to_string(), "lastTransitionTime": at(second).to_string()}]}})
    };
    for (available, more, reason, message) in [
        (2, observed("ReplicaSetUpdated", 900), "NewReplicaSetAvailable", "has successfully progressed."),
        (1, observed("ReplicaSetUpdated", 900), "ReplicaSetUpdated", "is progressing."),
        (0, observed("NewReplicaSetCreated", 100), "ProgressDeadlineExceeded", "has timed out progressing."),
    ] {
        let it = deployment(2, more);
        let plan = plan_of(&it, &[set("new", 1, 2, available, 2, 3)]);
        let status = status(&plan);
        let told = condition(&status, "Progressing").unwrap();
        assert_eq!(told.reason.as_deref(), Some(reason));
        assert_eq!(told.message.as_deref(), Some(format!("ReplicaSet \"web-new\" {message}").as_str()));
        let minimum = condition(&status, "Available").unwrap();
        assert_eq!(minimum.status.as_deref(), Some(if available == 2 { "True" } else { "False" }));
    }
    let waiting = deployment(2, observed("NewReplicaSetCreated", 900));
    let plan = plan_of(&waiting, &[set("new", 1, 2, 0, 2, 3)]);
    assert_eq!(plan.again, Some(Duration::from_secs(501)));
}

#[test]
fn pausing_is_noted_first() {
    let paused = deployment(2, json!({"spec": {"paused": true}}));
    let plan = plan_of(&paused, &[]);
    assert_eq!(condition(&status(&plan), "Progressing").unwrap().reason.as_deref(), Some("DeploymentPaused"));
    assert_eq!(plan.steps.len(), 1);
    let mut noted = paused.clone();
    noted.status = Some(status(&plan));
    let quiet = plan_of(&noted, &[]);
    assert_eq!((told(&quiet), quiet.again), (vec![], None), "nothing rolls out while paused, and no deadline runs");
}

#[test]
fn history_is_limited() {
    let mut short = deployment(
        1,
        json!({"spec": {"revisionHistoryLimit": 1}, "status": {
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}}),
    );
    short.metadata.generation = Some(1);
    let sets = [set("a", 9, 0, 0, 1, 2), set("b", 8, 0, 0, 1, 2), set("c", 7, 0, 0, 1, 2), set("new", 1, 1, 1, 1, 2)];
    assert_eq!(told(&plan_of(&short, &sets)), ["delete web-a", "delete web-b"]);
}

#[test]
fn names_and_hashes_are_valid_and_stable() {
    let template = deployment(1, json!({})).spec.template;
    let (one, other) = (template::hash(&template, None), template::hash(&template, Some(1)));
    assert_ne!(one, other);
    assert_eq!(one, template::hash(&template, None));
    assert!(one.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
    assert_eq!(name(&"x".repeat(300), &one).len(), 253);
    let mut labeled = template.clone();
    labeled.metadata.as_mut().unwrap().labels.as_mut().unwrap().insert(template::HASH_LABEL.to_owned(), one);
    labeled.spec.as_mut().unwrap().volumes = Some(Vec::new());
    assert!(template::same(&template, Some(&labeled)));
}
