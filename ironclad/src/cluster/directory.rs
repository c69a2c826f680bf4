//! Where a cluster lies.

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
    pub(crate) fn new(root: &Path, name: &str) -> Self {
        Self { root: root.to_owned(), name: name.to_owned() }
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

    /// The parent of the cgroups of this cluster's hosts.
    pub(crate) fn cgroup(&self) -> PathBuf {
        PathBuf::from(format!("ironclad-{}", self.name))
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
