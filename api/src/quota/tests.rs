//! What uses of a quota are counted.

use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn pod() -> Value {
    json!({
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "resources": {
            "requests": {"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/dongle": "2",
                "hugepages-2Mi": "4Mi"},
            "limits": {"cpu": "1", "example.com/dongle": "2"},
        }}]},
    })
}

fn requirement(scope: &str, operator: &str, values: &[&str]) -> Requirement {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Requirement { scope: scope.to_owned(), operator: operator.to_owned(), values }
}

#[test]
fn resources_have_their_names() {
    let cases = [
        ("", "pods", "requests.example.com/dongle", true),
        ("", "pods", "example.com/dongle", false),
        ("", "pods", "requests.hugepages-2Mi", true),
        ("", "pods", "requests.storage", false),
        ("", "services", "services.nodeports", true),
        ("", "persistentvolumeclaims", "gold.storageclass.storage.k8s.io/requests.storage", true),
        ("", "persistentvolumeclaims", "gold.storageclass.storage.k8s.io/cpu", false),
        ("", "secrets", "secrets", true),
        ("", "secrets", "count/secrets", true),
        ("apps", "deployments", "count/deployments.apps", true),
        ("apps", "deployments", "deployments", false),
        ("resource.k8s.io", "resourceclaims", "gpu.deviceclass.resource.k8s.io/devices", true),
    ];
    for (group, resource, name, counted) in cases {
        assert_eq!(Evaluator::of(group, resource).unwrap().counts(name), counted, "{resource} {name}");
    }
    assert_eq!(Evaluator::of("events.k8s.io", "events"), None);
    assert_eq!(Evaluator::counted("count/jobs.batch"), Some(("batch", "jobs")));
    assert_eq!(Evaluator::counted("count/widgets.shop.example.com"), Some(("shop.example.com", "widgets")));
    assert_eq!(Evaluator::counted("secrets"), Some(("", "secrets")));
    assert_eq!(Evaluator::counted("cpu"), None);
}

#[test]
fn a_pod_is_measured_under_all_its_names() {
    let measured = Evaluator::Pods.measure(&pod());
    let expected = "count/pods=1,cpu=500m,ephemeral-storage=30Gi,hugepages-2Mi=4Mi,limits.cpu=1,memory=252Mi,pods=1,\
        requests.cpu=500m,requests.ephemeral-storage=30Gi,requests.example.com/dongle=2,requests.hugepages-2Mi=4Mi,\
        requests.memory=252Mi";
    assert_eq!(measured.usage(NOW).to_string(), expected);
}

#[test]
fn an_ended_pod_is_only_an_object() {
    let mut ended = pod();
    ended["status"] = json!({"phase": "Succeeded"});
    assert_eq!(Evaluator::Pods.measure(&ended).usage(NOW).to_string(), "count/pods=1");
    let mut late = pod();
    late["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    late["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    let measured = Evaluator::Pods.measure(&late);
    let at = |text: &str| crate::time::parse(text).unwrap();
    assert!(measured.usage(at("2026-01-01T00:00:30Z")).get("pods").is_some());
    assert_eq!(measured.usage(at("2026-01-01T00:00:31Z")).to_string(), "count/pods=1");
    assert_eq!(measured.until(), Some(at("2026-01-01T00:00:30Z")));
}

#[test]
fn what_a_quota_counts_has_to_be_said() {
    let mut silent = pod();
    silent["spec"]["containers"].as_array_mut().unwrap().extend([json!({"name": "b"}), json!({"name": "a"})]);
    let required = ["cpu", "limits.memory", "pods", "requests.example.com/dongle"];
    let complaint = Evaluator::Pods.check(&required, &silent).unwrap_err();
    assert_eq!(complaint, "must specify cpu for: a,b; limits.memory for: a,b,c");
    silent["spec"]["resources"] = json!({"requests": {"cpu": "1"}});
    assert_eq!(Evaluator::Pods.check(&required, &silent), Ok(()));
}

#[test]
fn pods_are_in_scopes() {
    let mut special = pod();
    special["spec"]["activeDeadlineSeconds"] = json!(60);
    special["spec"]["priorityClassName"] = json!("high");
    special["spec"]["affinity"] = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "namespaceSelector": {}}}]}});
    let (plain, special) = (Evaluator::Pods.measure(&pod()), Evaluator::Pods.measure(&special));
    let cases = [
        (requirement("Terminating", "Exists", &[]), false, true),
        (requirement("NotTerminating", "Exists", &[]), true, false),
        (requirement("BestEffort", "Exists", &[]), false, false),
        (requirement("NotBestEffort", "Exists", &[]), true, true),
        (requirement("PriorityClass", "Exists", &[]), false, true),
        (requirement("PriorityClass", "DoesNotExist", &[]), true, false),
        (requirement("PriorityClass", "In", &["high"]), false, true),
        (requirement("PriorityClass", "NotIn", &["high"]), true, false),
        (requirement("CrossNamespacePodAffinity", "Exists", &[]), false, true),
        (requirement("VolumeAttributesClass", "Exists", &[]), false, false),
    ];
    for (requirement, of_plain, of_special) in cases {
        let one = std::slice::from_ref(&requirement);
        assert_eq!((plain.is_in(one), special.is_in(one)), (of_plain, of_special), "{requirement:?}");
    }
    let nothing = Evaluator::Pods.measure(&json!({"spec": {"containers": [{"name": "c"}]}}));
    assert!(nothing.is_in(&[requirement("BestEffort", "Exists", &[])]));
}

#[test]
fn services_are_measured_by_intent() {
    let service = |spec: Value| Evaluator::Services.measure(&json!({ "spec": spec })).usage(NOW).to_string();
    let ports = json!([{"port": 1}, {"port": 2, "nodePort": 30_000}]);
    let head = "count/services=1,services=1,services.loadbalancers=";
    assert_eq!(service(json!({"type": "ClusterIP", "ports": ports})), format!("{head}0,services.nodeports=0"));
    assert_eq!(service(json!({"type": "NodePort", "ports": ports})), format!("{head}0,services.nodeports=2"));
    assert_eq!(service(json!({"type": "LoadBalancer", "ports": ports})), format!("{head}1,services.nodeports=2"));
    let few = json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false});
    assert_eq!(service(few), format!("{head}1,services.nodeports=1"));
}

#[test]
fn claims_are_measured_by_class() {
    let claim = json!({
        "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1500m"}}},
        "status": {"allocatedResources": {"storage": "1"}, "currentVolumeAttributesClassName": "fast"},
    });
    let measured = Evaluator::VolumeClaims.measure(&claim);
    let expected = "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
        gold.storageclass.storage.k8s.io/requests.storage=2,persistentvolumeclaims=1,requests.storage=2";
    assert_eq!(measured.usage(NOW).to_string(), expected);
    assert!(measured.is_in(&[requirement("VolumeAttributesClass", "In", &["fast"])]));
    assert!(!measured.is_in(&[requirement("VolumeAttributesClass", "In", &["slow"])]));
    let devices = json!({"spec": {"devices": {"requests": [
        {"exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
        {"firstAvailable": [
            {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1},
            {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 3},
            {"deviceClassName": "nic", "allocationMode": "All"}]},
    ]}}});
    let expected = "count/resourceclaims.resource.k8s.io=1,gpu.deviceclass.resource.k8s.io/devices=5,\
        nic.deviceclass.resource.k8s.io/devices=32";
    assert_eq!(Evaluator::DeviceClaims.measure(&devices).usage(NOW).to_string(), expected);
}

#[test]
fn writes_that_matter() {
    let (plain, mut timed) = (pod(), pod());
    timed["spec"]["activeDeadlineSeconds"] = json!(1);
    let write = |subresource, new, old| Write { subresource, new, old };
    assert!(Evaluator::Pods.handles(&write("", &plain, None)));
    assert!(!Evaluator::Pods.handles(&write("", &plain, Some(&plain))));
    assert!(Evaluator::Pods.handles(&write("", &timed, Some(&plain))));
    assert!(Evaluator::Pods.handles(&write("resize", &plain, Some(&plain))));
    assert!(!Evaluator::Pods.handles(&write("status", &plain, Some(&plain))));
    assert!(Evaluator::Services.handles(&write("", &plain, Some(&plain))));
    assert!(!Evaluator::of("", "secrets").unwrap().handles(&write("", &plain, Some(&plain))));
}

#[test]
fn totals_have_every_name_that_is_counted() {
    let quota = json!({"spec": {"scopes": ["NotBestEffort"], "scopeSelector": {"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}}});
    let requirements = Requirement::all_of(&quota);
    assert_eq!(requirements.len(), 2);
    let objects = [Evaluator::Pods.measure(&pod()), Evaluator::Pods.measure(&json!({"spec": {"containers": []}}))];
    let names = ["pods", "requests.cpu", "requests.example.com/other", "secrets"];
    let total = total(&Evaluator::Pods, &names, &requirements, objects.iter(), NOW);
    assert_eq!(total.to_string(), "pods=1,requests.cpu=500m,requests.example.com/other=0");
}
