//! API clients from credentials.

use anyhow::{Context, Result};
use kube::config::KubeConfigOptions;
use pki::{Credential, Kubeconfig, UserAuth};

/// The client configuration of somebody who has a certificate.
pub(crate) async fn config(server: &str, ca_pem: &str, credential: &Credential) -> Result<kube::Config> {
    let document = Kubeconfig {
        cluster: "ironclad".to_owned(),
        user: "self".to_owned(),
        server: server.to_owned(),
        ca_pem: ca_pem.to_owned(),
        auth: UserAuth::Certificate(credential.clone()),
    };
    from_document(document.to_value()).await
}

/// The client configuration that a kubeconfig file says.
pub(crate) async fn from_file(path: &std::path::Path) -> Result<kube::Config> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let document: serde_json::Value =
        serde_yaml_ng::from_str(&text).with_context(|| format!("{} is not a kubeconfig", path.display()))?;
    from_document(document).await
}

pub(crate) async fn from_document(document: serde_json::Value) -> Result<kube::Config> {
    let kubeconfig = serde_json::from_value(document).context("cannot read the kubeconfig")?;
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .context("cannot use the kubeconfig")
}

/// A client of a configuration.
pub(crate) fn connect(config: kube::Config) -> Result<kube::Client> {
    reconcile::connect(config).context("cannot make an API client")
}
