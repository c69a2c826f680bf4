//! Removing dead containers and sandboxes, and everything of a pod that is gone.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::Worker;
use crate::kubelet::Kubelet;
use crate::logs::rotate::rotated;
use crate::observed::{PodObserved, State};
use crate::pod;
use crate::spec::sandbox::log_directory;

/// Dead containers kept per name beside the newest: the last state, and its log.
const KEPT_DEAD: usize = 1;

/// Containers and sandboxes that tell nothing any more.
fn surplus(observed: &PodObserved) -> (Vec<(String, String)>, Vec<String>) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut containers = Vec::new();
    for container in &observed.containers {
        let count = seen.entry(container.name.as_str()).or_default();
        *count += 1;
        if *count > KEPT_DEAD + 1 && container.state != State::Running {
            containers.push((container.id.clone(), container.log_path.clone()));
        }
    }
    let in_use = |id: &str| {
        observed.containers.iter().any(|c| c.sandbox_id == id && !containers.iter().any(|(dead, _)| *dead == c.id))
    };
    let old = observed.sandboxes.iter().skip(1).filter(|sandbox| !sandbox.ready && !in_use(&sandbox.id));
    let sandboxes = old.map(|sandbox| sandbox.id.clone()).collect();
    (containers, sandboxes)
}

impl Worker {
    pub(super) async fn collect_dead(&self, pod: &Pod, observed: &PodObserved) {
        let (containers, sandboxes) = surplus(observed);
        for (id, log) in containers {
            remove_log(Path::new(&log));
            if let Err(error) = self.kubelet.runtime.remove_container(&id).await {
                tracing::warn!(pod = pod::describe(pod), %error, "cannot remove a dead container");
            }
        }
        for id in sandboxes {
            if let Err(error) = self.kubelet.runtime.remove_sandbox(&id).await {
                tracing::warn!(pod = pod::describe(pod), %error, "cannot remove a dead sandbox");
            }
        }
    }
}

fn remove_log(path: &Path) {
    for file in rotated(path) {
        let _ = std::fs::remove_file(file);
    }
    let _ = std::fs::remove_file(path);
}

/// Removes what a pod that is gone left behind, without holding up its worker.
pub(super) fn remove_later(kubelet: &Arc<Kubelet>, pod: &Arc<Pod>) {
    let (owner, kubelet, pod) = (kubelet.clone(), kubelet.clone(), pod.clone());
    owner.tasks.spawn("pod removal", async move {
        if let Err(error) = remove(&kubelet, pod::uid(&pod)).await {
            // The housekeeping finds what is left.
            tracing::warn!(pod = pod::describe(&pod), %error, "cannot remove a pod's containers");
        }
        let _ = std::fs::remove_dir_all(log_directory(&kubelet.config.pod_logs_dir, &pod));
        remove_dangling_links(&kubelet.config.container_logs_dir);
    });
}

/// Stops and removes everything that carries the uid. The caller knows that no pod has it.
pub(crate) async fn remove(kubelet: &Kubelet, uid: &str) -> Result<(), cri::Error> {
    let observed = crate::observe::pod(&*kubelet.runtime, uid).await?;
    for container in &observed.containers {
        ignore_missing(kubelet.runtime.remove_container(&container.id).await)?;
    }
    for sandbox in &observed.sandboxes {
        ignore_missing(kubelet.runtime.stop_sandbox(&sandbox.id).await)?;
        ignore_missing(kubelet.runtime.remove_sandbox(&sandbox.id).await)?;
    }
    kubelet.cgroups.remove(uid);
    Ok(())
}

fn ignore_missing(outcome: Result<(), cri::Error>) -> Result<(), cri::Error> {
    match outcome {
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome,
    }
}

/// Links whose log is gone.
pub(crate) fn remove_dangling_links(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) && !entry.path().exists() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::tests::{container, sandbox};
    use crate::pod::tests::pod;

    #[test]
    fn one_dead_container_is_kept() {
        let pod = pod(json!({"containers": [{"name": "a"}]}));
        let dead = |id: &str, sandbox: &str| {
            let mut one = container(&pod, "a", State::Exited, 1);
            one.id = id.into();
            one.sandbox_id = sandbox.into();
            one
        };
        let mut old = sandbox(false);
        old.id = "old".into();
        let containers =
            vec![container(&pod, "a", State::Running, 0), dead("1", "s"), dead("2", "s"), dead("3", "old")];
        let observed = PodObserved { sandboxes: vec![sandbox(true), old], containers };
        let (containers, sandboxes) = surplus(&observed);
        assert_eq!(containers.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["2", "3"]);
        assert_eq!(sandboxes, ["old"]);
    }
}
