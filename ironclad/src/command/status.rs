//! `ironclad status`: what runs on this machine.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use crate::cluster::{self, Cluster};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: super::up::ClusterArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> Result<()> {
    let mut clusters = Vec::new();
    for directory in cluster::list(args.cluster.root())? {
        clusters.push(describe(&Cluster::load(&directory)?).await?);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&clusters)?);
    } else if clusters.is_empty() {
        println!("no clusters; make one with: ironclad up");
    } else {
        clusters.iter().for_each(|cluster| print!("{}", text(cluster)));
    }
    Ok(())
}

async fn describe(cluster: &Cluster) -> Result<Value> {
    let mut nodes = Vec::new();
    for node in &cluster.record.nodes {
        let host = cluster.node(&node.name)?;
        nodes.push(json!({
            "name": node.name,
            "address": node.address.ip,
            "pid": host.as_ref().map(host::Host::pid),
            "logs": cluster.directory.host(&node.name).join("log"),
        }));
    }
    Ok(json!({
        "name": cluster.name(),
        "context": cluster.directory.context(),
        "server": format!("https://{}", cluster.api()),
        "ready": cluster::is_ready(cluster).await,
        "kubeconfig": cluster.directory.kubeconfig(),
        "wire": cluster.wire()?.map(|wire| wire.host().pid()),
        "nodes": nodes,
        "publish": cluster.record.publish,
    }))
}

fn text(cluster: &Value) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let state = if cluster["ready"] == true { "ready" } else { "not ready" };
    let mut out = format!("{}: {state}, {}\n", plain(&cluster["name"]), plain(&cluster["server"]));
    for node in cluster["nodes"].as_array().into_iter().flatten() {
        let state = if node["pid"].is_null() { "stopped".to_owned() } else { format!("pid {}", node["pid"]) };
        let line = [&node["name"], &node["address"], &node["logs"]].map(plain);
        let _ = writeln!(out, "  {:<8} {:<14} {state:<12} {}", line[0], line[1], line[2]);
    }
    out
}
