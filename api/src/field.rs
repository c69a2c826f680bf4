//! Errors of single fields, in the words and order that clients see, and the paths that name the fields.
//!
//! Validation collects every error of an object into one [`FieldErrors`]; [`crate::Status::invalid`] turns them
//! into one answer with a cause each.

use std::fmt;

use crate::Value;

/// The path of a field: `spec.containers[0].name`, `metadata.labels[app]`.
///
/// Borrowed from its parent, so that a walk over an object allocates only when an error is found.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The object itself.
    pub const ROOT: Path<'static> = Path { parent: None, segment: Segment::Root };

    /// A path that starts with a field.
    pub const fn new(field: &'a str) -> Self {
        Path { parent: None, segment: Segment::Field(field) }
    }

    /// A field below this path. A dotted name is taken as it is.
    pub const fn child<'b>(&'b self, field: &'b str) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Field(field) }
    }

    /// An element of this list.
    pub const fn index(&self, index: usize) -> Path<'_> {
        Path { parent: Some(self), segment: Segment::Index(index) }
    }

    /// An entry of this map.
    pub const fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nested = self.parent.is_some_and(|p| !matches!(p.segment, Segment::Root));
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Field(name) if nested => write!(f, ".{name}"),
            Segment::Field(name) => f.write_str(name),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// What is wrong with a field. The variant gives the cause's reason and the text's first words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// `FieldValueNotFound`.
    NotFound,
    /// `FieldValueRequired`.
    Required,
    /// `FieldValueDuplicate`.
    Duplicate,
    /// `FieldValueInvalid`.
    Invalid,
    /// `FieldValueNotSupported`.
    NotSupported,
    /// `FieldValueForbidden`.
    Forbidden,
    /// `FieldValueTooLong`.
    TooLong,
    /// `FieldValueTooMany`.
    TooMany,
    /// `InternalError`.
    Internal,
    /// `FieldValueTypeInvalid`.
    TypeInvalid,
}

impl ErrorKind {
    /// The `reason` of a status cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

/// One field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The field's path.
    pub field: String,
    /// The text without the path: `Invalid value: "x": must be ...`.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Every error of one object, in the order found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    /// No errors yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// No error was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an error whose text is complete.
    pub fn push(&mut self, kind: ErrorKind, path: &Path<'_>, message: impl Into<String>) {
        self.0.push(FieldError { kind, field: path.to_string(), message: message.into() });
    }

    /// `Required value: detail`.
    pub fn required(&mut self, path: &Path<'_>, detail: &str) {
        self.push(ErrorKind::Required, path, with_detail("Required value", detail));
    }

    /// `Invalid value: "x": detail`.
    pub fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: &str) {
        let message = format!("Invalid value: {}", go_value(&value.into()));
        self.push(ErrorKind::Invalid, path, with_detail(&message, detail));
    }

    /// `Unsupported value: "x": supported values: "A", "B"`; the values are sorted, as upstream does.
    pub fn not_supported(&mut self, path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) {
        let mut quoted: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        quoted.sort();
        let mut message = format!("Unsupported value: {}", go_value(&value.into()));
        if !quoted.is_empty() {
            message.push_str(&format!(": supported values: {}", quoted.join(", ")));
        }
        self.push(ErrorKind::NotSupported, path, message);
    }

    /// `Duplicate value: "x"`.
    pub fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.push(ErrorKind::Duplicate, path, format!("Duplicate value: {}", go_value(&value.into())));
    }

    /// `Forbidden: detail`.
    pub fn forbidden(&mut self, path: &Path<'_>, detail: &str) {
        self.push(ErrorKind::Forbidden, path, with_detail("Forbidden", detail));
    }

    /// `Not found: "x"`.
    pub fn not_found(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.push(ErrorKind::NotFound, path, format!("Not found: {}", go_value(&value.into())));
    }

    /// `Too long: may not be more than N bytes`.
    pub fn too_long(&mut self, path: &Path<'_>, max_bytes: usize) {
        let unit = if max_bytes == 1 { "byte" } else { "bytes" };
        self.push(ErrorKind::TooLong, path, format!("Too long: may not be more than {max_bytes} {unit}"));
    }

    /// `Too many: N: must have at most M items`.
    pub fn too_many(&mut self, path: &Path<'_>, actual: usize, max: usize) {
        let unit = if max == 1 { "item" } else { "items" };
        self.push(ErrorKind::TooMany, path, format!("Too many: {actual}: must have at most {max} {unit}"));
    }
}

fn with_detail(text: &str, detail: &str) -> String {
    if detail.is_empty() { text.to_owned() } else { format!("{text}: {detail}") }
}

/// A text in quotes as Go prints it with `%q`.
pub fn go_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if is_printable(letter) => out.push(letter),
            letter => out.push_str(&match u32::from(letter) {
                code @ ..0x80 => format!("\\x{code:02x}"),
                code @ 0x80..0x1_0000 => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    out.push('"');
    out
}

/// Behind another letter, the library escapes only what cannot be seen.
fn is_printable(letter: char) -> bool {
    letter.is_ascii_graphic() || letter == ' ' || ['.', letter].iter().collect::<String>().escape_debug().count() == 2
}

/// A value as upstream prints it in a field error: strings quoted, everything else as JSON.
fn go_value(value: &Value) -> String {
    match value {
        Value::String(text) => go_quoted(text),
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_print_as_upstream() {
        let spec = Path::new("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        assert_eq!(first.child("name").to_string(), "spec.containers[0].name");
        let metadata = Path::ROOT.child("metadata");
        assert_eq!(metadata.child("labels").key("app").to_string(), "metadata.labels[app]");
    }

    #[test]
    fn texts_are_quoted_as_go_quotes_them() {
        for (text, expected) in [
            ("a b", "\"a b\""),
            ("\"\\'", "\"\\\"\\\\'\""),
            ("\u{1}\u{7f}\n\u{b}", "\"\\x01\\x7f\\n\\v\""),
            ("\u{e9}e\u{301}\u{65e5}", "\"\u{e9}e\u{301}\u{65e5}\""),
            ("\u{85}\u{200b}\u{feff}", "\"\\u0085\\u200b\\ufeff\""),
            ("\u{e0001}", "\"\\U000e0001\""),
        ] {
            assert_eq!(go_quoted(text), expected);
        }
    }

    #[test]
    fn messages_print_as_upstream() {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec");
        errors.required(&path, "");
        errors.invalid(&path, "x", "must be y");
        errors.not_supported(&path, "x", &["B", "A"]);
        errors.invalid(&path, -1, "must be positive");
        let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec: Required value",
                "spec: Invalid value: \"x\": must be y",
                "spec: Unsupported value: \"x\": supported values: \"A\", \"B\"",
                "spec: Invalid value: -1: must be positive",
            ]
        );
    }
}
