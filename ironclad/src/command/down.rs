//! `ironclad down`: the end of a cluster of throw-away hosts.

use anyhow::Result;

use crate::cluster;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: super::up::ClusterArgs,
    /// End every cluster
    #[arg(long)]
    all: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    if !args.all {
        return cluster::down(&args.cluster.directory());
    }
    cluster::list(args.cluster.root())?.iter().try_for_each(cluster::down)
}
