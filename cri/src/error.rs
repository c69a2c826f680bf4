//! What can go wrong when talking to the runtime.

use tonic::Code;

/// An answer, or the lack of one, from the runtime.
///
/// `Display` of [`Error::Rpc`] is the form that gRPC clients in Go print, because that text reaches
/// users through events and container states.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("rpc error: code = {} desc = {message}", code_name(*code))]
    Rpc { operation: &'static str, code: Code, message: String },
    #[error("connect to container runtime at {endpoint}")]
    Connect {
        endpoint: String,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("{operation}: the runtime's answer lacks {missing}")]
    Incomplete { operation: &'static str, missing: &'static str },
    #[error("{operation}")]
    Io {
        operation: String,
        #[source]
        source: std::io::Error,
    },
    #[error("image archive: {0}")]
    Archive(String),
    #[error("streaming: {0}")]
    Streaming(String),
}

impl Error {
    pub(crate) fn rpc(operation: &'static str, status: &tonic::Status) -> Self {
        Self::Rpc { operation, code: status.code(), message: status.message().to_owned() }
    }

    pub(crate) fn io(operation: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { operation: operation.into(), source }
    }

    /// The object does not exist (any more).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Rpc { code: Code::NotFound, .. })
    }

    /// The runtime gave up because the deadline passed, for instance of an exec probe.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        matches!(self, Self::Rpc { code: Code::DeadlineExceeded, .. })
    }

    /// The `desc` part alone, without the gRPC wrapping.
    #[must_use]
    pub fn description(&self) -> String {
        match self {
            Self::Rpc { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }
}

/// The names of google.golang.org/grpc/codes.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_as_go_clients_do() {
        let error = Error::rpc("pull image", &tonic::Status::not_found("no such image"));
        assert_eq!(error.to_string(), "rpc error: code = NotFound desc = no such image");
        assert!(error.is_not_found());
    }
}
