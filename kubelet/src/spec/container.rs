//! One container as the runtime is asked for it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use cri::v1::{ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, Mount, NamespaceMode};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::expand::expand;
use super::resources;
use super::sandbox::pod_labels;
use super::security::{self, ImageUser};
use crate::observed::{
    ANNOTATION_HASH, ANNOTATION_MESSAGE_PATH, ANNOTATION_MESSAGE_POLICY, ANNOTATION_RESTARTS, LABEL_CONTAINER,
};
use crate::pod;

pub(crate) struct Inputs<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub restart_count: i32,
    pub image_ref: String,
    pub image_user: &'a ImageUser,
    pub env: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    pub memory_capacity: i64,
    pub seccomp_root: &'a Path,
    /// The container whose processes an ephemeral one shares.
    pub target_id: Option<String>,
}

/// # Errors
/// The message of a configuration that cannot be run.
pub(crate) fn build(inputs: Inputs<'_>) -> Result<ContainerConfig, String> {
    let (pod, container) = (inputs.pod, inputs.container);
    security::verify_non_root(pod, container, inputs.image_user)?;
    let mut security = security::container(pod, container, inputs.image_user, inputs.seccomp_root)?;
    if let (Some(target), Some(namespaces)) = (inputs.target_id, security.namespace_options.as_mut())
        && namespaces.pid == NamespaceMode::Container as i32
    {
        namespaces.pid = NamespaceMode::Target as i32;
        namespaces.target_id = target;
    }
    let linux = LinuxContainerConfig {
        resources: Some(resources::container(pod, container, inputs.memory_capacity)),
        security_context: Some(security),
    };
    let (command, args) = command_line(container, &inputs.env);
    let envs = inputs.env.into_iter().map(|(key, value)| KeyValue { key, value });
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: container.name.clone(),
            attempt: u32::try_from(inputs.restart_count).unwrap_or_default(),
        }),
        image: Some(ImageSpec {
            image: inputs.image_ref,
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..ImageSpec::default()
        }),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: envs.collect(),
        mounts: inputs.mounts,
        labels: labels(pod, container),
        annotations: annotations(container, inputs.restart_count),
        log_path: format!("{}/{}.log", container.name, inputs.restart_count),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(linux),
        ..ContainerConfig::default()
    })
}

/// Command and arguments with references to the container's own environment replaced.
fn command_line(container: &Container, env: &BTreeMap<String, String>) -> (Vec<String>, Vec<String>) {
    let lookup = |name: &str| env.get(name).cloned();
    let expanded =
        |list: &Option<Vec<String>>| list.iter().flatten().map(|text| expand(text, &lookup)).collect::<Vec<_>>();
    (expanded(&container.command), expanded(&container.args))
}

fn labels(pod: &Pod, container: &Container) -> HashMap<String, String> {
    let mut labels = pod_labels(pod);
    labels.retain(|key, _| key.starts_with("io.kubernetes.pod."));
    labels.insert(LABEL_CONTAINER.into(), container.name.clone());
    labels
}

fn annotations(container: &Container, restart_count: i32) -> HashMap<String, String> {
    let path = container.termination_message_path.clone().unwrap_or_default();
    let policy = container.termination_message_policy.clone().unwrap_or_default();
    HashMap::from([
        (ANNOTATION_HASH.into(), format!("{:x}", pod::container_hash(container))),
        (ANNOTATION_RESTARTS.into(), restart_count.to_string()),
        (ANNOTATION_MESSAGE_PATH.into(), path),
        (ANNOTATION_MESSAGE_POLICY.into(), policy),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn a_container() {
        let pod =
            pod(json!({"containers": [{"name": "c", "image": "i", "command": ["sh"], "args": ["-c", "echo $(A) $(B)"],
            "terminationMessagePath": "/t"}]}));
        let config = build(Inputs {
            pod: &pod,
            container: &pod::spec(&pod).containers[0],
            restart_count: 3,
            image_ref: "sha256:1".into(),
            image_user: &ImageUser::default(),
            env: [("A".to_owned(), "1".to_owned())].into(),
            mounts: Vec::new(),
            memory_capacity: 1 << 30,
            seccomp_root: Path::new("/s"),
            target_id: None,
        })
        .unwrap();
        assert_eq!(config.args, ["-c", "echo 1 $(B)"]);
        assert_eq!(config.log_path, "c/3.log");
        assert_eq!(config.annotations[ANNOTATION_RESTARTS], "3");
        assert_eq!(config.annotations[ANNOTATION_MESSAGE_PATH], "/t");
        assert_eq!(config.labels[LABEL_CONTAINER], "c");
    }
}
