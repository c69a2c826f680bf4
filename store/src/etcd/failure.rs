//! What a failed call says about whether anything was done.

use std::error::Error as _;
use std::sync::Arc;

use tonic::Code;

use crate::contract::Error;

/// Why a call gave no answer.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// etcd refused; asking again gives the same.
    Refused(Refusal, Arc<str>),
    /// The request was not taken: nothing was done, and another member may take it.
    NotTaken(Arc<str>),
    /// The request may have been carried out.
    Unknown(Arc<str>),
}

/// What etcd refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Compacted,
    FutureRevision,
    NoSpace,
    TooLarge,
    LeaseGone,
    Other,
}

/// etcd's refusals have no codes of their own: the text is the protocol (etcd's `rpctypes`).
const REFUSALS: &[(&str, Refusal)] = &[
    ("etcdserver: mvcc: required revision has been compacted", Refusal::Compacted),
    ("etcdserver: mvcc: required revision is a future revision", Refusal::FutureRevision),
    ("etcdserver: mvcc: database space exceeded", Refusal::NoSpace),
    ("etcdserver: request is too large", Refusal::TooLarge),
    ("etcdserver: requested lease not found", Refusal::LeaseGone),
];

/// Answers that come before a request is proposed to the cluster.
const NOT_TAKEN: &[&str] = &[
    "etcdserver: no leader",
    "etcdserver: too many requests",
    "etcdserver: rpc not supported for learner",
    "etcdserver: not capable",
    // A member that has no leader to hand it on to, or a leader with too much on its hands.
    "raft proposal dropped",
];

impl Failure {
    pub(super) fn of(error: &etcd_client::Error) -> Self {
        let etcd_client::Error::GRpcStatus(status) = error else {
            return Self::Unknown(error.to_string().into());
        };
        Self::of_status(status)
    }

    fn of_status(status: &tonic::Status) -> Self {
        let text = status.message();
        let reason: Arc<str> = described(status).into();
        if let Some((_, refusal)) = REFUSALS.iter().find(|(known, _)| *known == text) {
            return Self::Refused(*refusal, reason);
        }
        if NOT_TAKEN.contains(&text) || is_connect_error(status) {
            return Self::NotTaken(reason);
        }
        match status.code() {
            Code::Unavailable
            | Code::Unknown
            | Code::Internal
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Aborted
            | Code::DataLoss => Self::Unknown(reason),
            // A message above the client's limit never left.
            Code::OutOfRange if text.contains("message length too large") => Self::Refused(Refusal::TooLarge, reason),
            _ => Self::Refused(Refusal::Other, reason),
        }
    }

    pub(super) fn reason(&self) -> Arc<str> {
        let (Self::Refused(_, reason) | Self::NotTaken(reason) | Self::Unknown(reason)) = self;
        reason.clone()
    }

    /// What a caller is told when nothing better is known.
    pub(super) fn into_error(self, operation: &'static str) -> Error {
        match self {
            Self::Refused(Refusal::NoSpace, _) => Error::Full,
            other => Error::Unavailable { operation, reason: other.reason() },
        }
    }
}

fn described(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source().and_then(|source| source.source());
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// No connection was made, so nothing was sent.
fn is_connect_error(status: &tonic::Status) -> bool {
    let mut source = status.source();
    while let Some(cause) = source {
        if cause.is::<tonic::ConnectError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_surely_not_done_may_be_tried_elsewhere() {
        let of = |code, text: &str| Failure::of_status(&tonic::Status::new(code, text));
        assert!(matches!(of(Code::Unavailable, "etcdserver: no leader"), Failure::NotTaken(_)));
        assert!(matches!(of(Code::Unknown, "raft proposal dropped"), Failure::NotTaken(_)));
        for text in [
            "etcdserver: request timed out",
            "etcdserver: request timed out, possibly due to previous leader failure",
            "etcdserver: leader changed",
            "etcdserver: server stopped",
            "transport error",
        ] {
            assert!(matches!(of(Code::Unavailable, text), Failure::Unknown(_)), "{text}");
        }
        let full = of(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
        assert!(matches!(full.into_error("put"), Error::Full));
        let denied = of(Code::PermissionDenied, "etcdserver: permission denied");
        assert!(matches!(denied, Failure::Refused(Refusal::Other, _)));
        let gone = of(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
        assert!(matches!(gone, Failure::Refused(Refusal::Compacted, _)));
    }

    #[tokio::test]
    async fn a_member_that_does_not_listen_was_not_asked() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let client = etcd_client::Client::from_channel(etcd_client::Channel::Tonic(channel), None).await.unwrap();
        let error = client.kv_client().put("a", "b", None).await.unwrap_err();
        assert!(matches!(Failure::of(&error), Failure::NotTaken(_)), "{error:?}");
    }
}
