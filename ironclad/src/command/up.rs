//! `ironclad up`: a cluster of throw-away hosts.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cluster::{self, Directory, Publish, Wanted};

/// Which cluster.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ClusterArgs {
    /// Name of the cluster
    #[arg(long, default_value = "default")]
    pub(super) name: String,
    /// Where clusters of throw-away hosts are kept: a directory on a disk, not on an overlay
    #[arg(long, default_value = "/var/lib/ironclad/clusters", env = "IRONCLAD_CLUSTERS")]
    clusters_dir: PathBuf,
}

impl ClusterArgs {
    pub(super) fn root(&self) -> &Path {
        &self.clusters_dir
    }

    pub(super) fn directory(&self) -> Directory {
        Directory::new(&self.clusters_dir, &self.name)
    }
}

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How many nodes; more than there are adds some
    #[arg(long)]
    nodes: Option<usize>,
    /// Let 127.0.0.1:HOSTPORT lead to a node port
    #[arg(long, value_name = "HOSTPORT:NODEPORT")]
    publish: Vec<Publish>,
    /// The file to merge the cluster's context into, instead of kubectl's own
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Whether the nodes reach what this machine reaches: none, or auto (with passt or slirp4netns, when installed)
    #[arg(long)]
    uplink: Option<host::Uplink>,
    /// Port of the API server on 127.0.0.1; 6443 or any free one when absent
    #[arg(long)]
    api_port: Option<u16>,
}

pub(super) async fn run(args: Args) -> Result<()> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "making hosts needs root: run this with sudo");
    let wanted = Wanted {
        nodes: args.nodes,
        publish: args.publish,
        kubeconfig: args.kubeconfig,
        uplink: args.uplink,
        api_port: args.api_port,
    };
    cluster::up(&args.cluster.directory(), wanted).await
}
