//! Single values: which JSON fits which shape, how it is written back, and Go's words for what does not fit.

use std::borrow::Cow;

use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::{DecodeError, Engine as _};
use serde_json::{Number, Value};

use super::table;
use super::types::Shape;
use crate::{quantity, time};

/// A JSON value that is neither null nor composite.
pub(super) enum Token<'a> {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(Cow<'a, str>),
}

/// What is wrong with a value.
pub(super) enum Problem {
    /// Another JSON type; decoding goes on.
    Mismatch { found: Cow<'static, str>, go_type: String },
    /// Another JSON type for a value that reads itself; decoding stops.
    FatalMismatch { found: Cow<'static, str>, go_type: &'static str },
    /// Refused text; decoding goes on.
    Saved(String),
    /// Refused text; decoding stops.
    Fatal(String),
}

impl Token<'_> {
    fn word(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::Signed(_) | Self::Unsigned(_) | Self::Float(_) => "number",
            Self::Text(_) => "string",
        }
    }

    /// Go's kind of the decoded value.
    pub(super) fn go_kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::Signed(_) | Self::Unsigned(_) => "int64",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
        }
    }

    fn number(&self) -> Option<Number> {
        match *self {
            Self::Signed(number) => Some(number.into()),
            Self::Unsigned(number) => Some(number.into()),
            Self::Float(number) => Number::from_f64(number),
            _ => None,
        }
    }

    fn into_value(self) -> Value {
        match self {
            Self::Bool(on) => Value::Bool(on),
            Self::Text(text) => Value::String(text.into_owned()),
            number => number.number().map_or(Value::Null, Value::Number),
        }
    }
}

/// Reads a value of a shape, written as Go would write it back.
pub(super) fn read(shape: &Shape, token: Token<'_>, go_type: Option<&'static str>) -> Result<Value, Problem> {
    match (shape, token) {
        (Shape::Json | Shape::Raw | Shape::FieldsV1, token) => Ok(token.into_value()),
        (Shape::String, Token::Text(text)) => Ok(Value::String(text.into_owned())),
        (Shape::Bool | Shape::PropsOrBool, Token::Bool(on)) => Ok(Value::Bool(on)),
        (Shape::Int(kind), token) if token.number().is_some() => integer(&token, kind, go_type.unwrap_or(kind)),
        (Shape::Float(_), token) if token.number().is_some() => Ok(float(&token)),
        (Shape::Bytes, Token::Text(text)) => bytes(&text),
        (Shape::Quantity, token) => read_quantity(token),
        (Shape::IntOrString, Token::Text(text)) => Ok(Value::String(text.into_owned())),
        (Shape::IntOrString, token) => int_or_string(&token),
        (Shape::Time, Token::Text(text)) => read_time(&text, Layout::Seconds),
        (Shape::MicroTime, Token::Text(text)) => read_time(&text, Layout::Micros),
        (Shape::Duration, Token::Text(text)) => Ok(Value::String(text.into_owned())),
        (Shape::Time | Shape::MicroTime | Shape::Duration, token) => {
            Err(Problem::FatalMismatch { found: token.word().into(), go_type: "string" })
        }
        (Shape::PropsOrBool, _) => Err(Problem::Fatal("boolean or JSON schema expected".to_owned())),
        (Shape::PropsOrArray | Shape::PropsOrStrings, _) => Ok(Value::Null),
        (shape, token) => Err(Problem::Mismatch { found: token.word().into(), go_type: spell(shape, go_type) }),
    }
}

/// What is wrong with an array or object where a single value belongs.
pub(super) fn composite(shape: &Shape, found: &'static str, go_type: Option<&'static str>) -> Problem {
    match shape {
        Shape::Quantity => Problem::Fatal(quantity::ParseError::Format.to_string()),
        Shape::IntOrString => Problem::FatalMismatch { found: found.into(), go_type: "int32" },
        Shape::Time | Shape::MicroTime | Shape::Duration => {
            Problem::FatalMismatch { found: found.into(), go_type: "string" }
        }
        Shape::PropsOrBool => Problem::Fatal("boolean or JSON schema expected".to_owned()),
        shape => Problem::Mismatch { found: found.into(), go_type: spell(shape, go_type) },
    }
}

/// What upstream's converter of trees says of a value of the wrong type.
pub(super) fn conversion(shape: &Shape, found: &str, go_type: Option<&'static str>) -> String {
    match shape {
        Shape::List { .. } | Shape::Bytes => format!("cannot restore slice from {found}"),
        Shape::Map(_) => format!("cannot restore map from {found}"),
        Shape::Ref(_) => format!("cannot restore struct from: {found}"),
        // Go converts between numbers, and from integers to text, but not so here.
        _ if matches!(found, "int64" | "float64")
            && !matches!((shape, found), (Shape::String, "float64") | (Shape::Bool, _)) =>
        {
            format!("cannot convert {found} to {}", spell(shape, go_type))
        }
        shape => format!("unrecognized type: {}", derive(shape)),
    }
}

/// Go's spelling of a type.
fn spell(shape: &Shape, go_type: Option<&'static str>) -> String {
    go_type.map_or_else(|| derive(shape), str::to_owned)
}

fn derive(shape: &Shape) -> String {
    let word = match shape {
        Shape::String => "string",
        Shape::Bool => "bool",
        Shape::Int(kind) | Shape::Float(kind) => kind,
        Shape::Bytes => "[]uint8",
        Shape::Quantity => "resource.Quantity",
        Shape::IntOrString => "intstr.IntOrString",
        Shape::Time => "v1.Time",
        Shape::MicroTime => "v1.MicroTime",
        Shape::Duration => "v1.Duration",
        Shape::FieldsV1 => "v1.FieldsV1",
        Shape::Raw => "runtime.RawExtension",
        Shape::Json => "v1.JSON",
        Shape::PropsOrArray => "v1.JSONSchemaPropsOrArray",
        Shape::PropsOrBool => "v1.JSONSchemaPropsOrBool",
        Shape::PropsOrStrings => "v1.JSONSchemaPropsOrStringArray",
        Shape::List { item, .. } => return format!("[]{}", derive(item)),
        Shape::Map(item) => return format!("map[string]{}", derive(item)),
        Shape::Ref(id) => table().get(*id).go_name,
    };
    word.to_owned()
}

/// The spelling of a list's or map's items; None when it follows from their shape.
pub(super) fn item_go_type(go_type: Option<&'static str>) -> Option<&'static str> {
    let go_type = go_type?;
    let item = go_type.strip_prefix("[]").or_else(|| Some(go_type.strip_prefix("map[")?.split_once(']')?.1))?;
    Some(item.trim_start_matches('*'))
}

fn integer(token: &Token<'_>, kind: &str, go_type: &str) -> Result<Value, Problem> {
    let (low, high) = match kind {
        "int32" => (i128::from(i32::MIN), i128::from(i32::MAX)),
        "uint8" => (0, i128::from(u8::MAX)),
        "uint16" => (0, i128::from(u16::MAX)),
        "uint32" => (0, i128::from(u32::MAX)),
        "uint64" => (0, i128::from(u64::MAX)),
        _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
    };
    let number = match *token {
        Token::Signed(number) => Some(i128::from(number)),
        Token::Unsigned(number) => Some(i128::from(number)),
        _ => None,
    };
    if number.is_some_and(|number| (low..=high).contains(&number)) {
        return Ok(token.number().map_or(Value::Null, Value::Number));
    }
    let text = token.number().map_or_else(String::new, |number| number.to_string());
    Err(Problem::Mismatch { found: format!("number {text}").into(), go_type: go_type.to_owned() })
}

/// Go writes a whole float without a fraction.
fn float(token: &Token<'_>) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match *token {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        Token::Float(number) if number.fract() == 0.0 && number.abs() < EXACT => Value::from(number as i64),
        _ => token.number().map_or(Value::Null, Value::Number),
    }
}

/// Base64 as Go's decoder takes it: the standard alphabet, padded, line breaks ignored.
fn bytes(text: &str) -> Result<Value, Problem> {
    const STRICT: GeneralPurpose = STANDARD;
    let clean: Cow<'_, str> = match text.contains(['\r', '\n']) {
        true => Cow::Owned(text.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect()),
        false => Cow::Borrowed(text),
    };
    match STRICT.decode(clean.as_bytes()) {
        Ok(data) => Ok(Value::String(STANDARD.encode(data))),
        Err(error) => Err(Problem::Saved(format!("illegal base64 data at input byte {}", offset(&error, clean.len())))),
    }
}

/// Go also reads bytes that are listed as numbers.
pub(super) fn bytes_of(list: &Value) -> Value {
    let numbers = list.as_array().into_iter().flatten().filter_map(Value::as_u64);
    let data: Vec<u8> = numbers.filter_map(|number| u8::try_from(number).ok()).collect();
    Value::String(STANDARD.encode(data))
}

/// Go names the byte after the last whole group when text is missing.
fn offset(error: &DecodeError, length: usize) -> usize {
    match error {
        DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => *at,
        DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => length / 4 * 4,
    }
}

fn read_quantity(token: Token<'_>) -> Result<Value, Problem> {
    let text = match token {
        Token::Text(text) => text.into_owned(),
        Token::Bool(on) => on.to_string(),
        number => number.number().map_or_else(String::new, |number| number.to_string()),
    };
    match quantity::Quantity::parse(text.trim()) {
        Ok(quantity) => Ok(Value::String(quantity.to_string())),
        Err(error) => Err(Problem::Fatal(error.to_string())),
    }
}

fn int_or_string(token: &Token<'_>) -> Result<Value, Problem> {
    if token.number().is_none() {
        return Err(Problem::FatalMismatch { found: token.word().into(), go_type: "int32" });
    }
    integer(token, "int32", "int32").map_err(|problem| match problem {
        Problem::Mismatch { found, .. } => Problem::FatalMismatch { found, go_type: "int32" },
        other => other,
    })
}

#[derive(Clone, Copy)]
enum Layout {
    Seconds,
    Micros,
}

impl Layout {
    fn go(self) -> &'static str {
        match self {
            Self::Seconds => "2006-01-02T15:04:05Z07:00",
            Self::Micros => "2006-01-02T15:04:05.000000Z07:00",
        }
    }
}

fn read_time(text: &str, layout: Layout) -> Result<Value, Problem> {
    const ZERO: &str = "0001-01-01T00:00:00Z";
    if let Some((rest, part)) = time_mismatch(text, layout) {
        let layout = layout.go();
        let cannot = format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}");
        return Err(Problem::Fatal(cannot));
    }
    let Some(at) = time::parse(text) else {
        return Err(Problem::Fatal(format!("parsing time {text:?}: day out of range")));
    };
    let written = match layout {
        Layout::Seconds => time::seconds(at),
        Layout::Micros => time::micros(at),
    };
    if written == ZERO {
        return Ok(Value::Null);
    }
    Ok(Value::String(written))
}

/// The rest of the text and the part of Go's layout that it does not match.
fn time_mismatch(text: &str, layout: Layout) -> Option<(&str, &'static str)> {
    const PARTS: [(&str, usize); 11] = [
        ("2006", 4),
        ("-", 0),
        ("01", 2),
        ("-", 0),
        ("02", 2),
        ("T", 0),
        ("15", 2),
        (":", 0),
        ("04", 2),
        (":", 0),
        ("05", 2),
    ];
    let mut rest = text;
    for (part, digits) in PARTS {
        let length = part.len();
        let head = rest.get(..length);
        let fits = head.is_some_and(|head| match digits {
            0 => head == part,
            _ => head.bytes().all(|byte| byte.is_ascii_digit()),
        });
        if !fits {
            return Some((rest, part));
        }
        rest = &rest[length..];
    }
    let fraction = rest.strip_prefix('.').map_or(0, |digits| digits.bytes().take_while(u8::is_ascii_digit).count());
    if matches!(layout, Layout::Micros) {
        if fraction < 6 {
            return Some((rest, ".000000"));
        }
        rest = &rest[7..];
    } else if fraction > 0 {
        rest = &rest[1 + fraction..];
    }
    let zone = rest.as_bytes();
    let offset = zone.len() == 6 && matches!(zone[0], b'+' | b'-') && zone[3] == b':';
    (rest != "Z" && !offset).then_some((rest, "Z07:00"))
}
