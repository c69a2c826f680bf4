//! Secrets: what their types require of their data.

use api::field::{FieldErrors, Path};
use api::{Value, meta};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::json;

use super::config_map::{DATA_MAX, decoded_len, frozen};
use crate::names;
use crate::object_meta::{self, invalid_each};
use crate::rows;
use crate::strategy::{Request, Strategy};
use crate::tree::{at, default_text, enter, entries, entry_count, put, remove, text};

/// The secret strategy.
#[derive(Debug)]
pub(crate) struct Secret;

const ACCOUNT: &str = "kubernetes.io/service-account.name";

impl Strategy for Secret {
    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        default_text(object, "type", "Opaque");
        encode_string_data(object);
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        default_text(new, "type", text(old, "type"));
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        frozen(new, old, &["data"], errors);
        validate(new, errors);
        // Declarative rules come last upstream.
        if text(new, "type") != text(old, "type") {
            errors.invalid(&Path::new("type"), text(new, "type"), object_meta::IMMUTABLE);
        }
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let (kind, count) = (text(object, "type"), entry_count(object, "data"));
        Some(vec![rows::name(object), json!(kind), json!(count), rows::age(object, now)])
    }
}

/// `stringData` is write-only: it ends in `data`.
fn encode_string_data(object: &mut Value) {
    let Some(Value::Object(plain)) = remove(object, "stringData") else {
        return;
    };
    let data = enter(object, "data");
    for (key, value) in plain {
        put(data, &key, STANDARD.encode(value.as_str().unwrap_or("")));
    }
}

fn validate(object: &Value, errors: &mut FieldErrors) {
    let path = Path::new("data");
    let mut size = 0;
    for (key, value) in entries(object, "data") {
        invalid_each(&path.key(key), key, names::config_key(key), errors);
        size += decoded_len(value.as_str().unwrap_or(""));
    }
    if size > DATA_MAX {
        errors.too_long(&path, DATA_MAX);
    }
    let data = at(object, "data");
    let has = |key: &str| data.get(key).is_some();
    match text(object, "type") {
        "kubernetes.io/service-account-token" if meta::annotation(object, ACCOUNT).unwrap_or("").is_empty() => {
            let path = Path::new("metadata");
            errors.required(&path.child("annotations").key(ACCOUNT), "");
        }
        "kubernetes.io/dockercfg" => json_object(data, ".dockercfg", &path, errors),
        "kubernetes.io/dockerconfigjson" => json_object(data, ".dockerconfigjson", &path, errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            errors.required(&path.key("username"), "");
            errors.required(&path.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if text(data, "ssh-privatekey").is_empty() => {
            errors.required(&path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].into_iter().filter(|key| !has(key)) {
                errors.required(&path.key(key), "");
            }
        }
        _ => {}
    }
}

fn json_object(data: &Value, key: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.key(key);
    let Some(encoded) = data.get(key) else {
        errors.required(&path, "");
        return;
    };
    let bytes = STANDARD.decode(encoded.as_str().unwrap_or("")).unwrap_or_default();
    let problem = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => {
            format!("json: cannot unmarshal {} into Go value of type map[string]interface {{}}", go_kind(&other))
        }
        Err(error) => go_error(&bytes, &error),
    };
    errors.invalid(&path, "<secret contents redacted>", &problem);
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::Array(_) => "array",
        _ => "object",
    }
}

/// Go's words for the two mistakes that happen: cut off, or not JSON from some character on.
fn go_error(bytes: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or("");
    let bad = line.chars().nth(error.column().saturating_sub(1)).unwrap_or('?');
    format!("invalid character '{bad}' looking for beginning of value")
}
