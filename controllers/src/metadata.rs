//! Follows the metadata of a resource that is known only at run time.

use std::{pin::pin, time::Duration};

use daemon::Backoff;
use futures::StreamExt as _;
use kube::{
    Api,
    api::DynamicObject,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event, InitialListStrategy},
};
use tracing::debug;

const RETRY_BASE: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);

pub(crate) type Metadata = PartialObjectMeta<DynamicObject>;

/// Hands every event of a resource on, for ever; `plural` is for the log. A server without streaming lists is asked for
/// a list.
pub(crate) async fn follow(api: &Api<Metadata>, plural: &str, mut take: impl FnMut(Event<Metadata>) + Send) {
    let mut config = watcher::Config::default().streaming_lists();
    while follow_once(api, plural, &config, &mut take).await == Followed::NoStreamingLists {
        config.initial_list_strategy = InitialListStrategy::ListWatch;
    }
}

#[derive(PartialEq)]
enum Followed {
    NoStreamingLists,
    Ended,
}

async fn follow_once(
    api: &Api<Metadata>,
    plural: &str,
    config: &watcher::Config,
    take: &mut (impl FnMut(Event<Metadata>) + Send),
) -> Followed {
    let mut events = pin!(watcher::watcher(api.clone(), config.clone()));
    let mut backoff = Backoff::new(RETRY_BASE, RETRY_MAX).with_jitter(0.2);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if !matches!(event, Event::Init) {
                    backoff.reset();
                }
                take(event);
            }
            Err(watcher::Error::WatchStartFailed(kube::Error::Api(status)))
                if matches!(status.code, 400 | 422)
                    && config.initial_list_strategy == InitialListStrategy::StreamingList =>
            {
                return Followed::NoStreamingLists;
            }
            Err(failure) => {
                debug!(resource = plural, %failure, "watch failed, trying again");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
    Followed::Ended
}
