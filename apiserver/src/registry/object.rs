//! Objects as they are stored, cached and sent: encoded once, spliced ever after.
//!
//! ```text
//! {"kind":"Pod","apiVersion":"v1","metadata":{"name":"web",...},"spec":...}
//! |<------------- head ----------->|<-- M -->|
//! ```
//! The stored form has no `resourceVersion`, because it is known only after the write, and `managedFields` first, so
//! that a write can cut them out and need not read them. Where `M` ends is known from the resource alone, so a full object, a list's item (without kind and apiVersion, as upstream's typed items) and a
//! watch event are copies of the stored bytes with the version put in, whatever the object's size.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use api::{Map, Value};
use bytes::Bytes;
use serde::Deserialize;

use kinds::Strategy;

use super::index;

#[cfg(test)]
mod tests;

const METADATA: &[u8] = b"\"metadata\":{";
const MANAGED: &[u8] = b"\"managedFields\":";

/// The bytes with which every stored object of a resource begins.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    /// Where the list's item begins, without its brace.
    item: usize,
}

impl Head {
    pub(crate) fn new(kind: &str, api_version: &str) -> Self {
        let mut bytes = format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",").into_bytes();
        let item = bytes.len();
        bytes.extend_from_slice(METADATA);
        Self { bytes, item }
    }

    /// Encodes an object for the store, with the text of its managed fields, which may be empty. Kind, API version,
    /// resource version and managed fields are not taken from the object.
    pub(crate) fn encode(&self, object: &Value, managed: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(1024 + managed.len());
        out.extend_from_slice(&self.bytes);
        if !managed.is_empty() {
            out.extend_from_slice(MANAGED);
            out.extend_from_slice(managed);
            out.push(b',');
        }
        let start = out.len();
        let empty = Map::new();
        let apart = ["resourceVersion", "managedFields"];
        write_fields(&mut out, api::meta::metadata(object).unwrap_or(&empty), &apart);
        if out.len() == start && !managed.is_empty() {
            out.pop();
        }
        out.push(b'}');
        if let Some(root) = object.as_object() {
            let start = out.len();
            out.push(b',');
            write_fields(&mut out, root, &["kind", "apiVersion", "metadata"]);
            if out.len() == start + 1 {
                out.truncate(start);
            }
        }
        out.push(b'}');
        // As large as it is, no larger: it is kept, in the store and in the cache.
        Bytes::from(out.into_boxed_slice())
    }

    /// The bytes in the stored form, whoever wrote them.
    ///
    /// # Errors
    /// When they are no JSON object.
    pub(crate) fn canonical(&self, bytes: &Bytes) -> Result<Bytes, serde_json::Error> {
        if bytes.starts_with(&self.bytes) {
            let in_place = bytes[self.bytes.len()..].starts_with(MANAGED);
            if in_place || memchr::memmem::find(bytes, MANAGED).is_none() {
                return Ok(bytes.clone());
            }
        }
        let tree: Value = serde_json::from_slice(bytes)?;
        let managed = api::meta::metadata(&tree).and_then(|metadata| metadata.get("managedFields"));
        let managed = managed.filter(|managed| managed.as_array().is_some_and(|entries| !entries.is_empty()));
        let managed = managed.map(serde_json::to_vec).transpose()?;
        Ok(self.encode(&tree, &managed.unwrap_or_default()))
    }

    /// Writes the whole object at a revision; at 0, which is never stored, without one.
    pub(crate) fn write_full(&self, out: &mut Vec<u8>, raw: &[u8], revision: u64) {
        out.reserve(raw.len() + 48);
        out.extend_from_slice(&self.bytes);
        self.write_rest(out, raw, revision);
    }

    /// Writes the object as an item of a list at a revision.
    pub(crate) fn write_item(&self, out: &mut Vec<u8>, raw: &[u8], revision: u64) {
        out.reserve(raw.len() + 48);
        out.push(b'{');
        out.extend_from_slice(&self.bytes[self.item..]);
        self.write_rest(out, raw, revision);
    }

    fn write_rest(&self, out: &mut Vec<u8>, raw: &[u8], revision: u64) {
        let rest = &raw[self.bytes.len()..];
        if revision == 0 {
            out.extend_from_slice(rest);
            return;
        }
        out.extend_from_slice(b"\"resourceVersion\":\"");
        out.extend_from_slice(revision.to_string().as_bytes());
        out.extend_from_slice(if rest.first() == Some(&b'}') { b"\"" } else { b"\"," });
        out.extend_from_slice(rest);
    }
}

/// The text of the managed fields of an object in the stored form; empty when it has none.
pub(crate) fn managed(raw: &[u8]) -> &[u8] {
    let (_, rest) = raw.split_at(metadata_start(raw));
    rest.strip_prefix(MANAGED).map_or(&[], |text| &text[..value_end(text)])
}

/// The tree of an object in the stored form, without its managed fields.
///
/// # Errors
/// When it is no JSON.
pub(crate) fn unmanaged(raw: &[u8]) -> Result<Value, serde_json::Error> {
    match without_managed(raw) {
        Some(text) => serde_json::from_slice(&text),
        None => serde_json::from_slice(raw),
    }
}

/// An object in the stored form without its managed fields; None when it has none.
pub(crate) fn without_managed(raw: &[u8]) -> Option<Vec<u8>> {
    let managed = managed(raw);
    if managed.is_empty() {
        return None;
    }
    let (head, rest) = raw.split_at(metadata_start(raw));
    let rest = &rest[MANAGED.len() + managed.len()..];
    let mut text = Vec::with_capacity(raw.len());
    text.extend_from_slice(head);
    text.extend_from_slice(rest.strip_prefix(b",").unwrap_or(rest));
    Some(text)
}

/// Where the fields of `metadata` begin.
fn metadata_start(raw: &[u8]) -> usize {
    memchr::memmem::find(raw, METADATA).map_or(raw.len(), |at| at + METADATA.len())
}

/// Where the list or object at the start of a text ends.
fn value_end(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = text.get(at) {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth <= 1 => return at + 1,
            b']' | b'}' => depth -= 1,
            b'"' => at += string_length(&text[at..]),
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// The distance from a string's opening quote to its closing one.
fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if text[at] == b'"' {
            return at;
        }
        at += 2;
    }
    text.len()
}

fn write_fields(out: &mut Vec<u8>, map: &Map<String, Value>, without: &[&str]) {
    let mut first = true;
    for (name, value) in map.iter().filter(|(name, _)| !without.contains(&name.as_str())) {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, name).expect("strings always encode");
        out.push(b':');
        serde_json::to_writer(&mut *out, value).expect("trees always encode");
    }
}

type Pairs = Box<[(Box<str>, Box<str>)]>;

/// One stored object in the watch cache. Labels and selectable fields are read out of the bytes when first asked for.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The canonical bytes.
    pub(crate) raw: Bytes,
    /// The revision of its last write.
    pub(crate) revision: u64,
    labels: OnceLock<Pairs>,
    fields: OnceLock<Box<[Box<str>]>>,
}

#[derive(Deserialize)]
struct LabelledMeta<'a> {
    #[serde(borrow, default)]
    labels: Option<BTreeMap<std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>>>,
}

impl Stored {
    pub(crate) fn new(raw: Bytes, revision: u64) -> Self {
        Self { raw, revision, labels: OnceLock::new(), fields: OnceLock::new() }
    }

    /// The object, with its resource version.
    pub(crate) fn tree(&self) -> Value {
        let mut tree: Value = serde_json::from_slice(&self.raw).unwrap_or_default();
        api::meta::set(&mut tree, "resourceVersion", Value::String(self.revision.to_string()));
        tree
    }

    /// One label.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        let labels = self.labels.get_or_init(|| self.read_labels());
        let at = labels.binary_search_by(|(own, _)| (**own).cmp(key)).ok()?;
        Some(&labels[at].1)
    }

    fn read_labels(&self) -> Pairs {
        // The metadata alone: nothing behind it is looked at.
        let metadata = self.raw.get(metadata_start(&self.raw).saturating_sub(1)..).unwrap_or_default();
        let labelled = LabelledMeta::deserialize(&mut serde_json::Deserializer::from_slice(metadata));
        let labels = labelled.ok().and_then(|metadata| metadata.labels);
        let pairs = labels.into_iter().flatten();
        pairs.map(|(key, value)| (key.into_owned().into(), value.into_owned().into())).collect()
    }

    /// The value of one of the strategy's selectable fields, by its place among them.
    pub(crate) fn field(&self, strategy: &dyn Strategy, place: usize) -> &str {
        let fields = self.fields.get_or_init(|| {
            let tree = index::tree_at(&self.raw, strategy.selected_paths());
            let names = strategy.selectable_fields().iter();
            names.map(|name| strategy.selectable_field(&tree, name).into_boxed_str()).collect()
        });
        &fields[place]
    }
}
