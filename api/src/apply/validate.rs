//! Whether an applied configuration fits its form, in upstream's words.

use serde_json::Value;

use super::form::{Form, Merge, Scalar, name_item};
use crate::patch::go_text;
use crate::schema::Shape;

/// Every misfit of a configuration, one text for all; None when it fits.
pub(super) fn misfits(form: Form, value: &Value) -> Option<String> {
    let mut errors = Errors::default();
    errors.check(form, value, "");
    let mut texts = errors.0;
    match texts.len() {
        0 | 1 => texts.pop(),
        _ => Some(format!("errors:\n  {}", texts.join("\n  "))),
    }
}

#[derive(Default)]
struct Errors(Vec<String>);

impl Errors {
    fn refuse(&mut self, path: &str, what: &str) {
        self.0.push(if path.is_empty() { what.to_owned() } else { format!("{path}: {what}") });
    }

    fn check(&mut self, form: Form, value: &Value, path: &str) {
        match (form, value) {
            (_, Value::Null) | (Form::Open | Form::Whole, _) => {}
            (Form::Scalar(scalar), value) => {
                if let Some(what) = misfit(scalar, value) {
                    self.refuse(path, &what);
                }
            }
            (Form::List { item, merge }, Value::Array(items)) => self.check_items(item, merge, items, path),
            (Form::List { .. }, other) => self.refuse(path, &format!("expected list, got &{{{}}}", go_text(other))),
            (_, Value::Object(entries)) => {
                for (name, value) in entries {
                    let path = format!("{path}.{name}");
                    let Some((form, _)) = form.entry(name) else {
                        return self.refuse(&path, "field not declared in schema");
                    };
                    self.check(form, value, &path);
                }
            }
            (_, other) => self.refuse(path, &format!("expected map, got &{{{}}}", go_text(other))),
        }
    }

    fn check_items(&mut self, item: &'static Shape, merge: Merge, items: &[Value], path: &str) {
        let mut seen = Vec::new();
        for (place, value) in items.iter().enumerate() {
            if matches!(merge, Merge::Whole) {
                self.check(Form::item(item), value, &format!("{path}[{place}]"));
                continue;
            }
            let element = match name_item(item, merge, value) {
                Ok(element) => element,
                Err(error) => return self.refuse(path, &format!("element {place}: {error}")),
            };
            if seen.contains(&element) {
                self.refuse(path, &format!("duplicate entries for key {element}"));
            }
            self.check(Form::item(item), value, &format!("{path}{element}"));
            seen.push(element);
        }
    }
}

fn misfit(scalar: Scalar, value: &Value) -> Option<String> {
    match scalar {
        Scalar::Number if !value.is_number() => {
            Some(format!("expected numeric (int or float), got {}", crate::patch::go_type(value)))
        }
        Scalar::Text if !value.is_string() => {
            Some(format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(value)))
        }
        Scalar::Flag if !value.is_boolean() => Some(format!("expected boolean, got &{{{}}}", go_text(value))),
        Scalar::Any if value.is_object() || value.is_array() => {
            Some(format!("expected any scalar, got &{{{}}}", go_text(value)))
        }
        _ => None,
    }
}

/// A decoded value as Go prints it with `%#v`.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(go_syntax).collect::<Vec<_>>().join(", "))
        }
        Value::Object(entries) => {
            let entries = entries.iter().map(|(name, value)| format!("{name:?}:{}", go_syntax(value)));
            format!("map[string]interface {{}}{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}
