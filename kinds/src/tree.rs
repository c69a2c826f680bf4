//! Reading and defaulting JSON trees. A missing, null or mistyped field reads as absent, as Go's zero value.

use api::{Map, Value};

static EMPTY: Value = Value::Null;

/// A field, `Value::Null` when absent.
pub fn at<'a>(value: &'a Value, field: &str) -> &'a Value {
    value.get(field).unwrap_or(&EMPTY)
}

/// A field below several others.
pub fn dig<'a>(value: &'a Value, fields: &[&str]) -> &'a Value {
    fields.iter().fold(value, |value, field| at(value, field))
}

/// A field that is there and not null.
pub fn some<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    value.get(field).filter(|v| !v.is_null())
}

/// Whether the field is there and not null.
pub fn has(value: &Value, field: &str) -> bool {
    some(value, field).is_some()
}

/// A string field, empty when absent.
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    at(value, field).as_str().unwrap_or("")
}

/// A string field that upstream holds by pointer: empty and absent differ.
pub fn opt_text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    at(value, field).as_str()
}

/// An integer field.
pub fn opt_int(value: &Value, field: &str) -> Option<i64> {
    at(value, field).as_i64()
}

/// An integer field, 0 when absent.
pub fn int(value: &Value, field: &str) -> i64 {
    opt_int(value, field).unwrap_or(0)
}

/// A boolean field, false when absent.
pub fn flag(value: &Value, field: &str) -> bool {
    at(value, field).as_bool().unwrap_or(false)
}

/// A boolean field that upstream holds by pointer.
pub fn opt_flag(value: &Value, field: &str) -> Option<bool> {
    at(value, field).as_bool()
}

/// A list field, empty when absent.
pub fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    at(value, field).as_array().map_or(&[], Vec::as_slice)
}

/// The strings of a list field.
pub fn texts<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    list(value, field).iter().map(|v| v.as_str().unwrap_or(""))
}

/// The entries of a map field.
pub fn entries<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let map = at(value, field).as_object();
    map.into_iter().flatten().map(|(k, v)| (k.as_str(), v))
}

/// The number of entries of a map field.
pub fn entry_count(value: &Value, field: &str) -> usize {
    at(value, field).as_object().map_or(0, Map::len)
}

/// The value as an object, replaced by an empty one when it is something else.
pub fn object_mut(value: &mut Value) -> &mut Map<String, Value> {
    api::meta::as_object_mut(value)
}

/// A field to write into, made an empty object when it is none.
pub fn enter<'a>(value: &'a mut Value, field: &str) -> &'a mut Value {
    let map = object_mut(value);
    if !map.contains_key(field) {
        map.insert(field.to_owned(), Value::Null);
    }
    let entered = map.get_mut(field).expect("inserted above");
    object_mut(entered);
    entered
}

/// A field to write into when it is an object.
pub fn enter_some<'a>(value: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    value.get_mut(field).filter(|v| v.is_object())
}

/// The elements of a list field, to write into.
pub fn list_mut<'a>(value: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    let list = value.get_mut(field).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// Sets a field.
pub fn put(value: &mut Value, field: &str, new: impl Into<Value>) {
    object_mut(value).insert(field.to_owned(), new.into());
}

/// Makes a field what it is in another tree, null when it has none there.
pub fn keep(value: &mut Value, old: &Value, field: &str) {
    let kept = at(old, field);
    // Compared first: it is mostly the same already, and more to copy than to look at.
    if value.get(field) != Some(kept) {
        put(value, field, kept.clone());
    }
}

/// Removes a field.
pub fn remove(value: &mut Value, field: &str) -> Option<Value> {
    value.as_object_mut()?.remove(field)
}

/// Sets a field that is absent or null.
pub fn default_to(value: &mut Value, field: &str, new: impl Into<Value>) {
    if !has(value, field) {
        put(value, field, new);
    }
}

/// Sets a string field that is absent, null or empty.
pub fn default_text(value: &mut Value, field: &str, new: &str) {
    if text(value, field).is_empty() {
        put(value, field, new);
    }
}

/// Sets an integer field that is absent, null or zero.
pub fn default_nonzero(value: &mut Value, field: &str, new: i64) {
    if int(value, field) == 0 {
        put(value, field, new);
    }
}

/// Equality as upstream's semantic comparison sees it: absent, null and empty are the same, and so are
/// quantities and numbers of equal text; everything else must be equal.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(k, v)| same(v, b.get(k).unwrap_or(&EMPTY)))
                && b.iter().all(|(k, v)| a.contains_key(k) || is_empty(v))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => a == b || (is_empty(a) && is_empty(b)),
    }
}

/// The field of both trees is [`same`].
pub fn same_at(a: &Value, b: &Value, field: &str) -> bool {
    same(at(a, field), at(b, field))
}

/// Null, an empty list or an object of nothing but such.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        _ => false,
    }
}
