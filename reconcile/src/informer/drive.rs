//! Feeds an informer from kube's watcher.
//!
//! The initial state comes as a streaming list; a server that refuses those is asked for a list instead. A failed
//! request is repeated after a growing delay, from the last seen resource version where the server still has it.

use std::{pin::pin, sync::Arc, time::Duration};

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
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Failures before one is worth a warning: the first ones are usual while a cluster starts.
const QUIET_FAILURES: u32 = 5;

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
    let mut backoff = Backoff::new(RETRY_BASE, RETRY_MAX).with_jitter(0.2);
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if !matches!(event, Event::Init) {
                    backoff.reset();
                }
                take(event, &target.shared, &mut listed, target.unwrap);
            }
            Err(failure) if refuses_streaming(&failure, config) => return Stop::NoStreamingLists,
            Err(failure) => {
                let delay = backoff.next_delay();
                report(target.kind, &failure, backoff.attempts());
                tokio::time::sleep(delay).await;
            }
        }
    }
    Stop::Ended
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
    if attempts > QUIET_FAILURES {
        warn!(kind, attempts, error, "watch failed, trying again");
    } else {
        debug!(kind, attempts, error, "watch failed, trying again");
    }
}
