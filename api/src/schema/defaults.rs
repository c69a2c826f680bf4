//! Defaults that are declared on fields.

use serde_json::Value;

use super::table;
use super::types::{Field, Shape, TypeId};

/// Fills in the declared defaults of a tree, wherever the object around the field exists.
pub fn apply_defaults(id: TypeId, value: &mut Value) {
    let Value::Object(object) = value else { return };
    for field in table().get(id).defaulted() {
        if let Some(default) = field.default() {
            let slot = object.get(field.name);
            if slot.is_none_or(|value| is_unset(field, value)) {
                let default = serde_json::from_str(default).expect("the generator writes defaults as JSON");
                object.insert(field.name.to_owned(), default);
            }
        }
        if let Some(inner) = object.get_mut(field.name) {
            descend(&field.shape, inner);
        }
    }
}

/// A pointer is unset when null, anything else when it has its zero value.
fn is_unset(field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => true,
        _ if field.is_pointer() => false,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

fn descend(shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Ref(id), value) => apply_defaults(*id, value),
        (Shape::List { item, .. }, Value::Array(items)) if is_defaulted(item) => {
            items.iter_mut().for_each(|value| descend(item, value));
        }
        (Shape::Map(item), Value::Object(entries)) if is_defaulted(item) => {
            entries.values_mut().for_each(|value| descend(item, value));
        }
        _ => {}
    }
}

fn is_defaulted(shape: &Shape) -> bool {
    shape.innermost_type().is_some_and(|id| table().get(id).is_defaulted())
}
