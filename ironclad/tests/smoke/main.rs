//! The whole product as its users meet it: `ironclad up --nodes 2`, stock kubectl, real containers.
//!
//! One cluster for all scenarios, which run in order; each works in a namespace of its own and looks only at what
//! kubectl and the network show. The cluster's nodes are throw-away hosts without a way out; nothing of this machine
//! is touched but 127.0.0.1. Needs root.
//!
//! Run one scenario, or some, by name: `cargo test -p ironclad --test smoke -- rollout logs`.

mod cluster;
mod failures;
mod invalid;
mod looks;
mod objects;
mod recovery;
mod streams;
mod workload;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use cluster::Cluster;

type Scenario = (&'static str, fn(&Cluster) -> Result<()>);

const SCENARIOS: &[Scenario] = &[
    ("nodes and system pods", looks::nodes),
    ("api-resources, explain, can-i, cluster-info", looks::api),
    ("deployment over both nodes", workload::deployment),
    ("service by address and name", workload::service),
    ("published node port", workload::node_port),
    ("scale to 30 and back", workload::scale),
    ("rollout under load", workload::rollout),
    ("broken rollout and undo", workload::broken_rollout),
    ("apply, diff, edit, wait, cascade", objects::life),
    ("logs", streams::logs),
    ("exec, cp, attach", streams::exec),
    ("port-forward", streams::port_forward),
    ("what goes wrong is explained", failures::explained),
    ("invalid requests", invalid::requests),
    ("killed container", recovery::killed_container),
    ("killed control plane", recovery::killed_control_plane),
    ("stopped node", recovery::stopped_node),
    ("deleted namespace", recovery::deleted_namespace),
    ("power cut", recovery::power_cut),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let cluster = match Cluster::up() {
        Ok(cluster) => cluster,
        Err(failure) => {
            eprintln!("the cluster did not start: {failure:#}\n0 passed, 1 failed");
            return ExitCode::FAILURE;
        }
    };
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str()));
    let (mut passed, mut failed) = (0, 0);
    for (name, scenario) in SCENARIOS.iter().filter(|(name, _)| chosen(name)) {
        if perform(&cluster, name, *scenario) { passed += 1 } else { failed += 1 }
    }
    match cluster.down() {
        Ok(()) => passed += 1,
        Err(failure) => {
            eprintln!("FAILED down leaves nothing behind: {failure:#}");
            failed += 1;
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn perform(cluster: &Cluster, name: &str, scenario: fn(&Cluster) -> Result<()>) -> bool {
    let started = Instant::now();
    match scenario(cluster) {
        Ok(()) => {
            println!("ok {name} ({:.1} s)", started.elapsed().as_secs_f64());
            true
        }
        Err(failure) => {
            println!("FAILED {name} ({:.1} s): {failure:#}", started.elapsed().as_secs_f64());
            cluster.explain();
            false
        }
    }
}
