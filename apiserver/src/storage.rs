//! A store that others write to as well, in either of the forms that upstream has: text and protobuf.
//!
//! The registry sees text alone. What it reads is turned into text when somebody wrote protobuf; what it writes is
//! turned into protobuf when that is wanted, as upstream does by default.

mod definition;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use api::{GroupVersion, GroupVersionKind, Value, schema};
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

/// The value as text in a form that is served; as it is when it cannot be read.
fn text(value: Bytes) -> Bytes {
    if !value.starts_with(&api::protobuf::MAGIC) {
        return served(&value).unwrap_or(value);
    }
    match api::protobuf::decode_body(&value, &GroupVersionKind::new("", "", "")) {
        Ok(body) => {
            let (gvk, mut object) = at_home(body.gvk, body.value);
            default(&gvk, &mut object);
            written(&gvk, &object)
        }
        Err(status) => {
            tracing::debug!(error = %status.message, "cannot decode a stored object");
            value
        }
    }
}

/// Text that upstream wrote in a version that it stores and nobody serves, as the version that is served.
fn served(value: &Bytes) -> Option<Bytes> {
    // Whoever writes text begins with these two, as we do.
    let rest = value.strip_prefix(br#"{"kind":""#)?;
    let (kind, rest) = quoted(rest)?;
    let (version, _) = quoted(rest.strip_prefix(br#","apiVersion":""#)?)?;
    let version = GroupVersion::parse(version)?;
    let gvk = GroupVersionKind::new(&version.group, &version.version, kind);
    home(&gvk)?;
    let (gvk, mut object) = at_home(gvk, serde_json::from_slice(value).ok()?);
    default(&gvk, &mut object);
    Some(written(&gvk, &object))
}

/// What stands before the next quotation mark, and what follows it.
fn quoted(text: &[u8]) -> Option<(&str, &[u8])> {
    let end = memchr::memchr(b'"', text)?;
    Some((std::str::from_utf8(&text[..end]).ok()?, &text[end + 1..]))
}

/// The version in which a kind of another version is served, if that one is not.
fn home(gvk: &GroupVersionKind) -> Option<&'static schema::Resource> {
    let of_kind = |resource: &&schema::Resource| {
        resource.kind == gvk.kind && resource.group == gvk.group && resource.is_own_kind() && resource.storage.is_some()
    };
    let mut versions = schema::table().resources().filter(of_kind);
    let first = versions.next()?;
    let is_served = std::iter::once(first).chain(versions).any(|resource| resource.version == gvk.version);
    (!is_served).then_some(first)
}

/// An object in the version that is served.
fn at_home(gvk: GroupVersionKind, mut object: Value) -> (GroupVersionKind, Value) {
    let Some(home) = home(&gvk) else { return (gvk, object) };
    if definition::is_old(&gvk) {
        definition::convert(&mut object);
    }
    // Fields that only the other version has go.
    let decoded = home.type_id.and_then(|id| schema::decode_value(object.clone(), id).ok());
    let mut object = decoded.map_or(object, |decoded| decoded.value);
    api::meta::as_object_mut(&mut object).insert("apiVersion".to_owned(), home.api_version().into());
    (GroupVersionKind::new(home.group, home.version, home.kind), object)
}

/// Fills what upstream fills whenever it decodes and does not always store: a new claim's phase, or what an older
/// release did not know.
fn default(gvk: &GroupVersionKind, object: &mut Value) {
    let Some(resource) = schema::table().resource_of_kind(&gvk.group, &gvk.version, &gvk.kind) else { return };
    if let Some(id) = resource.type_id {
        schema::apply_defaults(id, object);
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
mod tests;
