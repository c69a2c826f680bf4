//! Which form an answer has, and which form a body has: `Accept`, `Content-Type` and `pretty`, as upstream reads them.

use api::{Reason, Status};
use http::{HeaderMap, header};

#[cfg(test)]
mod tests;

/// What the server reads and writes, in the order in which upstream names them.
const MEDIA_TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const STREAM_TYPES: &str = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// How a tree is written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

impl Format {
    /// The `Content-Type` of an answer.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The `Content-Type` of a stream of events.
    pub const fn stream_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            other => other.content_type(),
        }
    }

    const fn sub(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Protobuf => "vnd.kubernetes.protobuf",
        }
    }
}

/// How a document or refusal is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// The form.
    pub format: Format,
    /// JSON with line breaks.
    pub pretty: bool,
}

impl From<bool> for Style {
    /// JSON, pretty or not.
    fn from(pretty: bool) -> Self {
        Self { format: Format::Json, pretty }
    }
}

/// How a refusal is written: as the client wants its answers, and in JSON where that cannot be had.
pub fn style(headers: &HeaderMap, pretty: bool) -> Style {
    let header = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    // Asked for every request; nearly all of them want JSON.
    if !header.contains("protobuf") && !header.contains("yaml") {
        return pretty.into();
    }
    let offer = Offer { table: false, list: false, stream: false };
    accept(headers, pretty, offer).map_or(pretty.into(), |accept| accept.style())
}

/// What the client wants instead of the objects themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// A `Table`.
    Table,
    /// `PartialObjectMetadata`.
    Partial,
    /// `PartialObjectMetadataList`.
    PartialList,
}

/// The version of `meta.k8s.io` that a transformed answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaVersion {
    /// `v1`.
    V1,
    /// `v1beta1`.
    V1Beta1,
}

impl MetaVersion {
    /// As in `apiVersion`.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// JSON, YAML or protobuf.
    pub format: Format,
    /// JSON with line breaks.
    pub pretty: bool,
    /// Something else than the objects.
    pub transform: Option<(Transform, MetaVersion)>,
}

impl Accept {
    /// How a document is written.
    pub fn style(&self) -> Style {
        Style { format: self.format, pretty: self.pretty }
    }
}

/// What an endpoint can answer.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Tables can be made.
    pub table: bool,
    /// The answer is a stream of events.
    pub stream: bool,
    /// The path can also be watched.
    pub list: bool,
}

/// One clause of an `Accept` header.
struct Clause<'a> {
    main: &'a str,
    sub: &'a str,
    quality: f64,
    parameters: Vec<(&'a str, &'a str)>,
}

/// Chooses the form of an answer. `pretty` is the query's and user agent's wish.
///
/// # Errors
/// 406 when nothing that the client accepts can be written.
pub fn accept(headers: &HeaderMap, pretty: bool, offer: Offer) -> Result<Accept, Status> {
    let header = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    if header.is_empty() {
        return Ok(Accept { format: Format::Json, pretty, transform: None });
    }
    let clauses = clauses(header);
    if !clauses.iter().any(Clause::is_known) {
        return Err(no_representation(offer));
    }
    let chosen = clauses.iter().find_map(|clause| choose(clause, offer));
    let types = if offer.stream { STREAM_TYPES } else { MEDIA_TYPES };
    let mut chosen = chosen.ok_or_else(|| not_acceptable(types))?;
    chosen.pretty |= pretty;
    Ok(chosen)
}

/// The client accepts some type that the server has heard of.
pub fn is_answerable(headers: &HeaderMap) -> bool {
    let header = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    header.is_empty() || clauses(header).iter().any(Clause::is_known)
}

/// The `application` type that the client wants most among those that are offered, by the part behind the slash. Where
/// any will do, the first is taken.
pub(crate) fn first<T: Copy>(headers: &HeaderMap, offered: &[(&str, T)]) -> Option<T> {
    let header = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let clauses = clauses(if header.is_empty() { "*/*" } else { header });
    let wanted = clauses.iter().filter(|clause| matches!(clause.main, "application" | "*"));
    let mut found = wanted.filter_map(|clause| {
        offered.iter().find(|(sub, _)| clause.sub == "*" || clause.sub == *sub).map(|(_, offer)| *offer)
    });
    found.next()
}

/// 406 for media types that nobody has heard of.
pub(crate) fn no_representation(offer: Offer) -> Status {
    let streams = if offer.stream || offer.list { format!(", {STREAM_TYPES}") } else { String::new() };
    let message = format!("406: Not Acceptable\n\nAvailable representations: {MEDIA_TYPES}{streams}");
    Status::new(Reason::NotAcceptable, message).with_details(api::status::Details::default())
}

/// 406 with the list of what could be had.
fn not_acceptable(types: &str) -> Status {
    Status::new(Reason::NotAcceptable, format!("only the following media types are accepted: {types}"))
}

fn choose(clause: &Clause<'_>, offer: Offer) -> Option<Accept> {
    const STREAMS: &[Format] = &[Format::Json, Format::Protobuf];
    const DOCUMENTS: &[Format] = &[Format::Json, Format::Yaml, Format::Protobuf];
    let formats = if offer.stream { STREAMS } else { DOCUMENTS };
    formats.iter().filter(|format| clause.names(**format)).find_map(|format| clause.accept(*format, offer))
}

impl Clause<'_> {
    /// The server has heard of the type, even if it does not write it.
    fn is_known(&self) -> bool {
        let known = matches!(self.sub, "*" | "json" | "yaml" | "vnd.kubernetes.protobuf");
        known && matches!(self.main, "application" | "*")
    }

    fn names(&self, format: Format) -> bool {
        match (self.main, self.sub) {
            ("*", "*") | ("application", "*") => true,
            (main, own) => main == "application" && own == format.sub(),
        }
    }

    fn accept(&self, format: Format, offer: Offer) -> Option<Accept> {
        let (mut kind, mut group, mut version) = (None, None, None);
        let mut pretty = false;
        for (key, value) in &self.parameters {
            match *key {
                "as" => kind = Some(*value),
                "g" => group = Some(*value),
                "v" => version = Some(*value),
                "stream" if !value.is_empty() && *value != "watch" => return None,
                "sv" if !value.is_empty() && *value != "v1" => return None,
                "pretty" => pretty = *value == "1",
                _ => {}
            }
        }
        if kind.is_none() && group.is_none() && version.is_none() {
            return Some(Accept { format, pretty, transform: None });
        }
        let version = match (group, version) {
            (Some("meta.k8s.io"), Some("v1")) => MetaVersion::V1,
            (Some("meta.k8s.io"), Some("v1beta1")) => MetaVersion::V1Beta1,
            _ => return None,
        };
        let transform = match kind? {
            // A table has no protobuf form; what the client takes next may have one.
            "Table" if offer.table && format != Format::Protobuf => Transform::Table,
            "PartialObjectMetadata" => Transform::Partial,
            "PartialObjectMetadataList" => Transform::PartialList,
            _ => return None,
        };
        Some(Accept { format, pretty, transform: Some((transform, version)) })
    }
}

/// The clauses, the most wanted first; malformed ones are left out.
fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = header.split(',').filter_map(clause).collect();
    // Exact types go before wildcards of the same quality, and the order of the header is kept otherwise.
    clauses.sort_by(|a, b| {
        let rank = |c: &Clause<'_>| (c.main == "*", c.sub == "*");
        b.quality.total_cmp(&a.quality).then_with(|| rank(a).cmp(&rank(b)))
    });
    clauses
}

fn clause(text: &str) -> Option<Clause<'_>> {
    let mut parts = text.trim().split(';');
    let media = parts.next()?.trim();
    let (main, sub) = match media.split_once('/') {
        Some((main, sub)) if !sub.is_empty() && !sub.contains('/') => (main.trim(), sub.trim()),
        None if media == "*" => ("*", "*"),
        _ => return None,
    };
    let mut clause = Clause { main, sub, quality: 1.0, parameters: Vec::new() };
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match (key.trim(), value.trim()) {
            ("q", quality) => clause.quality = quality.parse().unwrap_or(0.0),
            parameter => clause.parameters.push(parameter),
        }
    }
    Some(clause)
}

/// The `Content-Type` of a request without its parameters, in lower case; empty when there is none.
pub fn media_type(headers: &HeaderMap) -> String {
    let header = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    header.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// The form of a request's body; none named is JSON.
///
/// # Errors
/// 415 for what cannot be read.
pub fn content(headers: &HeaderMap) -> Result<Format, Status> {
    match media_type(headers).as_str() {
        "" | "application/json" => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Format::Protobuf),
        _ => Err(unsupported(&format!(
            "the body of the request was in an unknown format - accepted media types include: {MEDIA_TYPES}"
        ))),
    }
}

/// 415.
pub fn unsupported(message: &str) -> Status {
    Status::new(Reason::UnsupportedMediaType, message)
}
