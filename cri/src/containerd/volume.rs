//! Images as read-only volumes. containerd learned this from CRI late (2.1); its own API could always show a snapshot.

use std::collections::HashMap;
use std::path::Path;

use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{
    ListSnapshotsRequest, MountsRequest, RemoveSnapshotRequest, ViewSnapshotRequest,
};
use containerd_client::types::Mount;
use nix::mount::{MsFlags, mount};
use tonic::Code;

use super::unpack::{Image, unpack};
use super::{Containerd, namespaced, overlay};
use crate::{Error, v1};

/// Keeps a view from being collected as garbage. The value says since when.
const ROOT_LABEL: &str = "containerd.io/gc.root";
/// Who has to remove the view.
const OWNER_LABEL: &str = "ironclad.dev/volume-of";

/// Mounts what the image holds.
pub(super) async fn show(containerd: &Containerd, image: &str, owner: &str, target: &Path) -> Result<(), Error> {
    let snapshotter = snapshotter(containerd).await?;
    let (image, parent) = known(containerd, image).await?;
    let key = format!("ironclad-volume_{owner}_{}", target.file_name().unwrap_or_default().display());
    let labels = HashMap::from([
        (ROOT_LABEL.to_owned(), "1970-01-01T00:00:00Z".to_owned()),
        (OWNER_LABEL.to_owned(), owner.to_owned()),
    ]);
    let request = ViewSnapshotRequest { snapshotter: snapshotter.clone(), key, parent, labels };
    let mounts = match view(containerd, request.clone()).await {
        // An image that was imported is laid out when it is first needed.
        Err(error) if error.is_not_found() => {
            unpack(containerd, &image, &snapshotter).await?;
            view(containerd, request).await?
        }
        known => known?,
    };
    let target = target.to_owned();
    let mounted = tokio::task::spawn_blocking(move || mounts.iter().try_for_each(|one| attach(one, &target))).await;
    mounted.map_err(|join| Error::Archive(join.to_string()))?
}

/// The mounts of a read-only view, which may have been made before.
async fn view(containerd: &Containerd, request: ViewSnapshotRequest) -> Result<Vec<Mount>, Error> {
    let mut snapshots = SnapshotsClient::new(containerd.channel());
    let (snapshotter, key) = (request.snapshotter.clone(), request.key.clone());
    match snapshots.view(namespaced(request)).await {
        Ok(answer) => Ok(answer.into_inner().mounts),
        Err(status) if status.code() == Code::AlreadyExists => {
            let known = snapshots.mounts(namespaced(MountsRequest { snapshotter, key })).await;
            Ok(known.map_err(|status| Error::rpc("mounts of snapshot", &status))?.into_inner().mounts)
        }
        Err(status) => Err(Error::rpc("view snapshot", &status)),
    }
}

/// Removes the views of an owner. Their mounts have to be gone.
pub(super) async fn forget(containerd: &Containerd, owner: &str) -> Result<(), Error> {
    let snapshotter = match snapshotter(containerd).await {
        // Without its name no view could be made.
        Err(Error::Incomplete { .. }) => return Ok(()),
        known => known?,
    };
    let mut snapshots = SnapshotsClient::new(containerd.channel());
    let filters = vec![format!("labels.{OWNER_LABEL:?}=={owner:?}")];
    let list = ListSnapshotsRequest { snapshotter: snapshotter.clone(), filters };
    let failed = |status| Error::rpc("list snapshots", &status);
    let mut listed = snapshots.list(namespaced(list)).await.map_err(failed)?.into_inner();
    let mut keys = Vec::new();
    while let Some(part) = listed.message().await.map_err(failed)? {
        keys.extend(part.info.into_iter().map(|info| info.name));
    }
    for key in keys {
        let remove = RemoveSnapshotRequest { snapshotter: snapshotter.clone(), key };
        match snapshots.remove(namespaced(remove)).await {
            Ok(_) => {}
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Err(Error::rpc("remove snapshot", &status)),
        }
    }
    Ok(())
}

/// Which of its snapshotters CRI uses.
async fn snapshotter(containerd: &Containerd) -> Result<String, Error> {
    let answer = containerd.cri().status(v1::StatusRequest { verbose: true }).await;
    let info = answer.map_err(|status| Error::rpc("status", &status))?.into_inner().info;
    if let Some(name) = text(&info, "config", "/containerd/snapshotter") {
        return Ok(name);
    }
    // Newer ones do not say it there. Where images lie, they say: below `<root>/io.containerd.snapshotter.v1.<name>`.
    let answer = containerd.image_service().image_fs_info(v1::ImageFsInfoRequest {}).await;
    let systems = answer.map_err(|status| Error::rpc("image fs info", &status))?.into_inner().image_filesystems;
    let mut places = systems.iter().filter_map(|system| Some(system.fs_id.as_ref()?.mountpoint.as_str()));
    let name = places.find_map(of_place);
    name.ok_or(Error::Incomplete { operation: "image fs info", missing: "the snapshotter" })
}

fn of_place(path: &str) -> Option<String> {
    let mut parts = path.split('/').filter_map(|part| part.strip_prefix("io.containerd.snapshotter.v1."));
    parts.next_back().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The image, and the snapshot that holds all of its layers.
async fn known(containerd: &Containerd, image: &str) -> Result<(Image, String), Error> {
    let spec = v1::ImageSpec { image: image.to_owned(), ..Default::default() };
    let request = v1::ImageStatusRequest { image: Some(spec), verbose: true };
    let answer = containerd.image_service().image_status(request).await;
    let answer = answer.map_err(|status| Error::rpc("image status", &status))?.into_inner();
    let missing = |missing| Error::Incomplete { operation: "image status", missing };
    let found = answer.image.ok_or_else(|| missing("the image"))?;
    let chain = text(&answer.info, "info", "/chainID").ok_or_else(|| missing("the chain's id"))?;
    let names = found.repo_tags.into_iter().chain(found.repo_digests).collect();
    Ok((Image { id: found.id, names }, chain))
}

fn text(info: &HashMap<String, String>, key: &str, pointer: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(info.get(key)?).ok()?;
    value.pointer(pointer)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Read-only, and nothing in it can be run: an image volume is data.
fn attach(one: &Mount, target: &Path) -> Result<(), Error> {
    let (mut flags, data) = options(&one.options);
    flags |= MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC;
    let failed = |source: std::io::Error| Error::io(format!("mount image on {}", target.display()), source);
    let kind = (one.r#type != "bind").then_some(one.r#type.as_str());
    overlay::attach(&one.source, target, kind, flags, &data).map_err(failed)?;
    if flags.contains(MsFlags::MS_BIND) {
        // A bind mount takes its flags only when it is changed.
        let changed = mount(None::<&str>, target, None::<&str>, flags | MsFlags::MS_REMOUNT, None::<&str>);
        changed.map_err(|errno| failed(errno.into()))?;
    }
    Ok(())
}

fn options(options: &[String]) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    for option in options {
        match option.as_str() {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "bind" => flags |= MsFlags::MS_BIND,
            "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
            "rw" => {}
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_data() {
        let given = |list: &[&str]| options(&list.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>());
        assert_eq!(given(&["ro", "rbind"]), (MsFlags::MS_RDONLY | MsFlags::MS_BIND | MsFlags::MS_REC, String::new()));
        let (flags, data) = given(&["index=off", "lowerdir=/a:/b"]);
        assert_eq!((flags, data.as_str()), (MsFlags::empty(), "index=off,lowerdir=/a:/b"));
    }

    #[test]
    fn a_snapshotter_by_where_images_lie() {
        for (path, expected) in [
            ("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs", Some("overlayfs")),
            ("/data/io.containerd.snapshotter.v1.native/snapshots", Some("native")),
            ("/data/io.containerd.snapshotter.v1.", None),
            ("/var/lib/containerd", None),
        ] {
            assert_eq!(of_place(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn reads_what_the_runtime_tells() {
        let info = HashMap::from([
            ("config".to_owned(), r#"{"containerd":{"snapshotter":"overlayfs"}}"#.to_owned()),
            ("broken".to_owned(), "{".to_owned()),
        ]);
        assert_eq!(text(&info, "config", "/containerd/snapshotter").as_deref(), Some("overlayfs"));
        for (key, pointer) in [("config", "/other"), ("broken", "/x"), ("absent", "/x")] {
            assert_eq!(text(&info, key, pointer), None, "{key}");
        }
    }
}
