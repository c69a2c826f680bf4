//! Which events are written, and how: counted, combined or withheld. Pure but for its memory.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::Event,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde_json::{Value, json};

/// Events remembered of each sort; the least recently used are forgotten.
const MEMORY: usize = 4096;
/// As many messages under one reason within [`COMBINE_INTERVAL`] are combined.
const COMBINE_AFTER: usize = 10;
const COMBINE_INTERVAL: SignedDuration = SignedDuration::from_secs(600);
/// What a source may tell about an object at once.
const SPAM_BURST: f64 = 25.0;
/// And what is added to that each second.
const SPAM_PER_SECOND: f64 = 1.0 / 300.0;

/// An event to be written: by a patch of an existing one if there is a patch, else by creation.
pub(super) struct Write {
    pub(super) event: Event,
    pub(super) patch: Option<Value>,
    key: String,
}

#[derive(Default)]
pub(super) struct Correlator {
    similar: Memory<Similar>,
    seen: Memory<Seen>,
    budgets: Memory<Budget>,
}

struct Similar {
    messages: HashSet<String>,
    last: Timestamp,
}

#[derive(Clone)]
struct Seen {
    count: i32,
    first: Option<Time>,
    name: Option<String>,
}

struct Budget {
    tokens: f64,
    at: Timestamp,
}

impl Correlator {
    /// What to write for an event, if anything.
    pub(super) fn correlate(&mut self, event: Event, now: Timestamp) -> Option<Write> {
        let spam_key = source_key(&event);
        let (event, key) = self.combine(event, now);
        let write = self.count(event, key);
        self.allowed(spam_key, now).then_some(write)
    }

    /// The server's answer: what a repetition patches.
    pub(super) fn written(&mut self, write: &Write, written: &Event) {
        let seen = Seen {
            count: written.count.unwrap_or(1),
            first: written.first_timestamp.clone(),
            name: written.metadata.name.clone(),
        };
        self.seen.put(write.key.clone(), seen);
    }

    fn combine(&mut self, event: Event, now: Timestamp) -> (Event, String) {
        let message = event.message.clone().unwrap_or_default();
        let key = full_key(&event);
        let group = group_key(&event);
        let fresh = || Similar { messages: HashSet::new(), last: now };
        let similar = self.similar.get_or(group.clone(), fresh);
        if now.duration_since(similar.last) > COMBINE_INTERVAL {
            similar.messages.clear();
        }
        similar.last = now;
        similar.messages.insert(message.clone());
        if similar.messages.len() < COMBINE_AFTER {
            return (event, key);
        }
        // The set must not grow any further; which message is forgotten does not matter.
        if let Some(any) = similar.messages.iter().next().cloned() {
            similar.messages.remove(&any);
        }
        let object = event.involved_object.name.clone().unwrap_or_default();
        let combined = Event {
            metadata: ObjectMeta { name: Some(super::name(&object, now)), ..event.metadata },
            message: Some(format!("(combined from similar events): {message}")),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            ..event
        };
        (combined, group)
    }

    fn count(&mut self, mut event: Event, key: String) -> Write {
        let mut patch = None;
        if let Some(seen) = self.seen.get(&key).cloned() {
            event.metadata.name = seen.name;
            event.first_timestamp = seen.first;
            event.count = Some(seen.count.saturating_add(1));
            patch = Some(json!({
                "count": event.count,
                "lastTimestamp": event.last_timestamp,
                "message": event.message,
            }));
        }
        let seen = Seen {
            count: event.count.unwrap_or(1),
            first: event.first_timestamp.clone(),
            name: event.metadata.name.clone(),
        };
        self.seen.put(key.clone(), seen);
        Write { event, patch, key }
    }

    fn allowed(&mut self, key: String, now: Timestamp) -> bool {
        let budget = self.budgets.get_or(key, || Budget { tokens: SPAM_BURST, at: now });
        let elapsed = now.duration_since(budget.at).as_secs_f64().max(0.0);
        budget.tokens = (budget.tokens + elapsed * SPAM_PER_SECOND).min(SPAM_BURST);
        budget.at = now;
        if budget.tokens < 1.0 {
            return false;
        }
        budget.tokens -= 1.0;
        true
    }
}

fn source_key(event: &Event) -> String {
    let source = event.source.clone().unwrap_or_default();
    let about = &event.involved_object;
    let parts = [
        source.component,
        source.host,
        about.kind.clone(),
        about.namespace.clone(),
        about.name.clone(),
        about.uid.clone(),
        about.api_version.clone(),
        event.type_.clone(),
    ];
    parts.map(Option::unwrap_or_default).join("\n")
}

fn group_key(event: &Event) -> String {
    format!("{}\n{}", source_key(event), event.reason.as_deref().unwrap_or_default())
}

fn full_key(event: &Event) -> String {
    let path = event.involved_object.field_path.as_deref().unwrap_or_default();
    format!("{}\n{path}\n{}", group_key(event), event.message.as_deref().unwrap_or_default())
}

/// A map that forgets the half that was not used for longest when it is full.
struct Memory<V> {
    entries: HashMap<String, (u64, V)>,
    clock: u64,
}

impl<V> Default for Memory<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), clock: 0 }
    }
}

impl<V> Memory<V> {
    fn get(&mut self, key: &str) -> Option<&V> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        entry.0 = self.clock;
        Some(&entry.1)
    }

    fn get_or(&mut self, key: String, make: impl FnOnce() -> V) -> &mut V {
        self.shrink();
        self.clock += 1;
        let entry = self.entries.entry(key).or_insert_with(|| (0, make()));
        entry.0 = self.clock;
        &mut entry.1
    }

    fn put(&mut self, key: String, value: V) {
        self.shrink();
        self.clock += 1;
        self.entries.insert(key, (self.clock, value));
    }

    fn shrink(&mut self) {
        if self.entries.len() < MEMORY {
            return;
        }
        let mut used: Vec<u64> = self.entries.values().map(|entry| entry.0).collect();
        let middle = used.len() / 2;
        let (_, median, _) = used.select_nth_unstable(middle);
        let median = *median;
        self.entries.retain(|_, entry| entry.0 >= median);
    }
}
