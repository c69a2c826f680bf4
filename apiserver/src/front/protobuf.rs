//! Protobuf bodies become JSON before any handler sees them: newer clients send nothing else for built-in kinds, and no
//! client sends JSON again after a 415.

use api::schema::{protobuf_to_json, table};
use api::{GroupVersionKind, Status};
use http::{HeaderValue, header};

use super::{Body, Request};
use crate::answer;
use crate::negotiate::media_type;
use crate::request::{ResourcePath, Verb};

const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// The request with a JSON body, when it had a protobuf one that its path takes.
pub(super) async fn as_json(path: &ResourcePath, request: Request) -> Result<Request, Status> {
    let takes = matches!(path.verb, Verb::Create | Verb::Update | Verb::Delete | Verb::DeleteCollection);
    if !takes || media_type(request.headers()) != MEDIA_TYPE {
        return Ok(request);
    }
    let (mut parts, body) = request.into_parts();
    let bytes = answer::read(body).await?;
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.headers.remove(header::CONTENT_LENGTH);
    if bytes.is_empty() {
        return Ok(Request::from_parts(parts, Body::empty()));
    }
    let text = protobuf_to_json(&bytes, &expected(path))?;
    Ok(Request::from_parts(parts, Body::from(text)))
}

/// What a path takes, for a body that does not say what it is.
fn expected(path: &ResourcePath) -> GroupVersionKind {
    if matches!(path.verb, Verb::Delete | Verb::DeleteCollection) {
        return GroupVersionKind::new("", "v1", "DeleteOptions");
    }
    let Some(resource) = table().resource(&path.group, &path.version, &path.resource) else {
        return GroupVersionKind::new(path.group.as_str(), path.version.as_str(), "");
    };
    match resource.subresource(&path.subresource) {
        Some(below) => GroupVersionKind::new(below.group, below.version, below.kind),
        None => resource.gvk(),
    }
}
