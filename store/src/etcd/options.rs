//! Where etcd is and how it is used.

use std::time::Duration;

use crate::key::{Key, KeyPrefix, ROOT};

/// Certificates for `https` endpoints, as PEM.
#[derive(Clone)]
pub struct EtcdTls {
    /// Members' certificates come from here.
    pub authority_pem: String,
    /// What is shown to members: certificate chain and key.
    pub identity_pem: Option<(String, String)>,
}

impl std::fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EtcdTls")
    }
}

/// Everything a connection to etcd needs.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// The members, as `http://host:port`, `https://host:port` or `host:port`; at least one.
    pub endpoints: Vec<String>,
    /// Needed for `https`.
    pub tls: Option<EtcdTls>,
    /// Where every key is, in place of [`ROOT`].
    pub prefix: String,
    /// How often history is compacted; never when zero.
    pub compaction_interval: Duration,
    /// How long a health check waits.
    pub health_timeout: Duration,
    /// How long one lease is given to further keys, at most.
    pub lease_reuse: Duration,
    /// How many keys one lease is given to, at most.
    pub lease_keys_max: u64,
}

impl EtcdOptions {
    /// These endpoints, and upstream's defaults.
    #[must_use]
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            tls: None,
            prefix: ROOT.to_owned(),
            compaction_interval: Duration::from_secs(5 * 60),
            health_timeout: Duration::from_secs(2),
            lease_reuse: Duration::from_secs(60),
            lease_keys_max: 1000,
        }
    }
}

/// Why a connection cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum EtcdOptionsError {
    /// There is nobody to ask.
    #[error("no etcd endpoint is given")]
    NoEndpoint,
    /// An endpoint is no address.
    #[error("{endpoint:?} is no etcd endpoint")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
    /// Nobody would check the member's certificate.
    #[error("{endpoint:?} needs the authority of etcd's certificates")]
    NoAuthority {
        /// The endpoint.
        endpoint: String,
    },
}

/// Turns keys into etcd's and back.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// In place of [`ROOT`]; begins with the separator and does not end in it.
    root: String,
}

impl Layout {
    pub(super) fn new(prefix: &str) -> Self {
        Self { root: format!("/{}", prefix.trim_matches('/')) }
    }

    /// Where a key is in etcd.
    pub(super) fn path(&self, key: &Key) -> String {
        format!("{}{}", self.root, &key.as_str()[ROOT.len()..])
    }

    /// Where a prefix begins in etcd; ends in the separator.
    pub(super) fn prefix(&self, prefix: &KeyPrefix) -> String {
        format!("{}{}", self.root, &prefix.as_str()[ROOT.len()..])
    }

    /// What is always asked for when only the revision is wanted. Nothing is stored there.
    pub(super) fn probe(&self) -> String {
        format!("{}/health", self.root)
    }

    /// Everything that is stored.
    pub(super) fn all(&self) -> String {
        format!("{}/", self.root)
    }

    /// The key of an etcd path; None when somebody else owns it.
    pub(super) fn key(&self, path: &[u8]) -> Option<Key> {
        let path = std::str::from_utf8(path).ok()?;
        let rest = path.strip_prefix(self.root.as_str())?;
        Key::parse(&format!("{ROOT}{rest}")).ok()
    }
}

/// The end of the range of everything that begins with `prefix`, which ends in the separator.
pub(super) fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_move_below_another_root_and_back() {
        let key = Key::new(["pods", "default", "web"]).unwrap();
        let prefix = KeyPrefix::new(["pods"]).unwrap();
        for (given, root) in [("/registry", "/registry"), ("registry", "/registry"), ("/a/b/", "/a/b")] {
            let layout = Layout::new(given);
            assert_eq!(layout.path(&key), format!("{root}/pods/default/web"));
            assert_eq!(layout.prefix(&prefix), format!("{root}/pods/"));
            assert_eq!(layout.key(layout.path(&key).as_bytes()), Some(key.clone()));
            assert_eq!(range_end(&layout.prefix(&prefix)), format!("{root}/pods0").into_bytes());
        }
        let layout = Layout::new("/registry");
        for foreign in ["compact_rev_key", "/registry", "/registryx/a", "/other/a", "/registry//a"] {
            assert_eq!(layout.key(foreign.as_bytes()), None, "{foreign}");
        }
        assert_eq!(layout.key(&[b'/', 0xff]), None);
    }
}
