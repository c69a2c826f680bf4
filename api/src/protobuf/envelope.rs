//! `runtime.Unknown`: what is around every object, saying what it is.

use std::convert::Infallible;

use super::MAGIC;
use super::wire::{BYTES, DecodeError, Reader, Writer};
use crate::{GroupVersion, GroupVersionKind};

const OWNER: &str = "Unknown";

/// An object's envelope; the names are empty when absent.
#[derive(Default)]
pub(super) struct Envelope<'a> {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) raw: &'a [u8],
}

impl Envelope<'_> {
    /// The names as upstream understands them: a malformed version counts as none.
    pub(super) fn gvk(&self) -> GroupVersionKind {
        let parsed = GroupVersion::parse(&self.api_version).unwrap_or_else(|| GroupVersion::new("", ""));
        GroupVersionKind::new(&parsed.group, &parsed.version, &self.kind)
    }
}

/// Opens an envelope that begins with the magic bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let refuse = |text: &str| Err(DecodeError::Value(text.to_owned()));
    let body = match bytes.strip_prefix(&MAGIC) {
        None if bytes.is_empty() => return refuse("empty data"),
        None => {
            return refuse("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]");
        }
        Some([]) => return refuse("empty body"),
        Some(body) => body,
    };
    let mut envelope = Envelope::default();
    let mut reader = Reader::new(body);
    while let Some((number, wire)) = reader.key(OWNER)? {
        match (number, wire) {
            (1, BYTES) => type_meta(reader.bytes()?, &mut envelope)?,
            (2, BYTES) => envelope.raw = reader.bytes()?,
            (1, wire) => return Err(DecodeError::Field { field: "TypeMeta", wire }),
            (2, wire) => return Err(DecodeError::Field { field: "Raw", wire }),
            _ => reader.skip(wire)?,
        }
    }
    Ok(envelope)
}

fn type_meta(bytes: &[u8], envelope: &mut Envelope<'_>) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.key("TypeMeta")? {
        match (number, wire) {
            (1, BYTES) => envelope.api_version = String::from_utf8_lossy(reader.bytes()?).into_owned(),
            (2, BYTES) => envelope.kind = String::from_utf8_lossy(reader.bytes()?).into_owned(),
            (1, wire) => return Err(DecodeError::Field { field: "APIVersion", wire }),
            (2, wire) => return Err(DecodeError::Field { field: "Kind", wire }),
            _ => reader.skip(wire)?,
        }
    }
    Ok(())
}

/// Writes an envelope around the message that `raw` writes.
pub(super) fn write<E>(
    out: Vec<u8>,
    api_version: &str,
    kind: &str,
    raw: impl FnOnce(&mut Writer) -> Result<(), E>,
) -> Result<Vec<u8>, E> {
    let mut writer = head(out, api_version, kind);
    writer.message(2, raw)?;
    tail(&mut writer);
    Ok(writer.finish())
}

/// What stands before a message of a known length.
pub(super) fn before(api_version: &str, kind: &str, length: usize) -> Vec<u8> {
    let mut writer = head(Vec::new(), api_version, kind);
    writer.length(2, length);
    writer.finish()
}

/// What stands behind it.
pub(super) fn after() -> Vec<u8> {
    let mut writer = Writer::default();
    tail(&mut writer);
    writer.finish()
}

fn head(out: Vec<u8>, api_version: &str, kind: &str) -> Writer {
    let mut out = out;
    out.extend_from_slice(&MAGIC);
    let mut writer = Writer::after(out);
    let Ok(()) = writer.message(1, |writer| {
        writer.bytes(1, api_version.as_bytes());
        writer.bytes(2, kind.as_bytes());
        Ok::<(), Infallible>(())
    });
    writer
}

/// Content encoding and type, which Go writes although they are empty.
fn tail(writer: &mut Writer) {
    writer.bytes(3, b"");
    writer.bytes(4, b"");
}
