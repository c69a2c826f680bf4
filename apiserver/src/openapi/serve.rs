//! The documents over HTTP.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::SignedDuration;

use super::{Answer, Document, KEEP_SECONDS};
use crate::answer::{self, Response};

const ROOT: &str = "/openapi/v3";

/// Answers a path below `/openapi`; None for every other path. `hash` is the query parameter of that name.
///
/// Documents are built on a blocking thread.
pub async fn answer(path: &str, hash: Option<&str>, headers: &HeaderMap, pretty: bool) -> Option<Response> {
    let rest = path.strip_prefix("/openapi/")?;
    if rest == "v2" || rest.starts_with("v2/") {
        return Some(answer::refuse(&super::v2(), pretty));
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
        Ok(Answer::Document { document, immutable }) => send(&document, immutable, content_type, headers),
        Ok(Answer::Redirect(to)) => redirect(&to),
        Ok(Answer::NotFound) => answer::text(StatusCode::NOT_FOUND, "404 page not found\n"),
        Err(error) => {
            tracing::error!(%error, path, "building an OpenAPI document failed");
            answer::text(StatusCode::INTERNAL_SERVER_ERROR, "building the document failed\n")
        }
    })
}

fn send(document: &Document, immutable: bool, content_type: &'static str, headers: &HeaderMap) -> Response {
    let etag = document.etag();
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|tag| tag.as_bytes() == etag.as_bytes());
    let mut response = match known {
        true => answer::bytes(StatusCode::NOT_MODIFIED, content_type, ""),
        false => answer::bytes(StatusCode::OK, content_type, document.bytes.clone()),
    };
    let out = response.headers_mut();
    let etag = HeaderValue::from_str(&etag).expect("a quoted hexadecimal number is a header value");
    out.insert(header::ETAG, etag);
    out.insert(header::VARY, HeaderValue::from_static("Accept"));
    if immutable {
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        let expires = daemon::clock::now() + SignedDuration::from_secs(KEEP_SECONDS.cast_signed());
        let text = expires.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        if let Ok(value) = HeaderValue::from_str(&text) {
            out.insert(header::EXPIRES, value);
        }
    }
    response
}

fn redirect(to: &str) -> Response {
    let mut response = answer::text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(value) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}
