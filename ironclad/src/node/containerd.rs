//! The node's containerd: the one that runs, or one of our own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cri::Containerd;
use cri::containerd::{Settings as Own, Snapshotter};
use daemon::Tasks;
use tracing::{info, warn};

use super::Settings;
use crate::bundle;

/// Where containerd listens unless told otherwise.
pub(crate) const SOCKET: &str = "/run/containerd/containerd.sock";

/// Where exec's named pipes are made.
const PIPES: &str = "/run/ironclad/exec";

/// How long containerd may take to answer.
const READY_DEADLINE: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(25);

/// Where distributions put the standard CNI plug-ins.
const PLUGINS: [&str; 4] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni", "/var/lib/rancher/k3s/data/cni"];

/// A containerd that is starting or running.
pub(crate) struct Runtime {
    socket: PathBuf,
}

impl Runtime {
    /// Uses the containerd of the socket; starts and supervises one when none answers and that is wanted.
    pub(crate) fn start(settings: &Settings, tasks: &Tasks) -> Result<Self> {
        let runtime = Self { socket: settings.socket.clone() };
        if !settings.own_containerd || std::os::unix::net::UnixStream::connect(&runtime.socket).is_ok() {
            info!(socket = %runtime.socket.display(), "using the running containerd");
            return Ok(runtime);
        }
        let path = settings.paths.containerd_config();
        let snapshotter = cri::containerd::choose_snapshotter(Path::new("/var/lib"));
        let own = own(&path, snapshotter)?;
        write(&path, &cri::containerd::config_toml(&own))?;
        let drain = tasks.drain().clone();
        tasks.supervise("containerd", move || supervise(own.clone(), drain.clone()));
        Ok(runtime)
    }

    /// Waits until it answers.
    pub(crate) async fn ready(&self) -> Result<Containerd> {
        let connect = async {
            loop {
                match Containerd::connect(&self.socket, Path::new(PIPES), daemon::clock::now).await {
                    Ok(runtime) if cri::Runtime::version(&runtime).await.is_ok() => return runtime,
                    _ => tokio::time::sleep(READY_POLL).await,
                }
            }
        };
        let ready = tokio::time::timeout(READY_DEADLINE, connect).await;
        ready.with_context(|| format!("containerd does not answer at {}", self.socket.display()))
    }
}

/// The settings of a containerd of our own.
pub(crate) fn own(config_file: &Path, snapshotter: Snapshotter) -> Result<Own> {
    let is_there = |directory: &&&str| Path::new(directory).join("bridge").is_file();
    let Some(plugins) = PLUGINS.iter().find(is_there) else {
        bail!(
            "the standard CNI plug-ins are not installed (looked in {}); on Debian: apt-get install \
             containernetworking-plugins",
            PLUGINS.join(", ")
        );
    };
    Ok(Own {
        root: "/var/lib/containerd".into(),
        state: "/run/containerd".into(),
        socket: SOCKET.into(),
        config_file: config_file.to_owned(),
        sandbox_image: bundle::PAUSE_IMAGE.to_owned(),
        cni_bin_dir: plugins.into(),
        cni_conf_dir: "/etc/cni/net.d".into(),
        snapshotter,
        registry_config_dir: "/etc/containerd/certs.d".into(),
        cgroupfs: true,
        restrict_oom_score: cri::containerd::oom_score_is_restricted(),
    })
}

async fn supervise(own: Own, drain: daemon::Drain) -> Result<()> {
    let mut command = tokio::process::Command::from(cri::containerd::command(&own));
    command.env("PATH", super::PATH).stdin(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().context("cannot run containerd (is it installed?)")?;
    let Some(status) = drain.run(child.wait()).await else {
        // Its containers go on without it, and it takes them over again.
        if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        child.wait().await.context("cannot wait for containerd")?;
        return Ok(());
    };
    let status = status.context("cannot wait for containerd")?;
    warn!(%status, "containerd ended");
    bail!("containerd ended: {status}")
}

fn write(path: &Path, text: &str) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(failed)?;
    }
    std::fs::write(path, text).with_context(failed)
}
