//! Protobuf bodies, read into the tree that their JSON form would give.
//!
//! A body is four magic bytes and a `runtime.Unknown` with the object inside; field numbers and wire types are the table's.
//! What protobuf cannot leave out (zero numbers, empty strings) arrives here and is dropped by the decoding that follows, as
//! for JSON. Reading only: answers are JSON, which every client that sends protobuf takes as well.

mod wire;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use self::wire::{Record, Wire, records};
use super::types::{Field, Shape, Type, TypeId};
use super::{Table, table};
use crate::{GroupVersion, GroupVersionKind, Reason, Status};

/// What a protobuf body begins with.
pub const MAGIC: &[u8] = b"k8s\0";

/// Deeper nesting is refused: no type of the table comes near it.
const DEPTH_MAX: usize = 64;

/// A body that does not fit its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The bytes end early, or a tag is not one.
    #[error("proto: the message is cut short or malformed")]
    Malformed,
    /// A field has another wire type than the table says.
    #[error("proto: wrong wireType for field {field} of {type_name}")]
    WireType {
        /// JSON name.
        field: &'static str,
        /// Go's name.
        type_name: &'static str,
    },
    /// A string is not UTF-8, or embedded JSON is not JSON.
    #[error("proto: field {field} of {type_name} cannot be read: {reason}")]
    Value {
        /// JSON name.
        field: &'static str,
        /// Go's name.
        type_name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Nested too deep.
    #[error("proto: nested more than {DEPTH_MAX} deep")]
    Depth,
}

/// Turns a protobuf body into the text of its JSON form. `expected` is used where the body does not say what it is.
///
/// # Errors
/// 400 when it cannot be read.
pub fn protobuf_to_json(body: &[u8], expected: &GroupVersionKind) -> Result<Vec<u8>, Status> {
    let tree = object(body, expected)?;
    serde_json::to_vec(&tree).map_err(|error| Status::internal(error.to_string()))
}

fn object(body: &[u8], expected: &GroupVersionKind) -> Result<Value, Status> {
    let refuse = |error: &dyn std::fmt::Display| Status::new(Reason::BadRequest, error.to_string());
    let Some(rest) = body.strip_prefix(MAGIC) else {
        let prefix = MAGIC.iter().map(|byte| byte.to_string()).collect::<Vec<_>>().join(" ");
        return Err(refuse(&format!(
            "provided data does not appear to be a protobuf message, expected prefix [{prefix}]"
        )));
    };
    let unknown = Unknown::read(rest).map_err(|error| refuse(&error))?;
    let gvk = unknown.kind(expected);
    // Options of a request travel under the group of what they are for.
    let shared = || table().type_of("", "v1", &gvk.kind).filter(|_| gvk.kind.ends_with("Options"));
    let Some(id) = table().kind(&gvk).or_else(shared) else {
        let (kind, version) = (&gvk.kind, gvk.api_version());
        return Err(refuse(&format!("no kind {kind:?} is registered for version {version:?}")));
    };
    let mut fields = Reader { table: table(), depth: 0 }.message(id, unknown.raw).map_err(|error| refuse(&error))?;
    fields.insert("kind".to_owned(), json!(gvk.kind));
    fields.insert("apiVersion".to_owned(), json!(gvk.api_version()));
    Ok(Value::Object(fields))
}

/// `runtime.Unknown`.
#[derive(Default)]
struct Unknown<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

impl<'a> Unknown<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ProtobufError> {
        let mut unknown = Self::default();
        for record in records(bytes) {
            match record? {
                Record { number: 1, value: Wire::Bytes(meta) } => unknown.read_meta(meta)?,
                Record { number: 2, value: Wire::Bytes(raw) } => unknown.raw = raw,
                _ => {}
            }
        }
        Ok(unknown)
    }

    /// `runtime.TypeMeta`.
    fn read_meta(&mut self, bytes: &[u8]) -> Result<(), ProtobufError> {
        for record in records(bytes) {
            match record? {
                Record { number: 1, value: Wire::Bytes(text) } => self.api_version = lossy(text),
                Record { number: 2, value: Wire::Bytes(text) } => self.kind = lossy(text),
                _ => {}
            }
        }
        Ok(())
    }

    fn kind(&self, expected: &GroupVersionKind) -> GroupVersionKind {
        let mut gvk = expected.clone();
        if let Some(version) = GroupVersion::parse(&self.api_version) {
            gvk.group = version.group;
            gvk.version = version.version;
        }
        if !self.kind.is_empty() {
            gvk.kind.clone_from(&self.kind);
        }
        gvk
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[derive(Clone, Copy)]
struct Reader {
    table: &'static Table,
    depth: usize,
}

/// A field and the type it belongs to, for errors.
#[derive(Clone, Copy)]
struct Place {
    field: &'static str,
    type_name: &'static str,
}

impl Place {
    fn wire(self) -> ProtobufError {
        ProtobufError::WireType { field: self.field, type_name: self.type_name }
    }

    fn value(self, reason: impl std::fmt::Display) -> ProtobufError {
        ProtobufError::Value { field: self.field, type_name: self.type_name, reason: reason.to_string() }
    }
}

impl Reader {
    fn deeper(self) -> Result<Self, ProtobufError> {
        let depth = self.depth + 1;
        if depth > DEPTH_MAX { Err(ProtobufError::Depth) } else { Ok(Self { depth, ..self }) }
    }

    fn message(self, id: TypeId, bytes: &[u8]) -> Result<Map<String, Value>, ProtobufError> {
        let mut fields = Map::new();
        self.deeper()?.fields(self.table.get(id), &mut Vec::new(), bytes, &mut fields)?;
        Ok(fields)
    }

    /// Reads a message whose fields belong to `kind`; `path` leads to it where Go inlines a message of its own.
    fn fields(
        self,
        kind: &'static Type,
        path: &mut Vec<u32>,
        bytes: &[u8],
        out: &mut Map<String, Value>,
    ) -> Result<(), ProtobufError> {
        for record in records(bytes) {
            let Record { number, value } = record?;
            path.push(number);
            match find(kind, path) {
                Found::Field(field) => {
                    let place = Place { field: field.name, type_name: kind.go_name };
                    self.field(&field.shape, value, place, out.entry(field.name).or_insert(Value::Null))?;
                }
                Found::Inlined => {
                    let Wire::Bytes(inner) = value else {
                        return Err(ProtobufError::Malformed);
                    };
                    self.deeper()?.fields(kind, path, inner, out)?;
                }
                Found::Nothing => {}
            }
            path.pop();
        }
        Ok(())
    }

    /// Puts one record into its field: repeated ones grow, others replace.
    fn field(self, shape: &Shape, value: Wire<'_>, place: Place, out: &mut Value) -> Result<(), ProtobufError> {
        match shape {
            Shape::List { item, message: false } => {
                let list = as_list(out);
                match (value, &**item) {
                    (Wire::Bytes(packed), Shape::Bool | Shape::Int(_)) => {
                        for number in wire::packed(packed) {
                            list.push(self.value(item, Wire::Varint(number?), place)?);
                        }
                    }
                    (value, item) => list.push(self.value(item, value, place)?),
                }
            }
            Shape::Map(item) => {
                let Wire::Bytes(entry) = value else {
                    return Err(place.wire());
                };
                let (key, value) = self.entry(item, entry, place)?;
                if !out.is_object() {
                    *out = json!({});
                }
                out[key] = value;
            }
            other => *out = self.value(other, value, place)?,
        }
        Ok(())
    }

    fn entry(self, item: &Shape, bytes: &[u8], place: Place) -> Result<(String, Value), ProtobufError> {
        let (mut key, mut value) = (String::new(), Value::Null);
        for record in records(bytes) {
            match record? {
                Record { number: 1, value: Wire::Bytes(text) } => key = utf8(text, place)?,
                Record { number: 2, value: inner } => value = self.value(item, inner, place)?,
                _ => {}
            }
        }
        if value.is_null() {
            // An absent value is the zero one.
            value = self.value(item, Wire::Bytes(&[]), place).unwrap_or(Value::Null);
        }
        Ok((key, value))
    }

    fn value(self, shape: &Shape, value: Wire<'_>, place: Place) -> Result<Value, ProtobufError> {
        match (shape, value) {
            (Shape::Bool, Wire::Varint(number)) => Ok(json!(number != 0)),
            (Shape::Int(kind), Wire::Varint(number)) => Ok(integer(kind, number)),
            (Shape::Float(_), Wire::Fixed64(bits)) => Ok(json!(f64::from_bits(bits))),
            (Shape::Float(_), Wire::Fixed32(bits)) => Ok(json!(f64::from(f32::from_bits(bits)))),
            (shape, Wire::Bytes(bytes)) => self.bytes(shape, bytes, place),
            _ => Err(place.wire()),
        }
    }

    fn bytes(self, shape: &Shape, bytes: &[u8], place: Place) -> Result<Value, ProtobufError> {
        match shape {
            Shape::String => Ok(json!(utf8(bytes, place)?)),
            Shape::Bytes => Ok(json!(STANDARD.encode(bytes))),
            Shape::Quantity => Ok(json!(utf8(first_bytes(bytes)?, place)?)),
            Shape::IntOrString => int_or_string(bytes, place),
            Shape::Time | Shape::MicroTime => time(bytes, matches!(shape, Shape::MicroTime), place),
            Shape::Duration => Ok(json!(format!("{}ns", first_varint(bytes)?.cast_signed()))),
            Shape::FieldsV1 | Shape::Json => embedded_json(first_bytes(bytes)?, place),
            Shape::Raw => self.raw(first_bytes(bytes)?, place),
            Shape::Ref(id) => Ok(Value::Object(self.message(*id, bytes)?)),
            Shape::List { item, .. } => {
                let mut list = json!([]);
                for record in records(bytes) {
                    let Record { value, .. } = record?;
                    as_list(&mut list).push(self.value(item, value, place)?);
                }
                Ok(list)
            }
            Shape::PropsOrArray | Shape::PropsOrBool | Shape::PropsOrStrings => self.props(bytes, place),
            Shape::Map(_) | Shape::Bool | Shape::Int(_) | Shape::Float(_) => Err(place.wire()),
        }
    }

    /// An embedded object: JSON, or protobuf with its own magic.
    fn raw(self, bytes: &[u8], place: Place) -> Result<Value, ProtobufError> {
        if !bytes.starts_with(MAGIC) {
            return embedded_json(bytes, place);
        }
        self.deeper()?;
        object(bytes, &GroupVersionKind::new("", "", "")).map_err(|status| place.value(status.message))
    }

    /// A `JSONSchemaProps`, or what may stand in its place.
    fn props(self, bytes: &[u8], place: Place) -> Result<Value, ProtobufError> {
        let id = self.table.type_by_id("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
        let id = id.ok_or_else(|| place.value("the table has no schema type"))?;
        let (mut one, mut many) = (Value::Null, Vec::new());
        for record in records(bytes) {
            match record?.value {
                Wire::Varint(allows) if one.is_null() => one = json!(allows != 0),
                Wire::Bytes(inner) if one.is_null() || one.is_boolean() => {
                    one = Value::Object(self.message(id, inner)?);
                }
                Wire::Bytes(inner) => many.push(Value::Object(self.message(id, inner)?)),
                _ => {}
            }
        }
        Ok(if many.is_empty() { one } else { Value::Array(many) })
    }
}

enum Found {
    Field(&'static Field),
    /// Fields lie deeper.
    Inlined,
    Nothing,
}

fn find(kind: &'static Type, path: &[u32]) -> Found {
    let mut found = Found::Nothing;
    for field in kind.fields.iter().filter(|field| !is_type_meta(field)) {
        let Some((numbers, _)) = field.protobuf() else {
            continue;
        };
        let numbers: Vec<u32> = numbers.collect();
        if numbers == path {
            return Found::Field(field);
        }
        if numbers.starts_with(path) {
            found = Found::Inlined;
        }
    }
    found
}

/// `kind` and `apiVersion` travel in the envelope.
fn is_type_meta(field: &Field) -> bool {
    field.inlined_in().is_some_and(|inside| inside == "TypeMeta" || inside.ends_with(".TypeMeta"))
}

fn as_list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("made a list above")
}

fn utf8(bytes: &[u8], place: Place) -> Result<String, ProtobufError> {
    String::from_utf8(bytes.to_vec()).map_err(|error| place.value(error))
}

/// Field 1 of a message that has no other.
fn first_bytes(bytes: &[u8]) -> Result<&[u8], ProtobufError> {
    for record in records(bytes) {
        if let Record { number: 1, value: Wire::Bytes(inner) } = record? {
            return Ok(inner);
        }
    }
    Ok(&[])
}

fn first_varint(bytes: &[u8]) -> Result<u64, ProtobufError> {
    for record in records(bytes) {
        if let Record { number: 1, value: Wire::Varint(number) } = record? {
            return Ok(number);
        }
    }
    Ok(0)
}

/// Signed numbers travel as their 64-bit two's complement.
fn integer(kind: &str, number: u64) -> Value {
    if kind.starts_with('u') { json!(number) } else { json!(number.cast_signed()) }
}

fn int_or_string(bytes: &[u8], place: Place) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut text) = (false, 0_i64, String::new());
    for record in records(bytes) {
        match record? {
            Record { number: 1, value: Wire::Varint(kind) } => is_text = kind == 1,
            Record { number: 2, value: Wire::Varint(value) } => number = value.cast_signed(),
            Record { number: 3, value: Wire::Bytes(value) } => text = utf8(value, place)?,
            _ => {}
        }
    }
    Ok(if is_text { json!(text) } else { json!(number) })
}

/// An empty message is the zero time, which is null in JSON.
fn time(bytes: &[u8], micros: bool, place: Place) -> Result<Value, ProtobufError> {
    let (mut seconds, mut nanos) = (None, 0_u64);
    for record in records(bytes) {
        match record? {
            Record { number: 1, value: Wire::Varint(value) } => seconds = Some(value.cast_signed()),
            Record { number: 2, value: Wire::Varint(value) } => nanos = value,
            _ => {}
        }
    }
    let Some(seconds) = seconds else {
        return Ok(Value::Null);
    };
    let nanos = i32::try_from(nanos).map_err(|error| place.value(error))?;
    let at = Timestamp::new(seconds, nanos).map_err(|error| place.value(error))?;
    Ok(json!(if micros { crate::time::micros(at) } else { crate::time::seconds(at) }))
}

fn embedded_json(bytes: &[u8], place: Place) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(bytes).map_err(|error| place.value(error))
}

#[cfg(test)]
mod tests;
