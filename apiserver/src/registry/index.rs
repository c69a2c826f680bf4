//! What selectors ask for, read out of the stored text without a tree of all of it.

use std::borrow::Cow;
use std::fmt;

use api::{Map, Value};
use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The text at a path of names in an object; None when there is none.
pub(crate) fn text_at(raw: &[u8], path: &str) -> Option<String> {
    let (_, last) = path.rsplit_once('.').unwrap_or(("", path));
    // Most objects that lack it do not even have the word.
    memchr::memmem::find(raw, last.as_bytes())?;
    let mut reader = serde_json::Deserializer::from_slice(raw);
    TextAt(path).deserialize(&mut reader).ok().flatten()
}

/// Looks for the text at a path, and passes over everything else.
struct TextAt<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for TextAt<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() { Option::<String>::deserialize(reader) } else { reader.deserialize_map(self) }
    }
}

impl<'de> Visitor<'de> for TextAt<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let (name, rest) = self.0.split_once('.').unwrap_or((self.0, ""));
        let mut found = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == name {
                found = map.next_value_seed(TextAt(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// An object with nothing in it but what is at some paths of names; null when there is no object.
pub(crate) fn tree_at(raw: &[u8], paths: &[&str]) -> Value {
    let mut reader = serde_json::Deserializer::from_slice(raw);
    TreeAt(paths).deserialize(&mut reader).unwrap_or_default()
}

/// Reads what is at some paths, and passes over everything else.
struct TreeAt<'p>(&'p [&'p str]);

impl<'de> DeserializeSeed<'de> for TreeAt<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TreeAt<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Value, M::Error> {
        let mut found = Map::new();
        let mut below: Vec<&str> = Vec::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let named = self.0.iter().filter_map(|path| path.strip_prefix(&*key));
            below.clear();
            below.extend(named.filter_map(|rest| if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') }));
            if below.is_empty() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let whole = below.iter().any(|path| path.is_empty());
            let value = if whole { map.next_value()? } else { map.next_value_seed(TreeAt(&below))? };
            found.insert(key.into_owned(), value);
        }
        Ok(Value::Object(found))
    }

    // Where an object should be, everything else is as good as nothing.

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Value, S::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tree_has_what_is_at_the_paths_only() {
        let object =
            br#"{"a":{"b":{"c":1,"d":[1]},"bc":2,"e":null},"f":[{"a":1}],"g":"x","h":{"i":1},"\u006a":{"k":2}}"#;
        let cases: [(&[&str], Value); 5] = [
            (&["a.b.c", "g"], json!({"a": {"b": {"c": 1}}, "g": "x"})),
            (&["a.b", "a.b.c", "a.e"], json!({"a": {"b": {"c": 1, "d": [1]}, "e": null}})),
            (&["f.a", "g.x", "a.e.y"], json!({"a": {"e": null}, "f": null, "g": null})),
            (&["j.k", "h", "z"], json!({"h": {"i": 1}, "j": {"k": 2}})),
            (&[], json!({})),
        ];
        for (paths, expected) in cases {
            assert_eq!(tree_at(object, paths), expected, "{paths:?}");
        }
        assert_eq!(tree_at(b"{", &["a"]), Value::Null);
    }

    #[test]
    fn text_is_found_at_its_path_only() {
        let pod = br#"{"kind":"Thing","metadata":{"nodeName":"no","labels":{"nodeName":"no"}},"spec":{"a":[{"nodeName":"no"}],"nodeName":"n\u0031","b":{}}}"#;
        assert_eq!(text_at(pod, "spec.nodeName").as_deref(), Some("n1"));
        assert_eq!(text_at(pod, "kind").as_deref(), Some("Thing"));
        for (object, path) in [
            (&pod[..], "spec.b"),
            (pod, "spec.other"),
            (pod, "spec.nodeName.more"),
            (br#"{"spec":{"nodeName":null}}"#, "spec.nodeName"),
            (br#"{"spec":null,"x":"nodeName"}"#, "spec.nodeName"),
            (br#"{"spec":{"nodeName":"#, "spec.nodeName"),
        ] {
            assert_eq!(text_at(object, path), None, "{path}");
        }
    }
}
