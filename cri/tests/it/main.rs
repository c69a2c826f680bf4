//! containerd itself, in namespaces of its own: nothing of it is left when a test ends.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use containerd_client::services::v1::snapshots::ListSnapshotsRequest;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use cri::containerd::{Settings, Snapshotter, choose_snapshotter, command, config_toml, oom_score_is_restricted};
use cri::{Containerd, Runtime as _};
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
    let wait = async {
        loop {
            if let Ok(containerd) = Containerd::connect(&settings.socket, &root.join("pipes")).await
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

async fn views(containerd: &Settings) -> Vec<String> {
    let channel = containerd_client::connect(&containerd.socket).await.unwrap();
    let snapshotter = containerd.snapshotter.name().to_owned();
    let mut request = tonic::Request::new(ListSnapshotsRequest { snapshotter, filters: Vec::new() });
    request.metadata_mut().insert("containerd-namespace", "k8s.io".parse().unwrap());
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
