//! Many watchers of one collection while it grows: who gets every event, how fast, and how late.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use tokio::{task::JoinSet, time::timeout_at};

use crate::{
    connection::{Connection, Format, Target},
    events::Events,
    load::{self, Load, Make},
    objects, process,
    report::{Table, milliseconds, percentile},
    requests,
};

const CREATES: usize = 3_000;
const CREATES_IN_FLIGHT: usize = 100;
/// Who has not got everything by then is counted as behind.
const DEADLINE: Duration = Duration::from_secs(60);
/// How many watchers look at the names in their events, to say how late each is. It costs the generator something.
const TIMED: usize = 10;
const PREFIX: &str = "watched";

/// What came of one row.
pub(crate) struct Measured {
    pub(crate) format: Format,
    pub(crate) watchers: usize,
    pub(crate) events: usize,
    pub(crate) complete: usize,
    pub(crate) cut_off: usize,
    pub(crate) behind: usize,
    /// From the first create to the last event of those who got them all.
    pub(crate) wall_seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) creates_a_second: f64,
    /// From a create's being sent to its event: half of them came sooner, and all but one in a hundred.
    pub(crate) delay: [f64; 2],
}

/// When each create was sent, in nanoseconds after the start.
struct Clock {
    started: Instant,
    sent: Vec<AtomicU64>,
}

impl Clock {
    fn new() -> Self {
        Self { started: Instant::now(), sent: (0..CREATES).map(|_| AtomicU64::new(0)).collect() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The same requests, noting when they are made.
    fn noting(self: Arc<Self>, make: Make) -> Make {
        Arc::new(move |n| {
            if let Some(sent) = self.sent.get(n) {
                sent.store(self.now(), Ordering::Relaxed);
            }
            make(n)
        })
    }

    /// How late an event is, in seconds; None when it is not of a create.
    fn delay(&self, event: &[u8]) -> Option<f64> {
        let sent = self.sent.get(objects::number(PREFIX, event)?)?.load(Ordering::Relaxed);
        Some(self.now().saturating_sub(sent) as f64 / 1e9)
    }
}

/// Each watcher has a connection of its own, as programs have.
pub(crate) async fn measure(target: &Target, pids: &[u32], format: Format, count: usize) -> Result<Measured> {
    let mut connection = target.connect().await?;
    requests::prepare(&mut connection).await?;
    let measured = watched(target, pids, format, count).await;
    requests::clean(&mut connection).await?;
    measured
}

async fn watched(target: &Target, pids: &[u32], format: Format, count: usize) -> Result<Measured> {
    let delivered = Arc::new(AtomicUsize::new(0));
    let clock = Arc::new(Clock::new());
    let mut watchers = JoinSet::new();
    let speaking = target.speaking(format);
    for n in 0..count {
        let mut connection = speaking.connect().await?;
        let path = format!("{}?watch=1&timeoutSeconds=240", requests::path("configmaps"));
        let body = connection.open(Method::GET, &path, Bytes::new()).await?.into_body();
        let timing = (n < TIMED).then(|| clock.clone());
        let follower = Follower { _connection: connection, delivered: delivered.clone(), timing };
        watchers.spawn(follower.follow(body, format));
    }
    let (started, used) = (Instant::now(), process::seconds(pids));
    let make = requests::create("configmaps", PREFIX, objects::config_map, Format::Json)?;
    let make = clock.clone().noting(make);
    let load = Load { in_flight: CREATES_IN_FLIGHT, count: CREATES, limit: DEADLINE, make };
    let created = load::run(target, pids, &load).await?;
    let (mut complete, mut cut_off, mut behind, mut last) = (0, 0, 0, started);
    let mut delays = Vec::new();
    while let Some(end) = watchers.join_next().await {
        let (end, late) = end?;
        delays.extend(late);
        match end {
            End::Complete(at) => (complete, last) = (complete + 1, last.max(at)),
            End::CutOff(at) => (cut_off, last) = (cut_off + 1, last.max(at)),
            End::Behind => (behind, last) = (behind + 1, Instant::now()),
        }
    }
    Ok(Measured {
        format,
        watchers: count,
        events: delivered.load(Ordering::Relaxed),
        complete,
        cut_off,
        behind,
        wall_seconds: last.duration_since(started).as_secs_f64(),
        cpu_seconds: process::seconds(pids) - used,
        creates_a_second: created.rate(),
        delay: [percentile(&mut delays, 0.5), percentile(&mut delays, 0.99)],
    })
}

impl Measured {
    pub(crate) fn events_a_second(&self) -> f64 {
        self.events as f64 / self.wall_seconds
    }

    pub(crate) fn cpu_microseconds(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.events as f64
    }

    /// What the row is called.
    pub(crate) fn what(&self) -> String {
        format!("{} watchers x {CREATES} creates of 1 KB", self.watchers)
    }
}

/// Prints rows of one server.
pub(crate) fn print(rows: &[Measured]) {
    let columns = [
        "encoding",
        "events",
        "complete",
        "cut off",
        "behind",
        "events/s",
        "server CPU us/event",
        "delay p50",
        "delay p99",
        "create/s",
    ];
    let mut table = Table::new("watchers while a collection grows (budget: 0 cut off, 200,000 events/s)", &columns);
    for row in rows {
        let cells = [
            row.format.name().to_owned(),
            row.events.to_string(),
            row.complete.to_string(),
            row.cut_off.to_string(),
            row.behind.to_string(),
            format!("{:.0}", row.events_a_second()),
            format!("{:.1}", row.cpu_microseconds()),
            milliseconds(row.delay[0]),
            milliseconds(row.delay[1]),
            format!("{:.0}", row.creates_a_second),
        ];
        table.row(&row.what(), &cells);
    }
    table.print();
}

enum End {
    Complete(Instant),
    CutOff(Instant),
    Behind,
}

struct Follower {
    _connection: Connection,
    delivered: Arc<AtomicUsize>,
    timing: Option<Arc<Clock>>,
}

impl Follower {
    /// Counts events to the last one, and notes how late each was. The collection is empty when the watch begins.
    async fn follow(self, mut body: hyper::body::Incoming, format: Format) -> (End, Vec<f64>) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let mut cutter = Events::new(format, self.timing.is_some());
        let (mut events, mut late) = (0, Vec::new());
        while events < CREATES {
            let frame = match timeout_at(deadline, body.frame()).await {
                Err(_) => return (End::Behind, late),
                Ok(Some(Ok(frame))) => frame,
                Ok(_) => return (End::CutOff(Instant::now()), late),
            };
            let Some(data) = frame.data_ref() else {
                continue;
            };
            let clock = self.timing.as_deref();
            let ended = cutter.push(data, |head| late.extend(clock.and_then(|clock| clock.delay(head))));
            self.delivered.fetch_add(ended, Ordering::Relaxed);
            events += ended;
        }
        (End::Complete(Instant::now()), late)
    }
}
