//! Many watchers of one collection while it grows: who gets every event, and how fast.

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
use http_body_util::BodyExt as _;
use tokio::{task::JoinSet, time::timeout_at};

use crate::{
    connection::{Connection, Target},
    load::{self, Load},
    objects, process,
    report::Table,
    requests,
};

const WATCHERS: usize = 100;
const CREATES: usize = 3_000;
const CREATES_IN_FLIGHT: usize = 100;
/// Who has not got everything by then is counted as behind.
const DEADLINE: Duration = Duration::from_secs(60);

/// Each watcher has a connection of its own, as programs have.
pub(crate) async fn measure(target: &Target, pids: &[u32]) -> Result<()> {
    let mut connection = target.connect().await?;
    requests::prepare(&mut connection).await?;
    let delivered = Arc::new(AtomicUsize::new(0));
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let mut connection = target.connect().await?;
        let path = format!("{}?watch=1&timeoutSeconds=120", requests::path("configmaps"));
        let body = connection.open(Method::GET, &path, Bytes::new()).await?.into_body();
        watchers.spawn(follow(connection, body, delivered.clone()));
    }
    let columns = ["events", "complete", "cut off", "behind", "events/s", "server CPU us/event", "create/s"];
    let title = format!("{WATCHERS} watchers x {CREATES} creates of 1 KB (budget: 0 cut off, 200,000 events/s)");
    let mut table = Table::new(&title, &columns);
    let (started, used) = (Instant::now(), process::seconds(pids));
    let make = requests::create("configmaps", "watched", objects::config_map);
    let load = Load { in_flight: CREATES_IN_FLIGHT, count: CREATES, limit: DEADLINE, make };
    let created = load::run(target, pids, &load).await?;
    let (mut complete, mut cut_off, mut behind, mut last) = (0, 0, 0, started);
    while let Some(end) = watchers.join_next().await {
        match end? {
            End::Complete(at) => (complete, last) = (complete + 1, last.max(at)),
            End::CutOff => cut_off += 1,
            End::Behind => behind += 1,
        }
    }
    let events = delivered.load(Ordering::Relaxed);
    let wall = last.duration_since(started).as_secs_f64();
    let cpu = process::seconds(pids) - used;
    let cells = [
        events.to_string(),
        complete.to_string(),
        cut_off.to_string(),
        behind.to_string(),
        format!("{:.0}", events as f64 / wall),
        format!("{:.1}", cpu * 1e6 / events as f64),
        format!("{:.0}", created.rate()),
    ];
    table.row("from the first create to the last event", &cells);
    table.print();
    requests::clean(&mut connection).await
}

enum End {
    Complete(Instant),
    CutOff,
    Behind,
}

/// Counts lines: an event is one. What was there before the watch comes first, and is nothing here.
async fn follow(_connection: Connection, mut body: hyper::body::Incoming, delivered: Arc<AtomicUsize>) -> End {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let mut events = 0;
    while events < CREATES {
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => return End::Behind,
            Ok(Some(Ok(frame))) => frame,
            Ok(_) => return End::CutOff,
        };
        let lines = frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
        delivered.fetch_add(lines, Ordering::Relaxed);
        events += lines;
    }
    End::Complete(Instant::now())
}
