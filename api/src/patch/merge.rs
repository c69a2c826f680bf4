//! RFC 7386, with the reading of upstream's library where an object is new.

use serde_json::{Map, Value};

use super::{Error, json_word};

pub(super) fn apply(original: &Value, patch: Value, strict: bool) -> Result<Value, Error> {
    let patch = match patch {
        Value::Object(patch) => patch,
        Value::Null => return Err(Error::Malformed("Invalid JSON Patch".to_owned())),
        other if strict => {
            let word = json_word(&other);
            let message = format!(
                "error decoding patch: json: cannot unmarshal {word} into Go value of type map[string]interface {{}}"
            );
            return Err(Error::Malformed(message));
        }
        other => return Ok(other),
    };
    let mut document = original.clone();
    if let Value::Object(object) = &mut document {
        merge(object, patch);
    }
    Ok(document)
}

fn merge(document: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match (document.get_mut(&key), value) {
            (_, Value::Null) => {
                document.remove(&key);
            }
            (Some(Value::Object(inner)), Value::Object(patch)) => merge(inner, patch),
            // A list that replaces a value of its own keeps the nulls inside it; a new one loses them.
            (Some(Value::Object(_)), value) => {
                document.insert(key, value);
            }
            (_, mut value) => {
                prune_nulls(&mut value);
                document.insert(key, value);
            }
        }
    }
}

/// Drops the null fields of objects, inside lists too; null items of lists stay.
fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.retain(|_, value| !value.is_null());
            entries.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}
