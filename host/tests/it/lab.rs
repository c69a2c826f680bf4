//! A directory with hosts in it, taken down when it goes out of scope.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::{HostSpec, Launcher, Uplink, Wire};

const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Lab {
    directory: tempfile::TempDir,
    cgroup: PathBuf,
}

impl Lab {
    pub(crate) fn new(name: &str) -> Self {
        // Not in /tmp, which may be memory or an overlay of its own in a container.
        Self::within(Path::new("/var/tmp"), name)
    }

    pub(crate) fn within(parent: &Path, name: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "making hosts needs root");
        let directory = tempfile::Builder::new().prefix("host-test-").tempdir_in(parent).unwrap();
        let cgroup = PathBuf::from(format!("host-test-{}-{name}", std::process::id()));
        Self { directory, cgroup }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    #[expect(clippy::unused_self, reason = "a launcher is the lab's to give")]
    pub(crate) fn launcher(&self) -> Launcher {
        Launcher::new(env!("CARGO_BIN_EXE_host-init"), [] as [&str; 0])
    }

    pub(crate) fn spec(&self, name: &str) -> HostSpec {
        HostSpec {
            name: name.to_owned(),
            directory: self.directory.path().join(name),
            cgroup: self.cgroup.join(name),
            mounts: Vec::new(),
            files: Vec::new(),
            commands: Vec::new(),
            sockets: Vec::new(),
            settings: Vec::new(),
        }
    }

    pub(crate) fn wire(&self, gateway: &str, uplink: Uplink) -> Wire {
        let directory = self.directory.path().join("wire");
        let cgroup = self.cgroup.join("wire");
        Wire::start(&self.launcher(), &directory, &cgroup, gateway.parse().unwrap(), uplink).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.directory.path()).into_iter().flatten().flatten() {
            if std::thread::panicking() {
                show_logs(&entry.path().join("log"));
            }
            if let Err(error) = Wire::remove(&entry.path(), 1) {
                eprintln!("{}: {error}", entry.path().display());
            }
        }
    }
}

fn show_logs(directory: &Path) {
    for log in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        eprintln!("--- {}\n{}", log.path().display(), read(&log.path()).unwrap_or_default());
    }
}

pub(crate) fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Polls until there is an answer.
pub(crate) fn eventually<T>(mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = answer() {
            return found;
        }
        assert!(Instant::now() < deadline, "no answer within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a program of this name runs in this PID namespace.
pub(crate) fn is_running(program: &str) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut names = processes.filter_map(|entry| read(&entry.path().join("comm")));
    names.any(|name| name.trim_end() == program)
}
