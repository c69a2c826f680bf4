//! The node's lease: renewed so often that a missing renewal means something.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::PostParams;

use super::pause;
use crate::kubelet::Kubelet;

const NAMESPACE: &str = "kube-node-lease";
const TRIES: usize = 5;
/// Delay after a failed round.
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn run(kubelet: Arc<Kubelet>) -> Result<(), std::convert::Infallible> {
    let api: Api<Lease> = Api::namespaced(kubelet.client.clone(), NAMESPACE);
    let interval = kubelet.config.lease_duration / 4;
    let mut known: Option<Lease> = None;
    loop {
        let mut wait = interval;
        // A request that gets no answer must not be the last one.
        match tokio::time::timeout(interval, renew(&kubelet, &api, known.take())).await {
            Ok(Ok(lease)) => known = Some(lease),
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot renew the node's lease");
                wait = RETRY;
            }
            Err(_) => {
                tracing::warn!("no answer to a renewal of the node's lease");
                wait = RETRY;
            }
        }
        if !pause(&kubelet, wait).await {
            return Ok(());
        }
    }
}

async fn renew(kubelet: &Kubelet, api: &Api<Lease>, known: Option<Lease>) -> Result<Lease, kube::Error> {
    let name = &kubelet.config.node_name;
    let mut known = known;
    for attempt in 1.. {
        let current = match known.take() {
            Some(lease) => Some(lease),
            None => api.get_opt(name).await?,
        };
        let lease = renewed(kubelet, current.as_ref()).await;
        let written = match current {
            Some(_) => api.replace(name, &PostParams::default(), &lease).await,
            None => api.create(&PostParams::default(), &lease).await,
        };
        match written {
            // Somebody else wrote, or removed it: read again.
            Err(kube::Error::Api(status)) if attempt < TRIES && (status.code == 409 || status.code == 404) => {}
            outcome => return outcome,
        }
    }
    unreachable!("the loop ends by returning")
}

async fn renewed(kubelet: &Kubelet, current: Option<&Lease>) -> Lease {
    let name = &kubelet.config.node_name;
    let mut lease = current.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(NAMESPACE.into()), ..ObjectMeta::default() },
        ..Lease::default()
    });
    if lease.metadata.owner_references.is_none() {
        let nodes: Api<Node> = Api::all(kubelet.client.clone());
        // Without an owner the lease is still good; the next renewal adds it.
        let node = nodes.get_opt(name).await.ok().flatten();
        lease.metadata.owner_references = node.and_then(|node| owner(&node)).map(|owner| vec![owner]);
    }
    let seconds = i32::try_from(kubelet.config.lease_duration.as_secs()).unwrap_or(i32::MAX);
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(name.clone()),
        lease_duration_seconds: Some(seconds),
        renew_time: Some(MicroTime(daemon::clock::now())),
        ..lease.spec.unwrap_or_default()
    });
    lease
}

fn owner(node: &Node) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name.clone()?,
        uid: node.metadata.uid.clone()?,
        ..OwnerReference::default()
    })
}
