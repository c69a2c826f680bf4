//! `ironclad kubeconfig`: the first user's access, printed.

use anyhow::{Context, Result};

use crate::paths::{STATE, ServerPaths};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: super::up::ClusterArgs,
    /// That of the control plane on this host, instead of a cluster of throw-away hosts
    #[arg(long)]
    server: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let directory = args.cluster.directory();
    let path = if args.server {
        ServerPaths::new(STATE.as_ref()).admin_kubeconfig()
    } else {
        crate::cluster::Cluster::load(&directory)?;
        directory.kubeconfig()
    };
    print!("{}", std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?);
    Ok(())
}
