//! The smallest valid object of every stored kind.

use api::schema;
use serde_json::{Value, json};

/// A valid object of a resource.
pub(in super::super) fn sample(table: &schema::Resource) -> Value {
    let mut object = content(table.group, table.version, table.name);
    object["kind"] = table.kind.into();
    object["apiVersion"] = table.api_version().into();
    if object["metadata"]["name"].is_null() {
        object["metadata"]["name"] = "sample".into();
    }
    object
}

fn pod_spec() -> Value {
    json!({"containers": [{"name": "c", "image": "i:1", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}]})
}

fn template() -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": pod_spec()})
}

fn content(group: &str, version: &str, resource: &str) -> Value {
    match group {
        "" => core(resource),
        "apps" => apps(resource),
        "batch" => batch(resource),
        "networking.k8s.io" => networking(resource),
        "storage.k8s.io" => storage(resource),
        "resource.k8s.io" => dynamic(resource),
        "admissionregistration.k8s.io" => admission(resource),
        _ => other(group, version, resource),
    }
}

fn core(resource: &str) -> Value {
    let selector = json!({"a": "b"});
    match resource {
        "events" => json!({
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "x"},
            "reason": "r", "message": "m", "type": "Normal", "count": 1,
        }),
        "limitranges" => json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}}),
        "persistentvolumeclaims" => json!({"spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        }}),
        "persistentvolumes" => json!({"spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
        }}),
        "pods" => json!({"spec": pod_spec()}),
        "podtemplates" => json!({"template": template()}),
        "replicationcontrollers" => json!({"spec": {"replicas": 1, "selector": selector, "template": template()}}),
        "services" => json!({"spec": {"ports": [{"port": 80}], "selector": selector}}),
        _ => json!({}),
    }
}

fn apps(resource: &str) -> Value {
    let selector = json!({"matchLabels": {"a": "b"}});
    match resource {
        "controllerrevisions" => json!({"revision": 1, "data": {"a": 1}}),
        "statefulsets" => json!({"spec": {"serviceName": "s", "selector": selector, "template": template()}}),
        _ => json!({"spec": {"selector": selector, "template": template()}}),
    }
}

fn batch(resource: &str) -> Value {
    let mut template = template();
    template["spec"]["restartPolicy"] = json!("Never");
    match resource {
        "cronjobs" => json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}}),
        _ => json!({"spec": {"template": template}}),
    }
}

fn networking(resource: &str) -> Value {
    let parent = json!({"resource": "services", "namespace": "default", "name": "x"});
    match resource {
        "ingressclasses" => json!({"spec": {"controller": "example.com/c"}}),
        "ingresses" => json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}),
        "ipaddresses" => json!({"metadata": {"name": "10.96.0.9"}, "spec": {"parentRef": parent}}),
        "servicecidrs" => json!({"spec": {"cidrs": ["10.96.0.0/16"]}}),
        _ => json!({"spec": {"podSelector": {}}}),
    }
}

fn storage(resource: &str) -> Value {
    match resource {
        "csinodes" => json!({"spec": {"drivers": []}}),
        "csistoragecapacities" => json!({"storageClassName": "s"}),
        "storageclasses" => json!({"provisioner": "example.com/p"}),
        "volumeattachments" => json!({"spec": {
            "attacher": "example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"},
        }}),
        "volumeattributesclasses" => json!({"driverName": "example.com", "parameters": {"a": "b"}}),
        _ => json!({"spec": {}}),
    }
}

fn dynamic(resource: &str) -> Value {
    let claim = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}});
    match resource {
        "resourceclaims" => json!({"spec": claim}),
        "resourceclaimtemplates" => json!({"spec": {"spec": claim}}),
        "resourceslices" => json!({"spec": {
            "driver": "example.com", "nodeName": "n", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        }}),
        "devicetaintrules" => json!({"spec": {
            "deviceSelector": {"driver": "example.com"}, "taint": {"key": "k", "effect": "NoSchedule"},
        }}),
        _ => json!({"spec": {}}),
    }
}

fn admission(resource: &str) -> Value {
    let constraints = json!({
        "matchPolicy": "Equivalent",
        "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
    });
    let client = json!({"url": "https://example.com/hook"});
    let webhook = json!({
        "name": "w.example.com", "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
    });
    match resource {
        "mutatingwebhookconfigurations" | "validatingwebhookconfigurations" => json!({"webhooks": [webhook]}),
        "validatingadmissionpolicies" => json!({"spec": {
            "matchConstraints": constraints, "validations": [{"expression": "true"}], "failurePolicy": "Fail",
        }}),
        "mutatingadmissionpolicies" => json!({"spec": {
            "matchConstraints": constraints, "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}],
        }}),
        "validatingadmissionpolicybindings" => json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}}),
        _ => json!({"spec": {"policyName": "p"}}),
    }
}

const PEM: &str = include_str!("request.pem");

fn other(group: &str, version: &str, resource: &str) -> Value {
    match (group, resource) {
        ("apiregistration.k8s.io", _) => json!({
            "metadata": {"name": "v1.example.com"},
            "spec": {
                "group": "example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
                "service": {"namespace": "default", "name": "s", "port": 443}, "insecureSkipTLSVerify": true,
            },
        }),
        ("apiextensions.k8s.io", _) => json!({
            "metadata": {"name": "things.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }],
            },
        }),
        ("events.k8s.io", _) => json!({
            "eventTime": "2026-01-02T03:04:05.000006Z", "reportingController": "example.com/c", "reportingInstance": "i",
            "action": "a", "reason": "r", "type": "Normal",
            "regarding": {"kind": "Pod", "namespace": "default", "name": "x"},
        }),
        ("autoscaling", _) if version == "v1" => json!({"spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "maxReplicas": 3,
        }}),
        ("autoscaling", _) => json!({"spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "maxReplicas": 3,
            "metrics": [{
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
            }],
        }}),
        ("certificates.k8s.io", "certificatesigningrequests") => json!({"spec": {
            "request": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, PEM),
            "signerName": "example.com/s", "usages": ["digital signature", "client auth"],
        }}),
        ("certificates.k8s.io", _) => json!({"spec": {"trustBundle": include_str!("anchor.pem")}}),
        ("policy", _) => json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}}),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => {
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]})
        }
        ("rbac.authorization.k8s.io", _) => json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "u"}],
        }),
        ("scheduling.k8s.io", _) => json!({"value": 5}),
        ("coordination.k8s.io", _) => json!({"spec": {"holderIdentity": "h", "leaseDurationSeconds": 5}}),
        ("node.k8s.io", _) => json!({"handler": "runc"}),
        ("discovery.k8s.io", _) => json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}]}),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => json!({"spec": {
            "matchingPrecedence": 500, "priorityLevelConfiguration": {"name": "p"},
        }}),
        ("flowcontrol.apiserver.k8s.io", _) => json!({"spec": {
            "type": "Limited", "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}},
        }}),
        ("storagemigration.k8s.io", _) => json!({"spec": {"resource": {"group": "apps", "resource": "deployments"}}}),
        _ => json!({}),
    }
}
