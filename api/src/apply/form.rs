//! What server-side apply has to know of a value: whether it is owned as one or in parts, and how its parts are named.

use serde_json::Value;

use super::element::Element;
use crate::schema::{self, Field, ListType, Shape, Type, TypeId};

/// How a value is owned and merged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// A plain value.
    Scalar(Scalar),
    /// An object of a type, owned field by field unless atomic.
    Struct { of: &'static Type, atomic: bool },
    /// A map, owned entry by entry unless atomic.
    Map { item: &'static Shape, atomic: bool },
    /// A list.
    List { item: &'static Shape, merge: Merge },
    /// Any value: maps are owned entry by entry, all else as one.
    Open,
    /// Any value, owned as one.
    Whole,
}

/// Which plain values fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Number,
    Text,
    Flag,
    Any,
}

/// How a list is owned.
#[derive(Clone, Copy, Debug)]
pub(super) enum Merge {
    /// As one.
    Whole,
    /// Value by value.
    Set,
    /// Item by item, named by the keys that the field declares.
    Keyed(&'static Field),
}

impl Form {
    /// A whole object.
    pub(super) fn object(id: TypeId) -> Self {
        let of = schema::table().get(id);
        Self::Struct { of, atomic: of.is_atomic() }
    }

    /// The value of a declared field.
    pub(super) fn field(field: &'static Field) -> Self {
        match Self::item(&field.shape) {
            Self::Struct { of, atomic } => Self::Struct { of, atomic: field.map_type().map_or(atomic, is_atomic) },
            Self::Map { item, .. } => Self::Map { item, atomic: field.map_type().is_some_and(is_atomic) },
            Self::List { item, .. } => Self::List { item, merge: merge(field) },
            other => other,
        }
    }

    /// The value of an item of a list or map.
    pub(super) fn item(shape: &'static Shape) -> Self {
        match shape {
            Shape::String | Shape::Bytes | Shape::Duration => Self::Scalar(Scalar::Text),
            Shape::Bool => Self::Scalar(Scalar::Flag),
            Shape::Int(_) | Shape::Float(_) => Self::Scalar(Scalar::Number),
            Shape::Quantity | Shape::IntOrString | Shape::Time | Shape::MicroTime => Self::Scalar(Scalar::Any),
            Shape::Raw => Self::Whole,
            Shape::FieldsV1 | Shape::Json | Shape::PropsOrArray | Shape::PropsOrBool | Shape::PropsOrStrings => {
                Self::Open
            }
            Shape::List { item, .. } => Self::List { item, merge: Merge::Whole },
            Shape::Map(item) => Self::Map { item, atomic: false },
            Shape::Ref(id) => Self::object(*id),
        }
    }

    /// What stands under a name of an object or map, and whether the type declares it. None for a name that may not be.
    pub(super) fn entry(self, name: &str) -> Option<(Self, bool)> {
        match self {
            Self::Struct { of, .. } => match of.field(name) {
                Some(field) => Some((Self::field(field), true)),
                None => of.fields.is_empty().then_some((Self::Open, false)),
            },
            Self::Map { item, .. } => Some((Self::item(item), false)),
            Self::Open => Some((Self::Open, false)),
            Self::Whole => Some((Self::Whole, false)),
            Self::Scalar(_) | Self::List { .. } => None,
        }
    }

    /// The items of a list.
    pub(super) fn items(self) -> Option<Self> {
        match self {
            Self::List { item, .. } => Some(Self::item(item)),
            Self::Open | Self::Whole => Some(Self::Whole),
            Self::Scalar(_) | Self::Struct { .. } | Self::Map { .. } => None,
        }
    }

    /// True when a value of this form is owned as one. Decides for `Open` by the value.
    pub(super) fn is_leaf(self, value: &Value) -> bool {
        match self {
            Self::Scalar(_) | Self::Whole => true,
            Self::Struct { atomic, .. } | Self::Map { atomic, .. } => atomic,
            Self::List { merge, .. } => matches!(merge, Merge::Whole),
            Self::Open => !matches!(value, Value::Object(_) | Value::Null),
        }
    }
}

/// Lists have no more keys than this, but for few.
const KEYS: usize = 2;

fn is_atomic(map_type: &str) -> bool {
    map_type == "atomic"
}

fn merge(field: &'static Field) -> Merge {
    match field.list_type() {
        Some(ListType::Atomic) => Merge::Whole,
        Some(ListType::Set) => Merge::Set,
        Some(ListType::Map) => Merge::Keyed(field),
        // Fields from before list types say it by how a strategic merge patch treats them.
        None if !field.merges() => Merge::Whole,
        None if field.patch_merge_key().is_some() => Merge::Keyed(field),
        None => Merge::Set,
    }
}

/// The name of a list's item.
///
/// # Errors
/// For an item that has none, in upstream's words.
pub(super) fn name_item<'a>(item: &'static Shape, merge: Merge, value: &'a Value) -> Result<Element<'a>, String> {
    match merge {
        Merge::Whole => Err("invalid indexing of non-associative list".to_owned()),
        Merge::Set => match value {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
            _ => Ok(Element::Value(std::borrow::Cow::Borrowed(value))),
        },
        Merge::Keyed(field) => name_keyed(item, field, value),
    }
}

fn name_keyed<'a>(item: &'static Shape, field: &'static Field, value: &'a Value) -> Result<Element<'a>, String> {
    use std::borrow::Cow;
    let object = match value {
        Value::Object(object) => object,
        Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let is_map = field.list_type() == Some(ListType::Map);
    let names = || {
        let (keys, key) = if is_map { (Some(field.list_map_keys()), None) } else { (None, field.patch_merge_key()) };
        keys.into_iter().flatten().chain(key)
    };
    let mut keys: Vec<(Cow<'a, str>, Cow<'a, Value>)> = Vec::with_capacity(KEYS);
    for name in names() {
        if let Some(found) = object.get(name) {
            keys.push((Cow::Borrowed(name), Cow::Borrowed(found)));
        } else if let Some(default) = default_of(item, name) {
            keys.push((Cow::Borrowed(name), Cow::Owned(default)));
        }
    }
    if keys.is_empty() && names().next().is_some() {
        let quoted: Vec<String> = names().map(|name| format!("{name:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            quoted.join(" ")
        ));
    }
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Element::Key(keys.into()))
}

/// The default that OpenAPI declares for a field of a list's items.
fn default_of(item: &'static Shape, name: &str) -> Option<Value> {
    let Shape::Ref(id) = item else { return None };
    let field = schema::table().get(*id).field(name)?;
    if let Some(default) = field.default() {
        return serde_json::from_str(default).ok();
    }
    let zero = field.has_zero_default().then(|| schema::zero(&field.shape))?;
    (!zero.is_null()).then_some(zero)
}
