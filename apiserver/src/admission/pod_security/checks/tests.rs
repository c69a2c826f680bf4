//! Upstream's sentences, and labels.

use serde_json::json;

use super::super::policy::Policy;
use super::*;

const RESTRICTED_LATEST: Standard = Standard { level: Level::Restricted, minor: None };
const BASELINE_LATEST: Standard = Standard { level: Level::Baseline, minor: None };

#[test]
fn a_plain_pod_is_baseline_and_not_restricted() {
    let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    assert_eq!(violations(&BASELINE_LATEST, &pod), None);
    let text = "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set \
                securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \"a\", \"b\" must set \
                securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or containers \"a\", \"b\" must set \
                securityContext.runAsNonRoot=true), seccompProfile (pod or containers \"a\", \"b\" must set \
                securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    assert_eq!(violations(&RESTRICTED_LATEST, &pod).as_deref(), Some(text));
}

#[test]
fn a_careful_pod_is_restricted() {
    let pod = json!({"spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    }});
    assert_eq!(violations(&RESTRICTED_LATEST, &pod), None);
}

#[test]
fn a_hosts_pod_is_not_baseline() {
    let pod = json!({"spec": {
        "hostNetwork": true, "hostPID": true,
        "securityContext": {"sysctls": [{"name": "kernel.msgmax"}], "seLinuxOptions": {"type": "x", "user": "u"}},
        "containers": [{"name": "a", "ports": [{"hostPort": 80}],
            "securityContext": {"privileged": true, "capabilities": {"add": ["SYS_ADMIN"]}}}],
        "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
    }});
    let text = "non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add), \
                host namespaces (hostNetwork=true, hostPID=true), hostPath volumes (volume \"v\"), hostPort (container \"a\" \
                uses hostPort 80), privileged (container \"a\" must not set securityContext.privileged=true), seLinuxOptions \
                (pod set forbidden securityContext.seLinuxOptions: type \"x\"; user may not be set), forbidden sysctls \
                (kernel.msgmax)";
    assert_eq!(violations(&BASELINE_LATEST, &pod).as_deref(), Some(text));
}

#[test]
fn older_releases_have_fewer_rules() {
    let pod =
        json!({"spec": {"containers": [{"name": "a", "livenessProbe": {"tcpSocket": {"host": "h", "port": 1}}}]}});
    assert!(violations(&BASELINE_LATEST, &pod).is_some());
    assert_eq!(violations(&Standard { level: Level::Baseline, minor: Some(33) }, &pod), None);
}

#[test]
fn labels_make_the_policy() {
    let labelled = |labels: Value| Policy::read(&json!({"metadata": {"labels": labels}}));
    let (policy, errors) = labelled(json!({"pod-security.kubernetes.io/enforce": "baseline"}));
    assert!(errors.is_empty());
    assert_eq!(
        (policy.enforce.to_string().as_str(), policy.warn.to_string().as_str()),
        ("baseline:latest", "baseline:latest")
    );
    let (policy, errors) = labelled(
        json!({"pod-security.kubernetes.io/enforce": "high", "pod-security.kubernetes.io/warn-version": "v2"}),
    );
    assert_eq!((policy.enforce.level, policy.warn.level, errors.0.len()), (Level::Restricted, Level::Privileged, 2));
}
