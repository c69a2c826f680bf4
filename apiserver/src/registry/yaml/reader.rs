//! A document as a JSON tree. Plain scalars mean what YAML 1.1 says, because upstream's reader speaks that: `n` and `off`
//! are false, `0644` is octal, and underscores may stand in numbers.

use std::fmt;

use api::{Map, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Reads the only document of a body.
pub(super) fn read(body: &[u8]) -> Result<Value, serde_yaml_ng::Error> {
    Node { body }.deserialize(serde_yaml_ng::Deserializer::from_slice(body))
}

/// Reads a node of a body.
#[derive(Clone, Copy)]
struct Node<'b> {
    body: &'b [u8],
}

impl Node<'_> {
    /// What a text that stands in the body as it is means there.
    fn text(self, text: &str) -> Value {
        let meaning = resolve(text).filter(|_| self.is_plain(text));
        meaning.unwrap_or_else(|| text.into())
    }

    /// The text has no quotes around it and no tag before it. What is looked at of two texts does not overlap, however
    /// long the words of a body are.
    fn is_plain(self, text: &str) -> bool {
        let at = text.as_ptr().addr().checked_sub(self.body.as_ptr().addr());
        let Some((before, rest)) = at.and_then(|at| self.body.split_at_checked(at)) else { return false };
        let is_quoted = matches!(rest.get(text.len()), Some(b'"' | b'\''));
        let is_apart = before.last().is_some_and(u8::is_ascii_whitespace);
        if is_quoted || !is_apart {
            return !is_quoted;
        }
        let mut words = before.rsplit(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        !words.find(|word| !word.starts_with(b"&")).is_some_and(|word| word.starts_with(b"!"))
    }
}

/// What a plain text means in YAML 1.1 and not in 1.2. None when it is a text there too.
fn resolve(text: &str) -> Option<Value> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Some(true.into()),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Some(false.into()),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-')) {
        return None;
    }
    let plain = text.replace('_', "");
    integer(&plain).or_else(|| float(&plain))
}

/// As Go's `ParseInt` with base 0.
fn integer(plain: &str) -> Option<Value> {
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(plain).to_ascii_lowercase();
    let prefixes = [("0x", 16), ("0o", 8), ("0b", 2)];
    let prefixed = prefixes.iter().find_map(|(prefix, base)| Some((unsigned.strip_prefix(prefix)?, *base)));
    let is_octal = unsigned.len() > 1 && unsigned.starts_with('0');
    let (digits, base) = prefixed.unwrap_or((&unsigned, if is_octal { 8 } else { 10 }));
    // The library takes a sign of its own.
    let number = u64::from_str_radix(digits, base).ok().filter(|_| !digits.starts_with(['+', '-']))?;
    if plain.starts_with('-') { 0_i64.checked_sub_unsigned(number).map(Value::from) } else { Some(number.into()) }
}

fn float(plain: &str) -> Option<Value> {
    let is_number = plain.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    plain.parse::<f64>().ok().filter(|float| is_number && float.is_finite()).map(number)
}

/// A float as Go writes it in JSON: without a fraction of zero.
fn number(float: f64) -> Value {
    let whole = (float.fract() == 0.0).then(|| format!("{float:.0}").parse::<i64>().ok()).flatten();
    whole.map_or_else(|| float.into(), Value::from)
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        Ok((value as f64).into())
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        Ok((value as f64).into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        if value.is_finite() {
            return Ok(number(value));
        }
        let shown = if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        };
        Err(E::custom(format!("json: unsupported value: {shown}")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value, E> {
        Ok(self.text(text))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        self.deserialize(reader)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(self)? {
            map.insert(key_text(key).map_err(A::Error::custom)?, entries.next_value_seed(self)?);
        }
        Ok(map.into())
    }
}

/// Every key of JSON is a text.
fn key_text(key: Value) -> Result<String, &'static str> {
    match key {
        Value::String(text) => Ok(text),
        Value::Bool(_) | Value::Number(_) => Ok(key.to_string()),
        Value::Null => Err("unsupported map key of type: %!s(<nil>)"),
        Value::Array(_) | Value::Object(_) => Err("invalid map key"),
    }
}
