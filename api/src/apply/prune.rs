//! Which paths an object has, and an object without some of them.

use serde_json::{Map, Value};

use super::element::Element;
use super::form::{Form, Merge, name_item};
use super::set::{Node, Set};

/// The paths of everything that an object says.
pub(super) fn field_set(form: Form, value: &Value) -> Set<'_> {
    paths(form, value).1
}

/// Whether the value is owned as one, and the paths below it.
fn paths(form: Form, value: &Value) -> (bool, Set<'_>) {
    if form.is_leaf(value) {
        return (true, Set::default());
    }
    match (form, value) {
        (Form::List { item, merge }, Value::Array(items)) => (false, item_paths(item, merge, items)),
        (_, Value::Object(entries)) => {
            let nodes = entries.iter().filter_map(|(name, value)| {
                let (form, declared) = form.entry(name)?;
                let (own, below) = paths(form, value);
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                Some(Node { element: Element::Field(name.as_str().into()), member: own || empty || !declared, below })
            });
            (false, Set::of(nodes.collect()))
        }
        _ => (false, Set::default()),
    }
}

fn item_paths<'a>(item: &'static crate::schema::Shape, merge: Merge, items: &'a [Value]) -> Set<'a> {
    let form = Form::item(item);
    let mut nodes: Vec<Node<'a>> = Vec::with_capacity(items.len());
    for value in items {
        let Ok(element) = name_item(item, merge, value) else { continue };
        // Repeated items are owned as one.
        if let Some(known) = nodes.iter_mut().find(|node| node.element == element) {
            known.below = Set::default();
            continue;
        }
        let (_, below) = paths(form, value);
        nodes.push(Node { element, member: true, below });
    }
    Set::of(nodes)
}

/// The object without the paths of a set. What is emptied by it becomes null.
pub(super) fn remove(form: Form, value: &Value, paths: &Set<'_>) -> Value {
    match (form, value) {
        (Form::Scalar(_), value) => value.clone(),
        (form, value) if form.is_leaf(value) => match value {
            Value::Object(_) | Value::Array(_) => Value::Null,
            scalar => scalar.clone(),
        },
        (Form::List { item, merge }, Value::Array(items)) => {
            let kept: Vec<Value> = items
                .iter()
                .filter_map(|value| {
                    let node = name_item(item, merge, value).ok().and_then(|element| paths.get(&element));
                    without(Form::item(item), value, node)
                })
                .collect();
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        (form, Value::Object(entries)) => {
            let kept: Map<String, Value> = entries
                .iter()
                .filter_map(|(name, value)| {
                    let node = paths.get(&Element::Field(name.as_str().into()));
                    let form = form.entry(name).map_or(Form::Open, |(form, _)| form);
                    Some((name.clone(), without(form, value, node)?))
                })
                .collect();
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        _ => Value::Null,
    }
}

fn without(form: Form, value: &Value, node: Option<&Node<'_>>) -> Option<Value> {
    match node {
        None => Some(value.clone()),
        Some(node) if node.member => None,
        Some(node) => Some(remove(form, value, &node.below)),
    }
}

/// The set with every declared field that has paths below it as a member too.
pub(super) fn with_named_fields<'a>(form: Form, set: &Set<'a>) -> Set<'a> {
    with_named(Some(form), set)
}

fn with_named<'a>(form: Option<Form>, set: &Set<'a>) -> Set<'a> {
    let nodes = set.nodes().iter().map(|node| {
        let entry = match &node.element {
            Element::Field(name) => form.and_then(|form| form.entry(name)),
            Element::Key(_) => form.and_then(Form::items).map(|form| (form, false)),
            Element::Value(_) | Element::Index(_) => None,
        };
        let declared = entry.is_some_and(|(_, declared)| declared) && !node.below.is_empty();
        let below = with_named(entry.map(|(form, _)| form), &node.below);
        Node { element: node.element.clone(), member: node.member || declared, below }
    });
    Set::of(nodes.collect())
}
