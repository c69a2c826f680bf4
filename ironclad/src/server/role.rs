//! The label by which `kubectl get nodes` shows which node carries the control plane. A kubelet may not set it itself.

use anyhow::{Context, Result};
use daemon::Drain;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::json;

const LABEL: &str = "node-role.kubernetes.io/control-plane";

/// Labels the node as soon as it has registered.
pub(super) async fn run(client: Client, node: String, drain: Drain) -> Result<()> {
    let nodes = Api::<Node>::all(client);
    let registered = await_condition(nodes.clone(), &node, |found: Option<&Node>| found.is_some());
    let Some(outcome) = drain.run(registered).await else {
        return Ok(());
    };
    outcome.with_context(|| format!("cannot wait for node {node}"))?;
    let patch = json!({ "metadata": { "labels": { LABEL: "" } } });
    let patched = nodes.patch(&node, &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.with_context(|| format!("cannot label node {node}"))?;
    drain.cancelled().await;
    Ok(())
}
