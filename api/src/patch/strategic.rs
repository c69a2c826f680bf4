//! Strategic merge patch: objects merge field by field, lists as the schema table says, directives say the rest.
//!
//! Directives: `$patch` (`replace`, `delete`; in a list's items also), `$retainKeys`, `$setElementOrder/<list>` and
//! `$deleteFromPrimitiveList/<list>`. Upstream walks a patch in random order; here it is the order of the names,
//! which puts every directive before the field it is about.

use serde_json::{Map, Value};

use super::lists::{self, Items};
use super::{Error, go_text, go_type, json_word};
use crate::schema::{Field, Shape, TypeId, table};

pub(super) type Object = Map<String, Value>;

pub(super) const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList";
const ORDER_PREFIX: &str = "$setElementOrder";

/// The patch as an object; null is an empty one.
pub(super) fn object(patch: Value) -> Result<Object, Error> {
    match patch {
        Value::Object(patch) => Ok(patch),
        Value::Null => Ok(Object::new()),
        other => {
            let word = json_word(&other);
            Err(Error::Malformed(format!(
                "json: cannot unmarshal {word} into Go value of type map[string]interface {{}}"
            )))
        }
    }
}

pub(super) fn apply(original: &Value, patch: Object, id: TypeId) -> Result<Value, Error> {
    let original = original.as_object().cloned().unwrap_or_default();
    merge_object(original, patch, Meta::Struct(id)).map(Value::Object)
}

/// What is known of an object or of a list's items.
#[derive(Clone, Copy)]
pub(super) enum Meta {
    Struct(TypeId),
    /// A Go kind without fields, such as `map`.
    Other(&'static str),
}

impl Meta {
    fn of(shape: &Shape) -> Self {
        match shape {
            Shape::Ref(id) => Self::Struct(*id),
            Shape::Map(_) => Self::Other("map"),
            Shape::List { .. } | Shape::Bytes => Self::Other("slice"),
            Shape::String => Self::Other("string"),
            _ => Self::Other("struct"),
        }
    }

    fn field(self, name: &str) -> Result<&'static Field, Error> {
        match self {
            Self::Other(kind) => {
                let text = format!("merging an object in json but data type is not struct, instead is: {kind}");
                Err(Error::Other(text))
            }
            Self::Struct(id) => {
                let of = table().get(id);
                of.field(name).ok_or_else(|| {
                    let owner = of.struct_name();
                    Error::Other(format!("unable to find api field in struct {owner} for the json field {name:?}"))
                })
            }
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Struct(id) => table().get(id).struct_name(),
            Self::Other(kind) => kind,
        }
    }
}

/// Merges a patch into an object.
pub(super) fn merge_object(mut original: Object, mut patch: Object, meta: Meta) -> Result<Object, Error> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Object::new()),
            _ => {
                patch.insert(DIRECTIVE.to_owned(), directive.clone());
                Err(unknown_directive(&directive, patch))
            }
        };
    }
    retain_keys(&mut original, &mut patch)?;
    order_lists(&mut original, &mut patch, meta)?;
    for (key, value) in patch {
        merge_entry(&mut original, key, value, meta)?;
    }
    Ok(original)
}

pub(super) fn unknown_directive(directive: &Value, holder: Object) -> Error {
    Error::Other(format!("unknown patch type: {} in map: {}", go_text(directive), go_text(&Value::Object(holder))))
}

fn merge_entry(original: &mut Object, key: String, value: Value, meta: Meta) -> Result<(), Error> {
    let (key, deletes) = match key.starts_with(DELETE_PREFIX) {
        true => (directive_target(&key, DELETE_PREFIX, "primitive list")?.to_owned(), true),
        false => (key, false),
    };
    if value.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let merged = match (original.remove(&key), value) {
        (Some(Value::Object(current)), Value::Object(patch)) => {
            let field = meta.field(&key)?;
            match field.replaces() {
                true => Some(Value::Object(patch)),
                false => Some(Value::Object(merge_object(current, patch, Meta::of(&field.shape))?)),
            }
        }
        (Some(Value::Array(current)), Value::Array(patch)) => {
            let list = list_of(meta, &key)?;
            Some(Value::Array(lists::merge(current, patch, &list, deletes)?))
        }
        (current, _) if deletes => current,
        (current, mut value) => {
            if current.as_ref().is_none_or(|current| go_type(current) != go_type(&value)) {
                discard_nulls(&mut value);
            }
            without_directives(value)
        }
    };
    if let Some(merged) = merged {
        original.insert(key, merged);
    }
    Ok(())
}

fn list_of(meta: Meta, key: &str) -> Result<Items, Error> {
    let field = meta.field(key)?;
    let Some(item) = field.shape.item() else {
        return Err(Error::Other("expected slice or array type, but got: struct".to_owned()));
    };
    Ok(Items { meta: Meta::of(item), merge_key: field.patch_merge_key().unwrap_or(""), merges: field.merges() })
}

fn directive_target<'a>(key: &'a str, prefix: &str, what: &str) -> Result<&'a str, Error> {
    let target = key.split_once('/').filter(|(head, _)| *head == prefix);
    target.map(|(_, name)| name).ok_or_else(|| Error::Malformed(format!("invalid patch format of {what}")))
}

/// `$retainKeys`: drops every field of the original that is not listed; the patch may set listed ones only.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let malformed = || Error::Malformed("invalid patch format of retainKeys".to_owned());
    let keys = keys.as_array().ok_or_else(malformed)?;
    let listed = |key: &str| keys.iter().any(|one| one.as_str() == Some(key));
    let is_directive = |key: &str| key.starts_with(DELETE_PREFIX) || key.starts_with(ORDER_PREFIX);
    if patch.iter().any(|(key, value)| !value.is_null() && !is_directive(key) && !listed(key)) {
        return Err(malformed());
    }
    original.retain(|key, _| listed(key));
    Ok(())
}

/// `$setElementOrder/<list>`: merges the list of that name at once and puts its items in the given order.
fn order_lists(original: &mut Object, patch: &mut Object, meta: Meta) -> Result<(), Error> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(ORDER_PREFIX)).cloned().collect();
    for directive in directives {
        let order = as_list(patch.remove(&directive).unwrap_or_default())?;
        let key = directive_target(&directive, ORDER_PREFIX, "setElementOrder list")?;
        let current = original.get(key).cloned().map(as_list).transpose()?;
        let change = patch.remove(key).map(as_list).transpose()?;
        let list = list_of(meta, key)?;
        lists::check_order(change.as_deref().unwrap_or_default(), &order, list.merge_key)?;
        if let Some(merged) = lists::merge_in_order(current, change, &order, &list)? {
            original.insert(key.to_owned(), Value::Array(merged));
        }
    }
    Ok(())
}

fn as_list(value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(Error::Other(format!("expected a []interface {{}}, but received a {}", go_type(&other)))),
    }
}

/// A value that is new: its null fields have nothing to delete.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.retain(|_, value| !value.is_null());
            entries.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// Takes the objects that hold a `$patch` out of a new value; None when the value is one itself.
pub(super) fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(entries) if entries.contains_key(DIRECTIVE) => None,
        Value::Object(entries) => {
            let kept = entries.into_iter().filter_map(|(key, value)| Some((key, without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}
