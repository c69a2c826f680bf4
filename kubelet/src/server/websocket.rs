//! Exec and attach over a WebSocket.

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;

use super::channels::{ERROR, Protocol, RESIZE, Received, STDERR, STDIN, STDOUT, size};
use super::session::{Incoming, Outgoing, QUEUED};

/// Runs `session` on the streams of the socket; ends when it does.
pub(super) async fn serve<F>(
    socket: WebSocket,
    protocol: Protocol,
    session: impl FnOnce(mpsc::Receiver<Incoming>, mpsc::Sender<Outgoing>) -> F,
) where
    F: Future<Output = ()>,
{
    let (mut writer, mut reader) = socket.split();
    let (to_session, incoming) = mpsc::channel(QUEUED);
    let (outgoing, mut from_session) = mpsc::channel(QUEUED);
    let receive = async move {
        while let Some(Ok(message)) = reader.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) => continue,
            };
            if let Some(message) = protocol.decode(&bytes).and_then(incoming_of)
                && to_session.send(message).await.is_err()
            {
                // The process is done; what it is still told is lost, but a closing handshake is not.
                continue;
            }
        }
    };
    let send = async {
        while let Some(message) = from_session.recv().await {
            if let Some(message) = message_of(protocol, &message)
                && writer.send(message).await.is_err()
            {
                return;
            }
        }
        let _ = writer.send(closed()).await;
    };
    let work = async {
        tokio::join!(session(incoming, outgoing), send);
    };
    tokio::pin!(work);
    tokio::select! {
        () = &mut work => {}
        // The client left: the session notices by its closed channel, and ends.
        () = receive => work.await,
    }
}

/// The end of a stream that went well: clients take a close without a code for a broken connection.
pub(super) fn closed() -> Message {
    Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: Utf8Bytes::default() }))
}

fn incoming_of(received: Received) -> Option<Incoming> {
    match received {
        Received::Data(STDIN, bytes) => Some(Incoming::Stdin(bytes)),
        Received::Data(RESIZE, bytes) => size(&bytes).map(|(width, height)| Incoming::Resize(width, height)),
        Received::Close(STDIN) => Some(Incoming::StdinEnd),
        Received::Data(..) | Received::Close(_) => None,
    }
}

fn message_of(protocol: Protocol, outgoing: &Outgoing) -> Option<Message> {
    let encoded = match outgoing {
        Outgoing::Stdout(bytes) => protocol.encode(STDOUT, bytes),
        Outgoing::Stderr(bytes) => protocol.encode(STDERR, bytes),
        Outgoing::Status(status) if protocol.json_status => protocol.encode(ERROR, status.to_string().as_bytes()),
        Outgoing::Status(status) => {
            let text = status.get("message").and_then(|message| message.as_str())?;
            protocol.encode(ERROR, text.as_bytes())
        }
    };
    if protocol.base64 {
        return String::from_utf8(encoded).ok().map(|text| Message::Text(text.into()));
    }
    Some(Message::Binary(encoded.into()))
}
