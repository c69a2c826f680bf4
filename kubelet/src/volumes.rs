//! Volumes of a pod: made before its containers, refreshed while they run, gone with it.

mod atomic;
mod claim;
mod mount;
mod ownership;
mod payload;
mod subpath;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cri::v1::PodSandboxConfig;
use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Pod, Volume};

pub(crate) use subpath::{Place as SubpathPlace, prepare as prepare_subpath};

use crate::events::Events;
use crate::images::Wanted;
use crate::kubelet::Kubelet;
use crate::pod;
use crate::status::WaitingReason;

/// Where a volume is on the host.
#[derive(Debug, Clone)]
pub(crate) struct Mounted {
    pub path: PathBuf,
    pub read_only: bool,
}

pub(crate) type Volumes = BTreeMap<String, Mounted>;

/// Images by the name of the volume, or why they are not there.
pub(crate) type ImageVolumes = BTreeMap<String, Result<Mounted, WaitingReason>>;

/// The reason of an image that is here and cannot be mounted: as when the runtime mounts it for the container.
pub(crate) const IMAGE_NOT_MOUNTED: &str = "CreateContainerError";

/// A volume that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {reason}")]
pub(crate) struct Failure {
    pub volume: String,
    pub reason: String,
}

pub(crate) fn pod_directory(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid)
}

/// `pods/<uid>/volumes/kubernetes.io~<plug-in>/<name>`.
fn directory(root: &Path, uid: &str, plugin: &str, name: &str) -> PathBuf {
    pod_directory(root, uid).join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
}

pub(crate) fn empty_dir_path(root: &Path, uid: &str, name: &str) -> PathBuf {
    directory(root, uid, "empty-dir", name)
}

/// Makes or refreshes every volume but images. Idempotent. One that fails stays as it is `known`, and keeps no other from being
/// refreshed; the first failure is told.
pub(crate) async fn prepare(
    kubelet: &Kubelet,
    pod: &Pod,
    pod_ips: &[String],
    known: Option<&Volumes>,
) -> (Volumes, Option<Failure>) {
    let mut outcomes = Vec::new();
    let images_apart = |volume: &&Volume| volume.image.is_none();
    for volume in pod::spec(pod).volumes.iter().flatten().filter(images_apart) {
        outcomes.push((volume.name.clone(), one(kubelet, pod, volume, pod_ips).await));
    }
    settle(outcomes, known)
}

fn settle(outcomes: Vec<(String, Result<Mounted, String>)>, known: Option<&Volumes>) -> (Volumes, Option<Failure>) {
    let mut volumes = Volumes::new();
    let mut first = None;
    for (volume, outcome) in outcomes {
        let stays = known.and_then(|known| known.get(&volume)).cloned();
        if let Some(mounted) = outcome.as_ref().ok().cloned().or(stays) {
            volumes.insert(volume.clone(), mounted);
        }
        if let Err(reason) = outcome {
            first = first.or(Some(Failure { volume, reason }));
        }
    }
    (volumes, first)
}

async fn one(kubelet: &Kubelet, pod: &Pod, volume: &Volume, pod_ips: &[String]) -> Result<Mounted, String> {
    let root = &kubelet.config.root_dir;
    let uid = pod::uid(pod);
    let group = pod::spec(pod).security_context.as_ref().and_then(|context| context.fs_group);
    if let Some(source) = &volume.empty_dir {
        let path = empty_dir_path(root, uid, &volume.name);
        mount::empty_dir(&path, source, group)?;
        return Ok(Mounted { path, read_only: false });
    }
    if let Some(source) = &volume.host_path {
        mount::host_path(source)?;
        return Ok(Mounted { path: source.path.clone().into(), read_only: false });
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        return claim::mount(kubelet, pod, volume, &claim.claim_name, claim.read_only.unwrap_or(false)).await;
    }
    if volume.ephemeral.is_some() {
        let name = format!("{}-{}", pod::name(pod), volume.name);
        return claim::mount(kubelet, pod, volume, &name, false).await;
    }
    let Some(plugin) = payload::plugin(volume) else {
        return Err(format!("volume plug-in of {:?} is not supported by this node", volume.name));
    };
    let files = payload::collect(kubelet, pod, volume, pod_ips).await?;
    let path = directory(root, uid, plugin, &volume.name);
    if plugin != "configmap" && plugin != "downward-api" {
        // Secrets and tokens never touch a disk.
        mount::tmpfs(&path, None)?;
    }
    atomic::write(&path, &files, group).map_err(|error| error.to_string())?;
    Ok(Mounted { path, read_only: true })
}

/// Gets and mounts the images that a pod has as volumes. They are wanted by single containers, which wait for them.
pub(crate) async fn images(kubelet: &Kubelet, pod: &Pod, sandbox: &PodSandboxConfig) -> ImageVolumes {
    let mut images = ImageVolumes::new();
    for volume in pod::spec(pod).volumes.iter().flatten() {
        if let Some(source) = &volume.image {
            images.insert(volume.name.clone(), image(kubelet, pod, (&volume.name, source), sandbox).await);
        }
    }
    images
}

/// What an image holds. It is pulled when the pod starts, and stays as it was then.
async fn image(
    kubelet: &Kubelet,
    pod: &Pod,
    (name, source): (&str, &ImageVolumeSource),
    sandbox: &PodSandboxConfig,
) -> Result<Mounted, WaitingReason> {
    let uid = pod::uid(pod);
    let path = directory(&kubelet.config.root_dir, uid, "image", name);
    let failed = |message: String| WaitingReason { reason: IMAGE_NOT_MOUNTED.to_owned(), message };
    if mount::is_mounted(&path).map_err(|error| failed(format!("read the mounts: {error}")))? {
        return Ok(Mounted { path, read_only: true });
    }
    // Images are got for containers: this one has nothing else.
    let container = Container {
        image: source.reference.clone(),
        image_pull_policy: source.pull_policy.clone(),
        ..Container::default()
    };
    let events = Events::new(&kubelet.recorder, pod);
    let wanted = Wanted { pod, container: &container, sandbox };
    let present = kubelet.images.ensure(&wanted, &kubelet.objects, &events).await?;
    std::fs::create_dir_all(&path).map_err(|error| failed(format!("make {}: {error}", path.display())))?;
    let mounted = kubelet.runtime.mount_image(&present.reference, uid, &path).await;
    mounted.map_err(|error| match std::error::Error::source(&error) {
        Some(cause) => failed(format!("{error}: {cause}")),
        None => failed(error.description()),
    })?;
    Ok(Mounted { path, read_only: true })
}

/// Unmounts and removes what is below a pod's directory.
pub(crate) async fn tear_down(kubelet: &Kubelet, uid: &str) -> std::io::Result<()> {
    let directory = pod_directory(&kubelet.config.root_dir, uid);
    let has_images = directory.join("volumes/kubernetes.io~image").exists();
    if has_images {
        mount::unmount_below(&directory)?;
        kubelet.runtime.forget_image_mounts(uid).await.map_err(std::io::Error::other)?;
    }
    remove(directory).await
}

/// A volume may hold millions of files: who removes them must not hold up the node's heartbeat.
async fn remove(directory: PathBuf) -> std::io::Result<()> {
    let removed = tokio::task::spawn_blocking(move || mount::unmount_all(&directory)).await;
    removed.map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn removal_holds_up_nobody() {
        use futures::FutureExt as _;
        let directory = tempfile::tempdir().unwrap();
        let pod = directory.path().join("pod");
        std::fs::create_dir_all(pod.join("volumes")).unwrap();
        let mut removal = Box::pin(remove(pod.clone()));
        assert!((&mut removal).now_or_never().is_none(), "others have their turn");
        removal.await.unwrap();
        assert!(!pod.exists());
    }

    #[test]
    fn a_volume_that_fails_holds_up_no_other() {
        let at = |path: &str| Mounted { path: path.into(), read_only: true };
        let known = Volumes::from([("config".to_owned(), at("/old")), ("token".to_owned(), at("/old"))]);
        let outcomes = || {
            let failed = |name: &str| (name.to_owned(), Err(format!("{name} not found")));
            vec![failed("config"), ("token".to_owned(), Ok(at("/new"))), failed("other")]
        };
        let (volumes, failure) = settle(outcomes(), Some(&known));
        assert_eq!(volumes["config"].path, Path::new("/old"));
        assert_eq!(volumes["token"].path, Path::new("/new"));
        assert_eq!(failure.unwrap().volume, "config");
        let (volumes, _) = settle(outcomes(), None);
        assert_eq!(volumes.keys().collect::<Vec<_>>(), ["token"]);
    }
}
