//! Headers that every request and answer has, and compression.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt as _;
use http::header::HeaderName;
use http_body::Body as _;

use super::{Body, HeaderMap, HeaderValue, Request, Response, Target, Warnings, header, request};

/// Smaller answers are not worth compressing: upstream's threshold.
const GZIP_MIN_BYTES: u64 = 128 * 1024;
/// Above this, all warnings together are cut.
const WARNINGS_MAX_CHARS: usize = 4096;
/// What is left of each when they are.
const WARNING_CUT_CHARS: usize = 256;

static AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// A header's text, empty when absent or not text.
pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The caller's `Audit-Id`, or a new one.
pub(super) fn audit_id(headers: &HeaderMap) -> String {
    match text(headers, AUDIT_ID.clone()) {
        "" => request::random_uid(),
        given => given.chars().take(64).collect(),
    }
}

pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let offered = text(headers, header::ACCEPT_ENCODING);
    offered.split(',').any(|one| one.split(';').next().is_some_and(|coding| coding.trim() == "gzip"))
}

/// What the request is for, and its query.
pub(super) fn target(request: &Request) -> Result<(Target, Vec<(String, String)>), request::ParseError> {
    let query = request.uri().query().unwrap_or_default();
    let query: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    Ok((request::parse(request.method(), request.uri().path(), &query)?, query))
}

/// Adds what every answer carries.
pub(super) fn finish(mut answer: Response, audit_id: &str, warnings: &Warnings) -> Response {
    let headers = answer.headers_mut();
    if let Ok(value) = HeaderValue::from_str(audit_id) {
        headers.insert(AUDIT_ID.clone(), value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    for value in warning_values(warnings.take()) {
        headers.append(header::WARNING, value);
    }
    answer
}

fn warning_values(texts: Vec<String>) -> Vec<HeaderValue> {
    let total: usize = texts.iter().map(|text| text.chars().count()).sum();
    let mut left = WARNINGS_MAX_CHARS;
    let mut values = Vec::new();
    for text in texts {
        let cut = if total > WARNINGS_MAX_CHARS { text.chars().take(WARNING_CUT_CHARS).collect() } else { text };
        let Some(rest) = left.checked_sub(cut.chars().count()) else {
            break;
        };
        left = rest;
        let clean: String = cut.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
        values.extend(HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()));
    }
    values
}

/// Compresses a big answer. Streams of events and connections pass as they are.
pub(super) fn compressed(answer: Response, accepts_gzip: bool, long_running: bool) -> Response {
    let is_big = answer.body().size_hint().exact().is_none_or(|bytes| bytes > GZIP_MIN_BYTES);
    let is_encoded = answer.headers().contains_key(header::CONTENT_ENCODING);
    if !accepts_gzip || long_running || !is_big || is_encoded || !answer.status().is_success() {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    parts.headers.remove(header::CONTENT_LENGTH);
    let pieces = gzip_pieces(body);
    Response::from_parts(parts, Body::from_stream(pieces))
}

/// Compresses piece by piece, so that a big list never exists twice.
fn gzip_pieces(body: Body) -> impl futures::Stream<Item = Result<Bytes, axum::Error>> + Send {
    let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    futures::stream::unfold((body.into_data_stream(), encoder), |(mut body, mut encoder)| async move {
        loop {
            let mut open = encoder.take()?;
            match body.next().await {
                Some(Err(error)) => return Some((Err(error), (body, None))),
                Some(Ok(piece)) => {
                    open.write_all(&piece).expect("a Vec takes every write");
                    let ready = std::mem::take(open.get_mut());
                    encoder = Some(open);
                    if !ready.is_empty() {
                        return Some((Ok(ready.into()), (body, encoder)));
                    }
                }
                None => {
                    let rest = open.finish().expect("a Vec takes every write");
                    return Some((Ok(rest.into()), (body, None)));
                }
            }
        }
    })
}
