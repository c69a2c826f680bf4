//! How a watch tells of objects: which it is about, and their encoded form.
//!
//! All of it depends on the request's selectors, encoding and form alone. Watches that are equal in these are one class
//! (see [`store::cache::Class`]): an event is matched and encoded once for all of them. Tables are not shared: they say
//! how long ago an object was made, and the first of a watch carries the columns.

use std::sync::Arc;

use api::protobuf::{self, EncodeError};
use api::{Status, Value};
use jiff::Timestamp;
use serde_json::json;
use store::EventKind;
use store::cache::{Class, Event, Made};

use crate::negotiate::{Format, MetaVersion};
use crate::registry::matcher::Matcher;
use crate::registry::object::Stored;
use crate::registry::resource::Endpoint;
use crate::registry::table::{Include, Layout};

/// What the events carry.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Full,
    Partial(MetaVersion),
    Table { version: MetaVersion, include: Include, now: Timestamp },
}

/// What a watch is about and how it is written.
#[derive(Clone)]
pub(super) struct Frames {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) matcher: Arc<Matcher>,
    pub(super) format: Format,
    pub(super) form: Form,
}

/// Why an object could not be written.
pub(super) enum Unwritten {
    /// The client is told.
    Refused(Status),
    /// It has no such form, and so a refusal might have none either.
    NoForm(EncodeError),
}

impl From<EncodeError> for Unwritten {
    fn from(error: EncodeError) -> Self {
        Self::NoForm(error)
    }
}

impl Frames {
    /// Those that are equal to this watch; None when it shares nothing.
    pub(super) fn class(&self) -> Option<Arc<Class<Stored>>> {
        let form = match self.form {
            Form::Full => "full".to_owned(),
            Form::Partial(version) => format!("{version:?}"),
            Form::Table { .. } => return None,
        };
        let name = format!("{} {:?} {form} {:?}", self.endpoint.api_version(), self.format, self.matcher);
        let make = || {
            let frames = self.clone();
            Box::new(move |event: &Event<Stored>| frames.make(event)) as _
        };
        Some(self.endpoint.collection.cache.class(name, make))
    }

    fn make(&self, event: &Event<Stored>) -> Made {
        let Some((kind, object)) = self.change(event) else { return Made::Nothing };
        let mut out = Vec::new();
        match self.write_object(&mut out, kind, (&object.raw, event.revision), false) {
            // No larger than it is: it stays as long as somebody may want it.
            Ok(()) => Made::Frame(out.into_boxed_slice().into()),
            Err(_) => Made::End,
        }
    }

    /// What an event is to this watch.
    pub(super) fn change<'e>(&self, event: &'e Event<Stored>) -> Option<(&'static str, &'e Arc<Stored>)> {
        if !self.matcher.covers(&event.key) {
            return None;
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
            (false, false) => return None,
        };
        object.as_ref().map(|object| (kind, object))
    }

    /// Writes a stored object as of a revision.
    pub(super) fn write_object(
        &self,
        out: &mut Vec<u8>,
        kind: &str,
        (raw, revision): (&[u8], u64),
        with_columns: bool,
    ) -> Result<(), Unwritten> {
        if !matches!(self.form, Form::Full) {
            let stored = self.endpoint.collection.tree(raw, revision).map_err(Unwritten::Refused)?;
            return Ok(self.write_value(out, kind, &self.transformed(stored, with_columns))?);
        }
        if self.format == Format::Protobuf {
            let mut text = Vec::new();
            self.endpoint.write_full(&mut text, raw, revision);
            protobuf::write_event(out, kind, &protobuf::encode_text(&self.endpoint.table.gvk(), &text)?);
            return Ok(());
        }
        write_json(out, kind, |out| self.endpoint.write_full(out, raw, revision));
        Ok(())
    }

    /// A stored object in the form of this watch.
    pub(super) fn transformed(&self, stored: Value, with_columns: bool) -> Value {
        match self.form {
            Form::Full => self.endpoint.served(stored),
            Form::Partial(version) => self.endpoint.partial(stored, version),
            Form::Table { version, include, now } => {
                let columns = &self.endpoint.table.columns;
                let layout = Layout { version, include, columns, now };
                let meta = json!({ "resourceVersion": api::meta::resource_version(&stored) });
                let row = layout.row(&self.endpoint, stored);
                layout.table(meta, vec![row], with_columns)
            }
        }
    }

    /// Writes an object that has its form already.
    pub(super) fn write_value(&self, out: &mut Vec<u8>, kind: &str, object: &Value) -> Result<(), EncodeError> {
        if self.format == Format::Protobuf {
            protobuf::write_event(out, kind, &protobuf::encode_object(object)?);
            return Ok(());
        }
        write_json(out, kind, |out| serde_json::to_writer(out, object).expect("trees always encode"));
        Ok(())
    }
}

fn write_json(out: &mut Vec<u8>, kind: &str, object: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object(out);
    out.extend_from_slice(b"}\n");
}
