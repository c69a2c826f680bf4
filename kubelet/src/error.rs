//! What stops the node agent, or one of its tasks.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("invalid flag {flag}: {reason}")]
    Flag { flag: &'static str, reason: String },
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("make directory {path}")]
    MakeDirectory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("container runtime")]
    Runtime(#[from] cri::Error),
    #[error("register node {node}")]
    Register {
        node: String,
        #[source]
        source: kube::Error,
    },
    #[error("listen on {address}")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("serving certificate")]
    Certificate(#[from] pki::Error),
    #[error("TLS configuration")]
    Tls(#[from] rustls::Error),
    #[error("tasks did not end")]
    Join(#[from] daemon::JoinError),
    #[error("{operation}: {message}")]
    Api { operation: String, message: String },
}
