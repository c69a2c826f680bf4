//! A fresh cluster of throw-away hosts, with the suite's images on every node.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use testkit::kubectl::Kubectl;

const NODES: usize = 2;

/// A cluster that ends with its owner.
pub(crate) struct Cluster {
    program: PathBuf,
    folder: PathBuf,
    name: String,
}

impl Cluster {
    /// Starts the nodes with their files in this folder.
    pub(crate) fn start(program: &Path, folder: &Path) -> Result<Self> {
        let name = format!("conformance{}", std::process::id());
        let cluster = Self { program: program.to_owned(), folder: folder.to_owned(), name };
        let kubeconfig = cluster.kubeconfig();
        let kubeconfig = kubeconfig.to_str().context("the folder's name is UTF-8")?;
        let nodes = NODES.to_string();
        cluster.ironclad(&["up", "--nodes", &nodes, "--uplink", "none", "--kubeconfig", kubeconfig])?;
        Ok(cluster)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    pub(crate) fn load(&self, archive: &Path) -> Result<()> {
        self.ironclad(&["image", "load", archive.to_str().context("the archive's name is UTF-8")?])
    }

    /// What runs the containers.
    pub(crate) fn runtime(&self, kubectl: &Path) -> Result<String> {
        let kubectl = Kubectl::new(kubectl, self.kubeconfig(), "default");
        kubectl.run(&["get", "nodes", "-o", "jsonpath={.items[0].status.nodeInfo.containerRuntimeVersion}"])
    }

    /// The first node's address on the wire.
    pub(crate) fn first_address(&self, kubectl: &Path) -> Result<String> {
        let kubectl = Kubectl::new(kubectl, self.kubeconfig(), "default");
        let path = "jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
        kubectl.run(&["get", "nodes", "-o", path])
    }

    /// The directories of the nodes' hosts, the first node's first.
    pub(crate) fn hosts(&self) -> Vec<PathBuf> {
        let hosts = self.folder.join("clusters").join(&self.name).join("hosts");
        (1..=NODES).map(|number| hosts.join(format!("node{number}"))).collect()
    }

    fn ironclad(&self, args: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(args).args(["--name", &self.name]).arg("--clusters-dir").arg(self.folder.join("clusters"));
        let status = command.status().with_context(|| format!("cannot start {}", self.program.display()))?;
        ensure!(status.success(), "ironclad {} failed: {status}", args.join(" "));
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(failure) = self.ironclad(&["down"]) {
            eprintln!("the cluster was not taken down: {failure:#}");
        }
    }
}
