//! An `up` that cannot listen makes nothing, and leaves nothing that runs. Needs root.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};

const IRONCLAD: &str = env!("CARGO_BIN_EXE_ironclad");

fn ironclad(directory: &Path, arguments: &[&str]) -> Output {
    let clusters = format!("--clusters-dir={}", directory.join("clusters").display());
    Command::new(IRONCLAD).args(arguments).args(["--name=taken", &clusters]).output().unwrap()
}

/// Whatever has an environment, arguments or a program may say where it belongs: these name it in their arguments.
fn inits() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let commands = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let texts = commands.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    texts.filter(|text| text.starts_with(IRONCLAD) && text.contains("host-init")).collect()
}

#[test]
fn a_taken_port_leaves_nothing_behind() {
    assert!(nix::unistd::geteuid().is_root(), "making hosts needs root");
    let directory = tempfile::Builder::new().prefix("ironclad-ports-").tempdir_in("/var/tmp").unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let before = inits().len();
    let kubeconfig = format!("--kubeconfig={}", directory.path().join("kubeconfig").display());
    let up = ironclad(directory.path(), &["up", "--uplink=none", &format!("--api-port={port}"), &kubeconfig]);
    let said = String::from_utf8_lossy(&up.stderr).into_owned();
    assert!(!up.status.success() && said.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{said}");
    assert_eq!(inits().len(), before, "a host was left: {said}");
    assert!(!directory.path().join("kubeconfig").exists(), "no context for a cluster that does not run");
    let down = ironclad(directory.path(), &["down"]);
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert!(!directory.path().join("clusters").exists());
}
