//! A request's body: which kind it says it is, and upstream's 400 answers when it cannot be read.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::decode::{DecodeError, Decoded, decode};
use super::{TypeId, check_syntax, table};
use crate::{GroupVersion, GroupVersionKind, Reason, Status};

/// Upstream shows this much of a body that it does not recognise.
const SUMMARY_BYTES: usize = 30;
/// Upstream's name of the set of all kinds, which messages about unknown ones end with.
pub const SCHEME: &str = "pkg/api/legacyscheme/scheme.go:30";

/// A body that fits the kind it says it is.
#[derive(Clone, Debug)]
pub struct Body {
    /// What the body is; absent parts are taken from the expected kind.
    pub gvk: GroupVersionKind,
    pub value: Value,
    /// What strict field validation refuses, see [`Decoded::strict`].
    pub strict: Vec<String>,
}

/// `apiVersion` and `kind` of a document; empty when absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeMeta {
    pub api_version: String,
    pub kind: String,
}

/// Reads `apiVersion` and `kind` only; the error is upstream's text.
pub fn interpret(text: &[u8]) -> Result<TypeMeta, String> {
    let prefix = "couldn't get version/kind; json parse error";
    check(text).map_err(|error| format!("{prefix}: {error}"))
}

fn check(text: &[u8]) -> Result<TypeMeta, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        api_version: Option<Value>,
        kind: Option<Value>,
    }
    let head: Head = match serde_json::from_slice(text) {
        Ok(Head { api_version, kind }) => Head { api_version, kind },
        Err(_) => {
            check_syntax(text)?;
            return not_an_object(text);
        }
    };
    let text_of = |value: Option<Value>, field: &str| match value {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(other) => {
            let word = word(&other);
            Err(format!("json: cannot unmarshal {word} into Go struct field .{field} of type string"))
        }
    };
    Ok(TypeMeta { api_version: text_of(head.api_version, "apiVersion")?, kind: text_of(head.kind, "kind")? })
}

/// A valid document that serde could not read as an object: another type, or one that only Go accepts.
fn not_an_object(text: &[u8]) -> Result<TypeMeta, String> {
    const HEAD: &str = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";
    match serde_json::from_slice::<Value>(text) {
        Ok(Value::Null) | Err(_) => Ok(TypeMeta::default()),
        Ok(Value::Object(_)) => Ok(TypeMeta::default()),
        Ok(other) => Err(format!("json: cannot unmarshal {} into Go value of type {HEAD}", word(&other))),
    }
}

fn word(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) | Value::Null => "object",
    }
}

/// Decodes a request's JSON body for a route that takes `expected`.
///
/// The body may name another version or kind that the table knows; the caller compares [`Body::gvk`].
pub fn decode_body(text: &[u8], expected: &GroupVersionKind) -> Result<Body, Status> {
    if let Some(body) = decode_plain(text, expected) {
        return Ok(body);
    }
    let meta = interpret(text).map_err(|error| unrecognized(text, expected, &error))?;
    let gvk = resolve(&meta, expected).map_err(|error| unrecognized(text, expected, &error))?;
    let id = registered(&gvk, expected)?;
    match decode(text, id) {
        Ok(Decoded { value, strict }) => Ok(Body { gvk, value, strict }),
        Err(error @ (DecodeError::Syntax(_) | DecodeError::Type(_))) => {
            Err(cannot_be_handled(&gvk, expected, &error.to_string()))
        }
    }
}

/// Reads a body that has nothing wrong with it and says what it is, as most do, without a pass of its own for that. None
/// for any other: what is wrong shows in the order in which upstream looks.
fn decode_plain(text: &[u8], expected: &GroupVersionKind) -> Option<Body> {
    std::str::from_utf8(text).ok()?;
    let mut said = (None, None);
    // An error is how the reading ends early.
    let _ = First(&mut said).deserialize(&mut serde_json::Deserializer::from_slice(text));
    let (Some(api_version), Some(kind)) = said else { return None };
    let gvk = resolve(&TypeMeta { api_version, kind }, expected).ok()?;
    let Decoded { value, strict } = decode(text, table().kind(&gvk)?).ok()?;
    // A repeated field may be one of the two.
    strict.is_empty().then_some(Body { gvk, value, strict })
}

/// Reads API version and kind, and no further.
struct First<'s>(&'s mut (Option<String>, Option<String>));

impl<'de> DeserializeSeed<'de> for First<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for First<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while self.0.0.is_none() || self.0.1.is_none() {
            let Some(name) = map.next_key::<Cow<'de, str>>()? else { return Ok(()) };
            match &*name {
                "apiVersion" => self.0.0 = Some(map.next_value()?),
                "kind" => self.0.1 = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The type of what a body says it is, or upstream's 400.
pub(crate) fn registered(gvk: &GroupVersionKind, expected: &GroupVersionKind) -> Result<TypeId, Status> {
    table().kind(gvk).ok_or_else(|| {
        let (kind, version) = (&gvk.kind, gvk.api_version());
        let scheme = "pkg/runtime/scheme.go:111";
        let error = format!("no kind {kind:?} is registered for version {version:?} in scheme {scheme:?}");
        cannot_be_handled(gvk, expected, &error)
    })
}

/// 400 for a body of a known kind that cannot be read as one.
pub(crate) fn cannot_be_handled(gvk: &GroupVersionKind, expected: &GroupVersionKind, error: &str) -> Status {
    let (kind, version) = (&gvk.kind, &gvk.version);
    let message = format!("{kind} in version {version:?} cannot be handled as a {}: {error}", expected.kind);
    Status::new(Reason::BadRequest, message)
}

fn resolve(meta: &TypeMeta, expected: &GroupVersionKind) -> Result<GroupVersionKind, String> {
    let mut gvk = expected.clone();
    if !meta.kind.is_empty() {
        gvk.kind.clone_from(&meta.kind);
    }
    if !meta.api_version.is_empty() {
        let parsed = GroupVersion::parse(&meta.api_version)
            .ok_or_else(|| format!("unexpected GroupVersion string: {}", meta.api_version))?;
        gvk.group = parsed.group;
        gvk.version = parsed.version;
    }
    Ok(gvk)
}

/// 400 for a body that does not say what it is.
pub(crate) fn unrecognized(text: &[u8], expected: &GroupVersionKind, error: &str) -> Status {
    let summary = summary(text);
    let kind = &expected.kind;
    let message = format!("the object provided is unrecognized (must be of type {kind}): {error} ({summary})");
    Status::new(Reason::BadRequest, message)
}

fn summary(text: &[u8]) -> String {
    if text.is_empty() {
        return "<empty>".to_owned();
    }
    let shown = &text[..text.len().min(SUMMARY_BYTES)];
    let rest = if shown.len() < text.len() { " ..." } else { "" };
    if text[0] == b'{' {
        return format!("{}{rest}", String::from_utf8_lossy(shown));
    }
    let mut out = String::new();
    for byte in shown {
        write!(out, "{byte:02x}").expect("a string takes all text");
    }
    out + rest
}
