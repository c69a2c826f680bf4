//! Durable puts through etcd's protocol: `ironclad etcd` and etcd, with the same generator. Both answer a put when it
//! is on the disk: etcd with its default of an fsync for every batch, ours with the only mode it has.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use etcd_client::{Client, KvClient};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    compare::{Sample, Unit},
    process,
    report::percentile,
    server::Process,
};

const CLIENTS: [usize; 3] = [1, 100, 1_000];
/// One client more than this opens one more connection.
const CLIENTS_A_CONNECTION: usize = 25;
const VALUE_BYTES: usize = 1024;
/// Keys are written again and again.
const KEYS: usize = 20_000;
/// More than any row reaches in its time.
const PUTS_MAX: usize = 2_000_000;
const READY_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A server of etcd's protocol, in a directory of its own.
struct Store {
    process: Process,
    url: String,
    _folder: TempDir,
}

/// Starts one, and puts with some, many and very many clients.
pub(crate) async fn sample(program: &Path, is_ours: bool, limit: Duration) -> Result<Sample> {
    let store = Store::start(program, is_ours).await?;
    let mut sample = Sample::default();
    for clients in CLIENTS {
        let (mut latencies, seconds, cpu) = puts(&store, clients, limit).await?;
        let done = latencies.len() as f64;
        let what = format!("durable puts of 1 KB, {clients} clients");
        sample.add(format!("{what}: rate"), Unit::PerSecond, done / seconds);
        sample.add(format!("{what}: p50"), Unit::Milliseconds, percentile(&mut latencies, 0.5) * 1e3);
        sample.add(format!("{what}: p99"), Unit::Milliseconds, percentile(&mut latencies, 0.99) * 1e3);
        sample.add(format!("{what}: CPU a put"), Unit::Microseconds, cpu * 1e6 / done);
    }
    Ok(sample)
}

impl Store {
    async fn start(program: &Path, is_ours: bool) -> Result<Self> {
        // Not on a memory file system: puts have to wait for a disk.
        let folder = tempfile::Builder::new().prefix("ironclad-bench-").tempdir_in("/var/tmp")?;
        let [client, peer] = [free_url()?, free_url()?];
        let mut command = match is_ours {
            true => Command::new(program),
            false => Command::new(testkit::upstream::program("etcd")?),
        };
        if is_ours {
            command.arg("etcd");
        } else {
            command.args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")]);
            command.args([format!("--initial-cluster=default={peer}"), "--log-level=warn".to_owned()]);
        }
        command
            .arg(format!("--data-dir={}", folder.path().join("data").display()))
            .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log"))?);
        let process = Process(command.spawn()?);
        let store = Self { process, url: client, _folder: folder };
        store.wait().await.context("the store is not ready")?;
        Ok(store)
    }

    async fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            match self.client().await {
                Ok(mut client) => match client.put("ready", "", None).await {
                    Ok(_) => return Ok(()),
                    Err(error) if Instant::now() > deadline => return Err(error.into()),
                    Err(_) => tokio::time::sleep(POLL).await,
                },
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn client(&self) -> Result<KvClient> {
        Ok(Client::connect([&self.url], None).await?.kv_client())
    }
}

/// Every put's latency, and how many seconds of the wall and of the server's processors they took.
async fn puts(store: &Store, clients: usize, limit: Duration) -> Result<(Vec<f64>, f64, f64)> {
    let mut connections = Vec::new();
    for _ in 0..clients.div_ceil(CLIENTS_A_CONNECTION) {
        connections.push(store.client().await?);
    }
    let pids = [store.process.0.id()];
    let next = Arc::new(AtomicUsize::new(0));
    let (started, used) = (Instant::now(), process::seconds(&pids));
    let mut workers = JoinSet::new();
    for n in 0..clients {
        let (client, next) = (connections[n % connections.len()].clone(), next.clone());
        workers.spawn(put_until(client, next, started + limit));
    }
    let mut latencies = Vec::new();
    while let Some(share) = workers.join_next().await {
        latencies.extend(share??);
    }
    Ok((latencies, started.elapsed().as_secs_f64(), process::seconds(&pids) - used))
}

async fn put_until(mut client: KvClient, next: Arc<AtomicUsize>, until: Instant) -> Result<Vec<f64>> {
    let mut latencies = Vec::new();
    let value = vec![b'x'; VALUE_BYTES];
    while Instant::now() < until {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= PUTS_MAX {
            break;
        }
        let key = format!("/registry/configmaps/bench/map-{:06}", n % KEYS);
        let sent = Instant::now();
        client.put(key, value.clone(), None).await?;
        latencies.push(sent.elapsed().as_secs_f64());
    }
    Ok(latencies)
}

fn free_url() -> Result<String> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    Ok(format!("http://127.0.0.1:{port}"))
}
