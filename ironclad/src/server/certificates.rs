//! Who gets a certificate: the approver of nodes' further requests.
//!
//! Upstream's controller approves kubelets' client certificates and nothing else. Nodes here ask for three more: their
//! kubelet's serving certificate, and those of the proxy and the pod network, which upstream's installers hand out by
//! other ways. Signing is the signing controller's.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use daemon::{Drain, Tasks};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use pki::CertificateRequest;
use reconcile::{Informers, Queue};
use tracing::{info, warn};

use crate::node::credentials::{OVERLAY_USER, PROXY_USER};

const NODE_PREFIX: &str = "system:node:";
const NODES_GROUP: &str = "system:nodes";

/// What the approver thinks of a request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Somebody else's business.
    Leave,
    /// Fine when the addresses are the node's to have.
    IfOwn(Vec<IpAddr>),
    /// Fine.
    Approve,
}

/// Why a request could not be decided.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
struct Failed(anyhow::Error);

/// Addresses that no node may have a serving certificate for.
#[derive(Debug, Clone)]
pub(crate) struct Reserved {
    pub(crate) ranges: Vec<ipnet::IpNet>,
    pub(crate) addresses: Vec<IpAddr>,
}

fn judge(
    spec: &k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec,
    request: &CertificateRequest,
) -> Verdict {
    let user = spec.username.as_deref().unwrap_or_default();
    let is_node = spec.groups.iter().flatten().any(|group| group == NODES_GROUP);
    let no_names = request.dns_names.is_empty() && request.ip_addresses.is_empty();
    let no_others = request.email_addresses.is_empty() && request.uris.is_empty();
    let for_node = request.common_name.starts_with(NODE_PREFIX) && request.organizations == [NODES_GROUP];
    let usages = |auth: &str| {
        spec.usages.iter().flatten().all(|u| u == auth || u == "digital signature" || u == "key encipherment")
            && spec.usages.iter().flatten().any(|u| u == auth)
    };
    match spec.signer_name.as_str() {
        "kubernetes.io/kubelet-serving" if for_node && no_others && usages("server auth") => {
            let own_name = request.dns_names.iter().all(|name| format!("{NODE_PREFIX}{name}") == user);
            let own = is_node && user == request.common_name && own_name && !request.ip_addresses.is_empty();
            if own { Verdict::IfOwn(request.ip_addresses.clone()) } else { Verdict::Leave }
        }
        "kubernetes.io/kube-apiserver-client" if is_node && no_names && no_others && usages("client auth") => {
            let groups: Vec<&str> = request.organizations.iter().map(String::as_str).collect();
            match (request.common_name.as_str(), groups.as_slice()) {
                (PROXY_USER, ["system:node-proxier"] | []) | (OVERLAY_USER, []) => Verdict::Approve,
                _ => Verdict::Leave,
            }
        }
        _ => Verdict::Leave,
    }
}

/// Approves until the drain.
pub(crate) async fn run(client: Client, reserved: Reserved, drain: Drain) -> Result<()> {
    let tasks = Tasks::new(drain.clone());
    let informers = Informers::new(client.clone(), tasks.clone());
    let requests = informers.of::<CertificateSigningRequest>();
    let queue: Queue<String> = Queue::new();
    let wake = queue.clone();
    requests.handle(move |change| {
        if let (false, Some(name)) = (change.is_deleted(), change.object().metadata.name.clone()) {
            wake.add(name);
        }
    });
    requests.synced().await;
    let sync = |name: String| {
        let found = requests.get("", &name);
        let (client, reserved) = (&client, &reserved);
        async move {
            let Some(object) = found else {
                return Ok(None);
            };
            consider(client, reserved, (*object).clone()).await.map(|()| None).map_err(Failed)
        }
    };
    reconcile::run_workers("node-certificate-approver", &queue, 1, &drain, sync).await;
    Ok(tasks.join(Duration::from_secs(5)).await?)
}

async fn consider(client: &Client, reserved: &Reserved, object: CertificateSigningRequest) -> Result<()> {
    let decided = object
        .status
        .as_ref()
        .is_some_and(|s| s.certificate.is_some() || s.conditions.as_ref().is_some_and(|c| !c.is_empty()));
    if decided {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&object.spec.request.0).into_owned();
    let Ok(request) = CertificateRequest::from_pem(&text) else {
        return Ok(());
    };
    let approved = match judge(&object.spec, &request) {
        Verdict::Leave => false,
        Verdict::Approve => true,
        Verdict::IfOwn(addresses) => {
            let own = are_own(client, reserved, &request.common_name, &addresses).await?;
            if !own {
                warn!(user = request.common_name, ?addresses, "these addresses are not the node's to serve");
            }
            own
        }
    };
    if approved { approve(client, object).await } else { Ok(()) }
}

/// An address is a node's to have when it is no reserved one and no other node's.
async fn are_own(client: &Client, reserved: &Reserved, user: &str, addresses: &[IpAddr]) -> Result<bool> {
    let is_reserved = |a: &IpAddr| {
        a.is_loopback()
            || a.is_unspecified()
            || a.is_multicast()
            || reserved.ranges.iter().any(|range| range.contains(a))
    };
    if addresses.iter().any(is_reserved) {
        return Ok(false);
    }
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await.context("cannot list nodes")?;
    let own = user.trim_start_matches(NODE_PREFIX);
    let mut taken: Vec<(String, IpAddr)> = Vec::new();
    for node in nodes {
        let name = node.metadata.name.unwrap_or_default();
        let listed = node.status.and_then(|status| status.addresses).unwrap_or_default();
        taken.extend(listed.iter().filter_map(|a| Some((name.clone(), a.address.parse().ok()?))));
    }
    let others = |a: &IpAddr| taken.iter().any(|(name, address)| address == a && name != own);
    let servers =
        |a: &IpAddr| reserved.addresses.contains(a) && !taken.iter().any(|(name, address)| address == a && name == own);
    Ok(!addresses.iter().any(|a| others(a) || servers(a)))
}

async fn approve(client: &Client, mut object: CertificateSigningRequest) -> Result<()> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let condition = CertificateSigningRequestCondition {
        type_: "Approved".to_owned(),
        status: "True".to_owned(),
        reason: Some("AutoApproved".to_owned()),
        message: Some("Auto approving a certificate that nodes have.".to_owned()),
        ..CertificateSigningRequestCondition::default()
    };
    object.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
    let requests = Api::<CertificateSigningRequest>::all(client.clone());
    let approved = requests.replace_subresource("approval", &name, &PostParams::default(), &object).await;
    approved.with_context(|| format!("cannot approve request {name}"))?;
    info!(name, user = object.spec.username, "approved a node's certificate");
    Ok(())
}

#[cfg(test)]
#[path = "certificates/tests.rs"]
mod tests;
