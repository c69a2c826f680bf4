//! What can be read about the node and its pods.

use std::collections::HashMap;
use std::fmt::Write as _;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use cri::v1::ContainerStats;
use serde_json::{Value, json};

use super::{Context, Failure, internal};
use crate::node::Machine;
use crate::observed::{LABEL_CONTAINER, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID, label};
use crate::pods::View;

pub(super) async fn healthz() -> &'static str {
    "ok"
}

fn json_answer(value: &Value) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn pod_list(views: Vec<View>) -> Response {
    let items: Vec<Value> = views
        .into_iter()
        .map(|view| {
            let mut pod = (*view.pod).clone();
            pod.status = Some(view.status);
            serde_json::to_value(pod).unwrap_or_default()
        })
        .collect();
    json_answer(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

pub(super) async fn pods(State(context): State<Context>) -> Response {
    pod_list(context.kubelet.pods.list())
}

pub(super) async fn running_pods(State(context): State<Context>) -> Response {
    let running = context.kubelet.pods.list().into_iter().filter(|view| !view.is_finished);
    pod_list(running.collect())
}

/// The settings that upstream's tools read here.
pub(super) async fn configz(State(context): State<Context>) -> Response {
    let config = &context.kubelet.config;
    let dns: Vec<String> = config.cluster_dns.iter().map(ToString::to_string).collect();
    json_answer(&json!({"kubeletconfig": {
        "clusterDNS": dns,
        "clusterDomain": config.cluster_domain,
        "maxPods": config.max_pods,
        "cgroupRoot": config.cgroups.root,
        "cgroupsPerQOS": config.cgroups.per_qos,
        "cgroupDriver": "cgroupfs",
        "staticPodPath": config.manifest_dir,
        "port": config.server.address.port(),
        "containerLogMaxFiles": config.logs.max_files,
        "imageGCHighThresholdPercent": config.images.gc_high_percent,
        "imageGCLowThresholdPercent": config.images.gc_low_percent,
    }}))
}

async fn stats(context: &Context) -> Result<Vec<ContainerStats>, Failure> {
    context.kubelet.runtime.list_container_stats().await.map_err(|error| internal(error.to_string()))
}

fn time(nanoseconds: i64) -> String {
    crate::observed::timestamp(nanoseconds).map(api::time::seconds).unwrap_or_default()
}

fn container_summary(name: &str, stats: &ContainerStats) -> Value {
    let cpu = stats.cpu.unwrap_or_default();
    let memory = stats.memory.unwrap_or_default();
    let layer = stats.writable_layer.clone().unwrap_or_default();
    let value = |value: Option<cri::v1::UInt64Value>| value.map(|value| value.value);
    let working_set = value(memory.working_set_bytes);
    let mut summary = json!({
        "name": name,
        "cpu": {"time": time(cpu.timestamp), "usageNanoCores": value(cpu.usage_nano_cores).unwrap_or(0),
            "usageCoreNanoSeconds": value(cpu.usage_core_nano_seconds)},
        "memory": {"time": time(memory.timestamp), "workingSetBytes": working_set,
            "usageBytes": value(memory.usage_bytes).or(working_set), "rssBytes": value(memory.rss_bytes).unwrap_or(0)},
    });
    if let Some(used) = value(layer.used_bytes) {
        summary["rootfs"] =
            json!({"time": time(layer.timestamp), "usedBytes": used, "inodesUsed": value(layer.inodes_used)});
    }
    summary
}

fn sum(containers: &[Value], path: &str) -> u64 {
    containers.iter().filter_map(|container| container.pointer(path)?.as_u64()).sum()
}

pub(super) async fn summary(State(context): State<Context>) -> Result<Response, Failure> {
    let kubelet = &context.kubelet;
    let mut by_pod: HashMap<String, (Value, Vec<Value>)> = HashMap::new();
    for stats in stats(&context).await? {
        let Some(attributes) = &stats.attributes else { continue };
        let get = |key: &str| label(&attributes.labels, key);
        let reference =
            json!({"name": get(LABEL_POD_NAME), "namespace": get(LABEL_POD_NAMESPACE), "uid": get(LABEL_POD_UID)});
        let pod = by_pod.entry(get(LABEL_POD_UID)).or_insert_with(|| (reference, Vec::new()));
        pod.1.push(container_summary(&get(LABEL_CONTAINER), &stats));
    }
    let now = api::time::seconds(daemon::clock::now());
    let pods: Vec<Value> = by_pod
        .into_values()
        .map(|(reference, containers)| {
            json!({"podRef": reference, "startTime": now,
                "cpu": {"time": now, "usageNanoCores": sum(&containers, "/cpu/usageNanoCores"),
                    "usageCoreNanoSeconds": sum(&containers, "/cpu/usageCoreNanoSeconds")},
                "memory": {"time": now, "workingSetBytes": sum(&containers, "/memory/workingSetBytes")},
                "containers": containers})
        })
        .collect();
    let total = u64::try_from(kubelet.machine.memory_bytes).unwrap_or(0);
    let available = u64::try_from(Machine::memory_available()).unwrap_or(0);
    let disk = Machine::disk(&kubelet.config.root_dir);
    let file_system = disk.map(|disk| {
        json!({"time": now, "availableBytes": disk.available, "capacityBytes": disk.capacity,
            "usedBytes": disk.capacity.saturating_sub(disk.available), "inodes": disk.inodes, "inodesFree": disk.inodes_free})
    });
    Ok(json_answer(&json!({
        "node": {"nodeName": kubelet.config.node_name, "startTime": now,
            "memory": {"time": now, "availableBytes": available, "workingSetBytes": total.saturating_sub(available)},
            "fs": file_system, "runtime": {"imageFs": file_system}},
        "pods": pods,
    })))
}

pub(super) async fn metrics(State(context): State<Context>) -> Response {
    let views = context.kubelet.pods.list();
    let containers = views.iter().flat_map(|view| view.status.container_statuses.iter().flatten());
    let running = containers.filter(|c| c.state.as_ref().is_some_and(|s| s.running.is_some())).count();
    let pods = views.iter().filter(|view| !view.is_finished).count();
    let rendered = daemon::metrics::render();
    // The end mark of the format goes behind what is added here.
    let mut text = rendered.trim_end_matches("# EOF\n").to_owned();
    let _ = write!(
        text,
        "# HELP kubelet_running_containers Number of containers currently running\n# TYPE kubelet_running_containers gauge\n\
         kubelet_running_containers{{container_state=\"running\"}} {running}\n\
         # HELP kubelet_running_pods Number of pods that have a running pod sandbox\n# TYPE kubelet_running_pods gauge\n\
         kubelet_running_pods {pods}\n"
    );
    (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// What resource metrics are made of.
pub(super) async fn resource_metrics(State(context): State<Context>) -> Result<Response, Failure> {
    let mut cpu = String::from("# TYPE container_cpu_usage_seconds_total counter\n");
    let mut memory = String::from("# TYPE container_memory_working_set_bytes gauge\n");
    for stats in stats(&context).await? {
        let Some(attributes) = &stats.attributes else { continue };
        let get = |key: &str| label(&attributes.labels, key);
        let labels = format!(
            "container={:?},namespace={:?},pod={:?}",
            get(LABEL_CONTAINER),
            get(LABEL_POD_NAMESPACE),
            get(LABEL_POD_NAME)
        );
        if let Some(used) = stats.cpu.as_ref().and_then(|cpu| cpu.usage_core_nano_seconds.as_ref()) {
            #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
            let seconds = used.value as f64 / 1e9;
            let _ = writeln!(cpu, "container_cpu_usage_seconds_total{{{labels}}} {seconds}");
        }
        if let Some(used) = stats.memory.as_ref().and_then(|memory| memory.working_set_bytes.as_ref()) {
            let _ = writeln!(memory, "container_memory_working_set_bytes{{{labels}}} {}", used.value);
        }
    }
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; version=0.0.4")], cpu + &memory).into_response())
}
