//! Images that come with the binary, or from a file.

use std::path::Path;

use anyhow::{Context, Result};
use cri::{Containerd, Runtime};
use tracing::info;

use crate::bundle::Bundle;
use crate::environment;
use crate::paths::NodePaths;

/// Imports the binary's own image, unless the runtime has it.
pub(crate) async fn import_own(runtime: &Containerd, paths: &NodePaths) -> Result<()> {
    let executable = environment::executable()?;
    let described = tokio::task::spawn_blocking(move || Bundle::of(&executable)).await;
    let bundle = described.context("cannot describe the binary's own image")??;
    if is_present(runtime, &bundle).await? {
        return Ok(());
    }
    let path = paths.bundle();
    let target = path.clone();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let written = tokio::task::spawn_blocking(move || bundle.write(&target)).await;
    written.context("cannot write the binary's own image")??;
    let imported = runtime.import_image(&path, None).await;
    // The archive is as large as the binary: it is not kept.
    let _ = std::fs::remove_file(&path);
    info!(names = ?imported.context("cannot import the binary's own image")?, "imported the binary's own image");
    Ok(())
}

async fn is_present(runtime: &Containerd, bundle: &Bundle) -> Result<bool> {
    for (name, id) in bundle.images() {
        let found = runtime.image_status(name).await.with_context(|| format!("cannot ask for image {name}"))?;
        if found.is_none_or(|image| image.id != id) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Imports an archive from a file or, when it is `-`, from standard input.
pub(crate) async fn import(runtime: &Containerd, file: &Path) -> Result<Vec<String>> {
    if file != Path::new("-") {
        return runtime.import_image(file, None).await.with_context(|| format!("cannot import {}", file.display()));
    }
    let input = Path::new("/proc/self/fd/0");
    if std::fs::metadata(input).is_ok_and(|m| m.is_file()) {
        return runtime.import_image(input, None).await.context("cannot import standard input");
    }
    let spooled = tokio::task::spawn_blocking(spool).await.context("cannot keep standard input")??;
    runtime.import_image(spooled.path(), None).await.context("cannot import standard input")
}

/// An archive is read more than once: what comes through a pipe is kept for a moment.
fn spool() -> Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new_in("/var/tmp").context("cannot make a temporary file")?;
    std::io::copy(&mut std::io::stdin().lock(), &mut file).context("cannot keep standard input")?;
    Ok(file)
}
