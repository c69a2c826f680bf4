//! One watch of etcd for everybody: its events in a log that all prefixes read by position.
//!
//! ```text
//!  etcd ──one watch of everything──▶ driver ──▶ log, revision ──wakes──▶ the prefixes that are concerned
//! ```
//!
//! An API server follows all of its resources anyway, so one watch costs etcd less than one for each of them, and it
//! tells more: a revision that is the last write's shows up here as that write's event, whatever it was about, so
//! that a read that has to be current seldom needs to ask how far the watch is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::GetOptions;
use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::failure::Failure;
use super::feed::{Feed, revision};
use super::members::{Member, Members, SILENCE_MAX};
use super::options::Layout;
use crate::contract::{Error, Event};
use crate::key::KeyPrefix;
use crate::log::{Log, Overtaken, Retention};
use crate::subscription::{Subscription, Subscriptions};
use crate::watch::Batch;

/// What the log keeps for readers that are behind. Whoever is further behind watches etcd until it has caught up.
const RETENTION: Retention = Retention { age_millis: 30_000, bytes_max: 32 << 20 };
/// How long events are waited for before the member is asked how far it is, and how often it is asked.
const PROGRESS_AFTER: Duration = Duration::from_millis(5);
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// First and longest pause after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Mirror {
    /// Also the lock under which log, subscriptions and revision change together.
    log: RwLock<Log<Event>>,
    /// Every event up to here is in the log, or was. 0 before the first answer of etcd.
    revision: AtomicU64,
    /// The oldest revision that can still be read, as far as that is known.
    compacted: AtomicU64,
    subscriptions: Subscriptions,
    advanced: Notify,
    /// A revision that somebody waits for.
    wanted: AtomicU64,
    wants: Notify,
    /// Whether a watch is open.
    following: AtomicBool,
}

impl Mirror {
    pub(super) fn new() -> Self {
        Self {
            log: RwLock::new(Log::starting_after(0)),
            revision: AtomicU64::new(0),
            compacted: AtomicU64::new(0),
            subscriptions: Subscriptions::default(),
            advanced: Notify::new(),
            wanted: AtomicU64::new(0),
            wants: Notify::new(),
            following: AtomicBool::new(false),
        }
    }

    /// Every event up to here is in the log, or was.
    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Whether a watch of etcd is open.
    pub(super) fn is_following(&self) -> bool {
        self.following.load(Ordering::Acquire)
    }

    /// The oldest revision that can still be read, as far as that is known.
    pub(super) fn compacted(&self) -> u64 {
        self.compacted.load(Ordering::Acquire)
    }

    pub(super) fn note_compacted(&self, revision: u64) {
        self.compacted.fetch_max(revision, Ordering::AcqRel);
    }

    /// A reader of the log; None when the log begins later, or not yet.
    pub(super) fn subscribe(&self, prefix: KeyPrefix, after: u64) -> Option<Arc<Subscription>> {
        let log = self.log.read();
        let revision = self.revision();
        // What is compacted stays readable here for a while, but not everywhere.
        if revision == 0 || after < self.compacted() {
            return None;
        }
        self.subscriptions.add(&log, revision, prefix, after).ok()
    }

    pub(super) fn unsubscribe(&self, subscription: &Arc<Subscription>) {
        self.subscriptions.remove(subscription);
    }

    pub(super) fn read(&self, subscription: &Subscription, limit: usize) -> Result<Option<Batch>, Overtaken> {
        let log = self.log.read();
        subscription.read(&log, self.revision(), limit)
    }

    /// Waits until every event up to `revision` is in the log.
    pub(super) async fn reached(&self, revision: u64) {
        loop {
            let advanced = self.advanced.notified();
            if self.revision() >= revision {
                return;
            }
            if self.wanted.fetch_max(revision, Ordering::AcqRel) < revision {
                self.wants.notify_one();
            }
            advanced.await;
        }
    }

    fn publish(&self, batch: &Batch, started: Instant) {
        let now_millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut woken = Vec::new();
        let forgotten = {
            let mut log = self.log.write();
            for event in &batch.events {
                self.subscriptions.mark(event, log.end(), &mut woken);
                log.push(event.clone(), now_millis);
            }
            self.revision.store(batch.revision, Ordering::Release);
            log.trim(RETENTION, now_millis)
        };
        for subscription in woken {
            subscription.wake.notify_one();
        }
        self.advanced.notify_waiters();
        drop(forgotten);
    }

    /// Begins anew after a gap: everybody has to find out what they missed.
    fn restart(&self, after: u64) {
        {
            let mut log = self.log.write();
            log.restart_after(after);
            self.revision.store(after, Ordering::Release);
            self.subscriptions.overtake_all();
        }
        self.advanced.notify_waiters();
    }

    /// Follows etcd for ever.
    pub(super) async fn follow(self: Arc<Self>, members: Arc<Members>, layout: Layout) {
        let started = Instant::now();
        let mut pause = BACKOFF.0;
        loop {
            let from = self.revision();
            let outcome = self.follow_once(&members, &layout, started).await;
            self.following.store(false, Ordering::Release);
            let Err(error) = outcome;
            match error {
                Error::Compacted { oldest, .. } => {
                    self.note_compacted(oldest);
                    self.revision.store(0, Ordering::Release);
                    tracing::warn!(oldest, "etcd has compacted what was not read yet");
                }
                error => tracing::warn!(%error, "lost the watch of etcd"),
            }
            pause = if self.revision() > from { BACKOFF.0 } else { (pause * 2).min(BACKOFF.1) };
            sleep(pause).await;
        }
    }

    async fn follow_once(
        &self,
        members: &Members,
        layout: &Layout,
        started: Instant,
    ) -> Result<std::convert::Infallible, Error> {
        let lost = |failure: Failure| failure.into_error("watch");
        if self.revision() == 0 {
            self.restart(current(members, layout).await.map_err(lost)?);
        }
        let mut feed = Feed::open(members, layout, self.revision()).await.map_err(lost)?;
        self.following.store(true, Ordering::Release);
        let outcome = self.take_all(&mut feed, members, layout, started).await;
        members.leave(feed.member);
        outcome
    }

    async fn take_all(
        &self,
        feed: &mut Feed,
        members: &Members,
        layout: &Layout,
        started: Instant,
    ) -> Result<std::convert::Infallible, Error> {
        let member = feed.member;
        loop {
            let wanted = self.wanted.load(Ordering::Acquire);
            if wanted <= self.revision() {
                tokio::select! {
                    batch = feed.next() => self.publish(&batch?, started),
                    () = self.wants.notified() => {}
                    () = members.signs().silenced(member) => return Err(silent()),
                }
                continue;
            }
            if !self.take_wanted(feed, members, wanted, started).await? {
                let newest = current(members, layout).await.map_err(|failure| failure.into_error("watch"))?;
                if newest > self.revision() {
                    let reason = "the watch lags behind and is silent".into();
                    return Err(Error::Unavailable { operation: "watch", reason });
                }
                // Somebody waits for what has not happened yet.
                let _ = self.wanted.compare_exchange(wanted, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    /// Takes events until `wanted` has been reached, asking for progress when they do not come by themselves.
    /// False when nothing is heard for too long.
    async fn take_wanted(
        &self,
        feed: &mut Feed,
        members: &Members,
        wanted: u64,
        started: Instant,
    ) -> Result<bool, Error> {
        let mut pause = PROGRESS_AFTER;
        let mut heard = Instant::now();
        while self.revision() < wanted {
            if let Ok(batch) = timeout(pause, feed.next()).await {
                self.publish(&batch?, started);
                heard = Instant::now();
                continue;
            }
            if members.signs().is_silent(feed.member) {
                return Err(silent());
            }
            if heard.elapsed() > SILENCE_MAX {
                return Ok(false);
            }
            feed.ask_progress().await?;
            pause = PROGRESS_EVERY;
        }
        Ok(true)
    }
}

fn silent() -> Error {
    Error::Unavailable { operation: "watch", reason: "the member is silent while others answer".into() }
}

/// The cluster's revision now.
pub(super) async fn current(members: &Members, layout: &Layout) -> Result<u64, Failure> {
    let probe = layout.probe();
    let ask = |member: Arc<Member>| {
        let options = GetOptions::new().with_keys_only();
        let probe = probe.clone();
        async move { member.kv().get(probe, Some(options)).await }
    };
    let answer = members.read(ask).await?;
    Ok(answer.header().map_or(0, |header| revision(header.revision())))
}
