//! `ironclad restore`: an embedded store from a backup.

use std::path::PathBuf;

use anyhow::Result;

use crate::paths::{STATE, ServerPaths};

#[derive(clap::Args)]
pub(super) struct Args {
    /// A file that `ironclad backup` wrote, or `etcdctl snapshot save` from `ironclad etcd`
    file: PathBuf,
    /// The store's directory, empty or not there yet; that of the control plane on this host when absent
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let dir = args.data_dir.clone().unwrap_or_else(|| ServerPaths::new(STATE.as_ref()).store());
    let revision = store::restore(&args.file, &dir)?;
    println!("{} holds the store as of revision {revision}", dir.display());
    Ok(())
}
