//! A node's keys and certificates.
//!
//! Whoever has the authority's key (`server` for its own node, `up` for all nodes) issues them directly; another node
//! asks for them with a join token.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use pki::{Authority, Credential, Profile, Usage};

use crate::paths::{NodePaths, pair};

/// The user that pod-network agents are, bound by the add-ons.
pub(crate) const OVERLAY_USER: &str = "flannel";
pub(crate) const PROXY_USER: &str = "system:kube-proxy";

/// What a node proves itself with.
pub(crate) struct NodeCredentials {
    /// The cluster's authority, PEM.
    pub(crate) ca_pem: String,
    /// The kubelet as a client.
    pub(crate) kubelet: Credential,
    pub(crate) proxy: Credential,
    pub(crate) overlay: Credential,
}

/// Names of the files, with what the certificates in them say.
pub(crate) fn profiles(node: &str, address: IpAddr) -> [(&'static str, Profile); 4] {
    let user = format!("system:node:{node}");
    let mut serving = Profile::server(user.clone(), [node.to_owned(), address.to_string()]);
    serving.organizations = vec!["system:nodes".to_owned()];
    serving.usages = vec![Usage::DigitalSignature, Usage::ServerAuth];
    [
        ("kubelet-client", Profile::client(user, ["system:nodes"])),
        ("kubelet-serving", serving),
        ("kube-proxy", Profile::client(PROXY_USER, ["system:node-proxier"])),
        ("flannel", Profile::client(OVERLAY_USER, [] as [&str; 0])),
    ]
}

/// Issues whatever is missing or due in a node's directory.
pub(crate) fn issue(authority: &Authority, paths: &NodePaths, node: &str, address: IpAddr) -> Result<()> {
    for (name, profile) in profiles(node, address) {
        let (certificate, key) = pair(&paths.pki(), name);
        authority.load_or_issue(&certificate, &key, &profile, daemon::clock::now())?;
    }
    Ok(pki::write_public(&paths.ca(), authority.certificate_pem())?)
}

impl NodeCredentials {
    /// Reads them all.
    pub(crate) fn load(paths: &NodePaths) -> Result<Self> {
        let directory = paths.pki();
        Ok(Self {
            ca_pem: pki::read(&paths.ca())?,
            kubelet: load(&directory, "kubelet-client")?,
            proxy: load(&directory, "kube-proxy")?,
            overlay: load(&directory, "flannel")?,
        })
    }

    /// Whether one of them should be replaced.
    pub(crate) fn are_due(&self, now: jiff::Timestamp) -> bool {
        let mut all = [&self.kubelet, &self.proxy, &self.overlay].into_iter();
        all.any(|credential| credential.certificate().is_ok_and(|facts| facts.is_due(now)))
    }

    /// Whether a node has them all already.
    pub(crate) fn present(paths: &NodePaths) -> bool {
        let there = |name: &str| {
            let (certificate, key) = pair(&paths.pki(), name);
            certificate.exists() && key.exists()
        };
        paths.ca().exists() && ["kubelet-client", "kubelet-serving", "kube-proxy", "flannel"].iter().all(|n| there(n))
    }
}

fn load(directory: &Path, name: &str) -> Result<Credential> {
    let (certificate, key) = pair(directory, name);
    Credential::load(&certificate, &key).with_context(|| format!("the node has no usable {name} certificate"))
}
