//! OpenAPI v2 as protobuf: the JSON document in the wire form of gnostic's `openapi.v2.Document`.
//!
//! The form follows the JSON closely: a member of an object is a field with a number, an object whose members have
//! names of their own is a list of pairs, and what has no fixed shape (enumerated values, extensions) is YAML text.
//! So a table of the messages suffices, and one walk writes any of them. The table holds the messages that the
//! document is made of; a member that it lacks is an error and not left out.
//!
//! Mirrors `openapiv2/OpenAPIv2.proto` of github.com/google/gnostic-models.

use api::protobuf::Writer;
use serde_json::{Map, Value};

use super::yaml;

/// Why a document has no protobuf form.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The table has no field for a member.
    #[error("member {member:?} of an OpenAPI object has no field in its message")]
    Unknown { member: String },
    /// A value of another shape than the field has.
    #[error("member {member:?} of an OpenAPI object is not {expected}: {value}")]
    Shape { member: String, expected: &'static str, value: Value },
}

/// An object: members with fixed names, then those with names of their own.
struct Message {
    members: &'static [(&'static str, u32, Form)],
    /// Pairs of name and value: the beginning of the name, the list's number, and the value's form. In the order of
    /// numbers, which are all above those of the members; the longest fitting beginning counts.
    pairs: &'static [(&'static str, u32, Form)],
}

/// How a value is written.
#[derive(Clone, Copy)]
enum Form {
    Text,
    /// A boolean that is only written when it is true.
    Flag,
    /// A boolean that is written in any case: that it is there says something.
    Boolean,
    /// A field per text.
    Texts,
    /// A message whose field 1 is each text; one text is a list of one.
    Words,
    /// YAML text, in a message.
    Yaml,
    /// A message per value with its YAML text.
    Yamls,
    One(&'static Message),
    /// A message per object.
    Many(&'static Message),
    /// A message of one field: which one depends on the value.
    Choice(fn(&Value) -> (u32, Form)),
    /// A message per value of one field, as above.
    Choices(fn(&Value) -> (u32, Form)),
}

const EXTENSION: &str = "x-";
/// The fields of a pair, and of a value that is YAML text.
const NAME: u32 = 1;
const VALUE: u32 = 2;
const YAML: u32 = 2;
/// The one field of a list of texts.
const WORD: u32 = 1;

static DOCUMENT: Message = Message {
    members: &[
        ("swagger", 1, Form::Text),
        ("info", 2, Form::One(&INFO)),
        ("paths", 8, Form::One(&PATHS)),
        ("definitions", 9, Form::One(&SCHEMAS)),
        ("parameters", 10, Form::One(&PARAMETERS)),
        ("security", 12, Form::Many(&REQUIREMENT)),
        ("securityDefinitions", 13, Form::One(&SECURITY)),
    ],
    pairs: &[(EXTENSION, 16, Form::Yaml)],
};

static INFO: Message = Message {
    members: &[("title", 1, Form::Text), ("version", 2, Form::Text), ("description", 3, Form::Text)],
    pairs: &[(EXTENSION, 7, Form::Yaml)],
};

static PATHS: Message = Message { members: &[], pairs: &[(EXTENSION, 1, Form::Yaml), ("/", 2, Form::One(&PATH_ITEM))] };

static PATH_ITEM: Message = Message {
    members: &[
        ("get", 2, Form::One(&OPERATION)),
        ("put", 3, Form::One(&OPERATION)),
        ("post", 4, Form::One(&OPERATION)),
        ("delete", 5, Form::One(&OPERATION)),
        ("options", 6, Form::One(&OPERATION)),
        ("head", 7, Form::One(&OPERATION)),
        ("patch", 8, Form::One(&OPERATION)),
        ("parameters", 9, Form::Choices(parameter_or_reference)),
    ],
    pairs: &[(EXTENSION, 10, Form::Yaml)],
};

static OPERATION: Message = Message {
    members: &[
        ("tags", 1, Form::Texts),
        ("summary", 2, Form::Text),
        ("description", 3, Form::Text),
        ("operationId", 5, Form::Text),
        ("produces", 6, Form::Texts),
        ("consumes", 7, Form::Texts),
        ("parameters", 8, Form::Choices(parameter_or_reference)),
        ("responses", 9, Form::One(&RESPONSES)),
        ("schemes", 10, Form::Texts),
        ("deprecated", 11, Form::Flag),
    ],
    pairs: &[(EXTENSION, 13, Form::Yaml)],
};

static PARAMETERS: Message = Message { members: &[], pairs: &[("", 1, Form::Choice(parameter))] };

static REFERENCE: Message = Message { members: &[("$ref", 1, Form::Text), ("description", 2, Form::Text)], pairs: &[] };

static BODY: Message = Message {
    members: &[
        ("description", 1, Form::Text),
        ("name", 2, Form::Text),
        ("in", 3, Form::Text),
        ("required", 4, Form::Flag),
        ("schema", 5, Form::One(&SCHEMA)),
    ],
    pairs: &[(EXTENSION, 6, Form::Yaml)],
};

static IN_QUERY: Message = Message {
    members: &[
        ("required", 1, Form::Flag),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 6, Form::Text),
        ("format", 7, Form::Text),
        ("uniqueItems", 20, Form::Flag),
        ("enum", 21, Form::Yamls),
    ],
    pairs: &[(EXTENSION, 23, Form::Yaml)],
};

static IN_PATH: Message = Message {
    members: &[
        ("required", 1, Form::Flag),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 5, Form::Text),
        ("format", 6, Form::Text),
        ("uniqueItems", 19, Form::Flag),
        ("enum", 20, Form::Yamls),
    ],
    pairs: &[(EXTENSION, 22, Form::Yaml)],
};

static RESPONSES: Message =
    Message { members: &[], pairs: &[("", 1, Form::Choice(response)), (EXTENSION, 2, Form::Yaml)] };

static RESPONSE: Message = Message {
    members: &[("description", 1, Form::Text), ("schema", 2, Form::Choice(schema))],
    pairs: &[(EXTENSION, 5, Form::Yaml)],
};

static SCHEMAS: Message = Message { members: &[], pairs: &[("", 1, Form::One(&SCHEMA))] };

static SCHEMA: Message = Message {
    members: &[
        ("$ref", 1, Form::Text),
        ("format", 2, Form::Text),
        ("title", 3, Form::Text),
        ("description", 4, Form::Text),
        ("default", 5, Form::Yaml),
        ("pattern", 13, Form::Text),
        ("uniqueItems", 16, Form::Flag),
        ("required", 19, Form::Texts),
        ("enum", 20, Form::Yamls),
        ("additionalProperties", 21, Form::Choice(schema_or_flag)),
        ("type", 22, Form::Words),
        ("items", 23, Form::Choice(schema)),
        ("allOf", 24, Form::Many(&SCHEMA)),
        ("properties", 25, Form::One(&SCHEMAS)),
        ("readOnly", 27, Form::Flag),
    ],
    pairs: &[(EXTENSION, 31, Form::Yaml)],
};

static REQUIREMENT: Message = Message { members: &[], pairs: &[("", 1, Form::Words)] };

static SECURITY: Message = Message { members: &[], pairs: &[("", 1, Form::Choice(api_key))] };

static API_KEY: Message = Message {
    members: &[("type", 1, Form::Text), ("name", 2, Form::Text), ("in", 3, Form::Text), ("description", 4, Form::Text)],
    pairs: &[(EXTENSION, 5, Form::Yaml)],
};

fn parameter_or_reference(value: &Value) -> (u32, Form) {
    if value.get("$ref").is_some() { (2, Form::One(&REFERENCE)) } else { (1, Form::Choice(parameter)) }
}

fn parameter(value: &Value) -> (u32, Form) {
    if value["in"] == "body" { (1, Form::One(&BODY)) } else { (2, Form::Choice(place)) }
}

fn place(value: &Value) -> (u32, Form) {
    if value["in"] == "path" { (4, Form::One(&IN_PATH)) } else { (3, Form::One(&IN_QUERY)) }
}

fn response(_: &Value) -> (u32, Form) {
    (1, Form::One(&RESPONSE))
}

fn schema(_: &Value) -> (u32, Form) {
    (1, Form::One(&SCHEMA))
}

fn schema_or_flag(value: &Value) -> (u32, Form) {
    if value.is_boolean() { (2, Form::Boolean) } else { schema(value) }
}

fn api_key(_: &Value) -> (u32, Form) {
    (2, Form::One(&API_KEY))
}

/// The bytes of a document.
pub(super) fn encode(document: &Value) -> Result<Vec<u8>, Error> {
    let mut out = Writer::default();
    message(&mut out, &DOCUMENT, object("", document)?)?;
    Ok(out.finish())
}

fn message(out: &mut Writer, of: &Message, object: &Map<String, Value>) -> Result<(), Error> {
    let is_member = |name: &str| of.members.iter().any(|(known, ..)| *known == name);
    for (name, number, form) in of.members {
        if let Some(value) = object.get(*name) {
            field(out, *number, *form, (name, value))?;
        }
    }
    let pair_of = |name: &str| {
        let fits = of.pairs.iter().filter(|(start, ..)| name.starts_with(start));
        fits.max_by_key(|(start, ..)| start.len()).map(|(_, number, form)| (*number, *form))
    };
    let rest = || object.iter().filter(|(name, _)| !is_member(name));
    if let Some((member, _)) = rest().find(|(name, _)| pair_of(name).is_none()) {
        return Err(Error::Unknown { member: member.clone() });
    }
    for (_, of_pair, _) in of.pairs {
        for (name, value) in rest() {
            let Some((number, form)) = pair_of(name).filter(|(number, _)| number == of_pair) else { continue };
            out.message(number, |out| {
                text(out, NAME, name);
                field(out, VALUE, form, (name, value))
            })?;
        }
    }
    Ok(())
}

fn field(out: &mut Writer, number: u32, form: Form, (name, value): (&str, &Value)) -> Result<(), Error> {
    match form {
        Form::Text => text(out, number, string(name, value)?),
        Form::Flag if !boolean(name, value)? => {}
        Form::Flag | Form::Boolean => out.varint(number, u64::from(boolean(name, value)?)),
        Form::Texts => words(out, number, (name, value))?,
        Form::Words => out.message(number, |out| words(out, WORD, (name, value)))?,
        Form::Yaml => any(out, number, value),
        Form::Yamls => list(name, value)?.iter().for_each(|value| any(out, number, value)),
        Form::One(of) => {
            let object = object(name, value)?;
            out.message(number, |out| message(out, of, object))?;
        }
        Form::Choice(choose) => {
            let (inner, form) = choose(value);
            out.message(number, |out| field(out, inner, form, (name, value)))?;
        }
        Form::Many(of) => {
            for item in list(name, value)? {
                field(out, number, Form::One(of), (name, item))?;
            }
        }
        Form::Choices(choose) => {
            for item in list(name, value)? {
                field(out, number, Form::Choice(choose), (name, item))?;
            }
        }
    }
    Ok(())
}

/// Text that is empty is not written.
fn text(out: &mut Writer, number: u32, text: &str) {
    if !text.is_empty() {
        out.bytes(number, text.as_bytes());
    }
}

fn words(out: &mut Writer, number: u32, (name, value): (&str, &Value)) -> Result<(), Error> {
    if let Value::String(word) = value {
        out.bytes(number, word.as_bytes());
        return Ok(());
    }
    for word in list(name, value)? {
        out.bytes(number, string(name, word)?.as_bytes());
    }
    Ok(())
}

fn any(out: &mut Writer, number: u32, value: &Value) {
    let written = out.message(number, |out| {
        text(out, YAML, &yaml::text(value));
        Ok::<(), std::convert::Infallible>(())
    });
    written.unwrap_or_else(|never| match never {});
}

fn boolean(name: &str, value: &Value) -> Result<bool, Error> {
    value.as_bool().ok_or_else(|| shape(name, "a boolean", value))
}

fn object<'a>(name: &str, value: &'a Value) -> Result<&'a Map<String, Value>, Error> {
    value.as_object().ok_or_else(|| shape(name, "an object", value))
}

fn list<'a>(name: &str, value: &'a Value) -> Result<&'a Vec<Value>, Error> {
    value.as_array().ok_or_else(|| shape(name, "a list", value))
}

fn string<'a>(name: &str, value: &'a Value) -> Result<&'a str, Error> {
    value.as_str().ok_or_else(|| shape(name, "text", value))
}

fn shape(member: &str, expected: &'static str, value: &Value) -> Error {
    Error::Shape { member: member.to_owned(), expected, value: value.clone() }
}

#[cfg(test)]
mod tests;
