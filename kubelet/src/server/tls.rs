//! The serving certificate, and the authority that callers' certificates are checked against. Both are files that are
//! replaced while this runs: a connection is shaken hands with by what they say then.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::error::Error;

/// The files are looked at no more often than this.
const LOOK: Duration = Duration::from_secs(1);

/// What tells one version of a file from another: its number, its size and when it was written.
type Version = Option<(u64, u64, i64, i64)>;

/// Makes what shakes hands, anew when one of its files has changed.
pub(super) struct Acceptors {
    config: Config,
    state: Mutex<State>,
}

struct State {
    acceptor: TlsAcceptor,
    versions: [Version; 3],
    looked: Instant,
}

impl Acceptors {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        make_missing(config)?;
        let versions = versions(config);
        let state = State { acceptor: acceptor(config)?, versions, looked: daemon::clock::monotonic() };
        Ok(Self { config: config.clone(), state: Mutex::new(state) })
    }

    /// Files that cannot be used (one of a pair is written before the other) leave what was there in force.
    pub(super) fn current(&self) -> TlsAcceptor {
        self.at(daemon::clock::monotonic())
    }

    fn at(&self, now: Instant) -> TlsAcceptor {
        let mut state = self.state.lock();
        if now.duration_since(state.looked) < LOOK {
            return state.acceptor.clone();
        }
        state.looked = now;
        let versions = versions(&self.config);
        if versions == state.versions {
            return state.acceptor.clone();
        }
        match acceptor(&self.config) {
            Ok(fresh) => {
                tracing::info!("the serving certificate or the callers' authority has changed");
                state.acceptor = fresh;
                state.versions = versions;
            }
            Err(error) => tracing::warn!(%error, "cannot use the certificates that have changed"),
        }
        state.acceptor.clone()
    }
}

fn versions(config: &Config) -> [Version; 3] {
    let version = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
    };
    let server = &config.server;
    [version(&server.certificate), version(&server.key), server.client_ca.as_deref().and_then(version)]
}

fn acceptor(config: &Config) -> Result<TlsAcceptor, Error> {
    let server = &config.server;
    let authority = server.client_ca.as_deref().map(pki::read).transpose()?;
    let credential = pki::Credential::load(&server.certificate, &server.key)?;
    let mut tls = pki::tls::server(&credential, authority.as_deref())?;
    // Streams upgrade, which HTTP/2 has no word for.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

/// When there is no pair, makes one that only this node vouches for, as upstream does.
fn make_missing(config: &Config) -> Result<(), Error> {
    let server = &config.server;
    if server.certificate.exists() && server.key.exists() {
        return Ok(());
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
    Ok(credential.store(&server.certificate, &server.key)?)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Args;

    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }

    fn config(directory: &Path) -> Config {
        let file = |flag: &str, name: &str| format!("--{flag}={}", directory.join(name).display());
        let flags = [file("tls-cert-file", "tls.crt"), file("tls-private-key-file", "tls.key")];
        let node = ["kubelet", "--hostname-override=n", "--node-ip=192.0.2.1"].map(str::to_owned);
        let words = node.into_iter().chain(flags);
        Alone::parse_from(words).args.config().unwrap()
    }

    fn is_same(one: &TlsAcceptor, other: &TlsAcceptor) -> bool {
        Arc::ptr_eq(one.config(), other.config())
    }

    #[test]
    fn a_changed_pair_is_used_and_a_broken_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let acceptors = Acceptors::new(&config).unwrap();
        let mut now = daemon::clock::monotonic();
        let mut later = || {
            now += LOOK;
            acceptors.at(now)
        };
        let first = later();
        assert!(is_same(&first, &later()), "nothing has changed");

        let key = std::fs::read(&config.server.key).unwrap();
        std::fs::write(&config.server.key, "no key").unwrap();
        assert!(is_same(&first, &later()), "half of a pair");
        std::fs::remove_file(&config.server.key).unwrap();
        assert!(is_same(&first, &later()), "the other half is gone");
        std::fs::write(&config.server.key, key).unwrap();
        let again = later();
        assert!(is_same(&again, &later()));

        std::fs::remove_file(&config.server.key).unwrap();
        make_missing(&config).unwrap();
        assert!(!is_same(&again, &later()), "another pair");
    }
}
