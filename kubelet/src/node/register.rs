//! Making the node object, or taking over one that exists.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::{pause, status};
use crate::error::Error;
use crate::kubelet::Kubelet;

const ATTACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(7);

/// Tries until it works or the drain starts.
pub(crate) async fn until_registered(kubelet: &Kubelet) -> Option<Node> {
    let mut wait = FIRST_RETRY;
    loop {
        match once(kubelet).await {
            Ok(node) => return Some(node),
            Err(error) => {
                tracing::warn!(%error, source = ?std::error::Error::source(&error).map(ToString::to_string), "cannot register")
            }
        }
        if !pause(kubelet, wait).await {
            return None;
        }
        wait = (wait * 2).min(LAST_RETRY);
    }
}

async fn once(kubelet: &Kubelet) -> Result<Node, Error> {
    let api: Api<Node> = Api::all(kubelet.client.clone());
    let failed = |source| Error::Register { node: kubelet.config.node_name.clone(), source };
    if !kubelet.config.register_node {
        return api.get(&kubelet.config.node_name).await.map_err(failed);
    }
    let node = initial(kubelet).await;
    match api.create(&PostParams::default(), &node).await {
        Ok(node) => Ok(node),
        // A node may be allowed to change its object but not to make it.
        Err(kube::Error::Api(status)) if status.code == 409 || status.code == 403 => {
            take_over(&api, kubelet, &node).await.map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

async fn initial(kubelet: &Kubelet) -> Node {
    let config = &kubelet.config;
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(kubelet.machine.labels(config)),
            annotations: Some([(ATTACH.to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!config.taints.is_empty()).then(|| config.taints.clone()),
            ..NodeSpec::default()
        }),
        status: Some(status::current(kubelet, None).await),
    }
}

/// Labels that describe the host are brought up to date; those that others set stay.
async fn take_over(api: &Api<Node>, kubelet: &Kubelet, node: &Node) -> Result<Node, kube::Error> {
    let existing = api.get(&kubelet.config.node_name).await?;
    let wanted = node.metadata.labels.clone().unwrap_or_default();
    let labels = existing.metadata.labels.clone().unwrap_or_default();
    let attached = existing.metadata.annotations.as_ref().is_some_and(|a| a.get(ATTACH).is_some_and(|v| v == "true"));
    let differs = wanted.iter().any(|(key, value)| labels.get(key) != Some(value));
    if !differs && attached {
        return Ok(existing);
    }
    let patch = json!({"metadata": {"labels": wanted, "annotations": {ATTACH: "true"}}});
    api.patch(&kubelet.config.node_name, &PatchParams::default(), &Patch::Strategic(patch)).await
}
