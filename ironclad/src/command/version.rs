//! `ironclad version`.

use anyhow::Result;

/// The release of Kubernetes whose API this is.
const KUBERNETES: &str = "v1.37.1";

#[derive(clap::Args)]
pub(super) struct Args {
    /// Print only the version number
    #[arg(long)]
    short: bool,
}

pub(super) fn run(args: Args) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    if args.short {
        println!("{version}");
    } else {
        println!("ironclad {version} (Kubernetes {KUBERNETES})");
    }
    Ok(())
}
