//! Documents without a type: the tree, and the keys that occur twice.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::syntax;

/// Reads JSON text of no known type; the list holds `duplicate field "a.b"` for every repeated key.
///
/// The error is Go's text for a syntax error.
pub fn parse_untyped(text: &[u8]) -> Result<(Value, Vec<String>), String> {
    read(text).or_else(|error| {
        syntax::check_syntax(text)?;
        read(&syntax::replace_invalid_text(text)).map_err(|_| error)
    })
}

fn read(text: &[u8]) -> Result<(Value, Vec<String>), String> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let mut walk = Walk::default();
    let value = Any(&mut walk).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map(|value| (value, walk.duplicates)).map_err(|error| error.to_string())
}

#[derive(Default)]
struct Walk {
    path: String,
    duplicates: Vec<String>,
}

struct Any<'w>(&'w mut Walk);

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let walk = self.0;
        let length = walk.path.len();
        let mut list = Vec::new();
        loop {
            walk.path.push_str(&format!("[{}]", list.len()));
            let next = items.next_element_seed(Any(&mut *walk))?;
            walk.path.truncate(length);
            match next {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let walk = self.0;
        let length = walk.path.len();
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if length > 0 {
                walk.path.push('.');
            }
            walk.path.push_str(&key);
            if map.contains_key(&key) {
                let text = format!("duplicate field {:?}", walk.path);
                walk.duplicates.push(text);
            }
            let value = entries.next_value_seed(Any(&mut *walk))?;
            walk.path.truncate(length);
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
