//! Keys, certificates and tokens: everything that proves who somebody is.
//!
//! Constraints, in order:
//! 1. No clock of its own: whoever asks passes `now`, so that issuing and expiry are testable values.
//! 2. Private keys exist in memory and in files of mode 0600, never in a log, an error or a `Debug`.
//! 3. Only ECDSA P-256 keys are made here; keys brought by others may be RSA too, where upstream allows it.
//!
//! Pieces: [`Authority`] signs [`Profile`]s and requests; [`Credential`] is a certificate with its key;
//! [`Certificate`] looks into one; [`Pin`] names an authority by hash; [`TokenSigner`] and [`TokenVerifier`]
//! make and check service-account tokens; [`BootstrapToken`] and [`JoinToken`] let a node in;
//! [`Kubeconfig`] hands a credential to a client; [`tls`] turns all of it into rustls configurations.

mod authority;
mod bootstrap;
mod certificate;
mod error;
mod files;
mod kubeconfig;
mod pin;
mod profile;
mod request;
mod service_account;
pub mod tls;

pub use authority::Authority;
pub use bootstrap::{BootstrapToken, JoinToken};
pub use certificate::{Certificate, Credential};
pub use error::Error;
pub use files::{read, write_private, write_public};
pub use kubeconfig::{Kubeconfig, UserAuth};
pub use pin::Pin;
pub use profile::{Profile, Usage};
pub use request::{CertificateRequest, SignOptions};
pub use service_account::{TokenSigner, TokenVerifier, VerifyError};
