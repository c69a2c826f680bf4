//! Where a cluster lies.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::paths::{NodePaths, STATE, ServerPaths};

/// The directory of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    root: PathBuf,
    name: String,
}

impl Directory {
    /// A relative root is taken from the current directory now: hosts are made elsewhere.
    pub(crate) fn new(root: &Path, name: &str) -> Self {
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        Self { root, name: name.to_owned() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The directory of all clusters.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.path().join("cluster.json")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.path().join("kubeconfig")
    }

    pub(crate) fn wire(&self) -> PathBuf {
        self.path().join("wire")
    }

    pub(crate) fn hosts(&self) -> PathBuf {
        self.path().join("hosts")
    }

    pub(crate) fn host(&self, node: &str) -> PathBuf {
        self.hosts().join(node)
    }

    /// The host's own `/var/lib/ironclad`, seen from the machine.
    pub(crate) fn state_of(&self, node: &str) -> PathBuf {
        self.host(node).join("own").join(STATE.trim_start_matches('/'))
    }

    pub(crate) fn server_paths(&self, node: &str) -> ServerPaths {
        ServerPaths::new(&self.state_of(node))
    }

    pub(crate) fn node_paths(&self, node: &str) -> NodePaths {
        NodePaths::new(&self.state_of(node))
    }

    /// The parent of the cgroups of this cluster's hosts. Clusters of one name beneath two roots are two clusters.
    pub(crate) fn cgroup(&self) -> PathBuf {
        let root = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        let hash = ring::digest::digest(&ring::digest::SHA256, root.as_os_str().as_bytes());
        let short: String = hash.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        PathBuf::from(format!("ironclad-{}-{short}", self.name))
    }

    /// The context in kubeconfig files.
    pub(crate) fn context(&self) -> String {
        if self.name == "default" { "ironclad".to_owned() } else { format!("ironclad-{}", self.name) }
    }

    pub(crate) fn exists(&self) -> bool {
        self.record().exists()
    }

    /// Refuses names that do not fit into paths, cgroups and kubeconfig entries.
    pub(crate) fn check_name(&self) -> Result<()> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let plain = !self.name.is_empty() && self.name.len() <= 40 && self.name.bytes().all(fits);
        if !plain || self.name.starts_with('-') {
            bail!("{:?} is not usable as a name: use at most 40 lower-case letters, digits and dashes", self.name);
        }
        Ok(())
    }
}

/// The names of the clusters beneath a root.
pub(crate) fn list(root: &Path) -> Result<Vec<Directory>> {
    let entries = match std::fs::read_dir(root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot read {}", root.display()))?,
    };
    let directory = |entry: std::fs::DirEntry| Directory::new(root, &entry.file_name().to_string_lossy());
    let mut found: Vec<Directory> = entries.flatten().map(directory).filter(Directory::exists).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_beneath_two_roots_is_two_clusters() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let cgroup = |root: &Path| Directory::new(root, "a").cgroup();
        assert_ne!(cgroup(one.path()), cgroup(other.path()));
        assert_eq!(cgroup(one.path()), cgroup(one.path()));
        let link = one.path().join("link");
        std::os::unix::fs::symlink(other.path(), &link).unwrap();
        assert_eq!(cgroup(&link), cgroup(other.path()), "the same place by another name");
    }

    #[test]
    fn a_relative_root_is_made_absolute() {
        assert!(Directory::new(Path::new("clusters"), "a").path().is_absolute());
    }
}
