//! From a tree to a message, byte for byte as upstream writes it.
//!
//! Go's generated code writes what is no pointer always, zero or not, and a pointer when it is set. Fields that the type
//! does not have are left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::node::Node;
use super::plan::{Entry, Target, plan};
use super::schema_props;
use super::wire::Writer;
use crate::schema::{Field, Shape, Type, TypeId, table};
use crate::time;

/// Messages in messages, as in the other direction.
const DEPTH_MAX: usize = 100;

/// Why a tree has no protobuf form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The tree says it is of a kind that the table does not have.
    #[error("no kind {kind:?} is registered for version {version:?}")]
    Kind { version: String, kind: String },
    /// A type without a protobuf form.
    #[error(
        "object *{0} does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message"
    )]
    NoForm(&'static str),
    /// Stored text that is no JSON.
    #[error("encoding an object as protobuf: {0}")]
    Text(String),
    /// A value that does not fit its field's type.
    #[error("encoding field {0} as protobuf: the value does not fit its type")]
    Value(&'static str),
    /// Objects in objects, deeper than any real one.
    #[error("encoding field {0} as protobuf: nested too deeply")]
    Depth(&'static str),
}

/// Where the encoder is: the field for errors, and how deep.
#[derive(Clone, Copy)]
struct At {
    field: &'static str,
    depth: usize,
}

impl At {
    fn wrong(self) -> EncodeError {
        EncodeError::Value(self.field)
    }
}

/// Writes a tree as a message of a type.
pub(super) fn encode(writer: &mut Writer, value: &Node<'_>, id: TypeId) -> Result<(), EncodeError> {
    object(writer, Some(value), id, At { field: "", depth: 0 })
}

fn object(writer: &mut Writer, value: Option<&Node<'_>>, id: TypeId, at: At) -> Result<(), EncodeError> {
    let of = table().get(id);
    if !of.has_protobuf() {
        return Err(EncodeError::NoForm(of.go_name));
    }
    if at.depth >= DEPTH_MAX {
        return Err(EncodeError::Depth(at.field));
    }
    let map = match value {
        None | Some(Node::Null) => &Node::Null,
        Some(map @ Node::Object(_)) => map,
        Some(_) => return Err(at.wrong()),
    };
    fields(writer, map, of, plan(id), At { depth: at.depth + 1, ..at })
}

fn fields(
    writer: &mut Writer,
    map: &Node<'_>,
    of: &'static Type,
    entries: &[Entry],
    at: At,
) -> Result<(), EncodeError> {
    for entry in entries {
        match &entry.target {
            Target::Field(place) => {
                let field = &of.fields[*place];
                let value = map.get(field.name);
                self::field(writer, entry.number, field, value, At { field: field.name, ..at })?;
            }
            Target::Inlined(inner) => writer.message(entry.number, |writer| fields(writer, map, of, inner, at))?,
        }
    }
    Ok(())
}

fn field(writer: &mut Writer, number: u32, field: &Field, value: Option<&Node<'_>>, at: At) -> Result<(), EncodeError> {
    match (&field.shape, value) {
        (Shape::List { .. } | Shape::Map(_) | Shape::Bytes, None) => Ok(()),
        (_, None) if field.is_pointer() => Ok(()),
        (Shape::List { item, message: false }, Some(value)) => {
            value.as_list().ok_or(at.wrong())?.iter().try_for_each(|one| single(writer, number, item, Some(one), at))
        }
        (Shape::Map(item), Some(value)) => {
            value.as_object().ok_or(at.wrong())?.iter().try_for_each(|(key, one)| {
                writer.message(number, |writer| {
                    writer.bytes(1, key.as_bytes());
                    // Go keeps nil bytes apart from empty ones.
                    if *item.as_ref() == Shape::Bytes && one.is_null() {
                        return Ok(());
                    }
                    single(writer, 2, item, Some(one), at)
                })
            })
        }
        (shape, value) => single(writer, number, shape, value, at),
    }
}

/// Writes one value; none is the zero value of its shape.
fn single(
    writer: &mut Writer,
    number: u32,
    shape: &Shape,
    value: Option<&Node<'_>>,
    at: At,
) -> Result<(), EncodeError> {
    let value = value.filter(|value| !value.is_null());
    match shape {
        Shape::Bool => writer.varint(number, u64::from(value.map_or(Some(false), Node::as_bool).ok_or(at.wrong())?)),
        Shape::Int(_) => writer.varint(number, integer(value).ok_or(at.wrong())?),
        Shape::Float("float32") => {
            #[expect(clippy::cast_possible_truncation, reason = "the type is a float32")]
            let float = value.map_or(Some(0.0), Node::as_f64).ok_or(at.wrong())? as f32;
            writer.fixed32(number, float.to_bits());
        }
        Shape::Float(_) => {
            let float = value.map_or(Some(0.0), Node::as_f64).ok_or(at.wrong())?;
            writer.fixed64(number, float.to_bits());
        }
        Shape::String => writer.bytes(number, text(value, at)?.as_bytes()),
        Shape::Bytes => {
            let bytes = STANDARD.decode(text(value, at)?).map_err(|_| at.wrong())?;
            writer.bytes(number, &bytes);
        }
        Shape::Duration => return Err(EncodeError::NoForm(at.field)),
        shape => return writer.message(number, |writer| message(writer, shape, value, at)),
    }
    Ok(())
}

/// Writes what is a message of its own.
fn message(writer: &mut Writer, shape: &Shape, value: Option<&Node<'_>>, at: At) -> Result<(), EncodeError> {
    match (shape, value) {
        (Shape::Ref(id), value) => object(writer, value, *id, at),
        (Shape::Quantity, None) => {
            writer.bytes(1, b"0");
            Ok(())
        }
        (Shape::Quantity, Some(Node::Text(text))) => {
            writer.bytes(1, text.as_bytes());
            Ok(())
        }
        (Shape::Quantity, Some(value)) => {
            let text =
                value.as_f64().and_then(|number| crate::quantity::canonical(&number.into())).ok_or(at.wrong())?;
            writer.bytes(1, text.as_bytes());
            Ok(())
        }
        (Shape::IntOrString, value) => int_or_string(writer, value, at),
        (Shape::Time, Some(value)) => moment(writer, value, false, at),
        (Shape::MicroTime, Some(value)) => moment(writer, value, true, at),
        (Shape::Raw | Shape::Json | Shape::FieldsV1, Some(value)) => {
            writer.bytes(1, &serde_json::to_vec(value).map_err(|_| at.wrong())?);
            Ok(())
        }
        (Shape::PropsOrArray | Shape::PropsOrBool | Shape::PropsOrStrings, value) => props(writer, shape, value, at),
        (Shape::List { item, .. }, value) => {
            let items = value.and_then(Node::as_list).into_iter().flatten();
            items.into_iter().try_for_each(|one| single(writer, 1, item, Some(one), at))
        }
        // A zero time and absent JSON are empty messages.
        (_, None) => Ok(()),
        _ => Err(EncodeError::NoForm(at.field)),
    }
}

#[expect(clippy::cast_sign_loss, reason = "negative numbers are written as 64 bits in two's complement")]
fn integer(value: Option<&Node<'_>>) -> Option<u64> {
    let Some(value) = value else { return Some(0) };
    match value {
        Node::Unsigned(number) => Some(*number),
        Node::Signed(number) => Some(*number as u64),
        _ => None,
    }
}

fn text<'v>(value: Option<&'v Node<'_>>, at: At) -> Result<&'v str, EncodeError> {
    value.map_or(Some(""), Node::as_str).ok_or(at.wrong())
}

fn int_or_string(writer: &mut Writer, value: Option<&Node<'_>>, at: At) -> Result<(), EncodeError> {
    let (kind, number, text) = match value {
        Some(Node::Text(text)) => (1, 0, &**text),
        value => (0, integer(value).ok_or(at.wrong())?, ""),
    };
    writer.varint(1, kind);
    writer.varint(2, number);
    writer.bytes(3, text.as_bytes());
    Ok(())
}

#[expect(clippy::cast_sign_loss, reason = "negative numbers are written as 64 bits in two's complement")]
fn moment(writer: &mut Writer, value: &Node<'_>, micros: bool, at: At) -> Result<(), EncodeError> {
    let moment = value.as_str().and_then(time::parse).ok_or(at.wrong())?;
    let nanos = moment.as_nanosecond().rem_euclid(1_000_000_000);
    let seconds = i64::try_from(moment.as_nanosecond().div_euclid(1_000_000_000)).map_err(|_| at.wrong())?;
    let nanos = u64::try_from(nanos / 1_000 * 1_000).map_err(|_| at.wrong())?;
    writer.varint(1, seconds as u64);
    writer.varint(2, if micros { nanos } else { 0 });
    Ok(())
}

fn props(writer: &mut Writer, shape: &Shape, value: Option<&Node<'_>>, at: At) -> Result<(), EncodeError> {
    let schema = |writer: &mut Writer, number, value| {
        writer.message(number, |writer| object(writer, Some(value), schema_props(), at))
    };
    match (shape, value) {
        (Shape::PropsOrBool, value) => {
            let allows = value.is_some_and(|value| !matches!(value, Node::Bool(false)));
            writer.varint(1, u64::from(allows));
            value.filter(|value| value.as_object().is_some()).map_or(Ok(()), |value| schema(writer, 2, value))
        }
        (_, None) => Ok(()),
        (Shape::PropsOrArray, Some(Node::List(items))) => items.iter().try_for_each(|one| schema(writer, 2, one)),
        (_, Some(Node::List(items))) => {
            items.iter().try_for_each(|one| single(writer, 2, &Shape::String, Some(one), at))
        }
        (_, Some(value)) => schema(writer, 1, value),
    }
}
