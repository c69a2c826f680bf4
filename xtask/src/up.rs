//! `cargo xtask up`: from a clean clone to a running cluster. `cargo xtask bench`: measured tables.

use anyhow::Result;

use crate::{
    run::{Program, built},
    setup,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build without optimization: quicker to build, slower to run
    #[arg(long)]
    debug: bool,
    /// Arguments for `ironclad up`, such as --nodes 2
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct BenchArgs {
    /// What to measure and with which options; everything when empty
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn up(args: &Args) -> Result<()> {
    setup::for_node()?;
    let profile = build(args.debug)?;
    Program::new(built(profile).join("ironclad")).args(["up"]).args(&args.rest).run()
}

pub(crate) fn bench(args: &BenchArgs) -> Result<()> {
    setup::for_node()?;
    build(false)?;
    Program::cargo().args(["build", "--release", "--quiet", "--package", "testkit", "--bin", "bench"]).run()?;
    // Not through `cargo run`: a part of it calls cargo, which is to see no other variables than here.
    let (bench, ironclad) = (built("release").join("bench"), built("release").join("ironclad"));
    Program::new(bench).args(&args.rest).env("IRONCLAD", ironclad).run()
}

fn build(debug: bool) -> Result<&'static str> {
    let build = Program::cargo().args(["build", "--package", "ironclad"]);
    if debug {
        build.run()?;
        return Ok("debug");
    }
    build.args(["--release"]).run()?;
    Ok("release")
}
