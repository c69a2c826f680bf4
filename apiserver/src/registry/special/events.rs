//! Events: they are forgotten after a while, and `events.k8s.io` shows the same objects in other words.

use std::time::Duration;

use api::{Map, Value};
use async_trait::async_trait;

use super::{Conversion, Hooks};

/// The steps of events.
pub(super) struct Events {
    pub(super) ttl: Duration,
}

#[async_trait]
impl Hooks for Events {
    fn ttl(&self) -> Option<Duration> {
        Some(self.ttl)
    }
}

/// Core's words and those of `events.k8s.io`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// Core events as `events.k8s.io` shows them.
pub(super) struct NewEvents;

impl Conversion for NewEvents {
    fn to_served(&self, stored: Value) -> Value {
        rename(stored, |name| NAMES.iter().find(|(old, _)| *old == name).map(|(_, new)| *new))
    }

    fn to_stored(&self, served: Value) -> Value {
        rename(served, |name| NAMES.iter().find(|(_, new)| *new == name).map(|(old, _)| *old))
    }

    fn field<'a>(&self, served: &'a str) -> Option<&'a str> {
        Some(match served {
            old if old.starts_with("involvedObject.") || old == "reportingComponent" => return None,
            "regarding.kind" => "involvedObject.kind",
            "regarding.namespace" => "involvedObject.namespace",
            "regarding.name" => "involvedObject.name",
            "regarding.uid" => "involvedObject.uid",
            "regarding.apiVersion" => "involvedObject.apiVersion",
            "regarding.resourceVersion" => "involvedObject.resourceVersion",
            "regarding.fieldPath" => "involvedObject.fieldPath",
            "reportingController" => "reportingComponent",
            other => other,
        })
    }
}

fn rename(object: Value, name: impl Fn(&str) -> Option<&'static str>) -> Value {
    let Value::Object(fields) = object else { return object };
    let renamed = fields.into_iter().map(|(field, value)| (name(&field).map_or(field, str::to_owned), value));
    Value::Object(renamed.collect::<Map<String, Value>>())
}
