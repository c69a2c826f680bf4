//! `ironclad agent`: a node on this host.

use anyhow::{Context, Result};

use crate::node::{self, NodeArgs};

#[derive(clap::Args)]
pub(super) struct Args {
    /// URL of the API server to join, such as https://192.168.1.10:6443
    #[arg(long)]
    server: String,
    /// Join token, as printed by `ironclad token create`; needed for the first start only
    #[arg(long, env = "IRONCLAD_TOKEN", hide_env_values = true)]
    token: Option<pki::JoinToken>,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let drain = daemon::signals::drain().context("cannot install signal handlers")?;
    let settings = args.node.settings(args.server, args.token)?;
    node::run(settings, drain).await
}
