//! Keeps a cache up to date: list, then watch; again from where it stopped when the watch breaks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use super::{Cache, Decode, Decoded, Event, Held, Map, State, Vouching};
use crate::contract::{Entry, Error, Event as StoreEvent, EventKind, RangeRequest, Store};
use crate::key::Key;
use crate::watch::{Batch, WatchStream};

/// The most entries read from the store at one time.
const LIST_PAGE: usize = 10_000;

/// The most events decoded before readers see them and other tasks get their turn.
const APPLY_MAX: usize = 64;

/// First and longest pause after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

pub(super) struct Driver<V> {
    cache: Arc<Cache<V>>,
    store: Arc<dyn Store>,
    decode: Decode<V>,
}

/// What a broken watch leaves to do.
enum Next {
    /// Watch on from the last applied revision.
    Watch,
    /// The history is gone: begin with a list.
    List,
}

impl<V: Send + Sync + 'static> Driver<V> {
    pub(super) fn new(cache: Arc<Cache<V>>, store: Arc<dyn Store>, decode: Decode<V>) -> Self {
        Self { cache, store, decode }
    }

    pub(super) async fn run(self) {
        let mut next = Next::List;
        let mut pause = BACKOFF.0;
        loop {
            let applied = self.cache.state.load().revision;
            let outcome = match next {
                Next::List => self.start().await,
                Next::Watch => self.follow().await,
            };
            next = match outcome {
                Ok(()) => Next::Watch,
                Err(Error::Closed) => return,
                Err(Error::Compacted { .. }) => Next::List,
                Err(error) => {
                    tracing::warn!(prefix = %self.cache.prefix, %error, "watch cache lost its store");
                    pause =
                        if applied < self.cache.state.load().revision { BACKOFF.0 } else { (pause * 2).min(BACKOFF.1) };
                    sleep(pause).await;
                    next
                }
            };
        }
    }

    /// Begins anew. The first time as far back as the store remembers, so that watchers can go on where
    /// they were before a restart.
    async fn start(&self) -> Result<(), Error> {
        let current = self.store.revision().await?;
        if self.cache.is_ready() {
            self.cache.counters.relists.add(1);
            return self.list(None).await;
        }
        self.cache.ready_at.store(current, Ordering::Release);
        let oldest = self.store.oldest().await?;
        match self.list((oldest < current).then_some(oldest)).await {
            Err(Error::Compacted { .. }) => self.list(None).await,
            outcome => outcome,
        }
    }

    /// Reads everything, at one revision. Events between the last state and this one are unknown, so
    /// whoever watches has to begin anew as well.
    async fn list(&self, revision: Option<u64>) -> Result<(), Error> {
        let mut map = Map::default();
        let mut bytes = 0;
        let mut request = RangeRequest { limit: LIST_PAGE, revision, ..RangeRequest::all(self.cache.prefix.clone()) };
        let revision = loop {
            let page = self.store.range(request.clone()).await?;
            for entry in &page.entries {
                let Some(held) = self.decode(entry) else { continue };
                bytes += held.bytes as u64;
                map.insert(&entry.key, held);
            }
            let last = page.entries.last().and_then(|entry| entry.key.suffix(&self.cache.prefix));
            let (true, Some(last)) = (page.more, last) else { break page.revision };
            request.start = Some(format!("{last}\0"));
            request.revision = Some(page.revision);
        };
        let counters = &self.cache.counters;
        counters.objects.set(map.len() as u64);
        counters.object_bytes.set(bytes);
        {
            let mut log = self.cache.log.write();
            log.restart_after(revision);
            self.cache.state.store(Arc::new(State { revision, map }));
        }
        self.cache.advance(revision);
        Ok(())
    }

    async fn follow(&self) -> Result<(), Error> {
        let after = self.cache.state.load().revision;
        let mut stream = self.store.watch(self.cache.prefix.clone(), after).await?;
        self.cache.progress.store(Some(Arc::new(Vouching(stream.progress()))));
        let outcome = self.apply_all(&mut stream).await;
        self.cache.progress.store(None);
        outcome
    }

    async fn apply_all(&self, stream: &mut WatchStream) -> Result<(), Error> {
        loop {
            let Batch { events, revision } = stream.next().await?;
            let mut parts = events.chunks(APPLY_MAX).peekable();
            while let Some(part) = parts.next() {
                let last = part.last().map_or(revision, |event| event.revision);
                self.apply(part, if parts.peek().is_some() { last } else { revision });
                if parts.peek().is_some() {
                    tokio::task::yield_now().await;
                }
            }
            if events.is_empty() {
                self.apply(&[], revision);
            }
        }
    }

    /// Applies events and makes them visible in one step: to snapshots first, then to watchers.
    fn apply(&self, events: &[Arc<StoreEvent>], revision: u64) {
        let mut map = self.cache.state.load().map.clone();
        let changes: Vec<_> = events.iter().filter_map(|event| self.change(&mut map, event)).collect();
        let counters = &self.cache.counters;
        counters.events.add(changes.len() as u64);
        counters.objects.set(map.len() as u64);
        let now_millis = self.cache.options.clock.now_millis();
        let forgotten = {
            let mut log = self.cache.log.write();
            self.cache.state.store(Arc::new(State { revision, map }));
            for mut change in changes {
                change.position = log.end();
                log.push(Arc::new(change), now_millis);
            }
            let forgotten = log.trim(self.cache.retention(), now_millis);
            counters.history_events.set(log.len() as u64);
            counters.history_bytes.set(log.bytes() as u64);
            forgotten
        };
        self.cache.advance(revision);
        drop(forgotten);
        self.cache.forget_recalled();
    }

    /// Decodes one event into the map. An entry that cannot be decoded counts as not there.
    fn change(&self, map: &mut Map<V>, event: &StoreEvent) -> Option<Event<V>> {
        let held = event.current.as_deref().and_then(|entry| self.decode(entry));
        let current = held.as_ref().map(|held| held.view.clone());
        let bytes = held.as_ref().map_or(0, |held| held.bytes);
        let previous = replace(map, &event.key, held);
        let counters = &self.cache.counters;
        let previous_bytes = previous.as_ref().map_or(0, |held| held.bytes);
        let previous_index = previous.as_ref().and_then(|held| held.index.clone());
        counters.object_bytes.add(bytes as u64);
        counters.object_bytes.sub(previous_bytes as u64);
        if current.is_none() && previous.is_none() {
            return None;
        }
        Some(Event {
            revision: event.revision,
            kind: if current.is_some() { EventKind::Put } else { EventKind::Delete },
            key: event.key.clone(),
            current,
            previous: previous.map(|held| held.view),
            position: 0,
            previous_bytes,
            previous_index,
        })
    }

    fn decode(&self, entry: &Entry) -> Option<Held<V>> {
        match (self.decode)(entry) {
            Ok(Decoded { view, bytes, index }) => Some(Held { view: Arc::new(view), bytes, index }),
            Err(error) => {
                tracing::error!(key = %entry.key, revision = entry.mod_revision, %error, "cannot decode a stored object");
                self.cache.counters.undecodable.add(1);
                None
            }
        }
    }
}

fn replace<V>(map: &mut Map<V>, key: &Key, held: Option<Held<V>>) -> Option<Held<V>> {
    match held {
        Some(held) => map.insert(key, held),
        None => map.remove(key),
    }
}
