//! `ironclad host-enter`: runs a command in a throw-away host. Used by subcommands that work on every node.

use anyhow::Result;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The host's first process
    pid: i32,
    /// Program and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    argv: Vec<String>,
}

pub(super) fn run(args: Args) -> Result<i32> {
    let path = ("PATH".to_owned(), crate::node::PATH.to_owned());
    let home = ("HOME".to_owned(), "/root".to_owned());
    Ok(host::enter(&host::EnterSpec { pid: args.pid, argv: args.argv, env: vec![path, home] })?)
}
