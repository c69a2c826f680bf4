//! Reading a pod: names, containers of every sort, restart rules, quality of service.

use std::sync::{Arc, LazyLock};

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, PodStatus};

mod qos;

pub(crate) use qos::{Qos, qos_class};

const MIRROR: &str = "kubernetes.io/config.mirror";
const SOURCE: &str = "kubernetes.io/config.source";
/// Grace when a pod names none.
const DEFAULT_GRACE_SECONDS: i64 = 30;

static NO_SPEC: LazyLock<PodSpec> = LazyLock::new(PodSpec::default);
static NO_STATUS: LazyLock<PodStatus> = LazyLock::new(PodStatus::default);

pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// `name_namespace(uid)`: how messages name a pod.
pub(crate) fn describe(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

pub(crate) fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap_or(&NO_SPEC)
}

pub(crate) fn status(pod: &Pod) -> &PodStatus {
    pod.status.as_ref().unwrap_or(&NO_STATUS)
}

pub(crate) fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

pub(crate) fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

pub(crate) fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE).is_some_and(|source| source != "api")
}

/// The pod as the API has it, marked as coming from there: what its author wrote about its source is not to be believed.
pub(crate) fn from_api(pod: &Arc<Pod>) -> Arc<Pod> {
    if is_mirror(pod) || annotation(pod, SOURCE) == Some("api") {
        return pod.clone();
    }
    let mut marked = Pod::clone(pod);
    marked.metadata.annotations.get_or_insert_default().insert(SOURCE.to_owned(), "api".to_owned());
    Arc::new(marked)
}

pub(crate) fn is_host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

pub(crate) fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub(crate) fn is_terminal_phase(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Seconds between the stop signal and the kill: the deletion's own, else the pod's, else the default.
pub(crate) fn grace_seconds(pod: &Pod) -> i64 {
    let deletion = pod.metadata.deletion_grace_period_seconds.filter(|_| is_deleted(pod));
    deletion.or(spec(pod).termination_grace_period_seconds).unwrap_or(DEFAULT_GRACE_SECONDS)
}

pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub(crate) fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

pub(crate) fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    spec(pod).ephemeral_containers.as_deref().unwrap_or_default()
}

/// Init containers, then regular ones.
pub(crate) fn all_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    init_containers(pod).iter().chain(&spec(pod).containers)
}

/// Finds a container of any sort by name.
pub(crate) fn find_container(pod: &Pod, name: &str) -> Option<Container> {
    let plain = all_containers(pod).find(|container| container.name == name).cloned();
    plain.or_else(|| ephemeral_containers(pod).iter().find(|e| e.name == name).map(ephemeral_as_container))
}

/// `spec.containers{name}`: how events point at one container.
pub(crate) fn field_path(pod: &Pod, container: &str) -> String {
    let is_init = init_containers(pod).iter().any(|c| c.name == container);
    let is_ephemeral = ephemeral_containers(pod).iter().any(|c| c.name == container);
    let list = match (is_init, is_ephemeral) {
        (true, _) => "initContainers",
        (_, true) => "ephemeralContainers",
        _ => "containers",
    };
    format!("spec.{list}{{{container}}}")
}

pub(crate) fn ephemeral_as_container(e: &EphemeralContainer) -> Container {
    Container {
        args: e.args.clone(),
        command: e.command.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        lifecycle: None,
        liveness_probe: None,
        name: e.name.clone(),
        ports: None,
        readiness_probe: None,
        resize_policy: None,
        resources: e.resources.clone(),
        restart_policy: None,
        restart_policy_rules: None,
        security_context: e.security_context.clone(),
        startup_probe: None,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        tty: e.tty,
        volume_devices: None,
        volume_mounts: e.volume_mounts.clone(),
        working_dir: e.working_dir.clone(),
    }
}

pub(crate) fn pod_restart_policy(pod: &Pod) -> &str {
    spec(pod).restart_policy.as_deref().unwrap_or("Always")
}

/// Whether a container that ended with `exit_code` is started again: its own rules, its own policy, the pod's policy.
pub(crate) fn restarts_after(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    if let Some(policy) = container.restart_policy.as_deref() {
        let mut rules = container.restart_policy_rules.iter().flatten();
        if rules.any(|rule| rule.action == "Restart" && rule_matches(rule, exit_code)) {
            return true;
        }
        return by_policy(policy, exit_code);
    }
    by_policy(pod_restart_policy(pod), exit_code)
}

fn by_policy(policy: &str, exit_code: i32) -> bool {
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

fn rule_matches(rule: &k8s_openapi::api::core::v1::ContainerRestartRule, exit_code: i32) -> bool {
    let Some(codes) = &rule.exit_codes else { return false };
    let listed = codes.values.iter().flatten().any(|value| *value == exit_code);
    match codes.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}

/// Whether a failing probe leads to a restart: exit codes play no part, because the container still runs.
pub(crate) fn restarts_after_kill(pod: &Pod, container: &Container) -> bool {
    container.restart_policy.as_deref().unwrap_or(pod_restart_policy(pod)) != "Never"
}

/// A number over what a restart depends on: name and image. FNV-1a, as it is only compared for equality
/// across restarts of this program.
pub(crate) fn container_hash(container: &Container) -> u64 {
    let image = container.image.as_deref().unwrap_or_default();
    let picked = serde_json::json!({"image": image, "name": container.name});
    let hash = picked
        .to_string()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    u64::from(hash)
}

#[cfg(test)]
pub(crate) mod tests;
