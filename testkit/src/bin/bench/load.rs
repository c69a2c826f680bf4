//! Requests, some at a time, bounded by count and by time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use http::Method;
use tokio::task::JoinSet;

use crate::{
    connection::{Connection, Target},
    process,
    report::percentile_of_sorted,
};

/// One request more than this in flight opens one more connection: what some clients together would do.
const STREAMS_A_CONNECTION: usize = 25;

/// The request with a number.
pub(crate) type Make = Arc<dyn Fn(usize) -> (Method, String, Bytes) + Send + Sync>;

/// What to send.
pub(crate) struct Load {
    pub(crate) in_flight: usize,
    pub(crate) count: usize,
    pub(crate) limit: Duration,
    pub(crate) make: Make,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) done: usize,
    pub(crate) bytes: usize,
    pub(crate) wall_seconds: f64,
    /// Of the server's processes.
    pub(crate) cpu_seconds: f64,
    /// In order.
    latencies: Vec<f64>,
}

impl Outcome {
    pub(crate) fn cpu_microseconds(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.done as f64
    }

    pub(crate) fn rate(&self) -> f64 {
        self.done as f64 / self.wall_seconds
    }

    /// In seconds.
    pub(crate) fn latency(&self, share: f64) -> f64 {
        percentile_of_sorted(&self.latencies, share)
    }
}

#[derive(Default)]
struct Share {
    bytes: usize,
    latencies: Vec<f64>,
}

/// Sends all of it. The first failure ends it.
pub(crate) async fn run(target: &Target, pids: &[u32], load: &Load) -> Result<Outcome> {
    let mut connections = Vec::new();
    for _ in 0..load.in_flight.div_ceil(STREAMS_A_CONNECTION) {
        connections.push(target.connect().await?);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let (started, used) = (Instant::now(), process::seconds(pids));
    let mut workers = JoinSet::new();
    for n in 0..load.in_flight {
        let connection = connections[n % connections.len()].clone();
        let until = started + load.limit;
        workers.spawn(work(connection, next.clone(), load.count, until, load.make.clone()));
    }
    let mut outcome = Outcome { done: 0, bytes: 0, wall_seconds: 0.0, cpu_seconds: 0.0, latencies: Vec::new() };
    while let Some(share) = workers.join_next().await {
        let share = share??;
        outcome.bytes += share.bytes;
        outcome.latencies.extend(share.latencies);
    }
    outcome.latencies.sort_by(f64::total_cmp);
    outcome.done = outcome.latencies.len();
    outcome.wall_seconds = started.elapsed().as_secs_f64();
    outcome.cpu_seconds = process::seconds(pids) - used;
    Ok(outcome)
}

async fn work(
    mut connection: Connection,
    next: Arc<AtomicUsize>,
    count: usize,
    until: Instant,
    make: Make,
) -> Result<Share> {
    let mut share = Share::default();
    while Instant::now() < until {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= count {
            break;
        }
        let (method, path, body) = make(n);
        let sent = Instant::now();
        share.bytes += connection.count(method, &path, body).await?;
        share.latencies.push(sent.elapsed().as_secs_f64());
    }
    Ok(share)
}
