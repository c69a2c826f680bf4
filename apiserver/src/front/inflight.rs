//! How many requests are served at once: a limit for reads and one for writes, with a bounded queue before each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Body, Context, Response, Target};
use crate::authorize::MASTERS;
use crate::metrics::Metrics;
use crate::request::Verb;

/// How long a request waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// How many requests wait for each limit.
const QUEUE_MAX: usize = 2_000;

/// `--max-requests-inflight` and `--max-mutating-requests-inflight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Reads.
    pub reads: usize,
    /// Writes.
    pub writes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reads: 400, writes: 200 }
    }
}

/// The limits.
pub struct Limits {
    reads: Lane,
    writes: Lane,
    metrics: Arc<Metrics>,
}

struct Lane {
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A place among the requests in flight, given back when it is dropped.
pub(super) struct Permit {
    slot: Option<OwnedSemaphorePermit>,
    gauge: Option<crate::metrics::InFlight>,
}

impl Limits {
    /// See [`Settings`].
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        let lane = |slots: usize| Lane { slots: Arc::new(Semaphore::new(slots.max(1))), waiting: AtomicUsize::new(0) };
        Self { reads: lane(settings.reads), writes: lane(settings.writes), metrics }
    }

    /// Waits for a place. Long-running requests and the cluster's masters need none.
    pub(super) async fn enter(&self, context: &Context, long_running: bool) -> Result<Permit, Response> {
        if long_running {
            return Ok(Permit { slot: None, gauge: Some(self.metrics.long_running(&context.target)) });
        }
        let is_read = is_read(&context.target);
        let gauge = Some(self.metrics.in_flight(is_read));
        if context.user.groups.iter().any(|group| group == MASTERS) {
            return Ok(Permit { slot: None, gauge });
        }
        let lane = if is_read { &self.reads } else { &self.writes };
        match lane.enter().await {
            Some(slot) => Ok(Permit { slot: Some(slot), gauge }),
            None => Err(too_many()),
        }
    }
}

impl Lane {
    async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = self.slots.clone().try_acquire_owned() {
            return Some(slot);
        }
        let waiting = Waiting::new(&self.waiting)?;
        let slot = tokio::time::timeout(WAIT_MAX, self.slots.clone().acquire_owned()).await;
        drop(waiting);
        slot.ok()?.ok()
    }
}

/// A place in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::AcqRel);
        let place = Self(count);
        (before < QUEUE_MAX).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Permit {
    /// A long-running answer stays counted until its body ends; others give their place back with their first byte, so
    /// that a slow reader holds nobody up.
    pub(super) fn hold(self, answer: Response, long_running: bool) -> Response {
        if !long_running {
            return answer;
        }
        let gauge = self.gauge;
        drop(self.slot);
        answer.map(|body| {
            let body = body.map_frame(move |frame| {
                let _counted = &gauge;
                frame
            });
            Body::new(body)
        })
    }
}

fn is_read(target: &Target) -> bool {
    match target {
        Target::Resource(path) => matches!(path.verb, Verb::Get | Verb::List | Verb::Watch),
        Target::Path { verb, .. } => verb == "get" || verb == "head",
    }
}

fn too_many() -> Response {
    let mut answer = crate::answer::text(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}
