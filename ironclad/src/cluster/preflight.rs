//! What has to be installed before hosts are worth making.

use std::path::Path;

use anyhow::{Result, bail};

use crate::node::PATH;

/// Programs that a node runs, with Debian's packages.
const PROGRAMS: [(&str, &str); 5] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("iptables-restore", "iptables"),
    ("conntrack", "conntrack"),
    ("mount", "mount"),
];

/// Names everything that is missing, at once.
pub(super) fn check() -> Result<()> {
    let is_there = |program: &str| PATH.split(':').any(|directory| Path::new(directory).join(program).is_file());
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| !is_there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    bail!("not installed: {}; on Debian: apt-get install {}", programs.join(", "), packages.join(" "))
}
