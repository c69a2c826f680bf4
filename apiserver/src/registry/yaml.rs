//! YAML bodies, read as upstream does: through JSON, with its words for what is wrong.

use api::{GroupVersionKind, Status, Value};

mod reader;
#[cfg(test)]
mod tests;
mod weight;

/// Upstream shows this much of a body that it does not recognise.
const SUMMARY_BYTES: usize = 30;

/// Reads a body of a request, with its aliases followed when not too much comes of them.
pub(crate) fn read(body: &[u8]) -> Result<Value, serde_yaml_ng::Error> {
    // The library does not count the mark that says UTF-8, and then misplaces all that follows.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    weight::check(body)?;
    reader::read(body)
}

/// The same document as JSON.
pub(crate) fn to_json(body: &[u8], gvk: &GroupVersionKind) -> Result<Vec<u8>, Status> {
    let tree = read(body).map_err(|error| {
        let (kind, what) = (&gvk.kind, words(&error.to_string()));
        let summary = summary(body);
        let message = format!("the object provided is unrecognized (must be of type {kind}): yaml: {what} ({summary})");
        Status::bad_request(message)
    })?;
    Ok(tree.to_string().into_bytes())
}

/// What a client applies.
pub(crate) struct Configuration {
    /// An object.
    pub(crate) tree: Value,
    /// The first key that it has twice, as [`repeated_key`] words it.
    pub(crate) repeated: Option<String>,
}

/// Reads a configuration to apply.
pub(crate) fn configuration(body: &[u8]) -> Result<Configuration, Status> {
    Ok(Configuration { tree: configured(body)?, repeated: repeated_key(body) })
}

fn configured(body: &[u8]) -> Result<Value, Status> {
    let tree = read(body).map_err(|error| {
        let what = words(&error.to_string());
        Status::bad_request(format!("error encoding patch: yaml: {what}"))
    })?;
    match tree {
        Value::Object(_) => Ok(tree),
        Value::Null => Ok(Value::Object(api::Map::new())),
        other => {
            let found = match other {
                Value::Bool(_) => "bool",
                Value::Number(_) => "number",
                Value::Array(_) => "array",
                _ => "string",
            };
            let what = format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
            Err(Status::bad_request(format!(
                "error decoding patch: error unmarshaling JSON: while decoding JSON: {what}"
            )))
        }
    }
}

/// The library's `WHAT at line N column M, while CONTEXT at line N column M` as Go's `line N: WHAT`. Go counts lines from
/// zero, tells the context's when that is not the first, tells none when both are, and adds one where the scanner and not
/// the parser fails.
fn words(error: &str) -> String {
    if error.contains(weight::EXCESS) {
        return weight::EXCESS.to_owned();
    }
    let Some((what, place)) = error.split_once(" at line ") else { return error.to_owned() };
    let (problem, context) = place.split_once(", while ").unwrap_or((place, ""));
    let line = |place: &str| place.split(' ').next().and_then(|line| line.parse::<usize>().ok()).unwrap_or(1) - 1;
    let (problem, of_context) = (line(problem), context.split_once(" at line ").map_or(0, |(_, place)| line(place)));
    let of_parser = context.starts_with("parsing ") || what.starts_with("did not find expected <document start>");
    let told = if of_context == 0 { problem } else { of_context };
    if told == 0 {
        return what.to_owned();
    }
    format!("line {}: {what}", told + usize::from(!of_parser))
}

fn summary(body: &[u8]) -> String {
    let shown = &body[..body.len().min(SUMMARY_BYTES)];
    let rest = if shown.len() < body.len() { " ..." } else { "" };
    let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    hex + rest
}

/// The first key that a map has twice, in upstream's words: `line 5: key "name" already set in map`.
pub(crate) fn repeated_key(body: &[u8]) -> Option<String> {
    // What is refused is not searched either.
    weight::check(body).ok()?;
    let error = serde_yaml_ng::from_slice::<serde_yaml_ng::Value>(body).err()?.to_string();
    let (_, rest) = error.split_once("duplicate entry with key ")?;
    let key = rest.split('"').nth(1)?;
    let place = error.split_once(" at line ").map_or("", |(_, place)| place);
    let mut numbers = place.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<usize>().ok());
    // The outermost map is told without a place.
    let (line, column) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1));
    // The library tells where the map begins; the repetition is the second such key in its column.
    let text = std::str::from_utf8(body).ok()?;
    let is_key = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        indent + 1 == column && line.trim_start().trim_start_matches(['"', '\'']).starts_with(key)
    };
    let mut found = text.lines().enumerate().skip(line - 1).filter(|(_, line)| is_key(line));
    let (at, _) = found.nth(1)?;
    Some(format!("line {}: key {key:?} already set in map", at + 1))
}
