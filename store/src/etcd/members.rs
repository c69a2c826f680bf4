//! The members of a cluster, and which one is asked.
//!
//! All requests go to one member until it fails. A read goes on with the next member. A write does so only when
//! it certainly was not taken: one whose answer was lost may have been carried out, and asking again would refuse
//! as a conflict what was done, or do it twice.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions, KvClient, LeaseClient, MaintenanceClient, WatchClient};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::failure::Failure;
use super::options::{EtcdOptions, EtcdOptionsError};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one member is waited for before another one is asked.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How long a read tries all of them.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a write is waited for. etcd itself gives up after about seven seconds.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// After every member was asked in vain.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// How often an unanswered connection is asked for a sign of life, and how long that may take. etcd closes
/// connections of those who ask more often than every five seconds.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(3));
/// What may be on its way to us at once: on a connection, on a stream.
const WINDOW_BYTES: (u32, u32) = (16 << 20, 8 << 20);
/// The largest message taken: a page of the largest values.
pub(super) const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;

/// One member.
pub(super) struct Member {
    url: String,
    kv: KvClient,
    lease: LeaseClient,
    watch: WatchClient,
    maintenance: MaintenanceClient,
}

impl Member {
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn kv(&self) -> KvClient {
        self.kv.clone()
    }

    pub(super) fn lease(&self) -> LeaseClient {
        self.lease.clone()
    }

    pub(super) fn watch(&self) -> WatchClient {
        self.watch.clone()
    }

    pub(super) fn maintenance(&self) -> MaintenanceClient {
        self.maintenance.clone()
    }
}

/// All of them.
pub(super) struct Members {
    all: Vec<Arc<Member>>,
    current: AtomicUsize,
}

impl Members {
    /// Connects when first used.
    pub(super) async fn new(options: &EtcdOptions) -> Result<Self, EtcdOptionsError> {
        let mut all = Vec::new();
        for endpoint in &options.endpoints {
            all.push(Arc::new(member(endpoint, options).await?));
        }
        if all.is_empty() {
            return Err(EtcdOptionsError::NoEndpoint);
        }
        Ok(Self { all, current: AtomicUsize::new(0) })
    }

    /// The one that is asked now, and its place.
    pub(super) fn current(&self) -> (usize, Arc<Member>) {
        let at = self.current.load(Ordering::Relaxed) % self.all.len();
        (at, self.all[at].clone())
    }

    /// Asks the next one from now on, unless that has been decided already.
    pub(super) fn leave(&self, at: usize) {
        let next = (at + 1) % self.all.len();
        if next != at && self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::info!(from = self.all[at].url, to = self.all[next].url, "asking another etcd member");
        }
    }

    /// Asks something that may be asked twice.
    pub(super) async fn read<T, F, Fut>(&self, ask: F) -> Result<T, Failure>
    where
        F: Fn(Arc<Member>) -> Fut,
        Fut: Future<Output = Result<T, etcd_client::Error>>,
    {
        let deadline = Instant::now() + READ_TIMEOUT;
        for attempt in 1.. {
            let (at, member) = self.current();
            let failure = match timeout(SILENCE_MAX, ask(member.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Failure::of(&error),
                Err(_) => Failure::Unknown(silent(&member)),
            };
            if matches!(failure, Failure::Refused(..)) || Instant::now() >= deadline {
                return Err(failure);
            }
            self.leave(at);
            if attempt % self.all.len() == 0 {
                sleep(ROUND_PAUSE).await;
            }
        }
        unreachable!("the deadline ends the loop")
    }

    /// Asks for something that must not be done twice.
    pub(super) async fn write<T, F, Fut>(&self, ask: F) -> Result<T, Failure>
    where
        F: Fn(Arc<Member>) -> Fut,
        Fut: Future<Output = Result<T, etcd_client::Error>>,
    {
        let deadline = Instant::now() + WRITE_TIMEOUT;
        for attempt in 1.. {
            let (at, member) = self.current();
            let mut call = pin!(ask(member.clone()));
            let mut outcome = timeout(SILENCE_MAX, &mut call).await;
            if outcome.is_err() {
                // Others need not wait for this member; this write has to.
                self.leave(at);
                outcome = timeout_at(deadline, call).await;
            }
            let failure = match outcome {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Failure::of(&error),
                Err(_) => Failure::Unknown(silent(&member)),
            };
            if matches!(failure, Failure::Refused(..)) {
                return Err(failure);
            }
            self.leave(at);
            if matches!(failure, Failure::Unknown(_)) || Instant::now() >= deadline {
                return Err(failure);
            }
            if attempt % self.all.len() == 0 {
                sleep(ROUND_PAUSE).await;
            }
        }
        unreachable!("the deadline ends the loop")
    }
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all.iter().map(|member| &member.url)).finish()
    }
}

fn silent(member: &Member) -> Arc<str> {
    format!("etcd member {} does not answer", member.url).into()
}

async fn member(endpoint: &str, options: &EtcdOptions) -> Result<Member, EtcdOptionsError> {
    let url = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
    let wrong = |source| EtcdOptionsError::Endpoint { endpoint: endpoint.to_owned(), source };
    let mut connection = Endpoint::from_shared(url.clone())
        .map_err(wrong)?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .initial_connection_window_size(WINDOW_BYTES.0)
        .initial_stream_window_size(WINDOW_BYTES.1);
    if url.starts_with("https://") {
        let tls = options.tls.as_ref().ok_or_else(|| EtcdOptionsError::NoAuthority { endpoint: url.clone() })?;
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.authority_pem));
        if let Some((certificate, key)) = &tls.identity_pem {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        connection = connection.tls_config(config).map_err(wrong)?;
    }
    let channel = Channel::Tonic(connection.connect_lazy());
    let with_leader = ConnectOptions::new().with_require_leader(true);
    let client = Client::from_channel(channel, Some(with_leader)).await;
    let client = client.expect("nothing is asked before the first request");
    Ok(Member {
        url,
        kv: client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX),
        lease: client.lease_client(),
        watch: client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX),
        maintenance: client.maintenance_client(),
    })
}
