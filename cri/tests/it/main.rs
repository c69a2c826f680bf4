//! containerd itself, in namespaces of its own: nothing of it is left when a test ends.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::snapshots::ListSnapshotsRequest;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::{CreateRequest, DeleteRequest, ListRequest};
use cri::containerd::{Settings, Snapshotter, choose_snapshotter, command, config_toml, oom_score_is_restricted};
use cri::{Containerd, Runtime as _};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest as _, Sha256};

const DEADLINE: Duration = Duration::from_secs(60);
/// So many that an overlay's options do not fit into a page.
const LAYERS: usize = 80;

/// Runs one of the ignored tests as the first process of namespaces of its own.
fn inside(test: &str) {
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--net", "--pid", "--mount-proc", "--fork", "--kill-child"]);
    let status = command.arg("--").arg(own).args(["--exact", test, "--ignored", "--nocapture"]).status().unwrap();
    assert!(status.success(), "{test}: {status}");
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(root: &Path) -> (Running, Settings) {
    let at = |name: &str| root.join(name);
    let settings = Settings {
        root: at("root"),
        state: at("state"),
        socket: at("containerd.sock"),
        config_file: at("config.toml"),
        sandbox_image: "pause:1".into(),
        cni_bin_dir: at("cni"),
        cni_conf_dir: at("cni.d"),
        snapshotter: choose_snapshotter(root),
        registry_config_dir: at("certs.d"),
        cgroupfs: true,
        restrict_oom_score: oom_score_is_restricted(),
    };
    std::fs::write(&settings.config_file, config_toml(&settings)).unwrap();
    (Running(command(&settings).spawn().unwrap()), settings)
}

async fn connect(settings: &Settings, root: &Path) -> Containerd {
    connect_at(settings, root, Timestamp::now).await
}

async fn connect_at(settings: &Settings, root: &Path, clock: fn() -> Timestamp) -> Containerd {
    let wait = async {
        loop {
            if let Ok(containerd) = Containerd::connect(&settings.socket, &root.join("pipes"), clock).await
                && containerd.status().await.is_ok()
            {
                return containerd;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("containerd answers in time")
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, bytes.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// An archive as docker writes it, of an image each layer of which has a file of its own and one that the next hides.
fn image(path: &Path) {
    let layer = |n: usize| tar(&[(format!("layer-{n}"), b"own".to_vec()), ("top".into(), n.to_string().into_bytes())]);
    let layers: Vec<Vec<u8>> = (0..LAYERS).map(layer).collect();
    let contents: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", digest(layer))).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": contents}});
    let config = config.to_string().into_bytes();
    let names: Vec<String> = (0..LAYERS).map(|n| format!("{n}.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": ["data:1"], "Layers": names}]);
    let mut files =
        vec![("manifest.json".to_owned(), manifest.to_string().into_bytes()), ("config.json".to_owned(), config)];
    files.extend(names.into_iter().zip(layers));
    std::fs::write(path, tar(&files)).unwrap();
}

fn namespaced<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("containerd-namespace", "k8s.io".parse().unwrap());
    request
}

/// All snapshots that are no layers of images.
async fn views(containerd: &Settings) -> Vec<String> {
    let channel = containerd_client::connect(&containerd.socket).await.unwrap();
    let snapshotter = containerd.snapshotter.name().to_owned();
    let request = namespaced(ListSnapshotsRequest { snapshotter, filters: Vec::new() });
    let mut listed = SnapshotsClient::new(channel).list(request).await.unwrap().into_inner();
    let mut names = Vec::new();
    while let Some(part) = listed.message().await.unwrap() {
        names.extend(part.info.into_iter().map(|info| info.name));
    }
    names.retain(|name| !name.starts_with("sha256:"));
    names
}

#[test]
fn an_image_that_was_only_imported_is_a_volume() {
    inside("imported");
}

#[tokio::test]
#[ignore = "runs inside of another test's namespaces"]
async fn imported() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (running, settings) = start(root);
    let containerd = connect(&settings, root).await;
    image(&root.join("image.tar"));
    let names = containerd.import_image(&root.join("image.tar"), None).await.unwrap();
    assert_eq!(names, ["docker.io/library/data:1"]);
    let known = containerd.image_status("data:1").await.unwrap().unwrap();
    assert!(views(&settings).await.is_empty());

    for owner in ["one", "two"] {
        let target = root.join(owner).join("volume");
        std::fs::create_dir_all(&target).unwrap();
        containerd.mount_image(&known.id, owner, &target).await.unwrap();
        let top = std::fs::read_to_string(target.join("top")).unwrap();
        assert_eq!(top, (LAYERS - 1).to_string(), "the topmost layer's");
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), LAYERS + 1);
        let refused = std::fs::write(target.join("new"), "").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    let options = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let long = options.lines().any(|line| line.contains("/one/volume ") && line.contains("lowerdir="));
    assert_eq!(long, settings.snapshotter == Snapshotter::Overlayfs);

    assert_eq!(views(&settings).await.len(), 2);
    nix::mount::umount(&root.join("one/volume")).unwrap();
    containerd.forget_image_mounts("one").await.unwrap();
    assert_eq!(views(&settings).await, ["ironclad-volume_two_volume"], "the other owner's stays");
    nix::mount::umount(&root.join("two/volume")).unwrap();
    containerd.forget_image_mounts("two").await.unwrap();
    assert!(views(&settings).await.is_empty());
    drop(running);
}

#[test]
fn an_image_that_is_left_half_laid_out_is_collected() {
    inside("left_half");
}

struct Leases(LeasesClient<tonic::transport::Channel>);

impl Leases {
    async fn of(settings: &Settings) -> Self {
        Self(LeasesClient::new(containerd_client::connect(&settings.socket).await.unwrap()))
    }

    async fn names(&mut self) -> Vec<String> {
        let listed = self.0.list(namespaced(ListRequest::default())).await.unwrap().into_inner().leases;
        listed.into_iter().map(|lease| lease.id).collect()
    }

    /// Ends when containerd has collected what nothing holds.
    async fn collect(&mut self) {
        let id = "collect".to_owned();
        self.0.create(namespaced(CreateRequest { id: id.clone(), ..CreateRequest::default() })).await.unwrap();
        self.0.delete(namespaced(DeleteRequest { id, sync: true })).await.unwrap();
    }

    async fn until_nothing_is_left(&mut self, settings: &Settings) {
        let wait = async {
            // What was asked of containerd before it was interrupted may still be on its way.
            while !self.names().await.is_empty() || !views(settings).await.is_empty() {
                self.collect().await;
            }
        };
        let ended = tokio::time::timeout(DEADLINE, wait).await;
        assert!(ended.is_ok(), "{:?} {:?}", self.names().await, views(settings).await);
    }

    /// Lets go of a mount as soon as there is something to lay out for it.
    async fn interrupt(&mut self, containerd: &Containerd, image: &str, target: &Path) {
        let mount = containerd.mount_image(image, "owner", target);
        let begun = async {
            while self.names().await.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            mounted = mount => panic!("too fast to be interrupted: {mounted:?}"),
            () = begun => {}
        }
    }
}

fn two_days_ago() -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(48)
}

#[tokio::test]
#[ignore = "runs inside of another test's namespaces"]
async fn left_half() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (running, settings) = start(root);
    let containerd = connect(&settings, root).await;
    image(&root.join("image.tar"));
    containerd.import_image(&root.join("image.tar"), None).await.unwrap();
    let known = containerd.image_status("data:1").await.unwrap().unwrap().id;
    let target = root.join("volume");
    std::fs::create_dir_all(&target).unwrap();
    let mut leases = Leases::of(&settings).await;

    leases.interrupt(&containerd, &known, &target).await;
    leases.collect().await;
    let names = leases.names().await;
    assert!(matches!(names.as_slice(), [name] if name.starts_with("ironclad-unpack-")), "it still holds: {names:?}");
    containerd.forget_unfinished().await.unwrap();
    leases.until_nothing_is_left(&settings).await;

    // Nobody lets go of this one: it ends by itself.
    let earlier = connect_at(&settings, root, two_days_ago).await;
    leases.interrupt(&earlier, &known, &target).await;
    leases.until_nothing_is_left(&settings).await;
    drop(running);
}
