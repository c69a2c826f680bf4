//! A node's first contact with a cluster: whom to believe, and certificates of its own.
//!
//! The authority is recognized by the hash in the join token, in the server's own certificate chain; nothing is
//! believed before. The kubelet's certificate is asked for with the token, the others with the kubelet's.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use pki::{CertificateRequest, Credential, JoinToken, Kubeconfig, Profile, UserAuth};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracing::{info, warn};

use super::Settings;
use super::credentials::{NodeCredentials, profiles};
use crate::client;
use crate::paths::pair;

const RETRY: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(100);

/// How long a request may wait for its signature.
const SIGNED_WITHIN: Duration = Duration::from_secs(60);

/// Who signs what, as upstream names them.
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// Joins the cluster: on return, all of the node's files are there.
pub(crate) async fn run(settings: &Settings) -> Result<()> {
    let Some(token) = &settings.token else {
        bail!("this node has not joined yet: give --token, as printed by `ironclad token create`");
    };
    let ca_pem = loop {
        match authority(&settings.server, token).await {
            Ok(pem) => break pem,
            Err(error) => warn!("cannot reach the cluster yet: {error:#}"),
        }
        tokio::time::sleep(RETRY).await;
    };
    pki::write_public(&settings.paths.ca(), &ca_pem)?;
    obtain(settings, &ca_pem, bearer(&settings.server, &ca_pem, token).await?).await
}

/// Replaces the node's certificates, asking with the one that is still valid.
pub(crate) async fn renew(settings: &Settings, credentials: &NodeCredentials) -> Result<()> {
    let config = client::config(&settings.server, &credentials.ca_pem, &credentials.kubelet).await?;
    obtain(settings, &credentials.ca_pem, client::connect(config)?).await
}

/// Asks for all of the node's certificates, for the kubelet's first, which then asks for the others.
async fn obtain(settings: &Settings, ca_pem: &str, mut requester: Client) -> Result<()> {
    for (name, profile) in profiles(&settings.name, settings.address) {
        let signer = signer(name);
        let credential = request(&requester, signer, &profile).await;
        let credential = credential.with_context(|| format!("cannot get the node's {name} certificate"))?;
        if signer == KUBELET_CLIENT {
            requester = client::connect(client::config(&settings.server, ca_pem, &credential).await?)?;
        }
        let (certificate, key) = pair(&settings.paths.pki(), name);
        credential.store(&certificate, &key)?;
        info!(name, "certificate signed");
    }
    Ok(())
}

fn signer(name: &str) -> &'static str {
    match name {
        "kubelet-client" => KUBELET_CLIENT,
        "kubelet-serving" => KUBELET_SERVING,
        _ => CLIENT,
    }
}

/// The authority's certificate, out of a handshake that succeeds only with the pinned one.
async fn authority(server: &str, token: &JoinToken) -> Result<String> {
    let url: http::Uri = server.parse().with_context(|| format!("{server:?} is not a URL"))?;
    let host = url.host().with_context(|| format!("{server:?} names no host"))?.trim_matches(['[', ']']).to_owned();
    let port = url.port_u16().unwrap_or(443);
    let connector = TlsConnector::from(Arc::new(pki::tls::pinned_client(token.pin)?));
    let stream =
        TcpStream::connect((host.as_str(), port)).await.with_context(|| format!("cannot connect to {server}"))?;
    let name = rustls_pki_types::ServerName::try_from(host).context("the server's host is not a name or address")?;
    let stream = connector.connect(name, stream).await.context("the server does not prove the pinned authority")?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let pinned = |der: &&rustls_pki_types::CertificateDer<'_>| {
        pki::Certificate::from_der(der).is_ok_and(|certificate| certificate.pin == token.pin)
    };
    let found = chain.iter().find(pinned).context("the server sent no pinned authority")?;
    Ok(pem::encode(&pem::Pem::new("CERTIFICATE", found.to_vec())))
}

async fn bearer(server: &str, ca_pem: &str, token: &JoinToken) -> Result<Client> {
    let document = Kubeconfig {
        cluster: "ironclad".to_owned(),
        user: token.token.user(),
        server: server.to_owned(),
        ca_pem: ca_pem.to_owned(),
        auth: UserAuth::Token(token.token.to_string()),
    };
    client::connect(client::from_document(document.to_value()).await?)
}

/// Asks for a certificate and waits for it.
pub(crate) async fn request(client: &Client, signer: &str, profile: &Profile) -> Result<Credential> {
    let (pem, key) = CertificateRequest::create(profile)?;
    let usages = if signer == KUBELET_SERVING {
        ["digital signature", "server auth"]
    } else {
        ["digital signature", "client auth"]
    };
    let mut request = CertificateSigningRequest {
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: signer.to_owned(),
            usages: Some(usages.map(str::to_owned).to_vec()),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    };
    request.metadata.generate_name = Some("node-csr-".to_owned());
    let requests = Api::<CertificateSigningRequest>::all(client.clone());
    let created = requests.create(&PostParams::default(), &request).await.context("cannot create the request")?;
    let name = created.metadata.name.context("the server named no request")?;
    let certificate = tokio::time::timeout(SIGNED_WITHIN, signed(&requests, &name)).await;
    let certificate =
        certificate.with_context(|| format!("request {name} was not signed within {SIGNED_WITHIN:?}"))??;
    Ok(Credential::from_pem(certificate, key)?)
}

async fn signed(requests: &Api<CertificateSigningRequest>, name: &str) -> Result<String> {
    loop {
        let status = requests.get(name).await.context("cannot read the request")?.status.unwrap_or_default();
        let refused = |c: &&k8s_openapi::api::certificates::v1::CertificateSigningRequestCondition| {
            c.type_ == "Denied" || c.type_ == "Failed"
        };
        if let Some(condition) = status.conditions.iter().flatten().find(refused) {
            bail!(
                "request {name} is {}: {}",
                condition.type_,
                condition.message.as_deref().unwrap_or("no reason given")
            );
        }
        if let Some(certificate) = status.certificate {
            return String::from_utf8(certificate.0).context("the certificate is not PEM");
        }
        tokio::time::sleep(POLL).await;
    }
}
