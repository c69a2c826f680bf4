//! Where things lie. Upstream's and k3s's places, so that people find them.

use std::path::{Path, PathBuf};

/// The state of this program on a host.
pub(crate) const STATE: &str = "/var/lib/ironclad";

/// The control plane's files.
#[derive(Debug, Clone)]
pub(crate) struct ServerPaths {
    root: PathBuf,
}

impl ServerPaths {
    pub(crate) fn new(state: &Path) -> Self {
        Self { root: state.join("server") }
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The token that nodes join with, made by `up` or at the first start.
    pub(crate) fn join_token(&self) -> PathBuf {
        self.root.join("token")
    }

    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.root.join("admin.kubeconfig")
    }
}

/// A node's files.
#[derive(Debug, Clone)]
pub(crate) struct NodePaths {
    root: PathBuf,
}

impl NodePaths {
    pub(crate) fn new(state: &Path) -> Self {
        Self { root: state.join("agent") }
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.pki().join("ca.crt")
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.root.join("bundle.tar")
    }

    /// The configuration of a containerd of our own.
    pub(crate) fn containerd_config(&self) -> PathBuf {
        self.root.join("containerd.toml")
    }
}

/// Certificate and key of one identity in a directory.
pub(crate) fn pair(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")))
}
