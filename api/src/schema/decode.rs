//! Decoding by type: one pass over a document that checks, reports, normalises and drops, as upstream's decoder
//! followed by its encoder would.
//!
//! Serde drives the walk, so the same code reads bytes (in document order, which error texts depend on) and trees.
//! As in Go, a wrong JSON type does not stop the walk: the first one is reported at the end, unless a value that
//! reads itself (a quantity, a time) fails, which stops the walk and wins.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::normal::{self, View};
use super::scalar::{self, Problem, Token};
use super::syntax;
use super::table;
use super::types::{Shape, Type, TypeId};

/// Upstream reports no more strict problems than this.
const MAX_STRICT_PROBLEMS: usize = 100;
const SCHEMA_PROPS: &str = "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// A document that fits its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The normalised tree.
    pub value: Value,
    /// What strict validation refuses, in document order: `unknown field "spec.x"`, `duplicate field "spec.y"`.
    pub strict: Vec<String>,
}

/// Why a document was refused. The texts are Go's, for a client to see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// JSON of another shape than the type has.
    #[error("{0}")]
    Type(String),
}

/// Decodes JSON text as a type.
pub fn decode(text: &[u8], id: TypeId) -> Result<Decoded, DecodeError> {
    match decode_text(text, id) {
        Err(Failure::Refused(error)) => {
            syntax::check_syntax(text).map_err(DecodeError::Syntax)?;
            Err(error)
        }
        Err(Failure::Serde(error)) => {
            syntax::check_syntax(text).map_err(DecodeError::Syntax)?;
            // Go reads text that is no Unicode and replaces what it cannot; serde refuses it.
            decode_text(&syntax::replace_invalid_text(text), id).map_err(|again| match again {
                Failure::Refused(error) => error,
                Failure::Serde(_) => DecodeError::Syntax(error),
            })
        }
        Ok(decoded) => Ok(decoded),
    }
}

/// Decodes a tree as a type, fields in the order of their names, as it comes back from the store: empty lists and maps are
/// gone.
pub fn decode_value(value: Value, id: TypeId) -> Result<Decoded, DecodeError> {
    decode_tree(value, Walk { view: View::Stored, ..Walk::default() }, id)
}

/// Decodes a tree that is still needed, as [`decode`] does a text.
pub(crate) fn decode_borrowed(value: &Value, id: TypeId) -> Result<Decoded, DecodeError> {
    decode_tree(value, Walk::default(), id)
}

/// As [`decode_borrowed`], with the words and the order of problems of upstream's converter, which reads the result
/// of a strategic merge patch: the first wrong type stops it, and an object's own unknown fields come last.
pub(crate) fn convert_borrowed(value: &Value, id: TypeId) -> Result<Decoded, DecodeError> {
    decode_tree(value, Walk { converts: true, ..Walk::default() }, id)
}

fn decode_tree<'de, D>(value: D, mut walk: Walk, id: TypeId) -> Result<Decoded, DecodeError>
where
    D: Deserializer<'de, Error = serde_json::Error>,
{
    let result = walk.root(id).deserialize(value);
    walk.finish(result).map_err(|failure| match failure {
        Failure::Refused(error) => error,
        Failure::Serde(text) => DecodeError::Type(text),
    })
}

enum Failure {
    Refused(DecodeError),
    Serde(String),
}

fn decode_text(text: &[u8], id: TypeId) -> Result<Decoded, Failure> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let mut walk = Walk::default();
    let result = walk.root(id).deserialize(&mut reader);
    let result = result.and_then(|value| reader.end().map(|()| value));
    walk.finish(result)
}

/// Where the walk is and what it found.
#[derive(Default)]
struct Walk {
    /// Path with indices and map keys, for strict problems.
    path: String,
    /// Field names from the root, joined by dots, for type errors.
    fields: String,
    /// Go's name of the struct around the current field.
    owner: &'static str,
    saved: Option<String>,
    fatal: Option<String>,
    strict: Vec<String>,
    /// Above zero inside a value that upstream decodes without strictness.
    muted: u32,
    /// Speaks as upstream's converter of trees does.
    converts: bool,
    view: View,
    /// The values of the objects around the current value, one place for each field of their types.
    values: Vec<Option<Value>>,
}

impl Walk {
    fn root(&mut self, id: TypeId) -> RootSeed<'_> {
        RootSeed { walk: self, id }
    }

    fn finish(self, result: Result<Value, serde_json::Error>) -> Result<Decoded, Failure> {
        if let Some(text) = self.fatal {
            return Err(Failure::Refused(DecodeError::Type(text)));
        }
        let value = result.map_err(|error| Failure::Serde(error.to_string()))?;
        match self.saved {
            Some(text) => Err(Failure::Refused(DecodeError::Type(text))),
            None => Ok(Decoded { value, strict: self.strict }),
        }
    }

    fn problem(&mut self, what: &str, key: &str) {
        if self.muted > 0 || self.strict.len() >= MAX_STRICT_PROBLEMS {
            return;
        }
        let dot = if self.path.is_empty() { "" } else { "." };
        let text = format!("{what} field {:?}", format!("{}{dot}{key}", self.path));
        if !self.strict.contains(&text) {
            self.strict.push(text);
        }
    }

    fn mismatch(&self, found: &str, go_type: &str) -> String {
        if self.owner.is_empty() {
            return format!("json: cannot unmarshal {found} into Go value of type {go_type}");
        }
        let (owner, fields) = (self.owner, &self.fields);
        format!("json: cannot unmarshal {found} into Go struct field {owner}.{fields} of type {go_type}")
    }

    fn refuse(&mut self, problem: Problem) -> Result<Value, &'static str> {
        match problem {
            Problem::Mismatch { found, go_type } => {
                let text = self.mismatch(&found, &go_type);
                self.saved.get_or_insert(text);
                return Ok(Value::Null);
            }
            Problem::FatalMismatch { found, go_type } => self.fatal = Some(self.mismatch(&found, go_type)),
            Problem::Saved(text) => {
                self.saved.get_or_insert(text);
                return Ok(Value::Null);
            }
            Problem::Fatal(text) => self.fatal = Some(text),
        }
        Err("refused")
    }

    fn push_key(&mut self, key: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(key);
    }

    fn push_index(&mut self, index: usize) {
        use std::fmt::Write;
        write!(self.path, "[{index}]").expect("a string takes all text");
    }

    fn push_field(&mut self, inlined_in: Option<&str>, name: &str) {
        for part in inlined_in.into_iter().chain([name]) {
            if !self.fields.is_empty() {
                self.fields.push('.');
            }
            self.fields.push_str(part);
        }
    }
}

struct RootSeed<'w> {
    walk: &'w mut Walk,
    id: TypeId,
}

impl<'de> DeserializeSeed<'de> for RootSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        let shape = Shape::Ref(self.id);
        Typed { walk: self.walk, shape: &shape, go_type: None }.deserialize(reader)
    }
}

/// Reads one value of a shape. The result is null for a null and for a value of another type.
struct Typed<'w, 's> {
    walk: &'w mut Walk,
    shape: &'s Shape,
    go_type: Option<&'static str>,
}

impl<'de> DeserializeSeed<'de> for Typed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl Typed<'_, '_> {
    fn scalar<E: serde::de::Error>(self, token: Token<'_>) -> Result<Value, E> {
        let found = token.go_kind();
        let read = scalar::read(self.shape, token, self.go_type);
        read.or_else(|problem| self.refuse(problem, found).map_err(E::custom))
    }

    /// A list or an object where neither belongs.
    fn composite<E: serde::de::Error>(self, found: &'static str) -> Result<Value, E> {
        let problem = scalar::composite(self.shape, found, self.go_type);
        let found = if found == "array" { "slice" } else { "map" };
        self.refuse(problem, found).map_err(E::custom)
    }

    fn refuse(self, problem: Problem, found: &'static str) -> Result<Value, &'static str> {
        match problem {
            Problem::Mismatch { .. } if self.walk.converts => {
                let text = scalar::conversion(self.shape, found, self.go_type);
                self.walk.refuse(Problem::Fatal(text))
            }
            problem => self.walk.refuse(problem),
        }
    }
}

impl<'de> Visitor<'de> for Typed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.scalar(Token::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.scalar(Token::Signed(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.scalar(Token::Unsigned(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.scalar(Token::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.scalar(Token::Text(Cow::Borrowed(text)))
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Value, E> {
        self.scalar(Token::Text(Cow::Owned(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        match self.shape {
            Shape::List { item, .. } => read_list(self.walk, item, self.go_type, items),
            Shape::Bytes => {
                read_list(self.walk, &Shape::Int("uint8"), Some("[]uint8"), items).map(|list| scalar::bytes_of(&list))
            }
            Shape::PropsOrArray => muted(self.walk, |walk| read_list(walk, &schema_props(), None, items)),
            Shape::PropsOrStrings => muted(self.walk, |walk| read_list(walk, &Shape::String, None, items)),
            Shape::Json | Shape::Raw | Shape::FieldsV1 => Value::deserialize(SeqAccessDeserializer::new(items)),
            _ => {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                self.composite("array")
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        match self.shape {
            Shape::Ref(id) => read_object(self.walk, table().get(*id), entries),
            Shape::Map(item) => read_map(self.walk, item, self.go_type, entries),
            Shape::PropsOrArray | Shape::PropsOrBool | Shape::PropsOrStrings => {
                let Shape::Ref(id) = schema_props() else { unreachable!("schema_props is a reference") };
                muted(self.walk, |walk| read_object(walk, table().get(id), entries))
            }
            Shape::Json | Shape::Raw | Shape::FieldsV1 => Value::deserialize(MapAccessDeserializer::new(entries)),
            _ => {
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                self.composite("object")
            }
        }
    }
}

fn schema_props() -> Shape {
    Shape::Ref(table().type_by_id(SCHEMA_PROPS).expect("the table has the schema of custom resources"))
}

/// Runs `read` without strict problems: upstream's own decoders inside such values are lenient.
fn muted<T>(walk: &mut Walk, read: impl FnOnce(&mut Walk) -> T) -> T {
    walk.muted += 1;
    let result = read(walk);
    walk.muted -= 1;
    result
}

fn read_list<'de, A: SeqAccess<'de>>(
    walk: &mut Walk,
    item: &Shape,
    go_type: Option<&'static str>,
    mut items: A,
) -> Result<Value, A::Error> {
    let go_type = scalar::item_go_type(go_type);
    let length = walk.path.len();
    let mut list = Vec::new();
    loop {
        walk.push_index(list.len());
        let next = items.next_element_seed(Typed { walk: &mut *walk, shape: item, go_type })?;
        walk.path.truncate(length);
        let Some(value) = next else { return Ok(Value::Array(list)) };
        list.push(normal::item(item, value));
    }
}

fn read_map<'de, A: MapAccess<'de>>(
    walk: &mut Walk,
    item: &Shape,
    go_type: Option<&'static str>,
    mut entries: A,
) -> Result<Value, A::Error> {
    let go_type = scalar::item_go_type(go_type);
    let length = walk.path.len();
    let mut map = Map::new();
    while let Some(key) = entries.next_key::<String>()? {
        if map.contains_key(&key) {
            walk.problem("duplicate", &key);
        }
        walk.push_key(&key);
        let value = entries.next_value_seed(Typed { walk: &mut *walk, shape: item, go_type })?;
        walk.path.truncate(length);
        map.insert(key, normal::item(item, value));
    }
    Ok(Value::Object(map))
}

fn read_object<'de, A: MapAccess<'de>>(walk: &mut Walk, of: &'static Type, mut entries: A) -> Result<Value, A::Error> {
    let (path, fields, owner) = (walk.path.len(), walk.fields.len(), walk.owner);
    let (own_name, values) = (of.struct_name(), walk.values.len());
    walk.values.resize(values + of.fields.len(), None);
    let mut unknown = Vec::new();
    while let Some(key) = entries.next_key_seed(FieldKey(of))? {
        let index = match key {
            Key::Field(index) => index,
            Key::Unknown(name) => {
                match walk.converts {
                    true => unknown.push(name),
                    false => walk.problem("unknown", &name),
                }
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
        };
        let field = &of.fields[index];
        if walk.values[values + index].is_some() {
            walk.problem("duplicate", field.name);
        }
        walk.push_key(field.name);
        walk.push_field(field.inlined_in(), field.name);
        walk.owner = own_name;
        let seed = Typed { walk: &mut *walk, shape: &field.shape, go_type: field.go_type() };
        let value = entries.next_value_seed(seed)?;
        walk.values[values + index] = Some(value);
        walk.path.truncate(path);
        walk.fields.truncate(fields);
        walk.owner = owner;
    }
    unknown.iter().for_each(|name| walk.problem("unknown", name));
    let view = walk.view;
    let object = normal::object(of, &mut walk.values[values..], view);
    walk.values.truncate(values);
    Ok(Value::Object(object))
}

enum Key {
    Field(usize),
    Unknown(String),
}

/// Finds a field without allocating its name.
struct FieldKey(&'static Type);

impl<'de> DeserializeSeed<'de> for FieldKey {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Key, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldKey {
    type Value = Key;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Key, E> {
        Ok(self.0.place(name).map_or_else(|| Key::Unknown(name.to_owned()), Key::Field))
    }
}
