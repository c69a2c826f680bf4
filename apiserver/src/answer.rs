//! Bodies and answers: the one place that turns a [`Status`] into HTTP.

use api::protobuf::{self, EncodeError};
use api::{Reason, Status, Value};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::negotiate::{Format, Style};

/// A request's or answer's body.
pub type Body = axum::body::Body;
/// A request on its way to a handler.
pub type Request = http::Request<Body>;
/// An answer.
pub type Response = http::Response<Body>;

/// Upstream's limit on a request's body.
pub const BODY_MAX: usize = 3 * 1024 * 1024;

/// Reads a whole body.
///
/// # Errors
/// 413 above [`BODY_MAX`]; 400 when the client breaks off.
pub async fn read(body: Body) -> Result<Bytes, Status> {
    match Limited::new(body, BODY_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("Request entity too large: limit is {BODY_MAX}");
            Err(Status::new(Reason::RequestEntityTooLarge, message))
        }
        Err(error) => Err(Status::bad_request(format!("reading the request's body: {error}"))),
    }
}

/// A JSON answer; `pretty` indents it.
pub fn json(code: StatusCode, value: &Value, pretty: bool) -> Response {
    bytes(code, "application/json", encode(value, pretty))
}

/// An answer of some bytes.
pub fn bytes(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer of plain text.
pub fn text(code: StatusCode, body: impl Into<Bytes>) -> Response {
    bytes(code, "text/plain; charset=utf-8", body)
}

/// An answer of a tree that names its kind.
pub fn value(code: StatusCode, value: &Value, style: impl Into<Style>) -> Response {
    let Style { format, pretty } = style.into();
    match format {
        Format::Json => json(code, value, pretty),
        Format::Yaml => {
            let text = serde_yaml_ng::to_string(value).expect("a tree of JSON values always encodes");
            bytes(code, format.content_type(), text)
        }
        Format::Protobuf => match protobuf::encode_object(value) {
            Ok(body) => bytes(code, format.content_type(), body),
            Err(error) => refuse(&not_encoded(&error), pretty),
        },
    }
}

/// What is answered instead of an object that has no protobuf form.
pub fn not_encoded(error: &EncodeError) -> Status {
    match error {
        EncodeError::NoForm(_) | EncodeError::Kind { .. } => Status::new(Reason::NotAcceptable, error.to_string()),
        EncodeError::Text(_) | EncodeError::Value(_) | EncodeError::Depth(_) => Status::internal(error.to_string()),
    }
}

/// A refusal. Its `Retry-After` header is the Status' own.
pub fn refuse(status: &Status, style: impl Into<Style>) -> Response {
    let code = StatusCode::from_u16(status.reason.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = value(code, &status.to_value(), style);
    let headers = response.headers_mut();
    if let Some(seconds) = status.details.as_ref().and_then(|details| details.retry_after_seconds) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The answer, or the refusal as an answer.
pub fn unless_refused(outcome: Result<Response, Status>, style: impl Into<Style>) -> Response {
    outcome.unwrap_or_else(|status| refuse(&status, style))
}

/// The client wants to read it: `pretty` in the query, or a browser or curl without it.
pub fn is_pretty(query: Option<&str>, headers: &HeaderMap) -> bool {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    if let Some((_, value)) = pairs.into_iter().find(|(key, _)| key == "pretty") {
        return matches!(&*value, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|prefix| agent.starts_with(prefix))
}

/// JSON with a newline at its end; indented and without one when `pretty` is set, as upstream's encoder has it.
pub fn encode(value: &Value, pretty: bool) -> Vec<u8> {
    let encoded = if pretty { indented(value) } else { serde_json::to_vec(value) };
    let mut bytes = encoded.expect("a tree of JSON values always encodes");
    if !pretty {
        bytes.push(b'\n');
    }
    bytes
}

fn indented(value: &Value) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec_pretty(value)
}
