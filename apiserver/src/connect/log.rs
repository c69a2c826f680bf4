//! A log as WebSocket messages, for clients that ask for an upgrade: browsers, and tools that follow from one.
//!
//! Mirrors upstream's `k8s.io/streaming/pkg/httpstream/wsstream`: an empty message first, then pieces of the log, as they
//! are or in base64, by the subprotocol.

use api::{Reason, Status};
use axum::extract::FromRequestParts as _;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;

use super::bridge;
use crate::answer::{Body, Request, Response};

const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";
/// Nothing but control messages is expected from the client.
const RECEIVED_MAX_BYTES: usize = 64 * 1024;

pub(super) fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    bridge::is_upgrade(headers) && upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// Sends the answer's body over the request's connection.
pub(super) async fn upgrade(request: Request, answer: Response, drain: daemon::Drain) -> Result<Response, Status> {
    let asks = request.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL);
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|rejection| Status::bad_request(rejection.body_text()))?;
    let upgrade = upgrade.max_message_size(RECEIVED_MAX_BYTES).protocols([BINARY, BASE64]);
    let chosen = upgrade.selected_protocol().and_then(|name| name.to_str().ok()).map(str::to_owned);
    if asks && chosen.is_none() {
        let message = format!("none of the requested protocols is supported: only {BINARY} and {BASE64} are");
        return Err(Status::new(Reason::Forbidden, message));
    }
    let encode = chosen.as_deref() == Some(BASE64);
    let body = answer.into_body();
    let answer = upgrade.on_upgrade(move |socket| async move {
        drain.run(copy(socket, body, encode)).await;
    });
    Ok(answer.map(Body::new))
}

/// Ends when the log does or the client leaves.
async fn copy(mut socket: WebSocket, mut body: Body, encode: bool) {
    if socket.send(message(&Bytes::new(), encode)).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            frame = body.frame() => {
                let Some(Ok(frame)) = frame else { break };
                let Ok(piece) = frame.into_data() else { continue };
                if !piece.is_empty() && socket.send(message(&piece, encode)).await.is_err() {
                    return;
                }
            }
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            }
        }
    }
    // Clients take a close without a code for a broken connection.
    let frame = CloseFrame { code: close_code::NORMAL, reason: Utf8Bytes::default() };
    let _ = socket.send(Message::Close(Some(frame))).await;
}

fn message(piece: &Bytes, encode: bool) -> Message {
    if encode { Message::Text(STANDARD.encode(piece).into()) } else { Message::Binary(piece.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_as_messages() {
        assert_eq!(message(&"hi".into(), false), Message::Binary("hi".into()));
        assert_eq!(message(&"hi".into(), true), Message::Text("aGk=".into()));
        assert_eq!(message(&Bytes::new(), true), Message::Text("".into()));
    }

    #[test]
    fn only_an_upgrade_to_websocket_is_one() {
        let headers = |connection: &'static str, upgrade: &'static str| {
            let pairs = [(header::CONNECTION, connection), (header::UPGRADE, upgrade)];
            pairs.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect::<HeaderMap>()
        };
        assert!(is_websocket(&headers("keep-alive, Upgrade", "WebSocket")));
        assert!(!is_websocket(&headers("Upgrade", "SPDY/3.1")));
        assert!(!is_websocket(&headers("close", "websocket")));
        assert!(!is_websocket(&HeaderMap::new()));
    }
}
