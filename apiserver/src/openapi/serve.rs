//! The documents over HTTP.

use std::ops::Range;
use std::sync::OnceLock;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::{SignedDuration, Timestamp};

use super::{Answer, Document, KEEP_SECONDS, protobuf};
use crate::answer::{self, Response};
use crate::negotiate;

const ROOT: &str = "/openapi/v3";
const V2: &str = "/openapi/v2";
/// What `/openapi/v2` offers. Clients still name the older of protobuf's two types, which is no media type: it has an @.
const FORMS: [(&str, Form); 3] = [
    ("json", Form::Json),
    ("com.github.proto-openapi.spec.v2@v1.0+protobuf", Form::Protobuf),
    ("com.github.proto-openapi.spec.v2.v1.0+protobuf", Form::Protobuf),
];

/// Answers a path below `/openapi`; None for every other path. `hash` is the query parameter of that name.
///
/// Documents are built on a blocking thread.
pub async fn answer(path: &str, hash: Option<&str>, headers: &HeaderMap) -> Option<Response> {
    if path == V2 {
        return Some(whole(headers).await);
    }
    let rest = path.strip_prefix(ROOT)?.trim_matches('/').to_owned();
    let wanted = hash.map(str::to_owned);
    let is_index = rest.is_empty();
    let found = tokio::task::spawn_blocking(move || match rest.as_str() {
        "" => Answer::Document { document: super::index(), immutable: false },
        rest => super::document(rest, wanted.as_deref()),
    });
    let content_type = if is_index { "text/plain; charset=utf-8" } else { "application/json" };
    Some(match found.await {
        Ok(Answer::Document { document, immutable }) => {
            let answer = send(&document, immutable, content_type, headers);
            if is_index { without_validator(answer) } else { answer }
        }
        Ok(Answer::Redirect(to)) => redirect(&to),
        Ok(Answer::NotFound) => empty(StatusCode::NOT_FOUND),
        Err(error) => failed(path, &error),
    })
}

/// The document of v2. Its forms share a tag: `Vary` keeps them apart.
async fn whole(headers: &HeaderMap) -> Response {
    let Some(form) = negotiate::first(headers, &FORMS) else { return empty(StatusCode::NOT_ACCEPTABLE) };
    // Each is made when it is first asked for: they are made of all documents of v3, and few ask.
    static AS_JSON: OnceLock<Document> = OnceLock::new();
    static AS_PROTOBUF: OnceLock<Result<Document, protobuf::Error>> = OnceLock::new();
    let built = tokio::task::spawn_blocking(move || match form {
        Form::Json => Ok(AS_JSON.get_or_init(super::v2::document)),
        Form::Protobuf => {
            AS_PROTOBUF.get_or_init(|| super::v2::as_protobuf(AS_JSON.get_or_init(super::v2::document))).as_ref()
        }
    });
    match built.await {
        Ok(Ok(document)) => {
            let mut answer = send(document, false, form.content_type(), headers);
            answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
            answer
        }
        Ok(Err(error)) => failed(V2, error),
        Err(error) => failed(V2, &error),
    }
}

/// A form of the document of v2.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Protobuf,
}

impl Form {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
        }
    }
}

fn failed(path: &str, error: &(dyn std::error::Error + 'static)) -> Response {
    tracing::error!(error, path, "building an OpenAPI document failed");
    answer::text(StatusCode::INTERNAL_SERVER_ERROR, "building the document failed\n")
}

fn send(document: &Document, immutable: bool, content_type: &'static str, headers: &HeaderMap) -> Response {
    let etag = document.etag();
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|tag| tag.as_bytes() == etag.as_bytes());
    let mut response = match (known, range(headers, document.bytes.len())) {
        (true, _) => answer::bytes(StatusCode::NOT_MODIFIED, content_type, ""),
        (false, None) => answer::bytes(StatusCode::OK, content_type, document.bytes.clone()),
        (false, Some(range)) => part(document, range, content_type),
    };
    let out = response.headers_mut();
    let etag = HeaderValue::from_str(&etag).expect("a quoted hexadecimal number is a header value");
    out.insert(header::ETAG, etag);
    out.insert(header::VARY, HeaderValue::from_static("Accept"));
    out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    out.insert(header::LAST_MODIFIED, started().clone());
    if immutable {
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        let expires = daemon::clock::now() + SignedDuration::from_secs(KEEP_SECONDS.cast_signed());
        out.insert(header::EXPIRES, date(expires));
    }
    response
}

/// The documents are those of this process: they are as old as its first answer.
fn started() -> &'static HeaderValue {
    static STARTED: OnceLock<HeaderValue> = OnceLock::new();
    STARTED.get_or_init(|| date(daemon::clock::now()))
}

fn date(at: Timestamp) -> HeaderValue {
    let text = at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    HeaderValue::from_str(&text).expect("a date is a header value")
}

/// The one range of bytes that is asked for; several, and what cannot be had, are as good as none.
fn range(headers: &HeaderMap, length: usize) -> Option<Range<usize>> {
    let asked = headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?;
    let (from, to) = asked.split_once('-')?;
    let range = match (from, to) {
        ("", last) => length.saturating_sub(last.parse().ok()?)..length,
        (from, "") => from.parse().ok()?..length,
        (from, to) => from.parse().ok()?..to.parse::<usize>().ok()?.saturating_add(1).min(length),
    };
    (!range.is_empty()).then_some(range)
}

fn part(document: &Document, range: Range<usize>, content_type: &'static str) -> Response {
    let (first, last, length) = (range.start, range.end - 1, document.bytes.len());
    let mut response = answer::bytes(StatusCode::PARTIAL_CONTENT, content_type, document.bytes.slice(range));
    let place = HeaderValue::from_str(&format!("bytes {first}-{last}/{length}")).expect("numbers are a header value");
    response.headers_mut().insert(header::CONTENT_RANGE, place);
    response
}

/// The list of documents has no tag of its own.
fn without_validator(mut response: Response) -> Response {
    response.headers_mut().remove(header::ETAG);
    response.headers_mut().remove(header::VARY);
    response
}

fn empty(code: StatusCode) -> Response {
    let mut response = answer::text(code, "");
    response.headers_mut().remove(header::CONTENT_TYPE);
    response
}

fn redirect(to: &str) -> Response {
    let mut response = answer::text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(value) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn asked(accept: Option<&'static str>) -> (StatusCode, Option<String>, Vec<u8>) {
        let mut headers = HeaderMap::new();
        headers.extend(accept.map(|accept| (header::ACCEPT, HeaderValue::from_static(accept))));
        let (head, body) = answer(V2, None, &headers).await.expect("the path is ours").into_parts();
        let content_type = head.headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap().to_owned());
        (head.status, content_type, body.collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn the_older_document_has_the_form_that_is_wanted_most() {
        let (old, new) = (FORMS[1].0, Form::Protobuf.content_type());
        assert_eq!(old.replace('@', "."), new.trim_start_matches("application/"));
        let json = "application/json";
        for (accept, expected) in [
            (None, json),
            (Some("*/*"), json),
            (Some("application/*"), json),
            (Some("application/json"), json),
            (Some("application/com.github.proto-openapi.spec.v2@v1.0+protobuf"), new),
            (Some("application/com.github.proto-openapi.spec.v2.v1.0+protobuf"), new),
            (Some("application/json;q=0.5, application/com.github.proto-openapi.spec.v2@v1.0+protobuf"), new),
            (Some("application/com.github.proto-openapi.spec.v2@v1.0+protobuf;q=0.5,application/json"), json),
            (Some("application/yaml, application/json"), json),
        ] {
            let (code, content_type, body) = asked(accept).await;
            assert_eq!((code, content_type.as_deref()), (StatusCode::OK, Some(expected)), "{accept:?}");
            let start: &[u8] = if expected == json { b"{\"swagger\":\"2.0\"" } else { b"\x0a\x032.0" };
            assert!(body.starts_with(start), "{accept:?}");
        }
        assert_eq!(asked(Some("text/html")).await.0, StatusCode::NOT_ACCEPTABLE);
        assert_eq!(asked(Some("application/yaml")).await.0, StatusCode::NOT_ACCEPTABLE);
    }
}
