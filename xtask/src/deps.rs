//! Checks the edges between the workspace's crates. The table is the architecture: a new edge is a decision.

use anyhow::{Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};

use crate::run::root;

/// What an L2 crate that only talks to the API may use.
const CLIENT: &[&str] = &["api", "daemon", "reconcile"];

/// Each crate and what it may depend on. `ironclad` may depend on all.
const EDGES: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("kinds", &["api"]),
    ("store", &[]),
    ("daemon", &[]),
    ("pki", &[]),
    ("cri", &[]),
    ("host", &[]),
    ("reconcile", &["api", "daemon"]),
    ("apiserver", &["api", "daemon", "kinds", "pki", "store"]),
    ("scheduler", CLIENT),
    ("overlay", CLIENT),
    ("proxy", CLIENT),
    ("dns", CLIENT),
    ("etcd", &["daemon", "pki", "store"]),
    ("controllers", &["api", "daemon", "pki", "reconcile"]),
    ("kubelet", &["api", "cri", "daemon", "kinds", "pki", "reconcile"]),
    ("testkit", &["api", "apiserver", "daemon", "host", "pki", "store"]),
    ("xtask", &[]),
];

/// What tests of a crate may use besides.
const DEV_EDGES: &[&str] = &["testkit"];

pub(crate) fn check() -> Result<()> {
    let metadata = MetadataCommand::new().current_dir(root()).no_deps().exec()?;
    let packages = metadata.workspace_packages();
    let ours: Vec<&str> = packages.iter().map(|p| p.name.as_str()).collect();
    let wrong: Vec<String> = packages.iter().flat_map(|p| forbidden(p, &ours)).collect();
    if !wrong.is_empty() {
        bail!("edges that the architecture does not have:\n{}", wrong.join("\n"));
    }
    println!("deps: {} crates, every edge allowed", ours.len());
    Ok(())
}

fn forbidden(package: &Package, ours: &[&str]) -> Vec<String> {
    let name = package.name.as_str();
    if name == "ironclad" {
        return Vec::new();
    }
    let Some((_, allowed)) = EDGES.iter().find(|(crate_name, _)| *crate_name == name) else {
        return vec![format!("{name} is not in the table of xtask/src/deps.rs")];
    };
    let edges = package.dependencies.iter().filter(|d| ours.contains(&d.name.as_str()));
    let wrong = edges.filter(|d| {
        let tested = d.kind == DependencyKind::Development && DEV_EDGES.contains(&d.name.as_str());
        !tested && !allowed.contains(&d.name.as_str())
    });
    wrong.map(|d| format!("{name} -> {}", d.name)).collect()
}
