//! `conformance/clients`: programs on upstream's client libraries, run against the binary that the build step made.

use anyhow::Result;

use crate::run::{Program, built, root};

pub(crate) fn run() -> Result<()> {
    Program::new("./build").args(["clients", "etcd"]).within("conformance").run()?;
    let bin = root().join("conformance/bin");
    Program::new(bin.join("clients"))
        .args(["-binary".as_ref(), built("debug").join("ironclad").as_os_str()])
        .args(["-etcd".as_ref(), bin.join("etcd").as_os_str()])
        .run()
}
