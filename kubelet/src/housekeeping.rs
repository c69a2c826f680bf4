//! What has to be done now and then: pods nobody wants any more, full logs, a full disk.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use cri::v1;
use k8s_openapi::api::core::v1::Pod;
use reconcile::Informer;

use crate::images::gc::{self, Seen};
use crate::kubelet::Kubelet;
use crate::logs::rotate;
use crate::node::{Machine, pause};
use crate::observed::{LABEL_POD_UID, label};
use crate::volumes;
use crate::worker::collect;

const ORPHANS: Duration = Duration::from_secs(30);
/// Sources that have not said what they want are asked about this often.
const SOURCES: Duration = Duration::from_millis(200);
const LOGS: Duration = Duration::from_secs(10);
const IMAGES: Duration = Duration::from_secs(300);
const OBJECTS: Duration = Duration::from_secs(60);
/// Grace of containers whose pod is not known any more.
const ORPHAN_GRACE: Duration = Duration::from_secs(30);

pub(crate) fn start(kubelet: &Arc<Kubelet>, pods: Informer<Pod>) {
    let shared = kubelet.clone();
    kubelet.tasks.supervise("orphans", move || orphans(shared.clone(), pods.clone()));
    let shared = kubelet.clone();
    kubelet.tasks.supervise("log rotation", move || logs(shared.clone()));
    let shared = kubelet.clone();
    kubelet.tasks.supervise("image collection", move || images(shared.clone()));
    let shared = kubelet.clone();
    kubelet.tasks.supervise("object watches", move || objects(shared.clone()));
}

async fn objects(kubelet: Arc<Kubelet>) -> Result<(), std::convert::Infallible> {
    while pause(&kubelet, OBJECTS).await {
        kubelet.objects.rest(daemon::clock::monotonic());
    }
    Ok(())
}

async fn logs(kubelet: Arc<Kubelet>) -> Result<(), cri::Error> {
    while pause(&kubelet, LOGS).await {
        rotate::pass(&*kubelet.runtime, &kubelet.config.logs).await?;
    }
    Ok(())
}

/// Never before every source has said what it wants: an unknown pod may be one that is not known yet.
async fn orphans(kubelet: Arc<Kubelet>, pods: Informer<Pod>) -> Result<(), cri::Error> {
    if kubelet.tasks.drain().run(pods.synced()).await.is_none() {
        return Ok(());
    }
    while kubelet.config.manifest_dir.is_some() && !kubelet.pods.knows_static_pods() {
        if !pause(&kubelet, SOURCES).await {
            return Ok(());
        }
    }
    loop {
        for uid in orphan_uids(&kubelet).await? {
            tracing::info!(uid, "removing a pod that nobody wants any more");
            // One that cannot be removed does not keep the others.
            if let Err(error) = remove(&kubelet, &uid).await {
                tracing::warn!(uid, %error, "cannot remove a pod that nobody wants");
            }
        }
        collect::remove_dangling_links(&kubelet.config.container_logs_dir);
        for uid in kubelet.cgroups.uids().iter().filter(|uid| !kubelet.pods.contains(uid)) {
            kubelet.cgroups.remove(uid);
        }
        if !pause(&kubelet, ORPHANS).await {
            return Ok(());
        }
    }
}

/// Pods that the runtime or the disk has, and no source.
async fn orphan_uids(kubelet: &Kubelet) -> Result<HashSet<String>, cri::Error> {
    let sandboxes = kubelet.runtime.list_sandboxes(HashMap::new()).await?;
    let containers = kubelet.runtime.list_containers(HashMap::new()).await?;
    let running = sandboxes.iter().map(|s| label(&s.labels, LABEL_POD_UID));
    let running = running.chain(containers.iter().map(|c| label(&c.labels, LABEL_POD_UID)));
    let entries = std::fs::read_dir(kubelet.config.root_dir.join("pods")).into_iter().flatten().flatten();
    let stored = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let logs = std::fs::read_dir(&kubelet.config.pod_logs_dir).into_iter().flatten().flatten();
    let logged = logs.filter_map(|entry| Some(entry.file_name().to_string_lossy().rsplit_once('_')?.1.to_owned()));
    // Listed first, compared after: a pod that appears in between is known by then.
    let uids: HashSet<String> = running.chain(stored).chain(logged).collect();
    Ok(uids.into_iter().filter(|uid| is_uid(uid) && !kubelet.pods.contains(uid)).collect())
}

/// Labels and directories can say anything; a uid is one plain part of a path.
fn is_uid(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

async fn remove(kubelet: &Kubelet, uid: &str) -> Result<(), cri::Error> {
    let observed = crate::observe::pod(&*kubelet.runtime, uid).await?;
    for container in observed.running() {
        kubelet.runtime.stop_container(&container.id, ORPHAN_GRACE).await?;
    }
    collect::remove(kubelet, uid).await?;
    if let Err(error) = volumes::tear_down(kubelet, uid).await {
        tracing::warn!(uid, %error, "cannot remove a pod's directory");
    }
    let suffix = format!("_{uid}");
    for entry in std::fs::read_dir(&kubelet.config.pod_logs_dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(&suffix) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

async fn images(kubelet: Arc<Kubelet>) -> Result<(), cri::Error> {
    let mut seen: HashMap<String, Seen> = HashMap::new();
    while pause(&kubelet, IMAGES).await {
        let images = kubelet.runtime.list_images().await?;
        let used = used(&kubelet.runtime.list_containers(HashMap::new()).await?, &images);
        let now = daemon::clock::monotonic();
        gc::note(&mut seen, &images, &used, now);
        let policy = &kubelet.config.images;
        let Some(disk) = Machine::disk(&kubelet.config.root_dir) else { continue };
        let (high, low) = (policy.gc_high_percent, policy.gc_low_percent);
        let Some(excess) = gc::excess(disk.capacity, disk.available, high, low) else { continue };
        for id in gc::victims(&seen, &images, &used, excess, policy.min_age, now) {
            tracing::info!(image = id, "removing an unused image: the disk is full");
            // In use since it was listed, perhaps: the others go all the same.
            if let Err(error) = kubelet.runtime.remove_image(&id).await {
                tracing::warn!(image = id, %error, "cannot remove an unused image");
            }
        }
    }
    Ok(())
}

/// Ids of images that containers, dead ones too, were made of.
fn used(containers: &[v1::Container], images: &[v1::Image]) -> HashSet<String> {
    let named = |container: &v1::Container| {
        let reference = &container.image_ref;
        let image = images.iter().find(|i| i.id == *reference || i.repo_digests.contains(reference));
        image.map_or_else(|| reference.clone(), |image| image.id.clone())
    };
    containers.iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids() {
        for (text, is) in
            [("5f0c-a1", true), ("0123abcd", true), ("", false), ("..", false), ("a/b", false), ("../../etc", false)]
        {
            assert_eq!(is_uid(text), is, "{text}");
        }
    }
}
