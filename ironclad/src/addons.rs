//! What every cluster runs beside its control plane, applied at each start.
//!
//! Upstream's add-on manager's two modes, by its label: `Reconcile` objects are put back to what is written here,
//! `EnsureExists` objects are made once and are the administrator's from then on.

use anyhow::{Context, Result};
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{debug, info};

const MODE_LABEL: &str = "addonmanager.kubernetes.io/mode";
const ENSURE_EXISTS: &str = "EnsureExists";
const MANAGER: &str = "ironclad-addons";

const MANIFESTS: &[(&str, &str)] = &[
    ("nodes", include_str!("../addons/nodes.yaml")),
    ("bootstrap", include_str!("../addons/bootstrap.yaml")),
    ("dns", include_str!("../addons/dns.yaml")),
];

/// What differs between clusters.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) dns_address: String,
    pub(crate) domain: String,
    pub(crate) dns_replicas: u32,
    /// The kubeconfig without a user that `cluster-info` publishes.
    pub(crate) cluster_info: String,
    /// The token that nodes may join with.
    pub(crate) join_token: pki::BootstrapToken,
}

/// Brings all of them into the state written here.
pub(crate) async fn apply(client: &Client, settings: &Settings) -> Result<()> {
    for (name, text) in MANIFESTS {
        let objects = parse(text, settings).with_context(|| format!("the {name} add-on is not readable"))?;
        for object in objects {
            let what = format!("{} {}", object["kind"], object["metadata"]["name"]);
            apply_one(client, object).await.with_context(|| format!("cannot apply {what} of the {name} add-on"))?;
        }
        debug!(name, "applied");
    }
    info!("the add-ons are applied");
    Ok(())
}

fn parse(text: &str, settings: &Settings) -> Result<Vec<Value>> {
    let values = [
        ("{{image}}", crate::bundle::OWN_IMAGE.to_owned()),
        ("{{dnsAddress}}", settings.dns_address.clone()),
        ("{{domain}}", settings.domain.clone()),
        ("{{dnsReplicas}}", settings.dns_replicas.to_string()),
        ("{{clusterInfo}}", Value::String(settings.cluster_info.clone()).to_string()),
        ("{{tokenId}}", settings.join_token.id().to_owned()),
        ("{{tokenSecret}}", settings.join_token.secret().to_owned()),
    ];
    let text = values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    let documents = serde_yaml_ng::Deserializer::from_str(&text).map(Value::deserialize);
    let objects = documents.collect::<Result<Vec<_>, _>>()?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

async fn apply_one(client: &Client, object: Value) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, version) = match text(&object["apiVersion"]).split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), text(&object["apiVersion"])),
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind { group, version, kind: text(&object["kind"]) });
    let name = text(&object["metadata"]["name"]);
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    if api.get_opt(&name).await?.is_none() {
        let new: DynamicObject = serde_json::from_value(object.clone())?;
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match api.create(&params, &new).await {
            // Another server of the same cluster was faster: its object is to be reconciled like any other.
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            created => return created.map(drop).map_err(Into::into),
        }
    }
    if object["metadata"]["labels"][MODE_LABEL] == json!(ENSURE_EXISTS) {
        return Ok(());
    }
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(&name, &params, &Patch::Merge(&object)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_is_readable_and_complete() {
        let settings = Settings {
            dns_address: "10.96.0.10".to_owned(),
            domain: "cluster.local".to_owned(),
            dns_replicas: 2,
            cluster_info: "a: \"b\"\nc: d\n".to_owned(),
            join_token: "abcdef.0123456789abcdef".parse().unwrap(),
        };
        for (name, text) in MANIFESTS {
            let objects = parse(text, &settings).unwrap();
            assert!(!objects.is_empty(), "{name}");
            for object in &objects {
                assert!(!object.to_string().contains("{{"), "{object}");
                assert!(object["metadata"]["name"].is_string(), "{object}");
                assert!(object["metadata"]["labels"][MODE_LABEL].is_string(), "{object}");
            }
        }
    }
}
