//! A store that others write to as well, in either of the forms that upstream has: text and protobuf.
//!
//! The registry sees text alone. What it reads is turned into text when somebody wrote protobuf; what it writes is
//! turned into protobuf when that is wanted, as upstream does by default.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use api::{GroupVersion, GroupVersionKind, Value};
use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use store::{
    Batch, Deleted, Entry, Error, Event, Expect, Key, KeyPrefix, Page, Progress, RangeRequest, Store, WatchSource,
    WatchStream,
};

use crate::registry::Head;

/// Groups whose objects upstream keeps as text, whatever the others are kept as.
const TEXT_GROUPS: &[&str] = &["apiextensions.k8s.io", "apiregistration.k8s.io"];

/// See the module's documentation.
pub(crate) struct SharedStore {
    inner: Arc<dyn Store>,
    writes_protobuf: bool,
}

impl SharedStore {
    pub(crate) fn new(inner: Arc<dyn Store>, writes_protobuf: bool) -> Self {
        Self { inner, writes_protobuf }
    }
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, rename = "apiVersion")]
    api_version: Cow<'a, str>,
}

/// The value as protobuf; as it is when it has no such form, as custom resources have none.
fn encoded(value: Bytes) -> Bytes {
    let Ok(typed) = serde_json::from_slice::<Typed<'_>>(&value) else { return value };
    let Some(version) = GroupVersion::parse(&typed.api_version) else { return value };
    if TEXT_GROUPS.contains(&version.group.as_str()) {
        return value;
    }
    let gvk = GroupVersionKind::new(&version.group, &version.version, typed.kind);
    api::protobuf::encode_text(&gvk, &value).map_or_else(|_| value.clone(), Bytes::from)
}

/// The value as text; as it is when it cannot be read.
fn text(value: Bytes) -> Bytes {
    if !value.starts_with(&api::protobuf::MAGIC) {
        return value;
    }
    match api::protobuf::decode_body(&value, &GroupVersionKind::new("", "", "")) {
        Ok(body) => {
            let mut object = body.value;
            default(&body.gvk, &mut object);
            written(&body.gvk, &object)
        }
        Err(status) => {
            tracing::debug!(error = %status.message, "cannot decode a stored object");
            value
        }
    }
}

/// Fills what upstream fills whenever it decodes and does not always store: a new claim's phase, or what an older
/// release did not know.
fn default(gvk: &GroupVersionKind, object: &mut Value) {
    let Some(resource) = api::schema::table().resource_of_kind(&gvk.group, &gvk.version, &gvk.kind) else { return };
    if let Some(id) = resource.type_id {
        api::schema::apply_defaults(id, object);
    }
    let namespace = api::meta::namespace(object).to_owned();
    let request = kinds::Request {
        now: daemon::clock::now(),
        namespace: &namespace,
        version: resource.version,
        user: "",
        groups: &[],
        user_uid: "",
    };
    kinds::strategy(resource.group, resource.name).default(object, &request);
}

/// As the registry writes it.
fn written(gvk: &GroupVersionKind, object: &Value) -> Bytes {
    let managed = api::meta::metadata(object).and_then(|metadata| metadata.get("managedFields"));
    let managed = managed.map(Value::to_string).unwrap_or_default();
    Head::new(&gvk.kind, &gvk.api_version()).encode(object, managed.as_bytes())
}

fn entry(entry: Entry) -> Entry {
    Entry { value: text(entry.value), ..entry }
}

fn error(error: Error) -> Error {
    match error {
        Error::Conflict { key, current } => {
            Error::Conflict { key, current: current.map(|found| Box::new(entry(*found))) }
        }
        other => other,
    }
}

fn event(event: &Arc<Event>) -> Arc<Event> {
    let is_text =
        |entry: &Option<Arc<Entry>>| entry.as_ref().is_none_or(|e| !e.value.starts_with(&api::protobuf::MAGIC));
    if is_text(&event.current) && is_text(&event.previous) {
        return event.clone();
    }
    let read = |found: &Option<Arc<Entry>>| found.as_ref().map(|found| Arc::new(entry(Entry::clone(found))));
    Arc::new(Event { current: read(&event.current), previous: read(&event.previous), ..Event::clone(event) })
}

struct Watch(WatchStream);

#[async_trait]
impl WatchSource for Watch {
    async fn next(&mut self) -> Result<Batch, Error> {
        let Batch { events, revision } = self.0.next().await?;
        Ok(Batch { events: events.iter().map(event).collect(), revision })
    }

    fn progress(&self) -> Arc<dyn Progress> {
        self.0.progress()
    }
}

#[async_trait]
impl Store for SharedStore {
    async fn get(&self, key: &Key) -> Result<(Option<Entry>, u64), Error> {
        let (found, revision) = self.inner.get(key).await?;
        Ok((found.map(entry), revision))
    }

    async fn range(&self, request: RangeRequest) -> Result<Page, Error> {
        let page = self.inner.range(request).await?;
        Ok(Page { entries: page.entries.into_iter().map(entry).collect(), ..page })
    }

    async fn put(&self, key: Key, value: Bytes, expect: Expect, ttl: Option<Duration>) -> Result<u64, Error> {
        let value = if self.writes_protobuf { encoded(value) } else { value };
        self.inner.put(key, value, expect, ttl).await.map_err(error)
    }

    async fn delete(&self, key: Key, expect: Expect) -> Result<Deleted, Error> {
        let deleted = self.inner.delete(key, expect).await.map_err(error)?;
        Ok(Deleted { previous: entry(deleted.previous), ..deleted })
    }

    async fn watch(&self, prefix: KeyPrefix, after: u64) -> Result<WatchStream, Error> {
        Ok(WatchStream::new(Box::new(Watch(self.inner.watch(prefix, after).await?))))
    }

    async fn revision(&self) -> Result<u64, Error> {
        self.inner.revision().await
    }

    async fn oldest(&self) -> Result<u64, Error> {
        self.inner.oldest().await
    }

    async fn compact(&self, revision: u64) -> Result<(), Error> {
        self.inner.compact(revision).await
    }

    async fn health(&self) -> Result<(), Error> {
        self.inner.health().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_protobuf_form_gets_it_and_is_read_as_it_was() {
        let write = |text: &'static str| encoded(Bytes::from_static(text.as_bytes()));
        let object = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"managedFields":[{"manager":"m"}],"name":"a"},"data":{"b":"c"}}"#;
        let stored = write(object);
        assert!(stored.starts_with(&api::protobuf::MAGIC), "{stored:?}");
        assert_eq!(text(stored), object, "fields in the order of the stored form, whatever the map's order");
        let broken = Bytes::from_static(b"k8s\0\xff");
        assert_eq!(text(broken.clone()), broken);
        for text in [
            r#"{"kind":"Cron","apiVersion":"example.com/v1","metadata":{"name":"a"}}"#,
            r#"{"kind":"APIService","apiVersion":"apiregistration.k8s.io/v1","metadata":{"name":"v1."}}"#,
            "no object",
        ] {
            assert_eq!(write(text), text);
        }
    }
}
