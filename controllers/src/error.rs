//! What can go wrong in a controller.

use std::fmt::Display;

/// A controller's error. The queue tries again; it ends nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error("cannot {operation} {object}")]
    Api {
        /// Verb and kind, such as `create pod`.
        operation: &'static str,
        /// Which one.
        object: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// `--controllers` names one that does not exist.
    #[error("no controller is called {name:?}")]
    UnknownController {
        /// As given.
        name: String,
    },
    /// A flag's file cannot be used.
    #[error("cannot read {path}")]
    File {
        /// As given.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("cannot use the signing certificate and key")]
    Signing(#[source] pki::Error),
    /// A token cannot be made.
    #[error("cannot make a token for {object}")]
    Token {
        /// The secret that is to hold it.
        object: String,
        /// Why.
        #[source]
        source: pki::Error,
    },
    /// The key that signs tokens cannot be used.
    #[error("cannot use the key of service accounts")]
    ServiceAccountKey(#[source] pki::Error),
    /// A flag's value makes no sense.
    #[error("invalid value {value:?} for --{flag}: {reason}")]
    Flag {
        /// Without dashes.
        flag: &'static str,
        /// As given.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// An object's selector cannot be read.
    #[error("invalid selector of {object}: {reason}")]
    Selector {
        /// Whose.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// Work is left that no event will announce.
    #[error("{0}")]
    Unfinished(String),
}

impl Error {
    /// The message of the server, or of this error when no server answered: what upstream puts into conditions.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Api { source: kube::Error::Api(status), .. } => status.message.clone(),
            Self::Api { source, .. } => source.to_string(),
            other => other.to_string(),
        }
    }

    pub(crate) fn status_code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => status_code(source),
            _ => None,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.status_code() == Some(404)
    }

    /// The server refused because the namespace is being deleted.
    pub(crate) fn is_namespace_terminating(&self) -> bool {
        matches!(self, Self::Api { source, .. } if is_namespace_terminating(source))
    }
}

pub(crate) fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

pub(crate) fn is_namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Names what was tried in an error.
pub(crate) trait During<T> {
    fn during(self, operation: &'static str, object: impl Display) -> Result<T, Error>;
}

impl<T> During<T> for kube::Result<T> {
    fn during(self, operation: &'static str, object: impl Display) -> Result<T, Error> {
        self.map_err(|source| Error::Api { operation, object: object.to_string(), source })
    }
}

/// Leaves out failures that mean that there is nothing left to do.
pub(crate) trait Tolerate<T> {
    /// `None` when the object does not exist.
    fn found(self) -> Result<Option<T>, Error>;
}

impl<T> Tolerate<T> for Result<T, Error> {
    fn found(self) -> Result<Option<T>, Error> {
        match self {
            Err(error) if error.is_not_found() => Ok(None),
            done => done.map(Some),
        }
    }
}
