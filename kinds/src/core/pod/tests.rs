//! Pods: defaults, causes, quality of service, rows.

use super::*;
use api::time;

fn request() -> Request<'static> {
    Request {
        now: time::parse("2026-01-01T00:10:00Z").expect("a time"),
        namespace: "default",
        version: "v1",
        user: "someone",
        groups: &[],
        user_uid: "",
    }
}

fn pod(spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "a", "namespace": "default"}, "spec": spec});
    Pod.default(&mut pod, &request());
    pod
}

fn causes(pod: &Value) -> Vec<String> {
    let errors = crate::validate::create(&Pod, pod, true, &request());
    errors.0.iter().map(ToString::to_string).collect()
}

#[test]
fn a_minimal_pod_is_completed_and_valid() {
    let pod = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
    assert_eq!(causes(&pod), [""; 0]);
    assert_eq!(
        pod["spec"],
        json!({
            "containers": [{
                "name": "c",
                "image": "i",
                "imagePullPolicy": "Always",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": true,
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
        })
    );
}

#[test]
fn every_error_of_a_pod_is_found() {
    let pod = pod(json!({
        "containers": [
            {"name": "", "image": "", "ports": [{"containerPort": 99999, "protocol": "X"}]},
            {"name": "A", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/a"}],
             "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
        ],
        "restartPolicy": "Sometimes",
    }));
    assert_eq!(
        causes(&pod),
        [
            "spec.containers[0].name: Required value",
            "spec.containers[0].image: Required value",
            "spec.containers[0].ports[0].containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[0].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            "spec.containers[1].name: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            "spec.containers[1].volumeMounts[0].name: Not found: \"v\"",
            "spec.containers[1].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ]
    );
}

#[test]
fn wrong_types_do_not_panic() {
    for spec in [json!([]), json!("x"), json!({"containers": {"a": 1}, "volumes": [1, null]})] {
        let mut pod = json!({"metadata": 3, "spec": spec});
        Pod.default(&mut pod, &request());
        assert!(!causes(&pod).is_empty());
    }
}

#[test]
fn quality_of_service() {
    let with = |resources: Value| {
        let spec = json!({"containers": [{"name": "c", "image": "i", "resources": resources}]});
        qos::class(&pod(spec))
    };
    assert_eq!(with(json!({})), "BestEffort");
    assert_eq!(with(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(with(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
    assert_eq!(with(json!({"limits": {"cpu": "1"}})), "Burstable");
}

#[test]
fn rows_tell_the_status_in_a_word() {
    let mut pod = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
    pod["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    pod["status"] = json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [{
        "name": "c", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:05:00Z"}},
    }]});
    let row = Pod.row(&pod, request().now).expect("a row");
    let expected = ["a", "0/1", "CrashLoopBackOff", "3 (5m ago)", "10m", "10.0.0.1", "<none>", "<none>", "<none>"];
    assert_eq!(row, expected.map(Value::from));
}

#[test]
fn only_images_change() {
    let old = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
    let mut old = old;
    old["metadata"]["resourceVersion"] = json!("1");
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = json!("j:1");
    let errors = crate::validate::update(&Pod, &new, &old, true, &request());
    assert!(errors.is_empty(), "{errors:?}");
    new["spec"]["containers"][0]["command"] = json!(["x"]);
    let errors = crate::validate::update(&Pod, &new, &old, true, &request());
    assert_eq!(errors.0.len(), 1);
    assert!(errors.0[0].message.starts_with("Forbidden: pod updates may not change fields other than"));
}

#[test]
fn grace_periods() {
    let mut pod = pod(json!({"containers": [{"name": "c", "image": "i"}], "nodeName": "n"}));
    assert_eq!(Pod.graceful_delete(&pod, None), Some(Grace { seconds: 30 }));
    assert_eq!(Pod.graceful_delete(&pod, Some(5)), Some(Grace { seconds: 5 }));
    assert_eq!(Pod.graceful_delete(&pod, Some(-5)), Some(Grace { seconds: 1 }));
    pod["status"] = json!({"phase": "Failed"});
    assert_eq!(Pod.graceful_delete(&pod, None), Some(Grace { seconds: 0 }));
}
