//! What Go's encoder makes of absent, null and empty values: some are added, some left out.

use serde_json::{Map, Value, json};

use super::table;
use super::types::{Field, Shape, Type};

/// What a tree is to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum View {
    /// What a client has said: Go tells an empty list or map from an absent one, and writes it where it must be written.
    #[default]
    Said,
    /// What comes back from the store: protobuf, in which upstream stores, knows no empty ones.
    Stored,
}

/// Builds an object of the values that were read, in the order of the type's fields.
pub(crate) fn object(of: &Type, values: Vec<Option<Value>>, view: View) -> Map<String, Value> {
    let kept = of.fields.iter().zip(values).filter_map(|(field, value)| {
        let value = self::field(field, value.filter(|value| !is_nothing(of, field, value, view)))?;
        Some((field.name.to_owned(), value))
    });
    kept.collect()
}

/// Null, and in the store an empty list or map of a type that has a protobuf form.
fn is_nothing(of: &Type, field: &Field, value: &Value, view: View) -> bool {
    let forgotten = !field.is_pointer() && matches!(field.shape, Shape::List { .. } | Shape::Map(_));
    let through_protobuf = view == View::Stored && of.id.starts_with("api.");
    value.is_null() || (forgotten && through_protobuf && is_empty(&field.shape, value))
}

/// The value that Go writes for a field; None leaves it out.
fn field(field: &Field, value: Option<Value>) -> Option<Value> {
    let Some(value) = value else { return absent(field) };
    let dropped = !field.is_pointer() && field.omits_empty() && is_empty(&field.shape, &value);
    (!dropped).then_some(value)
}

fn absent(field: &Field) -> Option<Value> {
    if field.is_pointer() {
        return (!field.omits_empty()).then_some(Value::Null);
    }
    let omitted = field.omits_zero() || (field.omits_empty() && has_empty_form(&field.shape));
    (!omitted).then(|| zero(&field.shape))
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
            Value::Object(object(of, vec![None; of.fields.len()], View::Said))
        }
        _ => Value::Null,
    }
}
