//! From a message to the tree that upstream's JSON encoder writes of the decoded object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::plan::{Entry, Target, plan};
use super::wire::{BYTES, DecodeError, FIXED32, FIXED64, Reader, VARINT};
use super::{MAGIC, envelope, schema_props};
use crate::quantity::Quantity;
use crate::schema::{Field, Shape, Type, TypeId, normal, table};
use crate::time;

/// Messages in messages. Go has no limit; no real object comes near this one.
const DEPTH_MAX: usize = 100;
/// Messages of one document. Two bytes of an empty one become a tree, so their number has to have a limit.
const MESSAGES_MAX: usize = 300_000;
/// When Go's zero time is, which it writes as null.
const ZERO_TIME_SECONDS: i64 = -62_135_596_800;

/// Decodes a bare message as a type.
pub(super) fn decode(bytes: &[u8], id: TypeId) -> Result<Value, DecodeError> {
    Walk { depth: 0, messages: 0 }.object(bytes, id)
}

struct Walk {
    depth: usize,
    messages: usize,
}

impl Walk {
    fn enter<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, DecodeError>) -> Result<T, DecodeError> {
        self.messages += 1;
        if self.depth >= DEPTH_MAX {
            return Err(DecodeError::Depth(DEPTH_MAX));
        }
        if self.messages > MESSAGES_MAX {
            return Err(DecodeError::Messages(MESSAGES_MAX));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn object(&mut self, bytes: &[u8], id: TypeId) -> Result<Value, DecodeError> {
        let of = table().get(id);
        if !of.has_protobuf() {
            return Err(DecodeError::NoForm(of.go_name));
        }
        self.enter(|walk| {
            let mut values: Vec<Option<Value>> = vec![None; of.fields.len()];
            walk.fields(bytes, of, plan(id), &mut values)?;
            Ok(Value::Object(normal::object(of, &mut values, normal::View::Stored)))
        })
    }

    fn fields(
        &mut self,
        bytes: &[u8],
        of: &'static Type,
        entries: &[Entry],
        values: &mut [Option<Value>],
    ) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.key(of.struct_name())? {
            let Ok(at) = entries.binary_search_by_key(&number, |entry| entry.number) else {
                reader.skip(wire)?;
                continue;
            };
            match &entries[at].target {
                Target::Field(place) => {
                    let field = &of.fields[*place];
                    self.field(&mut reader, wire, field, &mut values[*place])?;
                }
                Target::Inlined(inner) => {
                    let bytes = expect_bytes(&mut reader, wire, of.struct_name())?;
                    self.enter(|walk| walk.fields(bytes, of, inner, values))?;
                }
            }
        }
        Ok(())
    }

    /// Reads one occurrence of a field. Lists and maps grow; of anything else, the last one counts.
    fn field(
        &mut self,
        reader: &mut Reader<'_>,
        wire: u8,
        field: &Field,
        value: &mut Option<Value>,
    ) -> Result<(), DecodeError> {
        match &field.shape {
            Shape::List { item, message: false } => {
                let Value::Array(list) = value.get_or_insert_with(|| Value::Array(Vec::new())) else { return Ok(()) };
                self.items(reader, wire, item, field.name, list)
            }
            Shape::Map(item) => {
                let Value::Object(map) = value.get_or_insert_with(|| Value::Object(Map::new())) else { return Ok(()) };
                let bytes = expect_bytes(reader, wire, field.name)?;
                let (key, entry) = self.entry(bytes, item, field.name)?;
                map.insert(key, normal::item(item, entry));
                Ok(())
            }
            shape => {
                *value = Some(self.single(reader, wire, shape, field.name)?);
                Ok(())
            }
        }
    }

    /// One item, or several numbers in one field, which any writer may choose.
    fn items(
        &mut self,
        reader: &mut Reader<'_>,
        wire: u8,
        item: &Shape,
        name: &'static str,
        list: &mut Vec<Value>,
    ) -> Result<(), DecodeError> {
        let Some(own) = packed_wire(item).filter(|_| wire == BYTES) else {
            self.messages += 1;
            let value = self.single(reader, wire, item, name)?;
            list.push(normal::item(item, value));
            return Ok(());
        };
        let mut packed = Reader::new(reader.bytes()?);
        while !packed.is_empty() {
            list.push(self.single(&mut packed, own, item, name)?);
        }
        Ok(())
    }

    fn entry(&mut self, bytes: &[u8], item: &Shape, name: &'static str) -> Result<(String, Value), DecodeError> {
        self.messages += 1;
        let (mut key, mut value) = (String::new(), None);
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.key(name)? {
            match number {
                1 => key = text(expect_bytes(&mut reader, wire, name)?),
                2 => value = Some(self.single(&mut reader, wire, item, name)?),
                _ => reader.skip(wire)?,
            }
        }
        // What Go begins with: empty, and not nil.
        let empty = || match item {
            Shape::Bytes => Value::String(String::new()),
            Shape::List { .. } => Value::Array(Vec::new()),
            _ => Value::Null,
        };
        Ok((key, value.unwrap_or_else(empty)))
    }

    fn single(
        &mut self,
        reader: &mut Reader<'_>,
        wire: u8,
        shape: &Shape,
        name: &'static str,
    ) -> Result<Value, DecodeError> {
        match (shape, wire) {
            (Shape::Bool, VARINT) => Ok(Value::Bool(reader.varint()? != 0)),
            (Shape::Int(kind), VARINT) => Ok(integer(kind, reader.varint()?)),
            (Shape::Float("float64"), FIXED64) => float(f64::from_bits(reader.fixed64()?)),
            (Shape::Float("float32"), FIXED32) => float(f64::from(f32::from_bits(reader.fixed32()?))),
            (Shape::Bool | Shape::Int(_) | Shape::Float(_), _) => Err(DecodeError::Field { field: name, wire }),
            (shape, wire) => {
                let bytes = expect_bytes(reader, wire, name)?;
                self.delimited(bytes, shape, name)
            }
        }
    }

    /// A value that is written with its length.
    fn delimited(&mut self, bytes: &[u8], shape: &Shape, name: &'static str) -> Result<Value, DecodeError> {
        match shape {
            Shape::String => Ok(Value::String(text(bytes))),
            Shape::Bytes => Ok(Value::String(STANDARD.encode(bytes))),
            Shape::Ref(id) => self.object(bytes, *id),
            Shape::Quantity => quantity(bytes, name),
            Shape::IntOrString => int_or_string(bytes, name),
            Shape::Time => moment(bytes, name, false),
            Shape::MicroTime => moment(bytes, name, true),
            Shape::Raw | Shape::Json | Shape::FieldsV1 => self.embedded(bytes, name),
            Shape::PropsOrArray | Shape::PropsOrBool | Shape::PropsOrStrings => self.props(bytes, shape, name),
            Shape::List { item, .. } => self.enter(|walk| {
                let mut list = Vec::new();
                let mut reader = Reader::new(bytes);
                while let Some((number, wire)) = reader.key(name)? {
                    match number {
                        1 => walk.items(&mut reader, wire, item, name, &mut list)?,
                        _ => reader.skip(wire)?,
                    }
                }
                Ok(Value::Array(list))
            }),
            // Upstream's API has no duration outside of component configurations, and no map in a map.
            _ => Err(DecodeError::NoForm(name)),
        }
    }

    /// JSON in a message of one field, or an object that has an envelope of its own.
    fn embedded(&mut self, bytes: &[u8], name: &'static str) -> Result<Value, DecodeError> {
        let Some(raw) = only_bytes(bytes, name)?.filter(|raw| !raw.is_empty()) else { return Ok(Value::Null) };
        if raw.starts_with(&MAGIC) {
            return self.enter(|walk| {
                let inner = envelope::read(raw)?;
                let gvk = inner.gvk();
                let id = table().kind(&gvk).ok_or_else(|| {
                    let (kind, version) = (&gvk.kind, gvk.api_version());
                    DecodeError::Value(format!("no kind {kind:?} is registered for version {version:?}"))
                })?;
                let object = walk.object(inner.raw, id)?;
                Ok(super::with_type(object, &gvk))
            });
        }
        serde_json::from_slice(raw).map_err(|error| DecodeError::Value(format!("{name}: {error}")))
    }

    fn props(&mut self, bytes: &[u8], shape: &Shape, name: &'static str) -> Result<Value, DecodeError> {
        self.enter(|walk| {
            let (mut schema, mut list, mut allows) = (None, Vec::new(), false);
            let (schema_number, item) = match shape {
                Shape::PropsOrBool => (2, Shape::Bool),
                Shape::PropsOrArray => (1, Shape::Ref(schema_props())),
                _ => (1, Shape::String),
            };
            let mut reader = Reader::new(bytes);
            while let Some((number, wire)) = reader.key(name)? {
                match number {
                    number if number == schema_number => {
                        schema = Some(walk.object(expect_bytes(&mut reader, wire, name)?, schema_props())?);
                    }
                    1 => allows = walk.single(&mut reader, wire, &item, name)? == Value::Bool(true),
                    2 => walk.items(&mut reader, wire, &item, name, &mut list)?,
                    _ => reader.skip(wire)?,
                }
            }
            if !list.is_empty() {
                return Ok(Value::Array(list));
            }
            let absent = if *shape == Shape::PropsOrBool { Value::Bool(allows) } else { Value::Null };
            Ok(schema.unwrap_or(absent))
        })
    }
}

fn expect_bytes<'a>(reader: &mut Reader<'a>, wire: u8, field: &'static str) -> Result<&'a [u8], DecodeError> {
    if wire == BYTES { reader.bytes() } else { Err(DecodeError::Field { field, wire }) }
}

fn packed_wire(shape: &Shape) -> Option<u8> {
    match shape {
        Shape::Bool | Shape::Int(_) => Some(VARINT),
        Shape::Float("float32") => Some(FIXED32),
        Shape::Float(_) => Some(FIXED64),
        _ => None,
    }
}

/// Go takes any bytes as text and writes what is no Unicode as replacement characters.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "Go truncates in the same way")]
fn integer(kind: &str, value: u64) -> Value {
    match kind {
        "int32" => (value as i32).into(),
        "uint8" => (value as u8).into(),
        "uint16" => (value as u16).into(),
        "uint32" => (value as u32).into(),
        "uint64" => value.into(),
        _ => (value as i64).into(),
    }
}

/// Go writes a whole float without a fraction, and refuses what JSON cannot say.
fn float(value: f64) -> Result<Value, DecodeError> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        return Ok(Value::from(value as i64));
    }
    let number = serde_json::Number::from_f64(value);
    number.map(Value::Number).ok_or_else(|| DecodeError::Value(format!("json: unsupported value: {value}")))
}

/// The bytes of a message's field 1.
fn only_bytes<'a>(bytes: &'a [u8], name: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
    let mut found = None;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.key(name)? {
        match number {
            1 => found = Some(expect_bytes(&mut reader, wire, name)?),
            _ => reader.skip(wire)?,
        }
    }
    Ok(found)
}

fn quantity(bytes: &[u8], name: &'static str) -> Result<Value, DecodeError> {
    let Some(raw) = only_bytes(bytes, name)? else { return Ok(Value::String("0".to_owned())) };
    let parsed = Quantity::parse(&text(raw)).map_err(|error| DecodeError::Value(error.to_string()))?;
    Ok(Value::String(parsed.to_string()))
}

fn int_or_string(bytes: &[u8], name: &'static str) -> Result<Value, DecodeError> {
    let (mut kind, mut number_value, mut string) = (0, Value::from(0), String::new());
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.key(name)? {
        match (number, wire) {
            (1, VARINT) => kind = reader.varint()?,
            (2, VARINT) => number_value = integer("int32", reader.varint()?),
            (3, BYTES) => string = text(reader.bytes()?),
            (1..=3, wire) => return Err(DecodeError::Field { field: name, wire }),
            _ => reader.skip(wire)?,
        }
    }
    match kind {
        0 => Ok(number_value),
        1 => Ok(Value::String(string)),
        _ => Err(DecodeError::Value("impossible IntOrString.Type".to_owned())),
    }
}

/// A time; an empty message is Go's zero time, which is written as null.
fn moment(bytes: &[u8], name: &'static str, micros: bool) -> Result<Value, DecodeError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0i64, 0i32);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.key(name)? {
        match (number, wire) {
            #[expect(clippy::cast_possible_wrap, reason = "negative numbers are written so")]
            (1, VARINT) => seconds = reader.varint()? as i64,
            #[expect(clippy::cast_possible_truncation, reason = "Go truncates in the same way")]
            (2, VARINT) => nanos = reader.varint()? as i32,
            (1 | 2, wire) => return Err(DecodeError::Field { field: name, wire }),
            _ => reader.skip(wire)?,
        }
    }
    let micro_part = if micros { nanos / 1_000 * 1_000 } else { 0 };
    if seconds == ZERO_TIME_SECONDS && micro_part == 0 {
        return Ok(Value::Null);
    }
    let out_of_range = || DecodeError::Value(format!("{name}: Time: year outside of range [0,9999]"));
    let at = Timestamp::new(seconds, micro_part).map_err(|_| out_of_range())?;
    let written = if micros { time::micros(at) } else { time::seconds(at) };
    if written.starts_with('-') || time::parse(&written).is_none() {
        return Err(out_of_range());
    }
    Ok(Value::String(written))
}
