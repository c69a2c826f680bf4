//! Protobuf: the wire's second form of the built-in kinds, made from and turned into trees by the schema table.
//!
//! ```text
//! 6b 38 73 00 | runtime.Unknown { 1: TypeMeta { 1: apiVersion, 2: kind }, 2: raw, 3: contentEncoding, 4: contentType }
//!   magic                                                                 the object's message, without its kind
//! ```
//! Upstream generates code for a thousand messages; here one walk reads any of them and one writes any of them, byte for
//! byte the same. Names, numbers and shapes come from the table ([`crate::schema`]); the few types that write
//! themselves (times, quantities, embedded JSON) are spelled out. Decoding gives the same tree as the JSON of the same
//! object, so that nothing behind it knows which form a client speaks.
//!
//! Architecture invariant: no input panics. Depth and number of messages are bounded, lengths are checked against what
//! is there, and nothing is allocated by a length that a client claims.

mod decode;
mod encode;
mod envelope;
mod node;
mod plan;
mod wire;

#[cfg(test)]
mod tests;

use std::convert::Infallible;

use serde_json::Value;

use crate::schema::{Body, TypeId, body, table};
use crate::{GroupVersionKind, Status};

pub use self::encode::EncodeError;
pub use self::wire::{DecodeError, Writer};

use self::node::Node;

/// What every enveloped object begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// A list's piece is at least this large.
const PIECE_BYTES: usize = 256 * 1024;

const SCHEMA_PROPS: &str = "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

fn schema_props() -> TypeId {
    table().type_by_id(SCHEMA_PROPS).expect("the table has the schema of custom resources")
}

/// Decodes a request's enveloped body for a route that takes `expected`.
///
/// The body may name another version or kind that the table knows; the caller compares [`Body::gvk`].
/// What the envelope does not name is taken from `expected`. A request's options are read in the name of any group.
///
/// # Errors
/// 400 with upstream's texts.
pub fn decode_body(bytes: &[u8], expected: &GroupVersionKind) -> Result<Body, Status> {
    let envelope = envelope::read(bytes).map_err(|error| body::unrecognized(bytes, expected, &error.to_string()))?;
    let mut gvk = envelope.gvk();
    if gvk.kind.is_empty() {
        gvk.kind.clone_from(&expected.kind);
    }
    if gvk.version.is_empty() {
        gvk.group.clone_from(&expected.group);
        gvk.version.clone_from(&expected.version);
    }
    let id = match options_type(&gvk) {
        Some(id) => id,
        None => body::registered(&gvk, expected)?,
    };
    match decode::decode(envelope.raw, id) {
        Ok(value) => Ok(Body { value: with_type(value, &gvk), gvk, strict: Vec::new() }),
        Err(error) => Err(body::cannot_be_handled(&gvk, expected, &error.to_string())),
    }
}

/// Decodes a bare message as a type. The tree has no kind and no API version.
pub fn decode(bytes: &[u8], id: TypeId) -> Result<Value, DecodeError> {
    decode::decode(bytes, id)
}

/// Encodes a tree as a bare message of a type.
pub fn encode(value: &Value, id: TypeId) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::default();
    encode::encode(&mut writer, &value.into(), id)?;
    Ok(writer.finish())
}

/// Encodes a whole object, which names its kind and API version, in its envelope.
pub fn encode_object(value: &Value) -> Result<Vec<u8>, EncodeError> {
    let name = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or("");
    let (version, kind) = (name("apiVersion"), name("kind"));
    let id = type_of(version, kind)?;
    envelope::write(Vec::new(), version, kind, |writer| encode::encode(writer, &value.into(), id))
}

/// Encodes the JSON text of an object in its envelope.
pub fn encode_text(gvk: &GroupVersionKind, text: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let version = gvk.api_version();
    let id = type_of(&version, &gvk.kind)?;
    let node = parse(text)?;
    envelope::write(Vec::with_capacity(text.len()), &version, &gvk.kind, |writer| encode::encode(writer, &node, id))
}

fn parse(text: &[u8]) -> Result<Node<'_>, EncodeError> {
    serde_json::from_slice(text).map_err(|error| EncodeError::Text(error.to_string()))
}

/// Encodes a list in its envelope, as pieces that follow one another. `next` writes the JSON text of the next item,
/// until there is none; only one of them is there at a time. Lengths stand before what they are of, so all of it is
/// encoded before the first byte can go; in pieces, nothing is copied again, and each can be freed when it has gone.
pub fn encode_list(
    gvk: &GroupVersionKind,
    meta: &Value,
    mut next: impl FnMut(&mut Vec<u8>) -> bool,
) -> Result<Vec<Vec<u8>>, EncodeError> {
    let version = gvk.api_version();
    let id = type_of(&version, &gvk.kind)?;
    let of = table().get(id);
    let type_in = |name: &str| of.field(name).and_then(|field| field.shape.innermost_type());
    let (Some(meta_id), Some(item_id)) = (type_in("metadata"), type_in("items")) else {
        return Err(EncodeError::NoForm(of.go_name));
    };
    let mut writer = Writer::default();
    writer.message(1, |writer| encode::encode(writer, &meta.into(), meta_id))?;
    let mut pieces = Vec::new();
    let mut text = Vec::new();
    while next(&mut text) {
        let item = parse(&text)?;
        writer.message(2, |writer| encode::encode(writer, &item, item_id))?;
        text.clear();
        if writer.len() >= PIECE_BYTES {
            pieces
                .push(std::mem::replace(&mut writer, Writer::after(Vec::with_capacity(PIECE_BYTES * 9 / 8))).finish());
        }
    }
    pieces.push(writer.finish());
    let length = pieces.iter().map(Vec::len).sum();
    pieces.insert(0, envelope::before(&version, &gvk.kind, length));
    pieces.push(envelope::after());
    Ok(pieces)
}

/// Frames a watch event: four bytes of length, most significant first, then a bare `WatchEvent` around an enveloped
/// object.
///
/// # Panics
/// Never: an object is far below the four gigabytes that a frame holds.
pub fn write_event(out: &mut Vec<u8>, kind: &str, enveloped: &[u8]) {
    let mut writer = Writer::default();
    writer.bytes(1, kind.as_bytes());
    let Ok(()) = writer.message(2, |writer| {
        writer.bytes(1, enveloped);
        Ok::<(), Infallible>(())
    });
    let frame = writer.finish();
    let length = u32::try_from(frame.len()).expect("an object is below four gigabytes");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&frame);
}

fn type_of(version: &str, kind: &str) -> Result<TypeId, EncodeError> {
    let unknown = || EncodeError::Kind { version: version.to_owned(), kind: kind.to_owned() };
    // The discovery documents of the core group name their kinds alone, as upstream's do.
    let said = if version.is_empty() && matches!(kind, "APIVersions" | "APIResourceList") { "v1" } else { version };
    let parsed = crate::GroupVersion::parse(said).ok_or_else(unknown)?;
    // The objects' metadata alone is the same type in both versions of its group.
    let version = if parsed.group == "meta.k8s.io" { "v1" } else { &parsed.version };
    table().type_of(&parsed.group, version, kind).ok_or_else(unknown)
}

/// The options of a request, which every group has as its own.
fn options_type(gvk: &GroupVersionKind) -> Option<TypeId> {
    let shared = ["CreateOptions", "DeleteOptions", "PatchOptions", "UpdateOptions"].contains(&gvk.kind.as_str());
    table().type_of("", "v1", &gvk.kind).filter(|_| shared)
}

fn with_type(mut value: Value, gvk: &GroupVersionKind) -> Value {
    if let Some(root) = value.as_object_mut() {
        root.insert("kind".to_owned(), gvk.kind.as_str().into());
        root.insert("apiVersion".to_owned(), gvk.api_version().into());
    }
    value
}
