//! Says on every FlowSchema whether its priority level exists: the `Dangling` condition, as upstream's consumer of the
//! flow-control configuration does, under its name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::{Reason, Status, Value, meta};
use daemon::{Backoff, Drain, Tasks};
use futures::{Stream, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::objects::{Change, Handle, Manager, Ref};

#[cfg(test)]
mod tests;

/// Who owns the conditions.
pub(crate) const FLOW_CONDITIONS: Manager = Manager("api-priority-and-fairness-config-consumer-v1");

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: &str = "flowschemas";
const CONDITION: &str = "Dangling";
/// How many changes are looked at together.
const CHANGES_AT_ONCE: usize = 64;
/// Two servers that disagree do not fight for longer than this often in a minute.
const WRITES_PER_MINUTE_MAX: usize = 6;
const RETRY_BASE: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Keeps the conditions until the drain.
pub(crate) fn keep(objects: Handle, tasks: &Tasks) {
    let schemas = objects.get().changes(GROUP, SCHEMAS).map(|change| (true, change));
    let levels = objects.get().changes(GROUP, "prioritylevelconfigurations").map(|change| (false, change));
    let mut changes = futures::stream::select(schemas, levels).ready_chunks(CHANGES_AT_ONCE);
    let drain = tasks.drain().clone();
    tasks.spawn("flow-schema-conditions", async move {
        let mut keeper = Keeper { objects, known: Known::default(), written: BTreeMap::new() };
        let mut backoff = Backoff::new(RETRY_BASE, RETRY_MAX).with_jitter(0.1);
        let mut again = None;
        while let Some(batch) = next(&drain, &mut changes, again).await {
            batch.into_iter().for_each(|(is_schema, change)| keeper.known.apply(is_schema, change));
            let settled = keeper.write().await;
            if settled {
                backoff.reset();
            }
            again = (!settled).then(|| backoff.next_delay());
        }
    });
}

/// The next changes, or none after a delay; None when the drain begins.
async fn next<T>(
    drain: &Drain,
    changes: &mut (impl Stream<Item = Vec<T>> + Unpin),
    delay: Option<Duration>,
) -> Option<Vec<T>> {
    let Some(delay) = delay else { return drain.run(changes.next()).await.flatten() };
    match drain.run(tokio::time::timeout(delay, changes.next())).await? {
        Ok(batch) => batch,
        Err(_) => Some(Vec::new()),
    }
}

struct Keeper {
    objects: Handle,
    known: Known,
    /// When each schema was written in the last minute.
    written: BTreeMap<String, Vec<Timestamp>>,
}

impl Keeper {
    /// Writes what is not as it should be; false when something has to be tried again.
    async fn write(&mut self) -> bool {
        let now = daemon::clock::now();
        let mut settled = true;
        for (name, condition) in self.known.wanted(now) {
            if self.is_fighting(&name, now) {
                settled = false;
                continue;
            }
            self.written.entry(name.clone()).or_default().push(now);
            match self.apply(&name, condition).await {
                Ok(schema) => self.known.put_schema(Arc::new(schema)),
                Err(error) if error.reason == Reason::NotFound => {}
                Err(error) => {
                    tracing::warn!(schema = name, %error, "cannot say whether a flow schema has its priority level");
                    settled = false;
                }
            }
        }
        settled
    }

    async fn apply(&self, name: &str, condition: Value) -> Result<Value, Status> {
        let config = json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": name},
            "status": {"conditions": [condition]},
        });
        self.objects.get().apply(Ref::cluster(GROUP, SCHEMAS, name), "status", config, FLOW_CONDITIONS).await
    }

    fn is_fighting(&mut self, name: &str, now: Timestamp) -> bool {
        let minute_ago = now - SignedDuration::from_mins(1);
        self.written.retain(|_, times| {
            times.retain(|at| *at > minute_ago);
            !times.is_empty()
        });
        self.written.get(name).is_some_and(|times| times.len() >= WRITES_PER_MINUTE_MAX)
    }
}

/// The objects as far as they have been seen.
#[derive(Default)]
struct Known {
    schemas: BTreeMap<String, Arc<Value>>,
    levels: BTreeSet<String>,
    /// How many of the two collections have been seen in full.
    synced: u8,
}

impl Known {
    fn apply(&mut self, is_schema: bool, change: Change) {
        match (is_schema, change) {
            (_, Change::Synced) => self.synced += 1,
            (true, Change::Put(object)) => self.put_schema(object),
            (true, Change::Deleted(object)) => drop(self.schemas.remove(meta::name(&object))),
            (false, Change::Put(object)) => drop(self.levels.insert(meta::name(&object).to_owned())),
            (false, Change::Deleted(object)) => drop(self.levels.remove(meta::name(&object))),
        }
    }

    /// An own write is known before it comes back, behind what was changed before it.
    fn put_schema(&mut self, object: Arc<Value>) {
        let name = meta::name(&object);
        let is_older =
            |known: &Arc<Value>| meta::uid(known) == meta::uid(&object) && revision(known) > revision(&object);
        if !self.schemas.get(name).is_some_and(is_older) {
            self.schemas.insert(name.to_owned(), object);
        }
    }

    /// The conditions that are missing or say something else.
    fn wanted(&self, now: Timestamp) -> Vec<(String, Value)> {
        if self.synced < 2 {
            return Vec::new();
        }
        let of = |(name, schema): (&String, &Arc<Value>)| {
            let level = schema.pointer("/spec/priorityLevelConfiguration/name").and_then(Value::as_str).unwrap_or("");
            condition(schema, level, self.levels.contains(level), now).map(|condition| (name.clone(), condition))
        };
        self.schemas.iter().filter_map(of).collect()
    }
}

fn revision(object: &Value) -> u64 {
    meta::resource_version(object).parse().unwrap_or(0)
}

/// The condition that a schema should have; None when it has it.
fn condition(schema: &Value, level: &str, exists: bool, now: Timestamp) -> Option<Value> {
    let prefix = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    let (status, reason, message) = if exists {
        ("False", "Found", format!("{prefix} and it exists"))
    } else {
        ("True", "NotFound", format!("{prefix} but there is no such object"))
    };
    let conditions = schema.pointer("/status/conditions").and_then(Value::as_array);
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == CONDITION);
    let says = |found: &Value| found["status"] == status && found["reason"] == reason && found["message"] == message;
    (!found.is_some_and(says)).then(|| {
        json!({
            "type": CONDITION, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": api::time::seconds(now),
        })
    })
}
