//! `cargo xtask conformance`: builds the suite and the product, and runs the one against the other.

use anyhow::Result;

use crate::{
    run::{Program, built, root},
    setup,
};

/// What the suite and its images are made of, in `conformance/bin`.
const PROGRAMS: &[&str] = &["e2e.test", "ginkgo", "kubectl", "agnhost", "nonewprivs", "sample-apiserver", "etcd"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build without optimization: quicker to build, slower to run
    #[arg(long)]
    debug: bool,
    /// --shard, --focus, --serial, --procs, --repeat, --minutes, --shrink
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::for_conformance()?;
    let missing: Vec<&str> =
        PROGRAMS.iter().copied().filter(|name| !root().join("conformance/bin").join(name).is_file()).collect();
    if !missing.is_empty() {
        println!("building {} with Go: minutes, the first time", missing.join(", "));
        Program::new(root().join("conformance/build")).args(missing).run()?;
    }
    let profile = if args.debug { "debug" } else { "release" };
    let release = (!args.debug).then_some("--release");
    Program::cargo().args(["build", "--package", "ironclad"]).args(release).run()?;
    let run = ["run", "--quiet", "--package", "testkit", "--bin", "conformance", "--"];
    Program::cargo().args(run).args(&args.rest).env("IRONCLAD", built(profile).join("ironclad")).run()
}
