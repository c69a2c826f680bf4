//! `ironclad backup`: everything in an embedded store, in a file.

use std::path::PathBuf;

use anyhow::Result;
use store::Backup;

use crate::paths::{STATE, ServerPaths};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The file to write, in place of one that is there
    file: PathBuf,
    /// The store's directory; that of the control plane on this host when absent
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let default = || ServerPaths::new(STATE.as_ref()).store();
    let backup = Backup::read(&args.data_dir.clone().unwrap_or_else(default))?;
    backup.save(&args.file)?;
    println!("{} keys as of revision {} are in {}", backup.len(), backup.revision(), args.file.display());
    Ok(())
}
