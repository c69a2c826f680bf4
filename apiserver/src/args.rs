//! The command line, under upstream's names.

mod etcd;
mod ignored;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use clap::ArgAction::Set;
use ipnet::IpNet;
use pki::{Authority, Credential, Profile, TokenSigner, TokenVerifier};
use store::{EmbeddedStore, Store};

use crate::authenticate::{ServiceAccountSettings, TokenFile};
use crate::config::{AdmissionSettings, AuthorizationMode, Config, KubeletClient, Listen};
use crate::front::LimitSettings;
use crate::registry::{self, ServiceRanges};

pub use self::etcd::{EtcdArgs, MediaType};

use self::ignored::Ignored;

/// A smaller range of service addresses is of no use.
const SERVICE_RANGE_BITS_MIN: u8 = 3;

/// Flags of the API server. Upstream's flags that have no effect here are taken with a warning; what upstream does not know is
/// refused.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The address on which members of the cluster reach the server
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// The address to listen on
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// The port to listen on
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// Where a certificate is made when none is given
    #[arg(long, default_value = "/var/run/kubernetes")]
    pub cert_dir: PathBuf,
    /// The serving certificate
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// Client certificates come from these authorities
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Serve requests without credentials, as system:anonymous
    #[arg(long, default_value_t = true, action = Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub anonymous_auth: bool,
    /// Believe bootstrap tokens
    #[arg(long, default_value_t = false, action = Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_bootstrap_token_auth: bool,
    /// Static tokens: token,user,uid,"groups"
    #[arg(long)]
    pub token_auth_file: Option<PathBuf>,
    /// Who issues service-account tokens; the first one signs
    #[arg(long)]
    pub service_account_issuer: Vec<String>,
    /// Keys that service-account tokens are checked with
    #[arg(long)]
    pub service_account_key_file: Vec<PathBuf>,
    /// The key that signs service-account tokens
    #[arg(long)]
    pub service_account_signing_key_file: Option<PathBuf>,
    /// Where the keys are published, when not at the issuer
    #[arg(long)]
    pub service_account_jwks_uri: Option<String>,
    /// The longest lifetime of a token
    #[arg(long, value_parser = duration, default_value = "0")]
    pub service_account_max_token_expiration: Duration,
    /// Let a pod's token live for a year, and warn after an hour
    #[arg(long, default_value_t = true, action = Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub service_account_extend_token_expiration: bool,
    /// The server's names in tokens; the issuers when none is given
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Vec<String>,
    /// Who decides, in order: Node, RBAC, AlwaysAllow, AlwaysDeny
    #[arg(long, value_delimiter = ',', value_parser = mode)]
    pub authorization_mode: Vec<AuthorizationMode>,
    /// Admission plug-ins to run beside the default ones
    #[arg(long, value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    /// Admission plug-ins not to run
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    /// How long a pod stays on a node that is not ready
    #[arg(long, default_value_t = 300)]
    pub default_not_ready_toleration_seconds: i64,
    /// How long a pod stays on a node that cannot be reached
    #[arg(long, default_value_t = 300)]
    pub default_unreachable_toleration_seconds: i64,
    /// Reads at once
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// Writes at once
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// How long events are kept
    #[arg(long, value_parser = duration, default_value = "1h")]
    pub event_ttl: Duration,
    /// Where service addresses come from: a range, or one of each family, the default one first
    #[arg(long, default_value = "10.96.0.0/16")]
    pub service_cluster_ip_range: String,
    /// Where node ports come from
    #[arg(long, default_value = "30000-32767")]
    pub service_node_port_range: String,
    /// A remote etcd, in place of the embedded store
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// The directory of the embedded store
    #[arg(long, default_value = "/var/lib/ironclad/server/store")]
    pub data_dir: PathBuf,
    /// Shown to kubelets
    #[arg(long)]
    pub kubelet_client_certificate: Option<PathBuf>,
    /// Its key
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    /// Kubelets' serving certificates come from these authorities
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// Which of a node's addresses to use, the best first
    #[arg(long, value_delimiter = ',')]
    pub kubelet_preferred_address_types: Vec<String>,
    /// How long /readyz fails before connections are refused
    #[arg(long, value_parser = duration, default_value = "0")]
    pub shutdown_delay_duration: Duration,
    /// Upstream's flags without effect here
    #[command(flatten)]
    pub ignored: Ignored,
}

/// A flag that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key or certificate file cannot be used.
    #[error("--{flag}")]
    File {
        /// The flag's name.
        flag: &'static str,
        /// What is wrong with it.
        #[source]
        source: pki::Error,
    },
    /// A value does not fit.
    #[error("--{flag}: {reason}")]
    Value {
        /// The flag's name.
        flag: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be read.
    #[error("--{flag}: cannot read {path:?}")]
    Read {
        /// The flag's name.
        flag: &'static str,
        /// Its value.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// etcd cannot be used as it is given.
    #[error("--etcd-servers")]
    Etcd(#[source] store::EtcdOptionsError),
    /// The embedded store cannot be opened.
    #[error("cannot open the store in {directory:?}")]
    Store {
        /// Its directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: store::OpenError,
    },
}

impl Args {
    /// Reads the files that the flags name, opens the store, and makes a serving certificate when none is given.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn into_config(self) -> Result<Config, Error> {
        self.ignored.warn();
        let advertise = self.advertised();
        let service_ips = self.service_ips()?;
        let (service, own) = (service_ips.first_address(), advertise.ip());
        if service.is_ipv4() != own.is_ipv4() {
            // The kubernetes service would lead to endpoints of another family.
            let reason = format!("the family of {service} must be that of the advertised address {own}");
            return Err(Error::Value { flag: "service-cluster-ip-range", reason });
        }
        let registry = registry::Config { service_ips, node_ports: self.node_ports()?, event_ttl: self.event_ttl };
        let mut authorization = self.authorization_mode.clone();
        if authorization.is_empty() {
            // Upstream's default is AlwaysAllow; nothing here is open unless somebody asks for it.
            authorization.extend([AuthorizationMode::Node, AuthorizationMode::Rbac]);
        }
        Ok(Config {
            listen: vec![Listen::Address(SocketAddr::new(self.bind_address, self.secure_port))],
            advertise,
            serving: self.serving(advertise.ip(), &registry)?,
            client_authority_pem: read("client-ca-file", self.client_ca_file.as_deref())?,
            store: self.store().await?,
            shares_store: !self.etcd.etcd_servers.is_empty(),
            service_accounts: self.service_accounts()?,
            anonymous: self.anonymous_auth,
            bootstrap_tokens: self.enable_bootstrap_token_auth,
            token_file: self.tokens()?,
            authorization,
            admission: AdmissionSettings {
                enabled: self.enable_admission_plugins.clone(),
                disabled: self.disable_admission_plugins.clone(),
                not_ready_seconds: self.default_not_ready_toleration_seconds,
                unreachable_seconds: self.default_unreachable_toleration_seconds,
            },
            limits: LimitSettings { reads: self.max_requests_inflight, writes: self.max_mutating_requests_inflight },
            registry,
            kubelet: self.kubelet()?,
            shutdown_delay: self.shutdown_delay_duration,
        })
    }

    /// The given address, else the bound one, else the one this host would use to reach others: nobody else reaches what
    /// is bound to a loopback address, and nobody at all an unspecified one. Upstream refuses to start on a host that has
    /// no way out; here it advertises the loopback address, which is good for a server that serves this host alone.
    fn advertised(&self) -> SocketAddr {
        let is_specified = |address: &IpAddr| !address.is_unspecified();
        let bound = Some(self.bind_address).filter(|address| is_specified(address) && !address.is_loopback());
        let address = self.advertise_address.filter(is_specified).or(bound).or_else(outward_address);
        SocketAddr::new(address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), self.secure_port)
    }

    fn service_ips(&self) -> Result<ServiceRanges, Error> {
        let wrong = |reason| Error::Value { flag: "service-cluster-ip-range", reason };
        let parse = |text: &str| text.parse::<IpNet>().map_err(|_| wrong(format!("{text:?} is no range of addresses")));
        let ranges = self.service_cluster_ip_range.split(',').map(parse).collect::<Result<Vec<_>, _>>()?;
        if ranges.iter().any(|range| range.max_prefix_len() - range.prefix_len() < SERVICE_RANGE_BITS_MIN) {
            return Err(wrong("a range must have 8 addresses at least".to_owned()));
        }
        match ranges[..] {
            [range] => Ok(range.into()),
            [first, second] => ServiceRanges::dual(first, second)
                .ok_or_else(|| wrong("the two ranges must be of different IP families".to_owned())),
            _ => Err(wrong("there may be two ranges at most".to_owned())),
        }
    }

    fn node_ports(&self) -> Result<std::ops::RangeInclusive<u16>, Error> {
        let text = &self.service_node_port_range;
        let wrong =
            || Error::Value { flag: "service-node-port-range", reason: format!("{text:?} is no range of ports") };
        let (first, last) = text.split_once(['-', '+']).ok_or_else(wrong)?;
        let first: u16 = first.parse().map_err(|_| wrong())?;
        let last: u16 = last.parse().map_err(|_| wrong())?;
        let range = first..=if text.contains('+') { first.saturating_add(last) } else { last };
        if range.is_empty() { Err(wrong()) } else { Ok(range) }
    }

    fn serving(&self, address: IpAddr, registry: &registry::Config) -> Result<Credential, Error> {
        if let (Some(certificate), Some(key)) = (&self.tls_cert_file, &self.tls_private_key_file) {
            return Credential::load(certificate, key).map_err(file("tls-cert-file"));
        }
        let (certificate, key) = (self.cert_dir.join("apiserver.crt"), self.cert_dir.join("apiserver.key"));
        if certificate.exists() && key.exists() {
            return Credential::load(&certificate, &key).map_err(file("cert-dir"));
        }
        let mut names = vec![
            address.to_string(),
            registry.service_ips.first_address().to_string(),
            IpAddr::V4(Ipv4Addr::LOCALHOST).to_string(),
            "localhost".to_owned(),
            "kubernetes".to_owned(),
            "kubernetes.default".to_owned(),
            "kubernetes.default.svc".to_owned(),
            "kubernetes.default.svc.cluster.local".to_owned(),
        ];
        if !self.bind_address.is_unspecified() {
            names.push(self.bind_address.to_string());
        }
        let made = self_signed(&names).map_err(file("cert-dir"))?;
        std::fs::create_dir_all(&self.cert_dir).map_err(|source| Error::Read {
            flag: "cert-dir",
            path: self.cert_dir.clone(),
            source,
        })?;
        made.store(&certificate, &key).map_err(file("cert-dir"))?;
        Ok(made)
    }

    async fn store(&self) -> Result<Arc<dyn Store>, Error> {
        match self.etcd.store().await? {
            Some(store) => Ok(store),
            None => open_store(&self.data_dir),
        }
    }

    fn service_accounts(&self) -> Result<ServiceAccountSettings, Error> {
        let signer = match &self.service_account_signing_key_file {
            Some(path) => TokenSigner::load(path).map_err(file("service-account-signing-key-file"))?,
            None => TokenSigner::create().map_err(file("service-account-signing-key-file"))?.0,
        };
        let mut verifier = signer.verifier();
        for path in &self.service_account_key_file {
            verifier = verifier.and(TokenVerifier::load(path).map_err(file("service-account-key-file"))?);
        }
        let mut issuers = self.service_account_issuer.clone();
        if issuers.is_empty() {
            issuers.push("https://kubernetes.default.svc.cluster.local".to_owned());
        }
        Ok(ServiceAccountSettings {
            issuers,
            audiences: self.api_audiences.clone(),
            signer,
            verifier,
            jwks_uri: self.service_account_jwks_uri.clone(),
            extend_expiration: self.service_account_extend_token_expiration,
            max_seconds: i64::try_from(self.service_account_max_token_expiration.as_secs()).unwrap_or(i64::MAX),
        })
    }

    fn tokens(&self) -> Result<Option<TokenFile>, Error> {
        let Some(text) = read("token-auth-file", self.token_auth_file.as_deref())? else {
            return Ok(None);
        };
        let wrong = |error: crate::authenticate::TokenFileError| Error::Value {
            flag: "token-auth-file",
            reason: error.to_string(),
        };
        TokenFile::parse(&text).map(Some).map_err(wrong)
    }

    fn kubelet(&self) -> Result<KubeletClient, Error> {
        let pair = self.kubelet_client_certificate.as_ref().zip(self.kubelet_client_key.as_ref());
        let credential = pair.map(|(certificate, key)| Credential::load(certificate, key)).transpose();
        Ok(KubeletClient {
            credential: credential.map_err(file("kubelet-client-certificate"))?,
            authority_pem: read("kubelet-certificate-authority", self.kubelet_certificate_authority.as_deref())?,
            address_types: self.kubelet_preferred_address_types.clone(),
        })
    }
}

/// Opens the embedded store of a directory.
///
/// # Errors
/// See [`Error::Store`].
pub fn open_store(directory: &Path) -> Result<Arc<dyn Store>, Error> {
    let now = u64::try_from(daemon::clock::now().as_millisecond()).unwrap_or_default();
    let options = store::Options::new(UNIX_EPOCH + Duration::from_millis(now));
    let opened = EmbeddedStore::open(directory, options);
    let opened = opened.map_err(|source| Error::Store { directory: directory.to_owned(), source })?;
    Ok(Arc::new(opened))
}

/// A certificate and its authority, whose key is thrown away. The authority is part of the chain: a client that takes the
/// written file as its trust anchor needs it.
fn self_signed(names: &[String]) -> Result<Credential, pki::Error> {
    let now = daemon::clock::now();
    let authority = Authority::create("kube-apiserver-self-signed", now)?;
    let made = authority.issue(&Profile::server("kube-apiserver", names.iter().map(String::as_str)), now)?;
    let chain = format!("{}{}", made.certificate_pem(), authority.certificate_pem());
    Credential::from_pem(chain, made.key_pem())
}

/// Which of this host's addresses leads outward. Nothing is sent: connecting a UDP socket only picks a route.
fn outward_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

fn read(flag: &'static str, path: Option<&Path>) -> Result<Option<String>, Error> {
    let Some(path) = path else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(path);
    text.map(Some).map_err(|source| Error::Read { flag, path: path.to_owned(), source })
}

fn file(flag: &'static str) -> impl FnOnce(pki::Error) -> Error {
    move |source| Error::File { flag, source }
}

fn duration(text: &str) -> Result<Duration, String> {
    api::time::go_duration(text).ok_or_else(|| format!("{text:?} is no duration such as 1h30m"))
}

fn mode(text: &str) -> Result<AuthorizationMode, String> {
    match text {
        "Node" => Ok(AuthorizationMode::Node),
        "RBAC" => Ok(AuthorizationMode::Rbac),
        "AlwaysAllow" => Ok(AuthorizationMode::AlwaysAllow),
        "AlwaysDeny" => Ok(AuthorizationMode::AlwaysDeny),
        other => Err(format!("{other:?} is not a mode that is supported: Node, RBAC, AlwaysAllow, AlwaysDeny")),
    }
}

#[cfg(test)]
mod tests;
