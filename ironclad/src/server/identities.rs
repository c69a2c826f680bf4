//! The control plane's keys and certificates: made at the first start, renewed at a later one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use pki::{Authority, Credential, Kubeconfig, Profile, TokenSigner, UserAuth};

use crate::paths::{ServerPaths, pair};

/// Upstream's privileged group: its rights do not depend on any RBAC object.
const MASTERS: &str = "system:masters";

/// Names and addresses that clients may reach the API server under.
pub(crate) struct Names {
    pub(crate) host_name: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) extra: Vec<String>,
    pub(crate) domain: String,
}

/// Everything that the control plane proves itself and others with.
pub(crate) struct Identities {
    pub(crate) authority: Authority,
    pub(crate) directory: PathBuf,
    /// The serving certificate, followed by the authority's, so that a joining node can check a pin.
    pub(crate) serving: Credential,
    pub(crate) kubelet_client: Credential,
    pub(crate) admin: Credential,
    pub(crate) tokens: TokenSigner,
}

impl Identities {
    /// Reads or makes all of them.
    pub(crate) fn ensure(paths: &ServerPaths, names: &Names) -> Result<Self> {
        let directory = paths.pki();
        let authority = authority(&directory)?;
        let serving = ensure(&authority, &directory, "apiserver", &serving_profile(names))?;
        let chain = format!("{}{}", serving.certificate_pem(), authority.certificate_pem());
        Ok(Self {
            serving: Credential::from_pem(chain, serving.key_pem())?,
            kubelet_client: ensure(
                &authority,
                &directory,
                "apiserver-kubelet-client",
                &Profile::client("kube-apiserver-kubelet-client", [MASTERS]),
            )?,
            admin: ensure(&authority, &directory, "admin", &admin_profile())?,
            tokens: TokenSigner::load_or_create(&directory.join("sa.key"))?,
            authority,
            directory,
        })
    }

    /// The certificate of one component.
    pub(crate) fn component(&self, user: &str) -> Result<Credential> {
        let name = user.trim_start_matches("system:");
        ensure(&self.authority, &self.directory, name, &Profile::client(user, [] as [&str; 0]))
    }
}

/// The cluster's authority.
pub(crate) fn authority(directory: &Path) -> Result<Authority> {
    Ok(Authority::load_or_create(directory, "ca", "kubernetes-ca", daemon::clock::now())?)
}

/// The first user.
pub(crate) fn admin_profile() -> Profile {
    Profile::client("kubernetes-admin", [MASTERS])
}

/// A kubeconfig of the first user.
pub(crate) fn admin_kubeconfig(context: &str, server: &str, authority: &Authority, admin: &Credential) -> Kubeconfig {
    Kubeconfig {
        cluster: context.to_owned(),
        user: format!("{context}-admin"),
        server: server.to_owned(),
        ca_pem: authority.certificate_pem().to_owned(),
        auth: UserAuth::Certificate(admin.clone()),
    }
}

fn ensure(authority: &Authority, directory: &Path, name: &str, profile: &Profile) -> Result<Credential> {
    let (certificate, key) = pair(directory, name);
    Ok(authority.load_or_issue(&certificate, &key, profile, daemon::clock::now())?)
}

fn serving_profile(names: &Names) -> Profile {
    let mut list: Vec<String> =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned).to_vec();
    list.push(format!("kubernetes.default.svc.{}", names.domain));
    list.extend(["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned(), names.host_name.clone()]);
    list.extend(names.addresses.iter().map(ToString::to_string));
    list.extend(names.extra.iter().cloned());
    list.dedup();
    Profile::server("kube-apiserver", list)
}
