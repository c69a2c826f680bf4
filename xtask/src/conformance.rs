//! `cargo xtask conformance`: builds the suite and the product, and runs the one against the other.

use anyhow::Result;

use crate::{
    run::{Program, built, root},
    setup,
};

/// What the suite and its images are made of, in `conformance/bin`.
const PROGRAMS: &[&str] = &["e2e.test", "ginkgo", "kubectl", "agnhost", "nonewprivs", "sample-apiserver", "etcd"];

/// What of it the shards without nodes need.
const PROGRAMS_WITHOUT_NODES: &[&str] = &["e2e.test", "ginkgo", "kubectl"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build without optimization: quicker to build, slower to run
    #[arg(long)]
    debug: bool,
    /// --shard, --focus, --serial, --procs, --repeat, --minutes, --shrink, --check
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::for_conformance()?;
    build_missing(PROGRAMS)?;
    let profile = if args.debug { "debug" } else { "release" };
    let release = (!args.debug).then_some("--release");
    Program::cargo().args(["build", "--package", "ironclad"]).args(release).run()?;
    let rest: Vec<&str> = args.rest.iter().map(String::as_str).collect();
    measure(profile, &rest)
}

/// As a step of the tests: every test of the shards that need no node, but for those that are known to fail.
pub(crate) fn step() -> Result<()> {
    build_missing(PROGRAMS_WITHOUT_NODES)?;
    Program::cargo().args(["build", "--package", "ironclad"]).run()?;
    measure("debug", &["--check", "--shard=api", "--shard=controllers", "--procs=8", "--minutes=20"])
}

fn build_missing(programs: &[&str]) -> Result<()> {
    let missing: Vec<&str> =
        programs.iter().copied().filter(|name| !root().join("conformance/bin").join(name).is_file()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("building {} with Go: minutes, the first time", missing.join(", "));
    Program::new(root().join("conformance/build")).args(missing).run()
}

fn measure(profile: &str, args: &[&str]) -> Result<()> {
    let run = ["run", "--quiet", "--package", "testkit", "--bin", "conformance", "--"];
    Program::cargo().args(run).args(args).env("IRONCLAD", built(profile).join("ironclad")).run()
}
