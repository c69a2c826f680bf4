//! `ironclad host-forward`: copies connections from a handed-in socket to an address in this host.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::environment;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Where to, inside this host
    target: SocketAddr,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let socket = environment::handed_in()?.pop();
    let (_, listener) = socket.context("no socket was handed in (LISTEN_FDS)")?;
    let drain = daemon::signals::drain().context("cannot install signal handlers")?;
    drain.run(host::forward::forward(listener, args.target)).await.transpose().context("cannot forward")?;
    Ok(())
}
