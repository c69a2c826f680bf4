//! Installs the programs that a node and the tests need, where Debian's packages have them.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::run::Program;

/// A program (or file) and the Debian package that brings it.
type Need = (&'static str, &'static str);

const NODE: &[Need] = &[
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("iptables-restore", "iptables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("mount", "mount"),
];

const TESTS: &[Need] = &[
    ("/bin/busybox", "busybox-static"),
    ("curl", "curl"),
    ("/usr/bin/etcd", "etcd-server"),
    ("/usr/bin/etcdctl", "etcd-client"),
    ("git", "git"),
    ("slirp4netns", "slirp4netns"),
];

/// What the images of the conformance suite are made of and pulled from.
const IMAGES: &[Need] = &[
    ("docker-registry", "docker-registry"),
    ("dig", "bind9-dnsutils"),
    ("iperf", "iperf"),
    ("nc", "netcat-openbsd"),
    ("ss", "iproute2"),
    ("bash", "bash"),
];

/// What a node needs.
pub(crate) fn for_node() -> Result<()> {
    install(NODE)
}

/// What the tests need: a node's programs, test images' contents, and kubectl.
pub(crate) fn for_tests() -> Result<()> {
    install(&[NODE, TESTS].concat())
}

/// What the conformance suite needs.
pub(crate) fn for_conformance() -> Result<()> {
    install(&[NODE, TESTS, IMAGES].concat())
}

fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> =
        needs.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_there("apt-get") {
        bail!("these packages are missing and there is no apt-get to install them: {list}");
    }
    println!("installing {list}");
    let apt = |args: &[&str]| Program::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(args).run();
    apt(&["update", "-qq"]).context("cannot refresh the package lists; are you root?")?;
    let install = [&["install", "-y", "-qq", "--no-install-recommends"], missing.as_slice()].concat();
    apt(&install).with_context(|| format!("cannot install {list}; are you root?"))
}

/// The program is on the path, or the file exists.
pub(crate) fn is_there(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(system).any(|folder| folder.join(program).is_file())
}
