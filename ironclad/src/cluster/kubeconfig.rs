//! The cluster's entries in the user's kubeconfig.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use pki::Kubeconfig;

/// Merges a cluster's entries into a file, which is made when missing.
pub(super) fn merge(path: &Path, entries: &Kubeconfig) -> Result<()> {
    let _lock = lock(path)?;
    let existing = read(path)?;
    let merged = entries.merge_into(&existing).with_context(|| format!("cannot merge into {}", path.display()))?;
    Ok(pki::write_private(path, &merged)?)
}

/// Takes a cluster's entries out of a file; the file goes too when it holds nothing else.
pub(super) fn remove(path: &Path, context: &str) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let _lock = lock(path)?;
    let existing = read(path)?;
    let user = format!("{context}-admin");
    let removed = Kubeconfig::remove_from(&existing, context, &user);
    let removed = removed.with_context(|| format!("cannot change {}", path.display()))?;
    match removed {
        None => Ok(()),
        Some(rest) if Kubeconfig::is_empty(&rest) => {
            std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
        }
        Some(rest) => Ok(pki::write_private(path, &rest)?),
    }
}

fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Two `up` at once must not lose each other's entries. The lock file is kubectl's convention, and is taken away again.
fn lock(path: &Path) -> Result<Lock> {
    let mut name = path.as_os_str().to_owned();
    name.push(".ironclad-lock");
    let name = PathBuf::from(name);
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    loop {
        let file = File::create(&name).with_context(|| format!("cannot make {}", name.display()))?;
        let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno);
        let held = held.with_context(|| format!("cannot lock {}", name.display()))?;
        // Whoever held it before has taken the file away: a lock on it keeps nobody out any more.
        let locked = held.metadata().with_context(|| format!("cannot examine {}", name.display()))?.ino();
        if std::fs::metadata(&name).is_ok_and(|there| there.ino() == locked) {
            return Ok(Lock { _held: held, name });
        }
    }
}

struct Lock {
    _held: Flock<File>,
    name: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.name);
    }
}
