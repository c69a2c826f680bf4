//! What a document weighs with its aliases followed: a few bytes of aliases can stand for any amount.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// What may come of aliases beyond what a document of its size can say without them.
const ALIASED_WEIGHT: usize = 1 << 20;
/// What a byte says at most without aliases: `{a,b},` has five nodes in six bytes, and two bytes of text.
const PER_BYTE: usize = 2;
/// Upstream's words.
pub(super) const EXCESS: &str = "document contains excessive aliasing";

/// Refuses a document of which aliases make too much, before anything is made of it.
pub(super) fn check(body: &[u8]) -> Result<(), serde_yaml_ng::Error> {
    // An alias begins with this byte in every encoding.
    if memchr::memchr(b'*', body).is_none() {
        return Ok(());
    }
    weigh(body, &mut (body.len() * PER_BYTE + ALIASED_WEIGHT))
}

/// Takes the weight of the document from what is left.
pub(super) fn weigh(body: &[u8], left: &mut usize) -> Result<(), serde_yaml_ng::Error> {
    Weigh { left }.deserialize(serde_yaml_ng::Deserializer::from_slice(body))
}

/// Takes a node's weight from what is left: its own, that of its text, and those of what is in it.
struct Weigh<'a> {
    left: &'a mut usize,
}

impl Weigh<'_> {
    fn take<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        *self.left = self.left.checked_sub(bytes + 1).ok_or_else(|| E::custom(EXCESS))?;
        Ok(())
    }

    fn again(&mut self) -> Weigh<'_> {
        Weigh { left: self.left }
    }
}

impl<'de> DeserializeSeed<'de> for Weigh<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Weigh<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_bool<E: Error>(mut self, _: bool) -> Result<(), E> {
        self.take(0)
    }

    fn visit_i64<E: Error>(mut self, _: i64) -> Result<(), E> {
        self.take(0)
    }

    fn visit_u64<E: Error>(mut self, _: u64) -> Result<(), E> {
        self.take(0)
    }

    fn visit_f64<E: Error>(mut self, _: f64) -> Result<(), E> {
        self.take(0)
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        self.take(text.len())
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.take(0)
    }

    fn visit_none<E: Error>(mut self) -> Result<(), E> {
        self.take(0)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        self.deserialize(reader)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.take(0)?;
        while items.next_element_seed(self.again())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        self.take(0)?;
        while entries.next_key_seed(self.again())?.is_some() {
            entries.next_value_seed(self.again())?;
        }
        Ok(())
    }
}
