//! When a cluster is ready: the API server says so, every node is Ready, the add-ons run.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};

use super::Cluster;
use super::phases::Phases;
use crate::client;

/// How long each phase may take.
const DEADLINE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(50);

/// A question to the API server that takes longer than this counts as unanswered.
const ANSWER: Duration = Duration::from_secs(2);

/// Waits for all of it.
pub(super) async fn wait(cluster: &Cluster, phases: &mut Phases) -> Result<()> {
    let client = connect(cluster).await?;
    until(cluster, "the API server", || api_answers(client.clone())).await?;
    phases.done(&format!("API server on {}", cluster.api()));
    until(cluster, "the nodes", || all_nodes_ready(client.clone(), cluster.record.nodes.len())).await?;
    phases.done("nodes Ready");
    until(cluster, "the add-ons", || addons_run(client.clone())).await?;
    phases.done("cluster DNS");
    Ok(())
}

/// Whether the API server answers now.
pub(crate) async fn is_ready(cluster: &Cluster) -> bool {
    match connect(cluster).await {
        Ok(client) => api_answers(client).await.is_none(),
        Err(_) => false,
    }
}

async fn connect(cluster: &Cluster) -> Result<Client> {
    client::connect(client::from_file(&cluster.directory.kubeconfig()).await?)
}

/// Asks until nothing is missing. A host that ends meanwhile is reported instead of waited for.
async fn until<F, Fut>(cluster: &Cluster, what: &str, mut missing: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<String>>,
{
    let deadline = daemon::clock::monotonic() + DEADLINE;
    loop {
        let asked = tokio::time::timeout(ANSWER, missing()).await;
        let Some(reason) = asked.unwrap_or_else(|_| Some("no answer".to_owned())) else {
            return Ok(());
        };
        let logs = cluster.directory.hosts();
        if cluster.running_nodes()?.len() < cluster.record.nodes.len() {
            bail!("a host of the cluster has ended; its logs are in {}/*/log", logs.display());
        }
        if daemon::clock::monotonic() > deadline {
            bail!("{what} did not become ready within {DEADLINE:?}: {reason}; logs are in {}/*/log", logs.display());
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn api_answers(client: Client) -> Option<String> {
    let request = http::Request::get("/readyz").body(Vec::new()).expect("a plain request");
    client.request_text(request).await.err().map(|error| format!("{:#}", anyhow::Error::from(error)))
}

async fn all_nodes_ready(client: Client, count: usize) -> Option<String> {
    let nodes = match Api::<Node>::all(client).list(&kube::api::ListParams::default()).await {
        Ok(nodes) => nodes.items,
        Err(error) => return Some(error.to_string()),
    };
    let ready = nodes.iter().filter(|node| is_node_ready(node)).count();
    (ready < count).then(|| format!("{ready} of {count} nodes are Ready"))
}

fn is_node_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|list| list.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

async fn addons_run(client: Client) -> Option<String> {
    let dns = match Api::<Deployment>::namespaced(client, "kube-system").get_opt("coredns").await {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    let Some(dns) = dns else {
        return Some("the DNS deployment is not there yet".to_owned());
    };
    let wanted = dns.spec.replicas.unwrap_or(1);
    let ready = dns.status.and_then(|status| status.ready_replicas).unwrap_or(0);
    (ready < wanted).then(|| format!("{ready} of {wanted} DNS pods are ready"))
}

/// The kubeconfig of a cluster that was made.
pub(crate) fn kubeconfig_text(cluster: &Cluster) -> Result<String> {
    let path = cluster.directory.kubeconfig();
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
