//! Runs the workers of a queue.

use std::{fmt::Display, hash::Hash, panic::AssertUnwindSafe, time::Duration};

use daemon::Drain;
use futures::FutureExt as _;
use tracing::{debug, error, warn};

use crate::Queue;

/// Failures of one key in a row before each is worth a warning: the first ones are usually conflicts.
const QUIET_FAILURES: u32 = 3;

/// Works off a queue with `workers` at a time until the drain; work that has begun is finished.
///
/// `sync` returns when the key is to be looked at again at the latest, if at all. A failure, or a panic, is logged
/// and the key queued again with back-off.
pub async fn run_workers<K, S, F, E>(name: &'static str, queue: &Queue<K>, workers: usize, drain: &Drain, sync: S)
where
    K: Eq + Hash + Clone + Display + Send,
    S: Fn(K) -> F,
    F: Future<Output = Result<Option<Duration>, E>>,
    E: std::error::Error + 'static,
{
    let worker = || async {
        while let Some(key) = drain.run(queue.next()).await {
            let outcome = AssertUnwindSafe(sync(key.clone())).catch_unwind().await;
            match outcome {
                Ok(outcome) => finish(name, queue, &key, outcome),
                Err(_) => {
                    error!(controller = name, %key, "sync panicked");
                    queue.add_rate_limited(key.clone());
                }
            }
            queue.done(&key);
        }
    };
    futures::future::join_all((0..workers.max(1)).map(|_| worker())).await;
}

fn finish<K, E>(name: &'static str, queue: &Queue<K>, key: &K, outcome: Result<Option<Duration>, E>)
where
    K: Eq + Hash + Clone + Display,
    E: std::error::Error + 'static,
{
    match outcome {
        Ok(again) => {
            queue.forget(key);
            if let Some(delay) = again {
                queue.add_after(key.clone(), delay);
            }
        }
        Err(failure) => {
            queue.add_rate_limited(key.clone());
            let error = &failure as &(dyn std::error::Error + 'static);
            if queue.failures(key) > QUIET_FAILURES {
                warn!(controller = name, %key, error, "sync failed, trying again");
            } else {
                debug!(controller = name, %key, error, "sync failed, trying again");
            }
        }
    }
}
