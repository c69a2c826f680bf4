//! A directory with hosts in it, taken down when it goes out of scope.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::{Host, HostSpec, Launcher, Wire};

const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Lab {
    directory: tempfile::TempDir,
    cgroup: PathBuf,
}

impl Lab {
    pub(crate) fn new(name: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "making hosts needs root");
        // Not in /tmp, which may be memory or an overlay of its own in a container.
        let directory = tempfile::Builder::new().prefix("host-test-").tempdir_in("/var/tmp").unwrap();
        let cgroup = PathBuf::from(format!("host-test-{}-{name}", std::process::id()));
        Self { directory, cgroup }
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

    pub(crate) fn wire(&self, gateway: &str) -> Wire {
        let directory = self.directory.path().join("wire");
        Wire::start(&self.launcher(), &directory, &self.cgroup.join("wire"), gateway.parse().unwrap()).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.directory.path()).into_iter().flatten().flatten() {
            if std::thread::panicking() {
                show_logs(&entry.path().join("log"));
            }
            if let Err(error) = Host::remove(&entry.path(), 1) {
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
