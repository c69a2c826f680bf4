//! A containerd of our own: its configuration as text, its command line, and which snapshotter works here.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// What differs between one containerd of ours and another.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Persistent state (content, snapshots, metadata).
    pub root: PathBuf,
    /// State that a reboot clears.
    pub state: PathBuf,
    pub socket: PathBuf,
    /// Where [`config_toml`]'s text is written by the caller.
    pub config_file: PathBuf,
    pub sandbox_image: String,
    pub cni_bin_dir: PathBuf,
    pub cni_conf_dir: PathBuf,
    pub snapshotter: Snapshotter,
    /// Directory of `hosts.toml` files, one folder a registry.
    pub registry_config_dir: PathBuf,
    /// False for systemd's cgroup driver; hosts without systemd need cgroupfs.
    pub cgroupfs: bool,
    /// Keep OOM scores at or above containerd's own; see [`oom_score_is_restricted`].
    pub restrict_oom_score: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshotter {
    Overlayfs,
    /// Copies every layer: works on any file system, slowly.
    Native,
}

impl Snapshotter {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlayfs => "overlayfs",
            Self::Native => "native",
        }
    }
}

/// The configuration for containerd 1.6 and 1.7 (`version = 2`).
#[must_use]
pub fn config_toml(settings: &Settings) -> String {
    let mut text = String::new();
    let mut line = |l: &str| {
        let _ = writeln!(text, "{l}");
    };
    line("version = 2");
    line(&format!("root = {}", quoted(&settings.root)));
    line(&format!("state = {}", quoted(&settings.state)));
    // Plug-ins that scan for devices or need kernel modules cost start-up time and log noise.
    line(
        "disabled_plugins = [\"io.containerd.snapshotter.v1.aufs\", \"io.containerd.snapshotter.v1.btrfs\", \
         \"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.snapshotter.v1.zfs\", \
         \"io.containerd.internal.v1.opt\", \"io.containerd.tracing.processor.v1.otlp\", \
         \"io.containerd.internal.v1.tracing\"]",
    );
    line("[grpc]");
    line(&format!("  address = {}", quoted(&settings.socket)));
    line("[plugins.\"io.containerd.grpc.v1.cri\"]");
    line(&format!("  sandbox_image = {:?}", settings.sandbox_image));
    line("  stream_server_address = \"127.0.0.1\"");
    line("  stream_server_port = \"0\"");
    line("  max_container_log_line_size = 262144");
    line("  tolerate_missing_hugetlb_controller = true");
    line(&format!("  restrict_oom_score_adj = {}", settings.restrict_oom_score));
    line("  [plugins.\"io.containerd.grpc.v1.cri\".cni]");
    line(&format!("    bin_dir = {}", quoted(&settings.cni_bin_dir)));
    line(&format!("    conf_dir = {}", quoted(&settings.cni_conf_dir)));
    line("  [plugins.\"io.containerd.grpc.v1.cri\".registry]");
    line(&format!("    config_path = {}", quoted(&settings.registry_config_dir)));
    line("  [plugins.\"io.containerd.grpc.v1.cri\".containerd]");
    line(&format!("    snapshotter = {:?}", settings.snapshotter.name()));
    line("    default_runtime_name = \"runc\"");
    line("    [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]");
    line("      runtime_type = \"io.containerd.runc.v2\"");
    line("      [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]");
    line(&format!("        SystemdCgroup = {}", !settings.cgroupfs));
    text
}

/// The command that runs it. The caller supervises the process.
#[must_use]
pub fn command(settings: &Settings) -> Command {
    let mut command = Command::new("containerd");
    command.arg("--config").arg(&settings.config_file).args(["--log-level", "warn"]);
    command
}

/// Whether this process may not lower OOM scores (it lacks `CAP_SYS_RESOURCE`, as in some containers and virtual
/// machines): then runc fails to start every sandbox, which asks for -998, unless containerd restricts them.
#[must_use]
pub fn oom_score_is_restricted() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << CAP_SYS_RESOURCE) == 0)
}

/// Tries an overlay mount below `root`: an overlay on an overlay, or on some network file systems, is
/// refused, and then only plain copies work.
#[must_use]
pub fn choose_snapshotter(root: &Path) -> Snapshotter {
    let probe = root.join(".overlay-probe");
    let works = overlay_works(&probe);
    // Best effort: a left-over empty directory does no harm.
    let _ = std::fs::remove_dir_all(&probe);
    if works { Snapshotter::Overlayfs } else { Snapshotter::Native }
}

fn overlay_works(probe: &Path) -> bool {
    let dirs = ["lower", "upper", "work", "merged"].map(|name| probe.join(name));
    if dirs.iter().any(|dir| std::fs::create_dir_all(dir).is_err()) {
        return false;
    }
    let [lower, upper, work, merged] = dirs;
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let mounted = mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()));
    if mounted.is_err() {
        return false;
    }
    umount2(&merged, MntFlags::MNT_DETACH).is_ok()
}

/// TOML's basic string escapes are a superset of what `Debug` writes for a path without control characters.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_every_setting() {
        let settings = Settings {
            root: "/r".into(),
            state: "/s".into(),
            socket: "/s/c.sock".into(),
            config_file: "/s/config.toml".into(),
            sandbox_image: "pause:1".into(),
            cni_bin_dir: "/b".into(),
            cni_conf_dir: "/c".into(),
            snapshotter: Snapshotter::Native,
            registry_config_dir: "/certs.d".into(),
            cgroupfs: true,
            restrict_oom_score: true,
        };
        let text = config_toml(&settings);
        for expected in [
            "root = \"/r\"",
            "address = \"/s/c.sock\"",
            "sandbox_image = \"pause:1\"",
            "bin_dir = \"/b\"",
            "snapshotter = \"native\"",
            "config_path = \"/certs.d\"",
            "SystemdCgroup = false",
            "restrict_oom_score_adj = true",
        ] {
            assert!(text.contains(expected), "{expected} missing in {text}");
        }
        let command = command(&settings);
        assert_eq!(command.get_program(), "containerd");
    }
}
