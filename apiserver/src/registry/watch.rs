//! Watch: what there is, then every change after it, once and in order.
//!
//! The stream owns a position in the cache's log and nothing else, so a slow client costs no memory and is never cut off
//! while history lasts. Events that are there already go into one write.

mod frames;

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::schema;
use api::{Reason, Status, Value};
use bytes::Bytes;
use daemon::Drain;
use futures::stream;
use http::{HeaderValue, header};
use serde_json::json;
use store::cache::{Class, Event as CacheEvent, Made, Watcher};

use self::frames::{Form, Frames, Unwritten};
use super::call::Call;
use super::matcher::Matcher;
use super::object::Stored;
use super::options::{ListOptions, parse_revision};
use super::table::Include;
use crate::answer::{Body, Response};
use crate::negotiate::Transform;

/// Events are gathered into one write up to this size.
const WRITE_BYTES: usize = 64 * 1024;
/// So many events are looked at in one go, wanted or not. A long history of what is not wanted has to leave others time.
const LOOKED_AT_MAX: usize = 128;
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
        let frames =
            Frames { endpoint: self.endpoint.clone(), matcher: Arc::new(matcher), format: self.accept.format, form };
        let started = daemon::clock::monotonic();
        let timeout = options.timeout_seconds.map_or_else(default_timeout, Duration::from_secs);
        let cache = &self.collection().cache;
        let stream = Stream {
            source: cache.watch(initial.revision).map_err(|gone| too_old(initial.revision, gone.oldest)),
            class: frames.class(),
            with_columns: matches!(frames.form, Form::Table { .. }),
            frames,
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
                Form::Table { version, include, now: self.context.now }
            }
        })
    }

    async fn initial(&self, options: &ListOptions, matcher: &Matcher) -> Result<Initial, Status> {
        let refused = |error| Status::new(Reason::Unknown(500), error);
        let revision = parse_revision(&options.resource_version).map_err(refused)?;
        if options.send_initial_events != Some(true) {
            let from = if revision == 0 { self.newest().await?.revision() } else { revision };
            return Ok(Initial { objects: Vec::new(), revision: from, marked: false });
        }
        let snapshot = match options.resource_version.as_str() {
            "0" => self.collection().cache.snapshot(),
            "" => self.newest().await?,
            _ => self.not_older_than(revision).await?,
        };
        let found = matcher
            .candidates(&snapshot, None)
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

/// A running watch.
struct Stream {
    source: Result<Watcher<Stored>, Status>,
    frames: Frames,
    /// Those who want the same; None when nothing can be shared.
    class: Option<Arc<Class<Stored>>>,
    /// The next table carries the columns.
    with_columns: bool,
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
        for _ in 0..LOOKED_AT_MAX {
            let is_behind = self.initial.len() > 0 || self.end_of_initial.is_some();
            if out.len() >= WRITE_BYTES || is_behind || self.over {
                return;
            }
            let Ok(watcher) = &mut self.source else { return };
            match watcher.try_next() {
                Ok(Some(event)) => self.write_event(out, &event),
                Ok(None) => return,
                Err(gone) => self.fail(out, &too_old(gone.requested, gone.oldest)),
            }
        }
    }

    fn write_event(&mut self, out: &mut Vec<u8>, event: &CacheEvent<Stored>) {
        match self.class.as_ref().map(|class| class.of(event)) {
            Some(Made::Nothing) => {}
            Some(Made::Frame(frame)) => out.extend_from_slice(&frame),
            // Whoever has to say why it cannot go on writes alone.
            Some(Made::End) | None => {
                if let Some((kind, object)) = self.frames.change(event) {
                    self.write_object(out, kind, &object.raw, event.revision);
                }
            }
        }
    }

    fn write_object(&mut self, out: &mut Vec<u8>, kind: &str, raw: &Bytes, revision: u64) {
        let with_columns = std::mem::take(&mut self.with_columns);
        match self.frames.write_object(out, kind, (raw, revision), with_columns) {
            Ok(()) => {}
            Err(Unwritten::Refused(status)) => self.fail(out, &status),
            Err(Unwritten::NoForm(error)) => self.end(&error),
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
        let mut object = empty_object(self.frames.endpoint.table);
        self.frames.endpoint.strategy.fill_empty(&mut object);
        api::meta::set(&mut object, "resourceVersion", revision.to_string().into());
        if ends_initial {
            let annotations = kinds::tree::enter(kinds::tree::enter(&mut object, "metadata"), "annotations");
            kinds::tree::put(annotations, INITIAL_EVENTS_END, "true");
        }
        // The empty object is one of the served version already; only its form may differ.
        let object = match self.frames.form {
            Form::Full => object,
            _ => self.frames.transformed(object, std::mem::take(&mut self.with_columns)),
        };
        self.write_value(out, "BOOKMARK", &object);
    }

    fn fail(&mut self, out: &mut Vec<u8>, status: &Status) {
        self.write_value(out, "ERROR", &status.to_value());
        self.over = true;
    }

    fn write_value(&mut self, out: &mut Vec<u8>, kind: &str, object: &Value) {
        if let Err(error) = self.frames.write_value(out, kind, object) {
            self.end(&error);
        }
    }

    fn end(&mut self, error: &api::protobuf::EncodeError) {
        tracing::warn!(%error, "a watch ends at an object without a protobuf form");
        self.over = true;
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
