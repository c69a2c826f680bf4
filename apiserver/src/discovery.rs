//! Discovery: which groups, versions and resources are served, in the old form (a document for each version) and in the
//! aggregated one (two documents), as the schema table has them.

mod aggregated;
mod legacy;

use std::collections::HashMap;
use std::fmt::Write as _;

use api::schema::Table;
use api::{Reason, Status, Value};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha512};

use crate::answer::{self, Body, Response};
use crate::negotiate::{self, Format, Offer, Style};

const MEDIA_TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// A version of the aggregated form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Aggregated {
    V2,
}

impl Aggregated {
    /// Exactly this text: old clients compare it as a string.
    const fn content_type(self) -> &'static str {
        match self {
            Self::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        }
    }

    const fn api_version(self) -> &'static str {
        match self {
            Self::V2 => "apidiscovery.k8s.io/v2",
        }
    }
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Aggregated(Aggregated),
    Json,
    Yaml,
    Protobuf,
}

/// An encoded aggregated document.
struct Document {
    body: Bytes,
    etag: HeaderValue,
}

/// All documents, made once.
pub struct Discovery {
    aggregated: HashMap<(&'static str, Aggregated), Document>,
    legacy: HashMap<String, Value>,
}

impl Discovery {
    /// The documents of a table. `address` is where the server is reached, `host:port`.
    pub fn new(table: &Table, address: &str) -> Self {
        let mut aggregated = HashMap::new();
        for version in [Aggregated::V2] {
            for root in ["/api", "/apis"] {
                let list = aggregated::list(table, version.api_version(), root == "/api");
                aggregated.insert((root, version), Document::new(&list));
            }
        }
        Self { aggregated, legacy: legacy::documents(table, address) }
    }

    /// Every path with a document, for the list of paths.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.legacy.keys().map(String::as_str)
    }

    /// The document at a path; None when there is none.
    pub fn get(&self, path: &str, headers: &HeaderMap, pretty: bool) -> Option<Response> {
        let path = path.trim_end_matches('/');
        let legacy = self.legacy.get(path)?;
        let is_root = matches!(path, "/api" | "/apis");
        let answer = match form(headers, is_root) {
            Some(Form::Aggregated(version)) => {
                let root = if path == "/api" { "/api" } else { "/apis" };
                self.aggregated[&(root, version)].answer(headers, version)
            }
            Some(Form::Json) => answer::json(StatusCode::OK, legacy, pretty),
            Some(Form::Yaml) => yaml(legacy),
            Some(Form::Protobuf) => {
                answer::value(StatusCode::OK, legacy, Style { format: Format::Protobuf, pretty: false })
            }
            None if !negotiate::is_answerable(headers) && !is_of_group(path) => {
                let offer = Offer { table: false, stream: false, list: false };
                answer::refuse(&negotiate::no_representation(offer), pretty)
            }
            None => {
                let message = format!("only the following media types are accepted: {MEDIA_TYPES}");
                answer::refuse(&Status::new(Reason::NotAcceptable, message), pretty)
            }
        };
        Some(answer)
    }
}

impl Document {
    fn new(list: &Value) -> Self {
        let body = answer::encode(list, false);
        let mut etag = String::from("\"");
        for byte in Sha512::digest(&body) {
            let _ = write!(etag, "{byte:02X}");
        }
        etag.push('"');
        Self { body: body.into(), etag: etag.parse().expect("hexadecimal digits in quotes") }
    }

    fn answer(&self, headers: &HeaderMap, version: Aggregated) -> Response {
        let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|tag| tag == self.etag);
        let mut response = Response::new(if known { Body::empty() } else { Body::from(self.body.clone()) });
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let fields = response.headers_mut();
        fields.insert(header::ETAG, self.etag.clone());
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        fields.insert(header::VARY, HeaderValue::from_static("Accept"));
        if !known {
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(version.content_type()));
        }
        response
    }
}

/// The list of groups and each group have another handler than the documents of versions.
fn is_of_group(path: &str) -> bool {
    path.strip_prefix("/apis").is_some_and(|rest| rest.matches('/').count() <= 1)
}

fn yaml(value: &Value) -> Response {
    let text = serde_yaml_ng::to_string(value).expect("a tree of JSON values always encodes");
    answer::bytes(StatusCode::OK, "application/yaml", text)
}

/// The first form, in the client's order, that can be had. Nothing asked for is JSON.
fn form(headers: &HeaderMap, is_root: bool) -> Option<Form> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    if accept.trim().is_empty() {
        return Some(Form::Json);
    }
    let mut clauses: Vec<(f32, Form)> = accept.split(',').filter_map(|clause| one_form(clause, is_root)).collect();
    clauses.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    clauses.first().map(|(_, form)| *form)
}

fn one_form(clause: &str, is_root: bool) -> Option<(f32, Form)> {
    let mut parts = clause.split(';').map(str::trim);
    let media = parts.next()?;
    let parameters: HashMap<&str, &str> = parts.filter_map(|part| part.split_once('=')).collect();
    let quality = parameters.get("q").map_or(1.0, |q| q.parse().unwrap_or(0.0));
    let form = match (media, parameters.get("as")) {
        ("application/json", Some(kind)) => {
            let fits =
                is_root && *kind == "APIGroupDiscoveryList" && parameters.get("g") == Some(&"apidiscovery.k8s.io");
            match *parameters.get("v").filter(|_| fits)? {
                "v2" => Form::Aggregated(Aggregated::V2),
                _ => return None,
            }
        }
        ("application/json" | "application/*" | "*/*", None) => Form::Json,
        ("application/yaml", None) => Form::Yaml,
        ("application/vnd.kubernetes.protobuf", None) => Form::Protobuf,
        _ => return None,
    };
    Some((quality, form))
}

#[cfg(test)]
mod tests;
