//! RFC 6902, applied one operation at a time by the `json-patch` crate.

use serde_json::{Map, Value};

use super::{Error, MAX_JSON_PATCH_OPERATIONS, json_word};

const GO_TYPE: &str = "[]handlers.jsonPatchOp";
const KNOWN: [&str; 4] = ["from", "op", "path", "value"];

/// A JSON patch; its operations are checked when they are applied, as upstream does.
pub(super) struct Operations(Vec<Map<String, Value>>);

impl Operations {
    pub(super) fn read(tree: Value) -> Result<Self, Error> {
        let wrong = |value: &Value, place: &str| {
            let word = json_word(value);
            Error::Malformed(format!("error decoding patch: json: cannot unmarshal {word} into Go {place}"))
        };
        let Value::Array(items) = tree else { return Err(wrong(&tree, &format!("value of type {GO_TYPE}"))) };
        let mut operations = Vec::with_capacity(items.len());
        for item in items {
            let Value::Object(operation) = item else {
                return Err(wrong(&item, "value of type handlers.jsonPatchOp"));
            };
            for field in ["op", "path", "from"] {
                let value = operation.get(field).unwrap_or(&Value::Null);
                if !value.is_string() && !value.is_null() {
                    return Err(wrong(value, &format!("struct field jsonPatchOp.{field} of type string")));
                }
            }
            operations.push(operation);
        }
        if operations.len() > MAX_JSON_PATCH_OPERATIONS {
            let count = operations.len();
            return Err(Error::TooLarge(format!(
                "The allowed maximum operations in a JSON patch is {MAX_JSON_PATCH_OPERATIONS}, got {count}"
            )));
        }
        Ok(Self(operations))
    }

    /// Repeated keys of the patch and unknown fields of its operations, in upstream's words.
    pub(super) fn strict_problems(&self, duplicates: &[String]) -> Vec<String> {
        let unknown = self.0.iter().enumerate().flat_map(|(index, operation)| {
            let keys = operation.keys().filter(|key| !KNOWN.contains(&key.as_str()));
            keys.map(move |key| format!("unknown field {:?}", format!("[{index}].{key}")))
        });
        duplicates.iter().cloned().chain(unknown).map(|problem| format!("json patch {problem}")).collect()
    }

    pub(super) fn apply(self, mut document: Value) -> Result<Value, Error> {
        for mut operation in self.0 {
            for field in ["path", "from"] {
                if let Some(Value::String(path)) = operation.get_mut(field) {
                    *path = resolve_negative(&document, path);
                }
            }
            if tests_absence(&document, &operation) {
                continue;
            }
            if replaces_nothing(&document, &operation) {
                operation.insert("op".to_owned(), "add".into());
            }
            let text = |error: &dyn std::fmt::Display| Error::Inapplicable(error.to_string());
            let operation: json_patch::PatchOperation =
                serde_json::from_value(Value::Object(operation)).map_err(|error| text(&error))?;
            json_patch::patch(&mut document, &[operation]).map_err(|error| text(&error))?;
        }
        Ok(document)
    }
}

/// Upstream counts negative array indices from the end; RFC 6901 knows none.
fn resolve_negative(document: &Value, path: &str) -> String {
    if !path.contains("/-") {
        return path.to_owned();
    }
    let mut current = Some(document);
    let mut out = String::with_capacity(path.len());
    for token in path.split('/').skip(1) {
        let length = current.and_then(Value::as_array).map(Vec::len);
        let back = token.strip_prefix('-').and_then(|digits| digits.parse::<usize>().ok());
        let token = match (length, back) {
            // Adding counts from behind the new end; every other operation from behind the last item.
            (Some(length), Some(back)) if back > 0 && back <= length => (length - back).to_string(),
            _ => token.to_owned(),
        };
        current = current.and_then(|value| value.pointer(&format!("/{token}")));
        out.push('/');
        out.push_str(&token);
    }
    out
}

/// Upstream lets a test for null pass where nothing is.
fn tests_absence(document: &Value, operation: &Map<String, Value>) -> bool {
    let text = |field: &str| operation.get(field).and_then(Value::as_str);
    let (Some("test"), Some(path), Some(Value::Null)) = (text("op"), text("path"), operation.get("value")) else {
        return false;
    };
    let Some((parent, _)) = path.rsplit_once('/') else { return false };
    document.pointer(path).is_none() && document.pointer(parent).is_some_and(Value::is_object)
}

/// Upstream lets a key be replaced that an object does not have.
fn replaces_nothing(document: &Value, operation: &Map<String, Value>) -> bool {
    let text = |field: &str| operation.get(field).and_then(Value::as_str);
    let (Some("replace"), Some(path)) = (text("op"), text("path")) else { return false };
    let Some((parent, _)) = path.rsplit_once('/') else { return false };
    document.pointer(path).is_none() && document.pointer(parent).is_some_and(Value::is_object)
}
