//! Texts and trees with variables in them; see [`crate::corpus`].

use serde_json::{Map, Value};

/// The tree with every variable's value in it. A variable that there is not is null, or empty within a text.
pub(crate) fn value(pattern: &Value, variables: &Map<String, Value>) -> Value {
    filled(pattern, &|name| Some(find(name, variables)))
}

/// The same for variables that are there; others stay named.
pub(crate) fn keep(pattern: &Value, variables: &Map<String, Value>) -> Value {
    filled(pattern, &|name| variables.contains_key(head(name)).then(|| find(name, variables)))
}

/// A text with every variable's value in it, trees as JSON.
pub(crate) fn text(pattern: &str, variables: &Map<String, Value>) -> String {
    replaced(pattern, &|name| Some(find(name, variables)))
}

fn head(name: &str) -> &str {
    name.split('/').next().unwrap_or_default()
}

fn find(name: &str, variables: &Map<String, Value>) -> Value {
    let tree = variables.get(head(name)).unwrap_or(&Value::Null);
    tree.pointer(&name[head(name).len()..]).cloned().unwrap_or_default()
}

fn filled(pattern: &Value, find: &dyn Fn(&str) -> Option<Value>) -> Value {
    match pattern {
        Value::String(text) => match whole(text).and_then(find) {
            Some(value) => value,
            None => replaced(text, find).into(),
        },
        Value::Array(items) => items.iter().map(|item| filled(item, find)).collect(),
        Value::Object(fields) => match fields.get("$merge").and_then(Value::as_array) {
            Some(parts) => {
                let parts: Vec<Value> = parts.iter().map(|part| filled(part, find)).collect();
                merged_unless_open(parts)
            }
            None => fields.iter().map(|(name, field)| (name.clone(), filled(field, find))).collect(),
        },
        other => other.clone(),
    }
}

/// Parts that still name variables are merged later.
fn merged_unless_open(parts: Vec<Value>) -> Value {
    if parts.iter().any(|part| part.as_str().is_some_and(|text| whole(text).is_some())) {
        return Value::Object(Map::from_iter([("$merge".to_owned(), parts.into())]));
    }
    let mut parts = parts.into_iter();
    let mut tree = parts.next().unwrap_or_default();
    parts.for_each(|patch| merge(&mut tree, patch));
    tree
}

fn whole(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    (!name.contains('}')).then_some(name)
}

fn replaced(pattern: &str, find: &dyn Fn(&str) -> Option<Value>) -> String {
    let (mut out, mut rest) = (String::new(), pattern);
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = after.split_once('}').unwrap_or((after, ""));
        out.push_str(before);
        match find(name) {
            Some(Value::String(text)) => out.push_str(&text),
            Some(Value::Null) => {}
            Some(tree) => out.push_str(&tree.to_string()),
            None => out.push_str(&format!("${{{name}}}")),
        }
        rest = behind;
    }
    out + rest
}

fn merge(tree: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *tree = patch;
        return;
    };
    if !tree.is_object() {
        *tree = Value::Object(Map::new());
    }
    let fields = tree.as_object_mut().expect("it was just made one");
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}
