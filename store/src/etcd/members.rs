//! The members of a cluster, and which one is asked.
//!
//! All requests go to one member until it fails, or until there is a sign that its answer will not come. A read goes on
//! with the next member. A write does so when it certainly was not taken. One whose answer was lost may have been carried
//! out, or may be yet: it is asked for again only when it can be carried out once at most, however often it arrives
//! ([`Again`]), and when the second attempt is refused then, nobody knows whether the first was carried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{
    Channel, Client, ConnectOptions, GetOptions, KvClient, LeaseClient, MaintenanceClient, TxnResponse, WatchClient,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::failure::Failure;
use super::options::{EtcdOptions, EtcdOptionsError, Layout};
use super::signs::{ASK_EVERY, Answer, GRACE, Signs, Waited};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one member is waited for before another one is asked.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How long a read tries all of them.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a write is waited for. etcd itself gives up after about seven seconds.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long members may take to answer when all of them are asked for signs.
const SIGN_TIMEOUT: Duration = Duration::from_millis(500);
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

/// Whether a write may be asked for again when nobody knows what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// It expects a revision that is gone for good once the write, or any other, has been carried out. So of all
    /// attempts one is carried out at most, whenever they arrive.
    Harmless,
    /// It may be carried out a second time, after something else happened.
    Wrong,
}

/// All of them.
pub(super) struct Members {
    all: Vec<Arc<Member>>,
    current: AtomicUsize,
    signs: Signs,
    /// What is asked for when only a sign of life is wanted.
    probe: String,
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
        let probe = Layout::new(&options.prefix).probe();
        Ok(Self { all, current: AtomicUsize::new(0), signs: Signs::default(), probe })
    }

    /// The one that is asked now, and its place.
    pub(super) fn current(&self) -> (usize, Arc<Member>) {
        let at = self.current.load(Ordering::Relaxed) % self.all.len();
        (at, self.all[at].clone())
    }

    pub(super) fn signs(&self) -> &Signs {
        &self.signs
    }

    /// Asks the next one from now on, unless that has been decided already.
    pub(super) fn leave(&self, at: usize) {
        self.leave_for(at, (at + 1) % self.all.len());
    }

    fn leave_for(&self, at: usize, next: usize) {
        if next != at && self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::info!(from = self.all[at].url, to = self.all[next].url, "asking another etcd member");
        }
    }

    /// Asks all members for signs, whenever somebody waits for longer than usual. For ever.
    pub(super) async fn watch_signs(self: Arc<Self>) {
        loop {
            self.signs.wanted.notified().await;
            self.ask_all().await;
            sleep(ASK_EVERY).await;
        }
    }

    /// Asks all members for a linearizable read, which only a member with a leader answers.
    async fn ask_all(&self) {
        let mut asked = JoinSet::new();
        for (at, member) in self.all.iter().cloned().enumerate() {
            let probe = self.probe.clone();
            asked.spawn(async move { (at, member.kv().get(probe, Some(GetOptions::new().with_keys_only())).await) });
        }
        let (current, _) = self.current();
        let (mut first, mut until) = (None, Instant::now() + SIGN_TIMEOUT);
        while let Ok(Some(answer)) = timeout_at(until, asked.join_next()).await {
            let Ok((at, Ok(answer))) = answer else { continue };
            self.signs.note(&answer);
            self.signs.heard(at);
            if at == current {
                return;
            }
            if first.is_none() {
                (first, until) = (Some(at), Instant::now() + GRACE);
            }
        }
        if let Some(first) = first {
            self.leave_for(current, first);
            self.signs.note_round(Some(current));
        }
    }

    /// Asks something that may be asked twice.
    pub(super) async fn read<T, F, Fut>(&self, ask: F) -> Result<T, Failure>
    where
        T: Answer,
        F: Fn(Arc<Member>) -> Fut,
        Fut: Future<Output = Result<T, etcd_client::Error>>,
    {
        let deadline = Instant::now() + READ_TIMEOUT;
        for attempt in 1.. {
            let failure = match self.ask(Instant::now() + SILENCE_MAX, &ask).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if matches!(failure, Failure::Refused(..)) || Instant::now() >= deadline {
                return Err(failure);
            }
            self.pause(attempt).await;
        }
        unreachable!("the deadline ends the loop")
    }

    /// Asks for something that must not be done twice.
    pub(super) async fn write<F, Fut>(&self, again: Again, ask: F) -> Result<TxnResponse, Failure>
    where
        F: Fn(Arc<Member>) -> Fut,
        Fut: Future<Output = Result<TxnResponse, etcd_client::Error>>,
    {
        let deadline = Instant::now() + WRITE_TIMEOUT;
        // Why nobody knows what came of an earlier attempt.
        let mut doubt = None;
        for attempt in 1.. {
            let failure = match (self.ask(deadline, &ask).await, &doubt) {
                // What refuses this attempt may be that an earlier one was carried out.
                (Ok(answer), Some(reason)) if !answer.succeeded() => return Err(unknown(reason)),
                (Ok(answer), _) => return Ok(answer),
                (Err(Failure::Refused(..)), Some(reason)) => return Err(unknown(reason)),
                (Err(failure), _) => failure,
            };
            match &failure {
                Failure::NotTaken(_) => {}
                Failure::Unknown(reason) if again == Again::Harmless => doubt = Some(reason.clone()),
                Failure::Unknown(_) | Failure::Refused(..) => return Err(failure),
            }
            if Instant::now() >= deadline {
                return Err(doubt.map_or(failure, |reason| unknown(&reason)));
            }
            self.pause(attempt).await;
        }
        unreachable!("the deadline ends the loop")
    }

    /// Asks the present member once. When it does not answer, another one is asked from now on.
    async fn ask<T, F, Fut>(&self, until: Instant, ask: &F) -> Result<T, Failure>
    where
        T: Answer,
        F: Fn(Arc<Member>) -> Fut,
        Fut: Future<Output = Result<T, etcd_client::Error>>,
    {
        let (at, member) = self.current();
        let failure = match self.signs.wait(self.signs.sent(at), until, ask(member.clone())).await {
            Waited::Answered(Ok(answer)) => {
                self.signs.note(&answer);
                return Ok(answer);
            }
            Waited::Answered(Err(error)) => Failure::of(&error),
            Waited::Silent => Failure::Unknown(silent(&member)),
            // Who is asked next was decided with the sign.
            Waited::Overtaken => return Err(Failure::Unknown(overtaken(&member))),
        };
        if !matches!(failure, Failure::Refused(..)) {
            self.leave(at);
        }
        Err(failure)
    }

    async fn pause(&self, attempt: usize) {
        if attempt.is_multiple_of(self.all.len()) {
            sleep(ROUND_PAUSE).await;
        }
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

fn overtaken(member: &Member) -> Arc<str> {
    format!("etcd member {} did not answer before the cluster had another leader, or left it behind", member.url).into()
}

fn unknown(reason: &Arc<str>) -> Failure {
    Failure::Unknown(format!("an attempt of unknown outcome came before: {reason}").into())
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
