//! Everything a server has to be told, complete.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pki::Credential;
use store::Store;

use crate::authenticate::{ServiceAccountSettings, TokenFile};
use crate::front::LimitSettings;
use crate::registry;

/// What authorizes, in order: `--authorization-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthorizationMode {
    /// Kubelets, by what their pods refer to.
    Node,
    /// Roles.
    Rbac,
    /// Everybody.
    AlwaysAllow,
    /// Nobody.
    AlwaysDeny,
}

/// Where connections come from.
pub enum Listen {
    /// Bind this address.
    Address(SocketAddr),
    /// A socket that somebody else has opened.
    Given(std::net::TcpListener),
}

/// How kubelets are reached.
#[derive(Clone, Debug, Default)]
pub struct KubeletClient {
    /// Shown to kubelets.
    pub credential: Option<Credential>,
    /// Kubelets' serving certificates come from here; None believes any, as upstream's default.
    pub authority_pem: Option<String>,
    /// `--kubelet-preferred-address-types`; upstream's order when empty.
    pub address_types: Vec<String>,
}

/// Which plug-ins run, beside those that are on by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdmissionSettings {
    /// `--enable-admission-plugins`.
    pub enabled: Vec<String>,
    /// `--disable-admission-plugins`.
    pub disabled: Vec<String>,
    /// `--default-not-ready-toleration-seconds`; 300 is upstream's.
    pub not_ready_seconds: i64,
    /// `--default-unreachable-toleration-seconds`; 300 is upstream's.
    pub unreachable_seconds: i64,
}

/// A whole server.
pub struct Config {
    /// Where connections come from; at least one.
    pub listen: Vec<Listen>,
    /// Where pods reach the server, for the `kubernetes` service's endpoints.
    pub advertise: SocketAddr,
    /// What the server shows; the chain should hold its authority, for joining nodes that know its hash.
    pub serving: Credential,
    /// Client certificates come from here; None asks for none.
    pub client_authority_pem: Option<String>,
    /// Where objects are kept.
    pub store: Arc<dyn Store>,
    /// Other servers may have the same store.
    pub shares_store: bool,
    /// Service-account tokens.
    pub service_accounts: ServiceAccountSettings,
    /// `--anonymous-auth`.
    pub anonymous: bool,
    /// `--enable-bootstrap-token-auth`.
    pub bootstrap_tokens: bool,
    /// `--token-auth-file`.
    pub token_file: Option<TokenFile>,
    /// In order.
    pub authorization: Vec<AuthorizationMode>,
    /// Which plug-ins run.
    pub admission: AdmissionSettings,
    /// Requests at once.
    pub limits: LimitSettings,
    /// Service IPs and ports, events.
    pub registry: registry::Config,
    /// How kubelets are reached.
    pub kubelet: KubeletClient,
    /// How long `/readyz` fails before connections are refused, after the drain has started.
    pub shutdown_delay: std::time::Duration,
}

impl Config {
    /// The first address of the service range, which the `kubernetes` service has.
    pub(crate) fn service_address(&self) -> IpAddr {
        self.registry.service_ips.first_address()
    }
}
