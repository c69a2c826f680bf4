//! Failures: of the server, and of calls in etcd's words, on which clients branch.

use tonic::{Code, Status};

/// Why a server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory cannot be opened.
    #[error("cannot open the data directory")]
    Open(#[source] store::OpenError),
    /// Opening it did not come to an end.
    #[error("opening the data directory was interrupted")]
    Join(#[source] tokio::task::JoinError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// As configured.
        address: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error("cannot set up TLS")]
    Tls(#[source] pki::Error),
}

/// An error of etcd's: its code and its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known(Code, &'static str);

pub(crate) const EMPTY_KEY: Known = Known(Code::InvalidArgument, "etcdserver: key is not provided");
pub(crate) const KEY_NOT_FOUND: Known = Known(Code::InvalidArgument, "etcdserver: key not found");
pub(crate) const VALUE_PROVIDED: Known = Known(Code::InvalidArgument, "etcdserver: value is provided");
pub(crate) const LEASE_PROVIDED: Known = Known(Code::InvalidArgument, "etcdserver: lease is provided");
pub(crate) const TOO_MANY_OPS: Known = Known(Code::InvalidArgument, "etcdserver: too many operations in txn request");
pub(crate) const DUPLICATE_KEY: Known = Known(Code::InvalidArgument, "etcdserver: duplicate key given in txn request");
pub(crate) const INVALID_SORT: Known = Known(Code::InvalidArgument, "etcdserver: invalid sort option");
pub(crate) const COMPACTED: Known = Known(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
pub(crate) const FUTURE: Known = Known(Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision");
pub(crate) const NO_SPACE: Known = Known(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
pub(crate) const LEASE_NOT_FOUND: Known = Known(Code::NotFound, "etcdserver: requested lease not found");
pub(crate) const LEASE_EXISTS: Known = Known(Code::FailedPrecondition, "etcdserver: lease already exists");
pub(crate) const LEASE_TOO_LONG: Known = Known(Code::OutOfRange, "etcdserver: too large lease TTL");
pub(crate) const TOO_LARGE: Known = Known(Code::InvalidArgument, "etcdserver: request is too large");
pub(crate) const ANSWER_TOO_LARGE: Known =
    Known(Code::ResourceExhausted, "grpc: trying to send message larger than max (2147483647)");
pub(crate) const TOO_MANY_REQUESTS: Known = Known(Code::ResourceExhausted, "etcdserver: too many requests");
pub(crate) const STOPPED: Known = Known(Code::Unavailable, "etcdserver: server stopped");
pub(crate) const AUTH_NOT_ENABLED: Known = Known(Code::FailedPrecondition, "etcdserver: authentication is not enabled");

/// What etcd has no words for.
pub(crate) const KEY_NOT_TEXT: Known =
    Known(Code::InvalidArgument, "etcdserver: key is not UTF-8 text of at most 4096 bytes, which this server requires");
pub(crate) const ONE_MEMBER: Known =
    Known(Code::Unimplemented, "etcdserver: this server is one member and its cluster cannot be changed");
pub(crate) const NO_USERS: Known =
    Known(Code::Unimplemented, "etcdserver: this server has no users and roles; use client certificates");

impl Known {
    /// The text alone, as a watch's cancel reason has it.
    pub(crate) fn text(self) -> &'static str {
        self.1
    }
}

impl From<Known> for Status {
    fn from(known: Known) -> Self {
        Self::new(known.0, known.1)
    }
}

/// What a failure of the store means to a client.
pub(crate) fn status(error: &store::Error) -> Status {
    match error {
        store::Error::Compacted { .. } => COMPACTED.into(),
        store::Error::Future { .. } => FUTURE.into(),
        store::Error::TooLarge { .. } | store::Error::TransactionTooLarge { .. } => TOO_LARGE.into(),
        store::Error::Full => NO_SPACE.into(),
        store::Error::Closed => STOPPED.into(),
        store::Error::ReadOnly { .. } | store::Error::Unavailable { .. } => {
            Status::unavailable(format!("etcdserver: {error}"))
        }
        store::Error::Conflict { .. } | store::Error::NotFound { .. } => Status::internal(error.to_string()),
    }
}
