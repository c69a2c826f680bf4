//! Tables of what remains and what is told about it.

use std::collections::BTreeSet;

use kube::api::ApiResource;

use super::*;

fn resource(plural: &str, group: &str) -> Resource {
    let api = ApiResource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        api_version: String::new(),
        kind: String::new(),
        plural: plural.to_owned(),
    };
    Resource { api, namespaced: true, verbs: BTreeSet::new() }
}

fn names(finalizers: &[&[&str]]) -> Vec<Vec<String>> {
    finalizers.iter().map(|names| names.iter().map(|name| (*name).to_owned()).collect()).collect()
}

#[test]
fn objects_left_are_judged_by_finalizers_and_grace() {
    let unexpected = || Error::Unfinished("unexpected".to_owned());
    let grace = Duration::from_secs(30);
    for (left, grace, estimate) in [
        (&[][..], grace, Some(0)),
        (&[&[][..]], grace, Some(30)),
        (&[&["a"][..], &[]], Duration::ZERO, Some(15)),
        (&[&[][..]], Duration::ZERO, None),
    ] {
        let judged = remaining(names(left), grace, unexpected).ok();
        assert_eq!(judged.map(|it| it.estimate.as_secs()), estimate, "{left:?} with {grace:?}");
    }
}

#[test]
fn conditions_tell_what_remains() {
    let now = Timestamp::from_second(100).unwrap();
    let mut progress = Progress::default();
    let left = Remaining { items: 2, finalizers: BTreeMap::from([("f".to_owned(), 2)]), ..Remaining::default() };
    progress.add(&resource("widgets", "example.com"), Ok(left));
    let mut status = NamespaceStatus::default();
    assert!(update_conditions(&mut status, &progress, now));
    assert!(!update_conditions(&mut status, &progress, now));
    let conditions = status.conditions.clone().unwrap();
    let told: Vec<_> = conditions.iter().map(|it| (it.status.as_str(), it.message.as_deref().unwrap())).collect();
    assert_eq!(
        told,
        [
            ("False", "All resources successfully discovered"),
            ("False", "All legacy kube types successfully parsed"),
            ("False", "All content successfully deleted, may be waiting on finalization"),
            ("True", "Some resources are remaining: widgets.example.com has 2 resource instances"),
            ("True", "Some content in the namespace has finalizers remaining: f in 2 resource instances"),
        ]
    );
    let later = Timestamp::from_second(200).unwrap();
    assert!(update_conditions(&mut status, &Progress::default(), later));
    let conditions = status.conditions.unwrap();
    assert_eq!(conditions[0].last_transition_time, Some(Time(now)));
    assert_eq!(conditions[3].last_transition_time, Some(Time(later)));
}

#[test]
fn grace_ends_with_the_longest_pod() {
    let pod = |seconds, phase: &str| -> Pod {
        let value = serde_json::json!({"metadata": {}, "spec": {"containers": [], "terminationGracePeriodSeconds": seconds},
            "status": {"phase": phase}});
        serde_json::from_value(value).unwrap()
    };
    let pods = [pod(30, "Running"), pod(10, "Running"), pod(99, "Succeeded")];
    let at = |second| Timestamp::from_second(second).unwrap();
    assert_eq!(pods_grace(&pods, Some(at(0)), at(29)).as_secs(), 30);
    assert_eq!(pods_grace(&pods, Some(at(0)), at(30)).as_secs(), 0);
    assert_eq!(pods_grace(&[], Some(at(0)), at(1)).as_secs(), 0);
}
