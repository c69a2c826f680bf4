//! What Go's encoder makes of absent, null and empty values: some are added, some left out.

use serde_json::{Map, Value, json};

use super::table;
use super::types::{Field, Shape, Type};

/// About so many fields are written although nothing was said of them.
const FEW: usize = 2;

/// What a tree is to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum View {
    /// What a client has said: Go tells an empty list or map from an absent one, and writes it where it must be written.
    #[default]
    Said,
    /// What comes back from the store: protobuf, in which upstream stores, knows no empty ones.
    Stored,
}

/// Builds an object of the values that were read, in the order of the type's fields; takes the values.
pub(crate) fn object(of: &Type, values: &mut [Option<Value>], view: View) -> Map<String, Value> {
    let read = values.iter().filter(|value| value.is_some()).count();
    let mut kept: Vec<(String, Value)> = Vec::with_capacity(read + FEW);
    for (field, place) in of.by_name() {
        let value = values[place].take().filter(|value| !is_nothing(of, field, value, view));
        if let Some(value) = self::field(field, value) {
            kept.push((field.name.to_owned(), value));
        }
    }
    // By name already: the map is built without looking for places.
    kept.into_iter().collect()
}

/// True when a field that decoding finds (or does not find) in a tree stays as it is; of a value only whether it is kept
/// at all.
pub(super) fn stays(of: &Type, field: &Field, value: Option<&Value>) -> bool {
    match value {
        None => !is_written_absent(field),
        Some(Value::Null) => is_written_absent(field) && (field.is_pointer() || has_null_zero(&field.shape)),
        Some(value) => !is_nothing(of, field, value, View::Stored) && !is_dropped(field, value),
    }
}

/// Null, and in the store an empty list or map of a type that has a protobuf form.
fn is_nothing(of: &Type, field: &Field, value: &Value, view: View) -> bool {
    let is_forgotten = || {
        let collects = !field.is_pointer() && matches!(field.shape, Shape::List { .. } | Shape::Map(_));
        collects && is_empty(&field.shape, value) && of.id.starts_with("api.")
    };
    value.is_null() || (view == View::Stored && is_forgotten())
}

/// The value that Go writes for a field; None leaves it out.
fn field(field: &Field, value: Option<Value>) -> Option<Value> {
    let Some(value) = value else { return absent(field) };
    (!is_dropped(field, &value)).then_some(value)
}

fn is_dropped(field: &Field, value: &Value) -> bool {
    !field.is_pointer() && field.omits_empty() && is_empty(&field.shape, value)
}

fn absent(field: &Field) -> Option<Value> {
    let zero = || if field.is_pointer() { Value::Null } else { zero(&field.shape) };
    is_written_absent(field).then(zero)
}

/// Go writes a field that nothing was said of.
fn is_written_absent(field: &Field) -> bool {
    let omitted = match field.is_pointer() {
        true => field.omits_empty(),
        false => field.omits_zero() || (field.omits_empty() && has_empty_form(&field.shape)),
    };
    !omitted
}

/// True for the shapes that `omitempty` leaves out; Go never leaves out a struct.
fn has_empty_form(shape: &Shape) -> bool {
    use Shape::{Bool, Bytes, Float, Int, List, Map, String};
    matches!(shape, Bool | Bytes | Float(_) | Int(_) | List { .. } | Map(_) | String)
}

fn is_empty(shape: &Shape, value: &Value) -> bool {
    if !has_empty_form(shape) {
        return false;
    }
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    }
}

/// An item of a list or map: null is the zero value, except where Go keeps nil.
pub(crate) fn item(shape: &Shape, value: Value) -> Value {
    if value.is_null() { zero(shape) } else { value }
}

/// What Go writes for a zero value.
pub(crate) fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::String => json!(""),
        Shape::Bool => json!(false),
        Shape::Int(_) | Shape::Float(_) | Shape::IntOrString => json!(0),
        Shape::Quantity => json!("0"),
        Shape::Duration => json!("0s"),
        Shape::PropsOrBool => json!(false),
        Shape::Ref(id) => {
            let of = table().get(*id);
            Value::Object(object(of, &mut vec![None; of.fields.len()], View::Said))
        }
        _ => Value::Null,
    }
}

/// Go's zero value is null: as of what [`zero`] does not list.
fn has_null_zero(shape: &Shape) -> bool {
    use Shape::{Bool, Duration, Float, Int, IntOrString, PropsOrBool, Quantity, Ref, String};
    !matches!(shape, String | Bool | Int(_) | Float(_) | IntOrString | Quantity | Duration | PropsOrBool | Ref(_))
}
