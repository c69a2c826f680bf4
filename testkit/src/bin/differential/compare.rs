//! What differs between two answers, and of which class a difference is.
//!
//! A class is the field's path, without the numbers of list items and without what is around an object in a list, a
//! watch or a table. Where the status differs, nothing else is looked at. `managedFields` is one class, whatever is in
//! it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::normal::Normal;

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    pub(crate) class: String,
    pub(crate) path: String,
    pub(crate) ours: Value,
    pub(crate) theirs: Value,
}

/// Whole fields, whose inside is not told apart.
const LEAVES: &[&str] = &["managedFields", "cells", "labels", "annotations", "columnDefinitions"];

pub(crate) fn compare(ours: &Normal, theirs: &Normal) -> Vec<Difference> {
    if ours.status != theirs.status {
        let class = format!("status {} instead of {}", ours.status, theirs.status);
        let path = "status".to_owned();
        return vec![Difference { class, path, ours: ours.body.clone(), theirs: theirs.body.clone() }];
    }
    let mut out = Vec::new();
    let names: BTreeSet<&String> = ours.headers.keys().chain(theirs.headers.keys()).collect();
    for name in names {
        let (a, b) = (ours.headers.get(name), theirs.headers.get(name));
        if a != b {
            let usual = Value::from("as usual");
            let shown = |value: Option<&Value>| value.unwrap_or(&usual).clone();
            out.push(Difference {
                class: format!("header {name}"),
                path: name.clone(),
                ours: shown(a),
                theirs: shown(b),
            });
        }
    }
    walk(&ours.body, &theirs.body, "", &mut out);
    out
}

fn walk(ours: &Value, theirs: &Value, path: &str, out: &mut Vec<Difference>) {
    if ours == theirs {
        return;
    }
    let last = path.rsplit('.').next().unwrap_or_default();
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) if !LEAVES.contains(&last) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let (a, b) = (a.get(name), b.get(name));
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{}", name.replace('.', "·")) };
                match (a, b) {
                    (Some(a), Some(b)) => walk(a, b, &below, out),
                    (a, b) => out.push(difference(&below, a, b)),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() && !LEAVES.contains(&last) => {
            for (number, (a, b)) in a.iter().zip(b).enumerate() {
                walk(a, b, &format!("{path}[{number}]"), out);
            }
        }
        (a, b) => out.push(difference(path, Some(a), Some(b))),
    }
}

fn difference(path: &str, ours: Option<&Value>, theirs: Option<&Value>) -> Difference {
    let how = match (ours, theirs) {
        (None, _) => " missing",
        (_, None) => " extra",
        _ => "",
    };
    let class = class(path);
    let class = if class == "managedFields" { class } else { class + how };
    let (ours, theirs) = (ours.cloned().unwrap_or_default(), theirs.cloned().unwrap_or_default());
    Difference { class, path: path.to_owned(), ours, theirs }
}

fn class(path: &str) -> String {
    if path.ends_with("managedFields") {
        return "managedFields".to_owned();
    }
    let mut out = String::new();
    let mut in_number = false;
    for letter in path.chars() {
        in_number = letter == '[' || (in_number && letter != ']');
        if !in_number || letter == '[' {
            out.push(letter);
        }
    }
    for around in ["items[].", "events[].object.", "rows[].object."] {
        out = out.trim_start_matches(around).to_owned();
    }
    // Members that are compared by digest differ somewhere inside.
    let by_digest = ["items.", "schemas.", "definitions.", "paths."];
    if let Some((before, of)) = by_digest.iter().find_map(|of| Some((out.split_once(of)?.0, of))) {
        return format!("{before}{of}*");
    }
    if out.is_empty() { "body".to_owned() } else { out }
}
