//! The API server: HTTP, authentication, authorization, admission, the generic registry, the store.
//!
//! ```text
//! serve (TLS, h2/h1) -> filters (audit id, panic, request info, deadline, authn, impersonation, authz)
//!   -> route: registry (resources) | discovery | openapi | health | metrics | version
//! registry: decode -> convert -> load old -> patch -> default -> admit -> default, prune -> validate -> admission
//!   validate -> guaranteed update -> encode
//! ```
//!
//! Constraints, in order: nothing bypasses the write pipeline; the registry names no kind outside
//! `registry/special`; every list and watch is authorized on its exact resource; only this crate turns an error
//! into an HTTP answer.

mod addresses;
pub mod admission;
pub mod answer;
mod args;
pub mod authenticate;
pub mod authorize;
mod bootstrap;
mod config;
mod connect;
pub mod discovery;
pub mod front;
pub mod health;
pub mod metrics;
pub mod negotiate;
mod node_ports;
pub mod objects;
pub mod openapi;
pub mod registry;
pub mod request;
pub mod reviews;
mod serve;
mod server;
mod storage;
mod version;

pub use args::{Args, Error as ArgsError, EtcdArgs, MediaType, open_store};
pub use config::{AdmissionSettings, AuthorizationMode, Config, KubeletClient, Listen};
pub use serve::InProcess;
pub use server::{Clients, Error, Server, system};

/// Runs a server until the drain.
///
/// # Errors
/// See [`Error`].
pub async fn run(config: Config, drain: daemon::Drain) -> Result<(), Error> {
    Server::start(config, drain).await?.serve().await
}
