//! The serving certificate, and the authority that callers' certificates are checked against.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::error::Error;

pub(super) fn acceptor(config: &Config) -> Result<TlsAcceptor, Error> {
    let authority = config.server.client_ca.as_deref().map(pki::read).transpose()?;
    let mut tls = pki::tls::server(&credential(config)?, authority.as_deref())?;
    // Streams upgrade, which HTTP/2 has no word for.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

/// The configured pair; when there is none, one that only this node vouches for, as upstream's does.
fn credential(config: &Config) -> Result<pki::Credential, Error> {
    let server = &config.server;
    if server.certificate.exists() && server.key.exists() {
        return Ok(pki::Credential::load(&server.certificate, &server.key)?);
    }
    let now = daemon::clock::now();
    let authority = pki::Authority::create(&format!("{}-ca", config.node_name), now)?;
    let mut names = vec![config.node_name.clone()];
    names.extend(config.node_ips.iter().map(ToString::to_string));
    let profile = pki::Profile::server(config.node_name.clone(), names);
    let credential = authority.issue(&profile, now)?;
    if let Some(directory) = server.certificate.parent() {
        std::fs::create_dir_all(directory)
            .map_err(|source| Error::MakeDirectory { path: directory.to_owned(), source })?;
    }
    credential.store(&server.certificate, &server.key)?;
    Ok(credential)
}
