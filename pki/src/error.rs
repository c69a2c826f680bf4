//! What can go wrong with keys, certificates and tokens.

use std::path::PathBuf;

/// A failed operation on a key, a certificate or a token file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The content of a file is not what it should be.
    #[error("{path} is not usable", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<Error>,
    },
    /// A piece of text or DER is not what it should be.
    #[error("cannot parse {what}: {reason}")]
    Parse {
        /// What was expected.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A key could not be made.
    #[error("cannot generate a key")]
    Generate(#[source] rcgen::Error),
    /// A certificate or a request could not be signed.
    #[error("cannot sign {what} for {subject:?}")]
    Sign {
        /// A certificate or a certificate request.
        what: &'static str,
        /// The common name in it.
        subject: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A subject that the signer cannot express.
    #[error("cannot put {count} organizations into the subject of {subject:?}, at most 2 are supported")]
    Organizations {
        /// The common name.
        subject: String,
        /// How many were asked for.
        count: usize,
    },
    /// A service-account token could not be signed.
    #[error("cannot sign a service account token")]
    SignToken(#[source] jsonwebtoken::errors::Error),
    /// rustls refused a certificate, a key or a set of roots.
    #[error("cannot configure TLS for {what}")]
    Tls {
        /// Server or client.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// rustls refused the set of authorities that client certificates are checked against.
    #[error("cannot verify client certificates with the given authorities")]
    ClientVerifier(#[source] rustls::server::VerifierBuilderError),
}

impl Error {
    pub(crate) fn parse(what: &'static str, reason: impl ToString) -> Self {
        Self::Parse { what, reason: reason.to_string() }
    }

    /// Names the file that the failing content came from.
    pub(crate) fn in_file(self, path: &std::path::Path) -> Self {
        Self::File { path: path.to_owned(), source: Box::new(self) }
    }
}
