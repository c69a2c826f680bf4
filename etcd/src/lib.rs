//! Etcd's v3 protocol over the embedded store: `ironclad etcd`.
//!
//! Constraints, in order: what an etcd client relies on holds exactly (one revision a transaction, compares before
//! writes, the texts and codes of errors, a watch that neither skips nor repeats); what is not there says so; then speed.
//!
//! ```text
//!  connection ─▶ route: one gRPC method, one function
//!                  ├ kv, lease, maintenance, cluster ─▶ EmbeddedStore::{view, transact}
//!                  └ watch: all watches of one stream in one session ─▶ EmbeddedStore::watch_range
//! ```
//!
//! It is one member without peers: no cluster to change, no leader to lose. What differs from etcd by design: keys are
//! UTF-8 text of at most 4,096 bytes; history lives in memory, bounded in bytes, and after a restart goes back to the
//! last snapshot of the store, so that older revisions count as compacted; `snapshot save` gives a backup for
//! `ironclad restore`, not a bbolt file; there is no authentication by users, only by certificates.

mod args;
mod cluster;
mod errors;
mod kv;
mod lease;
mod maintenance;
pub mod proto;
mod route;
mod serve;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use daemon::{Drain, Tasks};
use store::{EmbeddedStore, Options};
use tokio::sync::Semaphore;
use tonic::Status;

pub use args::{Args, ArgsError, Config, Listen, Tls};
pub use errors::Error;

/// How long connections may take to end once they have been asked to.
const CONNECTIONS_END_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that a request may need.
struct Server {
    store: Arc<EmbeddedStore>,
    name: String,
    data_dir: PathBuf,
    client_urls: Vec<String>,
    progress_interval: Duration,
    request_bytes_max: usize,
    drain: Drain,
    /// Room for requests that may take long.
    apart: Arc<Semaphore>,
    /// Room for snapshots on their way.
    sending: Arc<Semaphore>,
}

/// How many requests that may take long are worked on at one time. Each may hold a large answer.
const APART_MAX: usize = 4;

/// How many snapshots are sent at one time. Each is a file beside the data until its client has read it.
const SENDING_MAX: usize = 2;

impl Server {
    /// Runs what may take long apart from the threads that serve everybody.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&EmbeddedStore) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let room = self.apart.clone().acquire_owned().await.map_err(|_| Status::from(errors::STOPPED))?;
        let store = self.store.clone();
        let worked = tokio::task::spawn_blocking(move || {
            // Held until it is done, even if nobody waits for it any more.
            let _room = room;
            work(&store)
        });
        worked.await.map_err(|error| Status::internal(error.to_string()))
    }
}

/// Serves until the drain starts, then lets open calls end.
pub async fn run(config: Config, drain: Drain) -> Result<(), Error> {
    let now = daemon::clock::now().as_millisecond();
    let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(now).unwrap_or(0));
    let options = Options {
        history: config.history,
        history_bytes_max: config.history_bytes_max,
        value_bytes_max: config.request_bytes_max,
        ..Options::new(now)
    };
    let dir = config.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(&dir, options)).await;
    let store = Arc::new(opened.map_err(Error::Join)?.map_err(Error::Open)?);
    let server = Arc::new(Server {
        store: store.clone(),
        name: config.name,
        data_dir: config.data_dir,
        client_urls: config.client_urls,
        progress_interval: config.progress_interval,
        request_bytes_max: config.request_bytes_max,
        drain: drain.clone(),
        apart: Arc::new(Semaphore::new(APART_MAX)),
        sending: Arc::new(Semaphore::new(SENDING_MAX)),
    });
    let tasks = Tasks::new(drain.clone());
    for listen in config.listen {
        serve::listen(&tasks, server.clone(), listen, config.tls.as_ref()).await?;
    }
    drain.cancelled().await;
    if let Err(error) = tasks.join(CONNECTIONS_END_TIMEOUT).await {
        tracing::warn!(%error, "clients were cut off");
    }
    store.close();
    Ok(())
}

#[cfg(test)]
impl Server {
    /// A server of an empty directory.
    fn empty(dir: &std::path::Path) -> Self {
        let options = Options { segment_bytes: 1 << 20, ..Options::new(UNIX_EPOCH) };
        Self {
            store: Arc::new(EmbeddedStore::open(dir, options).unwrap()),
            name: "default".into(),
            data_dir: dir.to_owned(),
            client_urls: Vec::new(),
            progress_interval: Duration::from_secs(600),
            request_bytes_max: 3 << 19,
            drain: Drain::never(),
            apart: Arc::new(Semaphore::new(APART_MAX)),
            sending: Arc::new(Semaphore::new(SENDING_MAX)),
        }
    }
}
