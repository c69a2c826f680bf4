//! `cargo xtask soak`: the tests that draw faults at random, with many more draws.

use anyhow::Result;

use crate::run::Program;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often a process that writes to the store is killed
    #[arg(long, default_value_t = 1000)]
    kill_cycles: u64,
}

pub(crate) fn soak(args: &Args) -> Result<()> {
    Program::cargo()
        .env("STORE_KILL_CYCLES", args.kill_cycles.to_string())
        .args(["test", "--package", "store", "--test", "it", "kill::", "--", "--nocapture"])
        .run()
}
