//! A request sent on as it is, and an upgraded connection whose bytes are copied both ways.

use api::Status;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::dial::{Dialer, Place};
use crate::answer::{Body, Request, Response};

/// Headers that belong to one connection.
const HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The client wants to use the connection for something else.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut words = connection.flat_map(|value| value.split(','));
    headers.contains_key(header::UPGRADE) && words.any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
}

/// Sends a request to `place` at `uri` and answers with its answer.
pub(super) async fn forward(dialer: &Dialer, place: &Place, uri: Uri, request: Request) -> Result<Response, Status> {
    if is_upgrade(request.headers()) {
        return upgrade(dialer, place, uri, request).await;
    }
    let (mut parts, body) = request.into_parts();
    parts.uri = uri;
    parts.version = http::Version::HTTP_11;
    strip(&mut parts.headers);
    set_host(&mut parts.headers, place);
    let answer = dialer.send(place, Request::from_parts(parts, body)).await?;
    let (mut parts, body) = answer.into_parts();
    strip(&mut parts.headers);
    parts.version = http::Version::HTTP_11;
    Ok(Response::from_parts(parts, Body::new(body)))
}

async fn upgrade(dialer: &Dialer, place: &Place, uri: Uri, mut request: Request) -> Result<Response, Status> {
    let client = hyper::upgrade::on(&mut request);
    let (mut parts, _) = request.into_parts();
    parts.uri = uri;
    parts.version = http::Version::HTTP_11;
    parts.extensions.clear();
    set_host(&mut parts.headers, place);
    let mut answer = dialer.send(place, Request::from_parts(parts, Body::empty())).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut parts, body) = answer.into_parts();
        strip(&mut parts.headers);
        return Ok(Response::from_parts(parts, Body::new(body)));
    }
    let backend = hyper::upgrade::on(&mut answer);
    let drain = dialer.tasks().drain().clone();
    dialer.tasks().spawn("upgraded-connection", async move {
        let copied = async {
            let (client, backend) = futures::future::try_join(client, backend).await?;
            let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
            // An end on either side ends the other: that is how both protocols close.
            if let Err(error) = copy_bidirectional(&mut client, &mut backend).await {
                tracing::debug!(%error, "an upgraded connection ended");
            }
            Ok::<_, hyper::Error>(())
        };
        if let Some(Err(error)) = drain.run(copied).await {
            tracing::debug!(%error, "an upgrade failed");
        }
    });
    let (parts, _) = answer.into_parts();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = parts.headers;
    Ok(response)
}

fn strip(headers: &mut HeaderMap) {
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named = named.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse::<HeaderName>().ok());
    let named: Vec<HeaderName> = named.collect();
    for name in named.iter().chain(&HOP) {
        headers.remove(name);
    }
}

fn set_host(headers: &mut HeaderMap, place: &Place) {
    if let Ok(value) = HeaderValue::from_str(&place.authority()) {
        headers.insert(header::HOST, value);
    }
}
