//! The control plane's keys and certificates: made at the first start, renewed at a later one.

use std::net::IpAddr;
use std::path::Path;

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

/// What the control plane proves itself with, as far as it does not read it from its files.
pub(crate) struct Identities {
    pub(crate) authority: Authority,
    /// The serving certificate, followed by the authority's, so that a joining node can check a pin.
    pub(crate) serving: Credential,
    pub(crate) admin: Credential,
}

impl Identities {
    /// Reads or makes all keys and certificates of the control plane.
    pub(crate) fn ensure(paths: &ServerPaths, names: &Names) -> Result<Self> {
        let directory = paths.pki();
        let authority = authority(&directory)?;
        let serving = ensure(&authority, &directory, "apiserver", &serving_profile(names))?;
        let chain = format!("{}{}", serving.certificate_pem(), authority.certificate_pem());
        let to_kubelets = Profile::client("kube-apiserver-kubelet-client", [MASTERS]);
        ensure(&authority, &directory, "apiserver-kubelet-client", &to_kubelets)?;
        TokenSigner::load_or_create(&directory.join("sa.key"))?;
        Ok(Self {
            serving: Credential::from_pem(chain, serving.key_pem())?,
            admin: ensure(&authority, &directory, "admin", &admin_profile())?,
            authority,
        })
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
