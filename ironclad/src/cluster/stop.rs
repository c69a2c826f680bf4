//! `down`: nothing is left.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use host::{Host, Wire};

use super::phases::Phases;
use super::{Directory, Record, kubeconfig};

/// The hosts' cgroups lie in one parent per cluster.
const CGROUP_PARENTS: usize = 1;

/// Ends a cluster and takes away everything of it. Fine when there is none. Goes on after a failure and tells all.
pub(crate) fn down(directory: &Directory) -> Result<()> {
    directory.check_name()?;
    let mut phases = Phases::start();
    if !directory.path().exists() {
        eprintln!("there is no cluster {}", directory.name());
        return Ok(());
    }
    let mut failures = Vec::new();
    let mut note = |step: Result<()>| {
        if let Err(error) = step {
            failures.push(format!("{error:#}"));
        }
    };
    // The record may be damaged or from another version: the hosts are found by their directories.
    let record = Record::load(directory).ok();
    for host in hosts(directory) {
        note(Host::remove(&host, CGROUP_PARENTS).map_err(Into::into));
    }
    note(Wire::remove(&directory.wire(), CGROUP_PARENTS).map_err(Into::into));
    phases.done("hosts ended");
    if let Some(record) = record {
        note(kubeconfig::remove(&record.kubeconfig, &directory.context()));
    }
    if failures.is_empty() {
        remove_directory(directory)?;
        phases.done("files removed");
        return Ok(());
    }
    bail!("cluster {} is not down completely (try again): {}", directory.name(), failures.join("; "))
}

fn hosts(directory: &Directory) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory.hosts()).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The cluster's directory, and those above that hold nothing else.
fn remove_directory(directory: &Directory) -> Result<()> {
    let path = directory.path();
    fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    let mut above: Vec<&Path> = vec![directory.root()];
    above.extend(directory.root().parent().filter(|parent| parent.ends_with("ironclad")));
    for parent in above {
        if fs::remove_dir(parent).is_err() {
            break;
        }
    }
    Ok(())
}
