//! When a cluster is ready: the API server says so, every node is Ready, the add-ons run.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use kube::api::ListParams;
use kube::{Api, Client};

use super::Cluster;
use super::phases::Phases;
use crate::client;

/// How long each phase may take.
const DEADLINE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(50);

/// A question to the API server that takes longer than this counts as unanswered.
const ANSWER: Duration = Duration::from_secs(2);

/// The hosts that have just been started. What was said about them before does not hold any more.
#[derive(Debug, Clone)]
pub(super) struct Started {
    pub(super) at: Timestamp,
    pub(super) nodes: Vec<String>,
}

impl Started {
    fn since(&self, node: Option<&str>) -> Timestamp {
        let is_new = node.is_some_and(|node| self.nodes.iter().any(|name| name == node));
        if is_new { self.at } else { Timestamp::UNIX_EPOCH }
    }
}

/// Waits for all of it.
pub(super) async fn wait(cluster: &Cluster, started: Started, phases: &mut Phases) -> Result<()> {
    let client = connect(cluster).await?;
    until(cluster, "the API server", || api_answers(client.clone())).await?;
    phases.done(&format!("API server on {}", cluster.api()));
    until(cluster, "the nodes", || all_nodes_ready(client.clone(), cluster.record.nodes.len(), started.clone()))
        .await?;
    phases.done("nodes Ready");
    until(cluster, "the add-ons", || addons_run(client.clone(), started.clone())).await?;
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

async fn all_nodes_ready(client: Client, count: usize, started: Started) -> Option<String> {
    let nodes = match Api::<Node>::all(client).list(&ListParams::default()).await {
        Ok(nodes) => nodes.items,
        Err(error) => return Some(error.to_string()),
    };
    let ready = nodes.iter().filter(|node| is_node_ready(node, &started)).count();
    (ready < count).then(|| format!("{ready} of {count} nodes are Ready"))
}

fn is_node_ready(node: &Node, started: &Started) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|c| c.type_ == "Ready" && c.status == "True");
    let since = started.since(node.metadata.name.as_deref());
    ready.is_some_and(|c| c.last_heartbeat_time.as_ref().is_some_and(|time| time.0 >= since))
}

async fn addons_run(client: Client, started: Started) -> Option<String> {
    let dns = match Api::<Deployment>::namespaced(client.clone(), "kube-system").get_opt("coredns").await {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    let Some(dns) = dns else {
        return Some("the DNS deployment is not there yet".to_owned());
    };
    let wanted = usize::try_from(dns.spec.replicas.unwrap_or(1)).unwrap_or(0);
    let selected = ListParams::default().labels("k8s-app=kube-dns");
    let pods = match Api::<Pod>::namespaced(client, "kube-system").list(&selected).await {
        Ok(pods) => pods.items,
        Err(error) => return Some(error.to_string()),
    };
    let ready = pods.iter().filter(|pod| is_pod_ready(pod, &started)).count();
    (ready < wanted).then(|| format!("{ready} of {wanted} DNS pods are ready"))
}

/// Ready, and every container of it started since.
fn is_pod_ready(pod: &Pod, started: &Started) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    let since = started.since(pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()));
    let is_fresh = |container: &ContainerStatus| {
        let running = container.state.as_ref().and_then(|state| state.running.as_ref());
        running.and_then(|running| running.started_at.as_ref()).is_some_and(|time| time.0 >= since)
    };
    let is_ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    is_ready && status.container_statuses.iter().flatten().all(is_fresh)
}
