//! What following the owners of fields costs a write, beside reading and writing the object.
//!
//! `cargo bench -p api --bench apply`. One thread, a pod of two containers as a controller makes it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use api::apply::{Reset, Tracker, Versions};
use api::schema::{self, TypeId};
use api::{GroupVersionKind, Value};
use jiff::Timestamp;
use serde_json::json;

const SECONDS: Duration = Duration::from_secs(1);
const BATCH: u32 = 100;

struct OneVersion;

impl Versions for OneVersion {
    fn convert(&self, _: &Value, _: &str) -> Option<(Value, TypeId)> {
        None
    }
}

fn main() {
    let gvk = GroupVersionKind::new("", "v1", "Pod");
    let type_id = schema::table().kind(&gvk).expect("pods are known");
    let tracker = |manager: &'static str, reset| Tracker {
        gvk: &gvk,
        type_id,
        subresource: "",
        manager,
        now: Timestamp::UNIX_EPOCH,
        reset,
        versions: &OneVersion,
    };
    let maker = tracker("kube-controller-manager", Reset::Below(&[&["status"]]));
    let kubelet = tracker("kubelet", Reset::Below(&[&["spec"]]));
    let mut pod = pod();
    schema::apply_defaults(type_id, &mut pod);
    let body = serde_json::to_vec(&pod).expect("a tree is text");
    let created = String::from_utf8(maker.create(&pod, "")).expect("names are text");
    let mut running = pod.clone();
    running["status"] = status();
    let owned = kubelet.update(&pod, &running, &created).expect("the status is new");
    let owned = String::from_utf8(owned).expect("names are text");
    let mut ready = running.clone();
    ready["status"]["phase"] = "Succeeded".into();

    println!("a pod of {} bytes, managed fields of {} and {} bytes", body.len(), created.len(), owned.len());
    measure("decode the body", || drop(black_box(schema::decode_body(&body, &gvk))));
    measure("encode the tree", || drop(black_box(serde_json::to_vec(&pod))));
    measure("create", || drop(black_box(maker.create(&pod, ""))));
    measure("update that changes nothing", || drop(black_box(kubelet.update(&running, &running, &owned))));
    measure("update by a known manager", || drop(black_box(kubelet.update(&running, &ready, &owned))));
    measure("first update by a second one", || drop(black_box(kubelet.update(&pod, &running, &created))));
}

fn measure(name: &str, mut work: impl FnMut()) {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < SECONDS {
        (0..BATCH).for_each(|_| work());
        count += BATCH;
    }
    println!("{name:<30} {:>8.1} us", start.elapsed().as_secs_f64() * 1e6 / f64::from(count));
}

fn pod() -> Value {
    let container = |name: &str| {
        json!({"name": name, "image": "registry/app:1", "ports": [{"containerPort": 80, "name": "http"}],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "token", "mountPath": "/token"}]})
    };
    json!({"kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"app": "web", "pod-template-hash": "x"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": true}]},
        "spec": {"containers": [container("a"), container("b")], "serviceAccountName": "default",
            "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "token", "secret": {"secretName": "s"}}]}})
}

fn status() -> Value {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [condition("Ready"), condition("Initialized"), condition("PodScheduled")],
        "containerStatuses": [{"name": "a", "ready": true, "image": "i", "imageID": "j", "restartCount": 0}]})
}
