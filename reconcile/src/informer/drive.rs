//! Feeds an informer from kube's watcher.
//!
//! The initial state comes as a streaming list; a server that refuses those is asked for a list instead. A failed
//! request is repeated after a growing delay, from the last seen resource version where the server still has it.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use daemon::Backoff;
use futures::StreamExt as _;
use kube::{
    Api, Resource,
    runtime::watcher::{self, Event, InitialListStrategy},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::{Object, cache::Shared};

const RETRY_BASE: Duration = Duration::from_millis(50);
/// The jitter can double it: nobody stays blind for longer than five seconds after the server is back. client-go waits
/// for up to a minute.
const RETRY_MAX: Duration = Duration::from_millis(2500);
/// All informers of all processes lose a server at the same moment: they must not come back at the same moment.
const RETRY_JITTER: f64 = 1.0;
/// Delays start small again when nothing has failed for so long, as client-go's. A success alone does not count: a
/// server that answers lists and breaks watches would be listed from at full speed.
const RETRY_RESET: Duration = Duration::from_secs(120);
/// Every so many failures one is worth a warning: the first ones are usual while a cluster starts.
const QUIET_FAILURES: u32 = 10;

/// What is reflected, and how.
pub(super) struct Target<W, K> {
    pub(super) kind: &'static str,
    pub(super) api: Api<W>,
    pub(super) config: watcher::Config,
    pub(super) shared: Arc<Shared<K>>,
    pub(super) unwrap: fn(W) -> K,
}

/// As long as the process lives.
pub(super) fn start<W: Object, K: Resource + Send + Sync + 'static>(tasks: &daemon::Tasks, target: Target<W, K>) {
    let drain = tasks.drain().clone();
    let target = Arc::new(target);
    tasks.supervise(target.kind, move || {
        let (target, drain) = (target.clone(), drain.clone());
        async move {
            drain.run(follow(&target)).await;
            Ok::<(), std::convert::Infallible>(())
        }
    });
}

/// As long as the returned handle lives.
pub(super) fn start_owned<W: Object, K: Resource + Send + Sync + 'static>(
    tasks: &daemon::Tasks,
    target: Target<W, K>,
) -> AbortOnDropHandle<()> {
    let drain = tasks.drain().clone();
    tasks.spawn_owned(target.kind, async move {
        drain.run(follow(&target)).await;
    })
}

async fn follow<W: Object, K: Resource>(target: &Target<W, K>) {
    let mut config = target.config.clone().streaming_lists();
    while let Stop::NoStreamingLists = reflect(target, &config).await {
        debug!(kind = target.kind, "the server has no streaming lists, listing instead");
        config.initial_list_strategy = InitialListStrategy::ListWatch;
    }
}

enum Stop {
    NoStreamingLists,
    Ended,
}

async fn reflect<W: Object, K: Resource>(target: &Target<W, K>, config: &watcher::Config) -> Stop {
    let mut events = pin!(watcher::watcher(target.api.clone(), config.clone()));
    let mut retry = Retry::new();
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => take(event, &target.shared, &mut listed, target.unwrap),
            Err(failure) if refuses_streaming(&failure, config) => return Stop::NoStreamingLists,
            Err(failure) => {
                let delay = retry.next_delay(daemon::clock::monotonic());
                report(target.kind, &failure, retry.backoff.attempts());
                tokio::time::sleep(delay).await;
            }
        }
    }
    Stop::Ended
}

/// When a failed watch is tried again.
struct Retry {
    backoff: Backoff,
    failed_at: Option<Instant>,
}

impl Retry {
    fn new() -> Self {
        Self { backoff: Backoff::new(RETRY_BASE, RETRY_MAX).with_jitter(RETRY_JITTER), failed_at: None }
    }

    /// After a failure that happened `now`.
    fn next_delay(&mut self, now: Instant) -> Duration {
        let last = self.failed_at.replace(now);
        if last.is_some_and(|last| now.saturating_duration_since(last) >= RETRY_RESET) {
            self.backoff.reset();
        }
        self.backoff.next_delay()
    }
}

fn take<W, K: Resource>(event: Event<W>, shared: &Shared<K>, listed: &mut Vec<K>, unwrap: fn(W) -> K) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(object) => {
            let mut object = unwrap(object);
            object.meta_mut().managed_fields = None;
            listed.push(object);
        }
        Event::InitDone => shared.replace(std::mem::take(listed)),
        Event::Apply(object) => shared.apply(unwrap(object)),
        Event::Delete(object) => shared.delete(unwrap(object)),
    }
}

/// A server without streaming lists calls the request invalid.
fn refuses_streaming(failure: &watcher::Error, config: &watcher::Config) -> bool {
    let watcher::Error::WatchStartFailed(kube::Error::Api(status)) = failure else { return false };
    config.initial_list_strategy == InitialListStrategy::StreamingList && matches!(status.code, 400 | 422)
}

fn report(kind: &str, failure: &watcher::Error, attempts: u32) {
    let error: &(dyn std::error::Error + 'static) = failure;
    if attempts.is_multiple_of(QUIET_FAILURES) {
        warn!(kind, attempts, error, "watch failed, trying again");
    } else {
        debug!(kind, attempts, error, "watch failed, trying again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_stays_blind_for_long_and_not_all_return_at_once() {
        let now = daemon::clock::monotonic();
        let (mut one, mut other) = (Retry::new(), Retry::new());
        assert!(one.next_delay(now) <= RETRY_BASE * 2 && other.next_delay(now) <= RETRY_BASE * 2);
        let delays: Vec<_> = (0..50).map(|_| (one.next_delay(now), other.next_delay(now))).collect();
        assert!(delays.iter().all(|(one, other)| one.max(other) <= &Duration::from_secs(5)), "{delays:?}");
        assert!(delays[20..].iter().all(|(one, other)| one.min(other) >= &Duration::from_secs(2)), "{delays:?}");
        assert!(delays.iter().any(|(one, other)| one.abs_diff(*other) > Duration::from_millis(100)), "{delays:?}");
    }

    #[test]
    fn delays_start_small_again_after_a_quiet_time() {
        let start = daemon::clock::monotonic();
        let mut retry = Retry::new();
        for n in 0..10 {
            retry.next_delay(start + Duration::from_secs(n));
        }
        assert!(retry.next_delay(start + Duration::from_secs(9) + RETRY_RESET / 2) >= RETRY_MAX);
        assert!(retry.next_delay(start + Duration::from_secs(9) + RETRY_RESET * 2) <= RETRY_BASE * 2);
    }
}
