//! The three patch formats that need no ownership of fields: JSON patch (RFC 6902), merge patch (RFC 7386) and
//! strategic merge patch, which merges lists by what the [`schema`] table says of them.
//!
//! [`apply`] takes the stored object in the request's version and returns the patched one, decoded by its type as a
//! body would be. Quirks of upstream's libraries that a client can see are kept: negative array indices, nulls
//! inside a merge patch's new objects, which mistakes are 400 and which 422.

mod json;
mod lists;
mod merge;
mod strategic;

use serde_json::Value;

use crate::field::{FieldErrors, Path};
use crate::schema::{self, TypeId};
use crate::status::Details;
use crate::{GroupVersion, Reason, Status};

/// Operations that one JSON patch may have.
pub const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

/// What a patch request's content type names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    /// Server-side apply, which this module leaves to its own engine.
    Apply,
}

impl PatchType {
    /// Reads a content type without parameters.
    pub fn from_content_type(media_type: &str) -> Option<Self> {
        match media_type {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" => Some(Self::Apply),
            _ => None,
        }
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

/// Why a patch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// 400: the patch is malformed.
    #[error("{0}")]
    Malformed(String),
    /// 413: the patch has too many operations.
    #[error("{0}")]
    TooLarge(String),
    /// 422: an operation or a test does not apply to the object.
    #[error("{0}")]
    Inapplicable(String),
    /// 422: the patched object does not fit its type.
    #[error("{error}")]
    Undecodable { patched: String, error: String },
    /// 500: upstream has no class for it.
    #[error("{0}")]
    Other(String),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Malformed(message) => Status::new(Reason::BadRequest, message),
            Error::TooLarge(message) => {
                Status::new(Reason::RequestEntityTooLarge, format!("Request entity too large: {message}"))
            }
            Error::Inapplicable(_) => {
                let message = "the server rejected our request due to an error in our request";
                Status::new(Reason::Invalid, message).with_details(Details::default())
            }
            Error::Undecodable { patched, error } => undecodable(&patched, &error),
            Error::Other(message) => Status::new(Reason::Unknown(500), message),
        }
    }
}

fn undecodable(patched: &str, error: &str) -> Status {
    let mut errors = FieldErrors::new();
    errors.invalid(&Path::new("patch"), patched, error);
    Status::invalid("", "", "", &errors)
}

/// A patched object that fits its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Patched {
    /// The object, normalised as a decoded body.
    pub value: Value,
    /// What strict field validation refuses; empty unless asked for.
    pub strict: Vec<String>,
    /// `metadata.managedFields` is an empty list, which decoding drops.
    pub disowned: bool,
    shown: String,
}

impl Patched {
    /// Upstream's 422 for [`Patched::strict`] under `fieldValidation=Strict`.
    pub fn strict_error(&self) -> Status {
        undecodable(&self.shown, &format!("strict decoding error: {}", self.strict.join(", ")))
    }
}

/// Applies a patch to an object and decodes the result.
///
/// With `strict`, unknown and repeated fields are collected (`fieldValidation` Strict and Warn need that).
///
/// # Panics
/// For [`PatchType::Apply`], which is no patch of this module.
pub fn apply(kind: PatchType, original: &Value, patch: &[u8], id: TypeId, strict: bool) -> Result<Patched, Error> {
    schema::check_syntax(patch).map_err(|_| Error::Malformed("invalid JSON patch".to_owned()))?;
    let (tree, problems) = schema::parse_untyped(patch).map_err(Error::Malformed)?;
    let mut strict_problems = if strict { problems } else { Vec::new() };
    let names_its_kind = original.get("kind").is_some();
    let (patched, read, shown) = match kind {
        PatchType::Json => {
            let operations = json::Operations::read(tree)?;
            if strict {
                strict_problems = operations.strict_problems(&strict_problems);
            }
            (operations.apply(original.clone())?, Reader::Decoder, None)
        }
        PatchType::Merge => (merge::apply(original, tree, strict)?, Reader::Decoder, None),
        PatchType::Strategic => {
            let patch = strategic::object(tree)?;
            let shown = Value::Object(patch.clone());
            (strategic::apply(original, patch, id)?, Reader::Converter, Some(shown))
        }
        PatchType::Apply => unreachable!("server-side apply has its own engine"),
    };
    let show = |shown: &Option<Value>| shown.as_ref().map_or_else(|| patched.to_string(), go_text);
    let refuse = |error: String| Error::Undecodable { patched: show(&shown), error };
    if names_its_kind && matches!(read, Reader::Decoder) {
        check_kind(&patched, id).map_err(refuse)?;
    }
    if strict_problems.is_empty() && schema::is_settled(&patched, id) {
        // Nothing is unknown in it, nothing would change, and managed fields are no empty list.
        return Ok(Patched { value: patched, strict: strict_problems, disowned: false, shown: String::new() });
    }
    let decoded = match read {
        Reader::Converter => schema::convert_borrowed(&patched, id),
        Reader::Decoder => schema::decode_borrowed(&patched, id),
    };
    let decoded = decoded.map_err(|error| refuse(error.to_string()))?;
    if strict {
        strict_problems.extend(decoded.strict);
    }
    let shown = if strict_problems.is_empty() { String::new() } else { show(&shown) };
    let managed = crate::meta::metadata(&patched).and_then(|metadata| metadata.get("managedFields"));
    let disowned = managed.and_then(Value::as_array).is_some_and(Vec::is_empty);
    Ok(Patched { value: decoded.value, strict: strict_problems, disowned, shown })
}

/// What reads a patched object.
enum Reader {
    Decoder,
    Converter,
}

/// A document says itself what it is: one that a patch has made something else is read as that, and refused.
fn check_kind(patched: &Value, id: TypeId) -> Result<(), String> {
    let text = |field: &str| match patched.get(field) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(other) => {
            let word = json_word(other);
            let error = format!("json: cannot unmarshal {word} into Go struct field .{field} of type string");
            Err(format!("couldn't get version/kind; json parse error: {error}"))
        }
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    if kind.is_empty() {
        return Err(format!("Object 'Kind' is missing in '{patched}'"));
    }
    if api_version.is_empty() {
        return Err(format!("Object 'apiVersion' is missing in '{patched}'"));
    }
    let version =
        GroupVersion::parse(api_version).ok_or_else(|| format!("unexpected GroupVersion string: {api_version}"))?;
    let same = |[group, _, own]: [&str; 3]| group == version.group && own == kind;
    let table = schema::table();
    if table.get(id).kinds().any(same) {
        return Ok(());
    }
    let Some(other) = table.type_of(&version.group, &version.version, kind) else {
        let place = schema::SCHEME;
        return Err(format!("no kind {kind:?} is registered for version {api_version:?} in scheme {place:?}"));
    };
    schema::decode_borrowed(patched, other).map_err(|error| error.to_string())?;
    let [group, _, own] = table.get(id).kinds().next().unwrap_or_default();
    let hub = group.split('.').next().filter(|name| !name.is_empty()).unwrap_or("core");
    Err(format!("converting ({}.{kind}) to ({hub}.{own}): unknown conversion", version.version))
}

/// A tree as Go prints it with `%v`, which some messages contain.
pub(crate) fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{key}:{}", go_text(value)));
            format!("map[{}]", entries.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

/// Go's name of a decoded value's type.
pub(crate) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// JSON's word for a value's type, as Go's decoder has it.
fn json_word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests;
