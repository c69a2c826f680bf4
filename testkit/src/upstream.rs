//! Programs that are built from `conformance`'s Go module.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};

/// The program's path. It is built when it is not there yet.
///
/// # Errors
/// When it cannot be built.
pub fn program(name: &str) -> Result<PathBuf> {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILDING.lock();
    let conformance = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance");
    let built = conformance.join("bin").join(name);
    if !built.exists() {
        let mut build = Command::new(conformance.join("build"));
        let status = build.arg(name).status().context("cannot run conformance/build")?;
        ensure!(status.success(), "conformance/build {name} failed: {status}");
    }
    Ok(built)
}
