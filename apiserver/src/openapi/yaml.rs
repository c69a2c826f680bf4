//! YAML text of the values in an OpenAPI document that have no message of their own: enumerated values and extensions.
//!
//! In block style and laid out as upstream's encoder lays it out, so that the bytes are the same: four columns for a
//! level, two inside a list's item. Text that would be read as a number or the like stands in double quotes with JSON's
//! escapes, which YAML reads too; text with signs that YAML knows stands in single quotes.

use std::fmt::Write as _;

use serde_json::Value;

const INDENT: usize = 4;
const ITEM_INDENT: usize = 2;

/// The text of one value, with a line's end behind it.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(members) if !members.is_empty() => mapping(&mut out, members, 0, false),
        Value::Array(items) if !items.is_empty() => sequence(&mut out, items, 0, false),
        value => scalar(&mut out, value),
    }
    out
}

/// Members in lines of their own; the first one goes on in the line of its list's dash.
fn mapping(out: &mut String, members: &serde_json::Map<String, Value>, indent: usize, behind_dash: bool) {
    for (at, (name, value)) in members.iter().enumerate() {
        margin(out, if at == 0 && behind_dash { 0 } else { indent });
        plain_or_quoted(out, name);
        out.push(':');
        let deeper = (indent + INDENT) / INDENT * INDENT;
        match value {
            Value::Object(members) if !members.is_empty() => {
                out.push('\n');
                mapping(out, members, deeper, false);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(out, items, deeper, false);
            }
            value => {
                out.push(' ');
                scalar(out, value);
            }
        }
    }
}

fn sequence(out: &mut String, items: &[Value], indent: usize, behind_dash: bool) {
    for (at, item) in items.iter().enumerate() {
        margin(out, if at == 0 && behind_dash { 0 } else { indent });
        out.push_str("- ");
        match item {
            Value::Object(members) if !members.is_empty() => mapping(out, members, indent + ITEM_INDENT, true),
            Value::Array(items) if !items.is_empty() => sequence(out, items, indent + ITEM_INDENT, true),
            item => scalar(out, item),
        }
    }
}

fn margin(out: &mut String, columns: usize) {
    out.extend(std::iter::repeat_n(' ', columns));
}

fn scalar(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => plain_or_quoted(out, text),
        // What is left is the same in JSON: numbers, booleans, null, and what is empty.
        other => write!(out, "{other}").expect("text takes everything"),
    }
    out.push('\n');
}

fn plain_or_quoted(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push_str(text);
    } else if is_another_type(text) || text.chars().any(char::is_control) {
        write!(out, "{}", Value::from(text)).expect("text takes everything");
    } else {
        write!(out, "'{}'", text.replace('\'', "''")).expect("text takes everything");
    }
}

/// Without quotes it would be no text: it is empty or a word that YAML knows, or begins as a number does.
fn is_another_type(text: &str) -> bool {
    const WORDS: [&str; 10] = ["true", "false", "null", "~", "yes", "no", "on", "off", "y", "n"];
    let begins_as_number = |first: u8| first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.');
    let is_word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    is_word || text.bytes().next().is_none_or(begins_as_number)
}

/// Nobody reads the text as something else than itself: it begins with a letter or a path's slash and has no sign that
/// YAML knows.
fn is_plain(text: &str) -> bool {
    let harmless =
        |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'.' | b'_' | b'/' | b',' | b'+' | b' ');
    let begins_well = text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'/');
    begins_well && !text.ends_with(' ') && text.bytes().all(harmless) && !is_another_type(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_laid_out_as_upstreams_encoder_does() {
        let cases = [
            (json!("name"), "name\n"),
            (json!(""), "\"\"\n"),
            (json!("true"), "\"true\"\n"),
            (json!("1"), "\"1\"\n"),
            (json!("a: b"), "'a: b'\n"),
            (json!("*"), "'*'\n"),
            (json!("it's: it"), "'it''s: it'\n"),
            (json!("client auth"), "client auth\n"),
            (json!("SIGRTMIN+1"), "SIGRTMIN+1\n"),
            (json!(true), "true\n"),
            (json!([]), "[]\n"),
            (json!(["protocol", "port"]), "- protocol\n- port\n"),
            (json!({"group": "", "kind": "Pod", "version": "v1"}), "group: \"\"\nkind: Pod\nversion: v1\n"),
            (
                json!([{"group": "apps", "version": "v1"}, {"group": "batch", "version": "v1"}]),
                "- group: apps\n  version: v1\n- group: batch\n  version: v1\n",
            ),
            (json!([{"fields": {"a": "A", "b": "B"}}]), "- fields:\n    a: A\n    b: B\n"),
            (json!({"a": {"b": ["c"]}}), "a:\n    b:\n        - c\n"),
        ];
        for (value, expected) in cases {
            assert_eq!(text(&value), expected, "{value}");
        }
    }

    #[test]
    fn the_text_is_read_back_as_the_value() {
        let value = json!({"a:b": ["", "no", "- x", "- x'y", "#", "a #b", "a ", " a", "~", "1e3", "two\nlines", {"deep": [[1, null], {}]}], "c": {"d": false}});
        assert_eq!(serde_yaml_ng::from_str::<Value>(&text(&value)).unwrap(), value);
    }
}
