//! Flags under etcd's names, and what they come to.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

/// Where clients are expected when no flag says it.
const DEFAULT_URL: &str = "http://127.0.0.1:2379";

/// How much history is kept in memory when no client asks for a compaction.
const HISTORY_BYTES_DEFAULT: u64 = 512 << 20;

/// A hundred years.
const FOR_EVER: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Etcd's limit of a request.
const REQUEST_BYTES_DEFAULT: u64 = 3 << 19;

/// Serve etcd's v3 protocol from a directory, as one member without peers.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The member's name
    #[arg(long, default_value = "default")]
    pub name: String,
    /// Where the data lies; made when it does not exist
    #[arg(long)]
    pub data_dir: PathBuf,
    /// Where to listen for clients; several with commas
    #[arg(long, value_delimiter = ',', default_value = DEFAULT_URL)]
    pub listen_client_urls: Vec<String>,
    /// Under which URLs clients find this member, as `member list` tells; those it listens on by default
    #[arg(long, value_delimiter = ',')]
    pub advertise_client_urls: Vec<String>,
    /// Where to listen for those who ask for health and metrics alone, without certificates; several with commas
    #[arg(long, value_delimiter = ',')]
    pub listen_metrics_urls: Vec<String>,
    /// The certificate shown to clients, PEM
    #[arg(long, requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, requires = "cert_file")]
    pub key_file: Option<PathBuf>,
    /// The authorities of clients' certificates, PEM; with them only clients with such a certificate are served
    #[arg(long)]
    pub trusted_ca_file: Option<PathBuf>,
    /// Serve only clients with a certificate of those authorities, as they are named anyway
    #[arg(long, requires = "trusted_ca_file")]
    pub client_cert_auth: bool,
    /// How many hours of history are kept; 0 keeps it until a client compacts or memory for it is used up
    #[arg(long, default_value_t = 0)]
    pub auto_compaction_retention: u64,
    /// The most bytes of replaced and deleted values kept as history
    #[arg(long, default_value_t = HISTORY_BYTES_DEFAULT)]
    pub history_bytes: u64,
    /// The largest request to write that is accepted
    #[arg(long, default_value_t = REQUEST_BYTES_DEFAULT)]
    pub max_request_bytes: u64,
    /// How often watchers that asked for it are told how far they are, in seconds
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    pub watch_progress_notify_interval: u64,
}

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Host and port.
    pub address: String,
    /// Whether with TLS.
    pub secure: bool,
    /// Whether for health and metrics alone.
    pub metrics: bool,
}

/// The files of a serving certificate, and whom to believe.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
    /// The file of the authorities of clients.
    pub client_ca: Option<PathBuf>,
    /// Whether clients without a certificate are turned away.
    pub client_required: bool,
}

/// A server's complete configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) name: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: Vec<Listen>,
    pub(crate) client_urls: Vec<String>,
    pub(crate) tls: Option<Tls>,
    pub(crate) history: Duration,
    pub(crate) history_bytes_max: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) progress_interval: Duration,
}

/// Why flags cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// A URL that is none, or of another kind.
    #[error("cannot listen on {url:?}: expected http://host:port or https://host:port")]
    Url {
        /// As given.
        url: String,
    },
    /// TLS is asked for and cannot be had.
    #[error("{url:?} needs --cert-file and --key-file")]
    NoCertificate {
        /// As given.
        url: String,
    },
}

impl Args {
    /// Checks the flags.
    pub fn config(self) -> Result<Config, ArgsError> {
        let tls = self.cert_file.zip(self.key_file).map(|(certificate, key)| Tls {
            certificate,
            key,
            // As etcd: whoever names authorities wants to know its clients.
            client_required: self.client_cert_auth || self.trusted_ca_file.is_some(),
            client_ca: self.trusted_ca_file,
        });
        let clients = self.listen_client_urls.iter().map(|url| listen(url, false));
        let metrics = self.listen_metrics_urls.iter().map(|url| listen(url, true));
        let listen: Vec<_> = clients.chain(metrics).collect::<Result<_, _>>()?;
        let urls = self.listen_client_urls.iter().chain(&self.listen_metrics_urls);
        let without = listen.iter().zip(urls).find(|(listen, _)| listen.secure && tls.is_none());
        if let Some((_, url)) = without {
            return Err(ArgsError::NoCertificate { url: url.clone() });
        }
        let advertised = self.advertise_client_urls;
        let history = match self.auto_compaction_retention {
            0 => FOR_EVER,
            hours => Duration::from_secs(hours.saturating_mul(3600)),
        };
        Ok(Config {
            name: self.name,
            data_dir: self.data_dir,
            listen,
            client_urls: if advertised.is_empty() { self.listen_client_urls } else { advertised },
            tls,
            history,
            history_bytes_max: usize::try_from(self.history_bytes).unwrap_or(usize::MAX),
            request_bytes_max: usize::try_from(self.max_request_bytes).unwrap_or(usize::MAX),
            progress_interval: Duration::from_secs(self.watch_progress_notify_interval),
        })
    }
}

fn listen(url: &str, metrics: bool) -> Result<Listen, ArgsError> {
    let refused = || ArgsError::Url { url: url.to_owned() };
    let parsed = Url::parse(url).map_err(|_| refused())?;
    let secure = match parsed.scheme() {
        "http" => false,
        "https" => true,
        _ => return Err(refused()),
    };
    let host = parsed.host_str().ok_or_else(refused)?;
    let port = parsed.port_or_known_default().ok_or_else(refused)?;
    Ok(Listen { address: format!("{host}:{port}"), secure, metrics })
}

#[cfg(test)]
mod tests;
