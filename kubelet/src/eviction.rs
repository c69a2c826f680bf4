//! Evicting pods before the node runs out of memory, and pods that outgrow a volume's limit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use reconcile::EventType;

use crate::events::Events;
use crate::kubelet::Kubelet;
use crate::node::{Machine, pause};
use crate::observed::{LABEL_POD_UID, label};
use crate::pod::{self, Qos, qos_class};
use crate::pods::View;
use crate::spec::resources::{total, whole};
use crate::status::Verdict;
use crate::volumes;

const PERIOD: Duration = Duration::from_secs(10);
/// Entries of a volume that are counted at most: a volume with more is judged by these.
const MAX_ENTRIES: usize = 100_000;
/// Pods of this priority and above are needed by the node itself.
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

pub(crate) fn start(kubelet: &Arc<Kubelet>) {
    let shared = kubelet.clone();
    kubelet.tasks.supervise("eviction", move || run(shared.clone()));
}

async fn run(kubelet: Arc<Kubelet>) -> Result<(), cri::Error> {
    while pause(&kubelet, PERIOD).await {
        for view in active(&kubelet).into_iter().filter(|view| has_limited_volumes(&view.pod)) {
            let (root, pod) = (kubelet.config.root_dir.clone(), view.pod.clone());
            // Counting files takes as long as there are files.
            if let Ok(Some(message)) = tokio::task::spawn_blocking(move || outgrown(&root, &pod)).await {
                evict(&kubelet, &view.pod, message);
            }
        }
        let threshold = kubelet.config.thresholds.memory_bytes;
        let available = Machine::memory_available();
        if available < threshold {
            relieve(&kubelet, available, threshold).await?;
        }
    }
    Ok(())
}

fn active(kubelet: &Kubelet) -> Vec<View> {
    let views = kubelet.pods.list().into_iter();
    views.filter(|view| !view.is_finished && !pod::is_terminal_phase(view.status.phase.as_deref())).collect()
}

fn evict(kubelet: &Kubelet, pod: &Pod, message: String) {
    let verdict = Verdict { reason: "Evicted".into(), message: message.clone() };
    if kubelet.pods.evict(pod::uid(pod), verdict) {
        Events::new(&kubelet.recorder, pod).pod(EventType::Warning, "Evicted", &message);
    }
}

/// One pod at a time: the next look shows whether it was enough.
async fn relieve(kubelet: &Kubelet, available: i64, threshold: i64) -> Result<(), cri::Error> {
    let stats = kubelet.runtime.list_container_stats().await?;
    let used = |pod: &Pod| -> i64 {
        let own = stats.iter().filter(|stats| {
            stats.attributes.as_ref().is_some_and(|a| label(&a.labels, LABEL_POD_UID) == pod::uid(pod))
        });
        let bytes = own.filter_map(|stats| stats.memory.as_ref()?.working_set_bytes.as_ref().map(|v| v.value));
        i64::try_from(bytes.sum::<u64>()).unwrap_or(i64::MAX)
    };
    let mut candidates: Vec<Candidate> = active(kubelet)
        .into_iter()
        .filter(|view| pod::spec(&view.pod).priority.unwrap_or(0) < CRITICAL_PRIORITY && !pod::is_static(&view.pod))
        .map(|view| Candidate::new(&view.pod, used(&view.pod)))
        .collect();
    candidates.sort_by_key(Candidate::rank);
    if let Some(first) = candidates.into_iter().next() {
        let message = format!(
            "The node was low on resource: memory. Threshold quantity: {}Mi, available: {}Ki. ",
            threshold >> 20,
            available / 1024
        );
        evict(kubelet, &first.pod, message);
    }
    Ok(())
}

struct Candidate {
    pod: Pod,
    used: i64,
    requested: i64,
}

impl Candidate {
    fn new(pod: &Pod, used: i64) -> Self {
        let request = |c: &Container| whole(c.resources.as_ref().and_then(|r| r.requests.as_ref()), "memory");
        Self { pod: pod.clone(), used, requested: total(pod, request) }
    }

    /// Those above their request first, then by priority, then by how far above.
    fn rank(&self) -> (bool, i32, i64) {
        let above = self.used - self.requested;
        let within = above <= 0 && qos_class(&self.pod) != Qos::BestEffort;
        (within, pod::spec(&self.pod).priority.unwrap_or(0), -above)
    }
}

fn has_limited_volumes(pod: &Pod) -> bool {
    let mut volumes = pod::spec(pod).volumes.iter().flatten();
    volumes.any(|volume| volume.empty_dir.as_ref().is_some_and(|source| source.size_limit.is_some()))
}

/// The message when an `emptyDir` on disk is larger than its limit.
fn outgrown(root: &Path, pod: &Pod) -> Option<String> {
    for volume in pod::spec(pod).volumes.iter().flatten() {
        let Some(source) = &volume.empty_dir else { continue };
        let Some(limit) = &source.size_limit else { continue };
        let Ok(parsed) = limit.0.parse::<api::quantity::Quantity>() else { continue };
        if source.medium.as_deref().is_some_and(|medium| !medium.is_empty()) || parsed.value() <= 0 {
            continue;
        }
        let path = volumes::empty_dir_path(root, pod::uid(pod), &volume.name);
        let mut left = MAX_ENTRIES;
        let used = i64::try_from(size(&path, &mut left)).unwrap_or(i64::MAX);
        if used > parsed.value() {
            return Some(format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", volume.name, limit.0));
        }
    }
    None
}

/// Bytes on disk below a path, links not followed. However deep a container nests directories, this does not recurse.
fn size(path: &Path, left: &mut usize) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if *left == 0 {
                return bytes;
            }
            *left -= 1;
            let Ok(metadata) = entry.metadata() else { continue };
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn the_greediest_goes_first() {
        let with = |name: &str, request: &str, priority: i32, used: i64| {
            let resources = json!({"requests": {"memory": request}});
            let mut pod = pod(json!({"priority": priority, "containers": [{"name": "c", "resources": resources}]}));
            pod.metadata.name = Some(name.into());
            Candidate::new(&pod, used)
        };
        let mut candidates = [
            with("within", "100", 0, 50),
            with("much", "10", 0, 90),
            with("some", "10", 0, 20),
            with("dear", "10", 9, 90),
        ];
        candidates.sort_by_key(Candidate::rank);
        let names: Vec<_> = candidates.iter().map(|c| pod::name(&c.pod).to_owned()).collect();
        assert_eq!(names, ["much", "some", "dear", "within"]);
    }

    #[test]
    fn a_volume_above_its_limit() {
        let root = tempfile::tempdir().unwrap();
        let pod = pod(json!({"containers": [], "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "10Ki"}}]}));
        let path = volumes::empty_dir_path(root.path(), "u1", "v");
        std::fs::create_dir_all(&path).unwrap();
        assert_eq!(outgrown(root.path(), &pod), None);
        std::fs::write(path.join("big"), vec![1; 100_000]).unwrap();
        assert_eq!(
            outgrown(root.path(), &pod).as_deref(),
            Some("Usage of EmptyDir volume \"v\" exceeds the limit \"10Ki\". ")
        );
    }
}
