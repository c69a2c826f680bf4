//! Says since when the use of tokens that are kept in secrets is noted: a date in a map of `kube-system`. What has no date of
//! its own has not been used since then.
//!
//! Mirrors upstream's `legacytokentracking`: a map that is deleted is made again, but not often, so that servers that
//! disagree about it do not fight; a date that is none becomes today.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Reason, Value, meta};
use daemon::{Backoff, Drain, Tasks};
use futures::{Stream, StreamExt as _};
use serde_json::json;

use crate::health::Flag;
use crate::objects::{Change, Handle, Manager, Ref};

const MAP: Ref<'static> =
    Ref::namespaced("", "configmaps", "kube-system", "kube-apiserver-legacy-service-account-token-tracking");
const SINCE: &str = "since";
/// Between two creations.
const CREATE_EVERY: Duration = Duration::from_secs(30 * 60);
const RETRY_BASE: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Keeps the map until the drain. `done` is set once it is there.
pub(crate) fn keep(objects: Handle, done: Flag, tasks: &Tasks) {
    let drain = tasks.drain().clone();
    tasks.spawn("token-tracking", async move {
        let is_relevant = |change: &Change| match change {
            Change::Put(map) | Change::Deleted(map) => {
                meta::name(map) == MAP.name && meta::namespace(map) == MAP.namespace
            }
            Change::Synced => true,
        };
        let changes = objects.get().changes(MAP.group, MAP.resource);
        let mut changes = changes.filter(move |change| std::future::ready(is_relevant(change)));
        let backoff = Backoff::new(RETRY_BASE, RETRY_MAX).with_jitter(0.1);
        let mut keeper = Keeper { objects, done, map: None, synced: false, not_before: None, backoff };
        let mut again = None;
        while let Some(change) = next(&drain, &mut changes, again).await {
            change.into_iter().for_each(|change| keeper.apply(change));
            again = keeper.settle().await;
        }
    });
}

/// The next change, or none after a delay; None when the drain begins.
async fn next(
    drain: &Drain,
    changes: &mut (impl Stream<Item = Change> + Unpin),
    delay: Option<Duration>,
) -> Option<Option<Change>> {
    let Some(delay) = delay else { return drain.run(changes.next()).await.flatten().map(Some) };
    match drain.run(tokio::time::timeout(delay, changes.next())).await? {
        Ok(change) => change.map(Some),
        Err(_) => Some(None),
    }
}

struct Keeper {
    objects: Handle,
    done: Flag,
    map: Option<Arc<Value>>,
    /// What is stored is known.
    synced: bool,
    /// The earliest time of the next creation.
    not_before: Option<Instant>,
    backoff: Backoff,
}

impl Keeper {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Put(map) => self.map = Some(map),
            Change::Deleted(_) => self.map = None,
            Change::Synced => self.synced = true,
        }
    }

    /// Writes what is not as it should be. After how long something has to be tried again, if anything has.
    async fn settle(&mut self) -> Option<Duration> {
        if !self.synced {
            return None;
        }
        match self.map.clone() {
            None => self.create().await,
            Some(map) if is_dated(&map) => {
                self.done.set();
                None
            }
            Some(map) => self.mend(&map).await,
        }
    }

    async fn create(&mut self) -> Option<Duration> {
        let now = daemon::clock::monotonic();
        if let Some(left) = self.not_before.and_then(|at| at.checked_duration_since(now)).filter(|left| !left.is_zero())
        {
            return Some(left);
        }
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": MAP.name, "namespace": MAP.namespace}, "data": {SINCE: today()},
        });
        match self.objects.get().create(MAP, map, Manager::SERVER).await {
            Ok(map) => {
                self.not_before = now.checked_add(CREATE_EVERY);
                self.written(map)
            }
            // It is about to be seen.
            Err(error) if error.reason == Reason::AlreadyExists => None,
            Err(error) => self.failed(&error),
        }
    }

    async fn mend(&mut self, map: &Value) -> Option<Duration> {
        let mut changed = map.clone();
        changed["data"][SINCE] = json!(today());
        match self.objects.get().update(MAP, "", changed, Manager::SERVER).await {
            Ok(map) => self.written(map),
            Err(error) if matches!(error.reason, Reason::Conflict | Reason::NotFound) => None,
            Err(error) => self.failed(&error),
        }
    }

    fn written(&mut self, map: Value) -> Option<Duration> {
        self.map = Some(Arc::new(map));
        self.done.set();
        self.backoff.reset();
        None
    }

    /// The namespace may not be there yet, so the first failures are nothing to speak of.
    fn failed(&mut self, error: &api::Status) -> Option<Duration> {
        tracing::debug!(%error, "cannot write since when the use of tokens is noted yet");
        Some(self.backoff.next_delay())
    }
}

fn today() -> String {
    api::time::day(daemon::clock::now())
}

fn is_dated(map: &Value) -> bool {
    let since = map.pointer("/data/since").and_then(Value::as_str);
    since.is_some_and(|since| api::time::parse_day(since).is_some())
}
