//! A node without containers: pods are bound to it, and are running and ready as soon as they are. Deleted pods end
//! at once. Pods whose annotation `hollow` is `broken` never get ready.

use daemon::Tasks;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use reconcile::{Change, Informers, Key, Queue};
use serde_json::json;

pub(crate) async fn start(client: Client, tasks: &Tasks, name: &str) {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]},
    }))
    .unwrap();
    Api::<Node>::all(client.clone()).create(&PostParams::default(), &node).await.unwrap();
    let pods = Informers::new(client.clone(), tasks.clone()).of::<Pod>();
    let queue = Queue::new();
    let added = queue.clone();
    pods.handle(move |change| {
        if !matches!(change, Change::Deleted(_)) {
            added.add(Key::of(&**change.object()));
        }
    });
    let (drain, name) = (tasks.drain().clone(), name.to_owned());
    tasks.spawn("hollow node", async move {
        let sync = |key: Key| {
            let pod = pods.get(&key.namespace, &key.name);
            let api = Api::<Pod>::namespaced(client.clone(), &key.namespace);
            let name = name.clone();
            async move {
                match pod {
                    Some(pod) => run(api, &pod, &name).await.map(|()| None),
                    None => Ok::<_, kube::Error>(None),
                }
            }
        };
        reconcile::run_workers("hollow node", &queue, 8, &drain, sync).await;
    });
}

async fn run(api: Api<Pod>, pod: &Pod, node: &str) -> kube::Result<()> {
    let name = pod.name_any();
    let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    if bound.is_some_and(|bound| bound != node) {
        return Ok(());
    }
    if pod.metadata.deletion_timestamp.is_some() {
        let gone = api.delete(&name, &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await;
        return gone.map(drop).or_else(ignore_missing);
    }
    if bound.is_none() {
        let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
        let post = PostParams::default();
        let done = api.create_subresource::<_, serde_json::Value>("binding", &name, &post, &binding);
        let done = done.await;
        return done.map(drop).or_else(ignore_missing);
    }
    let running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    if running || pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded") {
        return Ok(());
    }
    let says = |value: &str| pod.annotations().get("hollow").is_some_and(|said| said == value);
    let now = daemon::clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let ready = if says("broken") { "False" } else { "True" };
    let phase = if says("done") { "Succeeded" } else { "Running" };
    let octet = name.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let ip = format!("10.244.{}.{}", octet % 250, octet / 250 % 250 + 1);
    let status = json!({"status": {
        "phase": phase, "podIP": ip, "podIPs": [{"ip": ip}], "startTime": now,
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": now}],
    }});
    api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&status)).await.map(drop).or_else(ignore_missing)
}

fn ignore_missing(error: kube::Error) -> kube::Result<()> {
    match error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => Ok(()),
        other => Err(other),
    }
}
