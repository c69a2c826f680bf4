//! What a path and method mean: mirrors upstream's `pkg/endpoints/request/requestinfo.go`.

use http::Method;
use percent_encoding::percent_decode_str;

use super::{ResourcePath, Target, Verb};

/// Subresources of a namespace: everything else behind its name is a resource inside of it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

/// The path cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `/api/v1/watch` with nothing behind it.
    #[error("unable to determine kind and namespace from url, {path}")]
    NothingWatched {
        /// As sent.
        path: String,
    },
    /// A segment is not UTF-8 when its percent-encoding is undone.
    #[error("path {path:?} is not UTF-8")]
    Encoding {
        /// As sent.
        path: String,
    },
}

/// What a request is for. `path` is as sent; `query` is decoded.
///
/// # Errors
/// When the path names no resource although it says that it does.
pub fn parse(method: &Method, path: &str, query: &[(String, String)]) -> Result<Target, Error> {
    let raw: Vec<&str> = path.trim_matches('/').split('/').collect();
    let Some((group, version, rest)) = split(&raw) else {
        return Ok(Target::Path { verb: method.as_str().to_ascii_lowercase(), path: decode(path, path)? });
    };
    let (verb, rest) = verb(method, rest, path)?;
    let mut found = resource(verb, rest, path)?;
    found.group = decode(group, path)?;
    found.version = decode(version, path)?;
    if found.name.is_empty() {
        (found.verb, found.name) = of_collection(found.verb, query);
    }
    Ok(Target::Resource(found))
}

/// The group, version and what follows, when the path is under `/api/V/` or `/apis/G/V/`.
fn split<'a, 'b>(parts: &'b [&'a str]) -> Option<(&'a str, &'a str, &'b [&'a str])> {
    match parts {
        ["api", version, rest @ ..] if !rest.is_empty() => Some(("", version, rest)),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => Some((group, version, rest)),
        _ => None,
    }
}

fn verb<'a, 'b>(method: &Method, rest: &'b [&'a str], path: &str) -> Result<(Verb, &'b [&'a str]), Error> {
    let special = match rest[0] {
        "watch" => Some(Verb::Watch),
        "proxy" => Some(Verb::Proxy),
        _ => None,
    };
    if let Some(verb) = special {
        if rest.len() < 2 {
            return Err(Error::NothingWatched { path: path.to_owned() });
        }
        return Ok((verb, &rest[1..]));
    }
    let verb = match *method {
        Method::POST => Verb::Create,
        Method::GET | Method::HEAD => Verb::Get,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE => Verb::Delete,
        _ => Verb::Other,
    };
    Ok((verb, rest))
}

fn resource(verb: Verb, rest: &[&str], path: &str) -> Result<ResourcePath, Error> {
    let mut namespace = "";
    let mut parts = rest;
    if let ["namespaces", name, behind @ ..] = rest {
        namespace = name;
        if behind.first().is_some_and(|first| !NAMESPACE_SUBRESOURCES.contains(first)) {
            parts = behind;
        }
    }
    let part = |at: usize| parts.get(at).copied().unwrap_or_default();
    // The old proxy prefix takes the rest as the path behind the object; elsewhere it follows the subresource.
    let (subresource, tail_at) = if verb == Verb::Proxy { ("", 2) } else { (part(2), 3) };
    Ok(ResourcePath {
        verb,
        group: String::new(),
        version: String::new(),
        namespace: decode(namespace, path)?,
        resource: decode(part(0), path)?,
        subresource: decode(subresource, path)?,
        name: decode(part(1), path)?,
        tail: tail(path, parts, tail_at),
    })
}

/// What stands behind the interpreted segments, with its leading and trailing slashes as sent.
fn tail(path: &str, parts: &[&str], from: usize) -> String {
    let trailing = if path.ends_with('/') { "/" } else { "" };
    let Some(segments) = parts.get(from..).filter(|segments| !segments.is_empty()) else {
        return if parts.len() == from { trailing.to_owned() } else { String::new() };
    };
    format!("/{}{trailing}", segments.join("/"))
}

/// The verb on a collection, and the name of the one object that a list or watch is restricted to.
fn of_collection(verb: Verb, query: &[(String, String)]) -> (Verb, String) {
    match verb {
        Verb::Get if is_watch(query) => (Verb::Watch, selected_name(query)),
        Verb::Get => (Verb::List, selected_name(query)),
        Verb::Delete => (Verb::DeleteCollection, String::new()),
        other => (other, String::new()),
    }
}

fn is_watch(query: &[(String, String)]) -> bool {
    let value = query.iter().find(|(key, _)| key == "watch").map(|(_, value)| value.to_ascii_lowercase());
    value.is_some_and(|value| value != "false" && value != "0")
}

/// The object that a field selector names: rules about single names then cover lists and watches of it.
fn selected_name(query: &[(String, String)]) -> String {
    let Some((_, selector)) = query.iter().find(|(key, _)| key == "fieldSelector") else {
        return String::new();
    };
    let Ok(terms) = api::selector::FieldSelector::parse(selector) else {
        return String::new();
    };
    let name = terms.exact("metadata.name").unwrap_or_default();
    if name == "." || name == ".." || name.contains(['/', '%']) { String::new() } else { name.to_owned() }
}

fn decode(segment: &str, path: &str) -> Result<String, Error> {
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| Error::Encoding { path: path.to_owned() })
}

#[cfg(test)]
mod tests;
