//! `metadata.managedFields`: who owns which paths, read from and written to the form of the wire.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Deserializer};

use super::set::{Set, read_set};

/// Upstream keeps this many entries of updates; older ones become one.
const MAX_UPDATE_MANAGERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// How a manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn word(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One manager and the paths it owns.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) manager: Cow<'a, str>,
    pub(super) operation: Operation,
    pub(super) api_version: Cow<'a, str>,
    pub(super) subresource: Cow<'a, str>,
    /// As on the wire; None when nobody has said.
    pub(super) time: Option<Cow<'a, str>>,
    pub(super) set: Set<'a>,
}

impl Entry<'_> {
    /// Two entries of one manager are one. Who applies is one manager whatever the version.
    pub(super) fn is_same_manager(&self, other: &Entry<'_>) -> bool {
        self.operation == other.operation
            && self.manager == other.manager
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// What upstream sorts managers by where it has no better order.
    pub(super) fn identity(&self) -> String {
        let mut text = String::from("{");
        let version = if self.operation == Operation::Apply { "" } else { &*self.api_version };
        let fields = [
            ("manager", &*self.manager),
            ("operation", self.operation.word()),
            ("apiVersion", version),
            ("subresource", &*self.subresource),
        ];
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            let comma = if text.len() > 1 { "," } else { "" };
            text.push_str(&format!("{comma}\"{name}\":{}", serde_json::Value::from(value)));
        }
        text.push('}');
        text
    }

    fn seconds(&self) -> i64 {
        self.time.as_deref().and_then(crate::time::parse).map_or(0, jiff::Timestamp::as_second)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let text = |out: &mut Vec<u8>, name: &str, value: &str| {
            if value.is_empty() {
                return;
            }
            if out.last() != Some(&b'{') {
                out.push(b',');
            }
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            serde_json::to_writer(out, value).expect("strings always encode");
        };
        out.push(b'{');
        text(out, "manager", &self.manager);
        text(out, "operation", self.operation.word());
        text(out, "apiVersion", &self.api_version);
        text(out, "time", self.time.as_deref().unwrap_or(""));
        out.extend_from_slice(b",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":");
        self.set.write(out);
        text(out, "subresource", &self.subresource);
        out.push(b'}');
    }
}

/// As in messages: `"kubectl" using v1`.
impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.api_version),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow, default)]
    manager: Cow<'a, str>,
    #[serde(borrow, default)]
    operation: Cow<'a, str>,
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    time: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    fields_type: Cow<'a, str>,
    #[serde(borrow, default)]
    fields_v1: Fields<'a>,
    #[serde(borrow, default)]
    subresource: Cow<'a, str>,
}

#[derive(Default)]
struct Fields<'a>(Set<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        read_set(reader).map(Self)
    }
}

/// Reads a list of entries; the empty text is an empty list.
///
/// # Errors
/// In upstream's words.
pub(super) fn decode(text: &str) -> Result<Vec<Entry<'_>>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let wire: Vec<Wire<'_>> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut entries: Vec<Entry<'_>> = Vec::with_capacity(wire.len() + 1);
    for (place, wire) in wire.into_iter().enumerate() {
        let entry = checked(place, wire)?;
        match entries.iter_mut().find(|known| known.is_same_manager(&entry)) {
            Some(known) => *known = entry,
            None => entries.push(entry),
        }
    }
    Ok(entries)
}

fn checked(place: usize, wire: Wire<'_>) -> Result<Entry<'_>, String> {
    let operation = match &*wire.operation {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err("operation must be `Apply` or `Update`".to_owned()),
    };
    if wire.api_version.is_empty() {
        return Err("apiVersion must not be empty".to_owned());
    }
    match &*wire.fields_type {
        "FieldsV1" => {}
        "" => return Err(format!("missing fieldsType in managed fields entry {place}")),
        other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {place}")),
    }
    let time = wire.time.map(|time| match crate::time::parse(&time) {
        Some(at) if !time.ends_with('Z') || time.contains('.') => Cow::Owned(crate::time::seconds(at)),
        _ => time,
    });
    Ok(Entry {
        manager: wire.manager,
        operation,
        api_version: wire.api_version,
        subresource: wire.subresource,
        time,
        set: wire.fields_v1.0,
    })
}

/// Writes a list of entries in upstream's order; nothing for none.
pub(super) fn encode(mut entries: Vec<Entry<'_>>) -> Vec<u8> {
    if entries.is_empty() {
        return Vec::new();
    }
    if entries.len() > 1 {
        entries.sort_by_cached_key(|entry| {
            let text = |text: &Cow<'_, str>| text.clone().into_owned();
            let names = (text(&entry.manager), text(&entry.api_version), text(&entry.subresource));
            (entry.operation, entry.seconds(), names)
        });
    }
    let mut out = Vec::with_capacity(1024);
    for (place, entry) in entries.iter().enumerate() {
        out.push(if place == 0 { b'[' } else { b',' });
        entry.write(&mut out);
    }
    out.push(b']');
    out
}

/// Keeps the number of updating managers bounded: the oldest become one per version.
pub(super) fn cap(entries: &mut Vec<Entry<'_>>) {
    let is_update = |entry: &Entry<'_>| entry.operation == Operation::Update;
    let mut count = entries.iter().filter(|entry| is_update(entry)).count();
    if count <= MAX_UPDATE_MANAGERS {
        return;
    }
    let mut oldest: Vec<(i64, String)> =
        entries.iter().filter(|entry| is_update(entry)).map(|entry| (entry.seconds(), entry.identity())).collect();
    oldest.sort();
    let mut first_of: HashMap<String, String> = HashMap::new();
    for (_, identity) in oldest {
        if count <= MAX_UPDATE_MANAGERS {
            return;
        }
        let Some(at) = entries.iter().position(|entry| is_update(entry) && entry.identity() == identity) else {
            continue;
        };
        let version = entries[at].api_version.clone().into_owned();
        let Some(first) = first_of.get(&version) else {
            first_of.insert(version, identity);
            continue;
        };
        let merged = entries.remove(at);
        count -= 1;
        let in_bucket = |entry: &Entry<'_>| {
            is_update(entry) && entry.manager == ANCIENT && entry.subresource.is_empty() && entry.api_version == version
        };
        let bucket = entries.iter().position(in_bucket);
        let bucket = bucket.or_else(|| entries.iter().position(|e| is_update(e) && e.identity() == *first));
        let Some(bucket) = bucket.map(|at| &mut entries[at]) else { continue };
        bucket.manager = Cow::Borrowed(ANCIENT);
        bucket.subresource = Cow::Borrowed("");
        bucket.set = merged.set.union(&bucket.set);
        bucket.time = merged.time;
    }
}

/// True when two lists differ in nothing but times.
pub(super) fn differ_in_times_only(one: &str, two: &str) -> bool {
    let (Ok(one), Ok(two)) = (decode(one), decode(two)) else { return false };
    let same = |a: &Entry<'_>, b: &Entry<'_>| a.is_same_manager(b) && a.api_version == b.api_version && a.set == b.set;
    !one.is_empty() && one.len() == two.len() && one.iter().zip(&two).all(|(a, b)| same(a, b))
}
