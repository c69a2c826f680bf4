//! The value by which a collection is indexed, read out of the stored text without a tree.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

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

#[cfg(test)]
mod tests {
    use super::*;

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
