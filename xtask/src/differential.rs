//! `cargo xtask differential`: the same requests to upstream's API server and to ours, and where the answers differ.
//!
//! Upstream's answers are recorded in `conformance/differential`, so nothing of upstream is needed but to ask anew.

use anyhow::Result;

use crate::run::{Program, built, root};

const FOLDER: &str = "conformance/differential";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to compare with: recorded, or upstream (built here and asked now)
    #[arg(long, default_value = "recorded")]
    against: String,
    /// Write upstream's answers down anew
    #[arg(long)]
    record: bool,
    /// Passed on: --shrink, --only SEQUENCE, --show TEXT, --whole
    #[arg(last = true)]
    more: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.record || args.against == "upstream" {
        Program::new("./build").within("conformance").args(["etcd", "kube-apiserver"]).run()?;
    }
    Program::cargo().args(["build", "--package", "ironclad"]).run()?;
    Program::cargo().args(["build", "--package", "testkit", "--bin", "differential"]).run()?;
    let path = |name: &str| root().join(name).display().to_string();
    let server = built("debug").join("ironclad").display().to_string();
    let mut flags = vec!["--folder".to_owned(), path(FOLDER), "--server".to_owned(), server];
    flags.extend(["--upstream".to_owned(), path("conformance/bin"), "--against".to_owned(), args.against.clone()]);
    flags.extend(args.record.then(|| "--record".to_owned()));
    Program::new(built("debug").join("differential")).args(flags).args(&args.more).run()
}

/// As a step of the tests.
pub(crate) fn step() -> Result<()> {
    run(&Args { against: "recorded".to_owned(), record: false, more: Vec::new() })
}
