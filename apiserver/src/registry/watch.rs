//! Watch: what there is, then every change after it, once and in order.
//!
//! The stream owns a position in the cache's log and nothing else, so a slow client costs no memory and is never cut off
//! while history lasts. Events that are there already go into one write.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::protobuf::{self, EncodeError};
use api::schema;
use api::{Status, Value};
use bytes::Bytes;
use daemon::Drain;
use futures::stream;
use http::{HeaderValue, header};
use jiff::Timestamp;
use serde_json::json;
use store::EventKind;
use store::cache::{Event as CacheEvent, Watcher};

use super::call::Call;
use super::matcher::Matcher;
use super::object::Stored;
use super::options::ListOptions;
use super::resource::Endpoint;
use super::table::{Include, Layout, partial};
use crate::answer::{Body, Response};
use crate::negotiate::{Format, MetaVersion, Transform};

/// Events are gathered into one write up to this size.
const WRITE_BYTES: usize = 64 * 1024;
/// How often a quiet watch tells how far it is.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// The last bookmark goes out this long before the end.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// A watch without `timeoutSeconds` lasts between this and twice this.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The annotation of the bookmark that ends the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

impl Call<'_> {
    /// GET with `watch`.
    pub(crate) async fn watch(&self) -> Result<Response, Status> {
        let options = ListOptions::read(self.context, true)?;
        let matcher = Matcher::new(self.endpoint, &self.path.namespace, &self.path.name, &options)?;
        let form = self.form()?;
        let initial = self.initial(&options, &matcher).await?;
        let started = daemon::clock::monotonic();
        let timeout = options.timeout_seconds.map_or_else(default_timeout, Duration::from_secs);
        let cache = &self.collection().cache;
        let stream = Stream {
            source: cache.watch(initial.revision).map_err(|gone| too_old(initial.revision, gone.oldest)),
            endpoint: self.endpoint.clone(),
            matcher,
            format: self.accept.format,
            form,
            initial: initial.objects.into_iter(),
            end_of_initial: initial.marked.then_some(initial.revision),
            bookmarks: options.bookmarks,
            next_bookmark: started + BOOKMARK_PERIOD,
            deadline: started + timeout,
            drain: self.registry.drain.clone(),
            over: false,
        };
        let stream = stream::unfold(stream, |mut stream| async move {
            let bytes = stream.next().await?;
            Some((Ok::<_, std::convert::Infallible>(bytes), stream))
        });
        let mut response = Response::new(Body::from_stream(stream));
        let content_type = HeaderValue::from_static(self.accept.format.stream_type());
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        Ok(response)
    }

    fn form(&self) -> Result<Form, Status> {
        Ok(match self.accept.transform {
            None => Form::Full,
            Some((Transform::Partial | Transform::PartialList, version)) => Form::Partial(version),
            Some((Transform::Table, version)) => {
                let include = Include::read(self.context)?;
                Form::Table { version, include, now: self.context.now, with_columns: true }
            }
        })
    }

    async fn initial(&self, options: &ListOptions, matcher: &Matcher) -> Result<Initial, Status> {
        let revision = options.revision()?;
        if options.send_initial_events != Some(true) {
            let from = if revision == 0 { self.newest().await?.revision() } else { revision };
            return Ok(Initial { objects: Vec::new(), revision: from, marked: false });
        }
        let snapshot = match options.resource_version.as_str() {
            "0" => self.collection().cache.snapshot(),
            "" => self.newest().await?,
            _ => self.not_older_than(revision).await?,
        };
        let found = snapshot
            .range(&matcher.scope, None)
            .filter(|(key, object)| matcher.covers(key) && matcher.matches(self.endpoint, key, object));
        let objects = found.map(|(_, object)| object.clone()).collect();
        Ok(Initial { objects, revision: snapshot.revision(), marked: options.bookmarks })
    }
}

/// Where a watch starts.
struct Initial {
    objects: Vec<Arc<Stored>>,
    revision: u64,
    /// Their end is told by a bookmark.
    marked: bool,
}

/// What the events carry.
enum Form {
    Full,
    Partial(MetaVersion),
    Table { version: MetaVersion, include: Include, now: Timestamp, with_columns: bool },
}

/// A running watch.
struct Stream {
    source: Result<Watcher<Stored>, Status>,
    endpoint: Arc<Endpoint>,
    matcher: Matcher,
    format: Format,
    form: Form,
    initial: std::vec::IntoIter<Arc<Stored>>,
    end_of_initial: Option<u64>,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    drain: Drain,
    over: bool,
}

/// Why a stream stopped waiting.
enum Woken {
    Event(Arc<CacheEvent<Stored>>),
    Failed(Status),
    Bookmark,
    End,
}

impl Stream {
    /// The next bytes; None at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let mut out = Vec::new();
        self.write_initial(&mut out);
        self.write_ready(&mut out);
        while out.is_empty() && !self.over {
            match self.wait().await {
                Woken::Event(event) => {
                    self.write_event(&mut out, &event);
                    self.write_ready(&mut out);
                }
                Woken::Failed(status) => self.fail(&mut out, &status),
                Woken::Bookmark => self.write_periodic_bookmark(&mut out),
                Woken::End => self.over = true,
            }
        }
        (!out.is_empty()).then(|| out.into())
    }

    async fn wait(&mut self) -> Woken {
        let bookmark = self.next_bookmark.min(self.last_bookmark());
        let watcher = match &mut self.source {
            Ok(watcher) => watcher,
            Err(status) => return Woken::Failed(status.clone()),
        };
        tokio::select! {
            biased;
            () = self.drain.cancelled() => Woken::End,
            event = watcher.next() => match event {
                Ok(event) => Woken::Event(event),
                Err(gone) => Woken::Failed(too_old(gone.requested, gone.oldest)),
            },
            () = tokio::time::sleep_until(self.deadline.into()) => Woken::End,
            () = tokio::time::sleep_until(bookmark.into()), if self.bookmarks => Woken::Bookmark,
        }
    }

    fn last_bookmark(&self) -> Instant {
        self.deadline.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(self.deadline)
    }

    /// What there was when the watch began, piece by piece.
    fn write_initial(&mut self, out: &mut Vec<u8>) {
        while out.len() < WRITE_BYTES {
            let Some(object) = self.initial.next() else { break };
            self.write_object(out, "ADDED", &object.raw, object.revision);
        }
        if out.len() < WRITE_BYTES
            && let Some(revision) = self.end_of_initial.take()
        {
            self.write_bookmark(out, revision, true);
        }
    }

    /// Events that are there already.
    fn write_ready(&mut self, out: &mut Vec<u8>) {
        while out.len() < WRITE_BYTES && self.initial.len() == 0 && self.end_of_initial.is_none() && !self.over {
            let Ok(watcher) = &mut self.source else { return };
            match watcher.try_next() {
                Ok(Some(event)) => self.write_event(out, &event),
                Ok(None) => return,
                Err(gone) => self.fail(out, &too_old(gone.requested, gone.oldest)),
            }
        }
    }

    fn write_event(&mut self, out: &mut Vec<u8>, event: &CacheEvent<Stored>) {
        if !self.matcher.covers(&event.key) {
            return;
        }
        let matches = |object: &Option<Arc<Stored>>| {
            object.as_deref().is_some_and(|object| self.matcher.matches(&self.endpoint, &event.key, object))
        };
        let now = event.kind == EventKind::Put && matches(&event.current);
        let before = matches(&event.previous);
        let (kind, object) = match (before, now) {
            (false, true) => ("ADDED", &event.current),
            (true, true) => ("MODIFIED", &event.current),
            // The client knows the object as it was; the version says when it went.
            (true, false) => ("DELETED", &event.previous),
            (false, false) => return,
        };
        if let Some(object) = object {
            self.write_object(out, kind, &object.raw, event.revision);
        }
    }

    fn write_object(&mut self, out: &mut Vec<u8>, kind: &str, raw: &Bytes, revision: u64) {
        if matches!(self.form, Form::Full) && self.format == Format::Json {
            out.extend_from_slice(b"{\"type\":\"");
            out.extend_from_slice(kind.as_bytes());
            out.extend_from_slice(b"\",\"object\":");
            self.endpoint.write_full(out, raw, revision);
            out.extend_from_slice(b"}\n");
            return;
        }
        if matches!(self.form, Form::Full) {
            let mut text = Vec::new();
            self.endpoint.write_full(&mut text, raw, revision);
            return self.write_protobuf(out, kind, protobuf::encode_text(&self.endpoint.table.gvk(), &text));
        }
        match self.endpoint.collection.tree(raw, revision) {
            Ok(stored) => {
                let object = self.transformed(stored);
                self.write_frame(out, kind, &object);
            }
            Err(status) => self.fail(out, &status),
        }
    }

    fn transformed(&mut self, stored: Value) -> Value {
        match &mut self.form {
            Form::Full => self.endpoint.served(stored),
            Form::Partial(version) => partial(stored, *version),
            Form::Table { version, include, now, with_columns } => {
                let columns = &self.endpoint.table.columns;
                let layout = Layout { version: *version, include: *include, columns, now: *now };
                let meta = json!({ "resourceVersion": api::meta::resource_version(&stored) });
                let row = layout.row(&self.endpoint, stored);
                layout.table(meta, vec![row], std::mem::take(with_columns))
            }
        }
    }

    fn write_periodic_bookmark(&mut self, out: &mut Vec<u8>) {
        let now = daemon::clock::monotonic();
        self.next_bookmark =
            if now >= self.last_bookmark() { self.deadline + BOOKMARK_PERIOD } else { now + BOOKMARK_PERIOD };
        if now >= self.last_bookmark() {
            self.bookmarks = false;
        }
        let Ok(watcher) = &self.source else { return };
        let revision = watcher.revision();
        self.write_bookmark(out, revision, false);
    }

    fn write_bookmark(&mut self, out: &mut Vec<u8>, revision: u64, ends_initial: bool) {
        let mut object = empty_object(self.endpoint.table);
        api::meta::set(&mut object, "resourceVersion", revision.to_string().into());
        if ends_initial {
            api::meta::set(&mut object, "annotations", json!({ INITIAL_EVENTS_END: "true" }));
        }
        // The empty object is one of the served version already; only its form may differ.
        let object = match self.form {
            Form::Full => object,
            _ => self.transformed(object),
        };
        self.write_frame(out, "BOOKMARK", &object);
    }

    fn fail(&mut self, out: &mut Vec<u8>, status: &Status) {
        self.write_frame(out, "ERROR", &status.to_value());
        self.over = true;
    }

    fn write_frame(&mut self, out: &mut Vec<u8>, kind: &str, object: &Value) {
        if self.format == Format::Protobuf {
            return self.write_protobuf(out, kind, protobuf::encode_object(object));
        }
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        serde_json::to_writer(&mut *out, object).expect("trees always encode");
        out.extend_from_slice(b"}\n");
    }

    fn write_protobuf(&mut self, out: &mut Vec<u8>, kind: &str, encoded: Result<Vec<u8>, EncodeError>) {
        match encoded {
            Ok(bytes) => protobuf::write_event(out, kind, &bytes),
            Err(error) => {
                tracing::warn!(%error, "a watch ends at an object without a protobuf form");
                self.over = true;
            }
        }
    }
}

/// An object of a kind with nothing in it, as Go writes it.
fn empty_object(table: &schema::Resource) -> Value {
    let decoded = table.type_id.and_then(|id| schema::decode_value(json!({}), id).ok());
    let mut object = decoded.map_or_else(|| json!({}), |decoded| decoded.value);
    let root = api::meta::as_object_mut(&mut object);
    root.insert("kind".to_owned(), table.kind.into());
    root.insert("apiVersion".to_owned(), table.api_version().into());
    object
}

fn too_old(requested: u64, oldest: u64) -> Status {
    Status::expired(format!("too old resource version: {requested} ({oldest})"))
}

fn default_timeout() -> Duration {
    DEFAULT_TIMEOUT.mul_f64(1.0 + rand::random::<f64>())
}
