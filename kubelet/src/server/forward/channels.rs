//! The form with two channels per port: data, and errors.

use crate::server::websocket::closed;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures::future::join_all;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::{BUFFER_BYTES, QUEUED, dial};
use crate::server::channels::{Protocol, Received};

/// Ports of a query: `port` or `ports`, several times or with commas.
pub(super) fn ports(query: &str) -> Result<Vec<u16>, String> {
    let pairs = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "port" || key == "ports");
    let mut ports = Vec::new();
    for (_, value) in pairs {
        for text in value.split(',').filter(|text| !text.is_empty()) {
            let port = text.parse::<u16>().ok().filter(|port| *port > 0);
            ports.push(port.ok_or_else(|| format!("unable to parse {text:?} as a port"))?);
        }
    }
    if ports.is_empty() { Err("query parameter \"port\" is required".into()) } else { Ok(ports) }
}

/// Channel and bytes on their way to the client.
type Outgoing = mpsc::Sender<(u8, Bytes)>;

pub(super) async fn serve(socket: WebSocket, place: Arc<Option<PathBuf>>, ports: Vec<u16>, base64: bool) {
    let protocol = Protocol { base64, json_status: false, can_close: false };
    let (mut writer, mut reader) = socket.split();
    let (outgoing, mut to_send) = mpsc::channel::<(u8, Bytes)>(QUEUED);
    let mut inputs = Vec::new();
    let mut connections = Vec::new();
    for (index, port) in ports.into_iter().enumerate() {
        let (sender, receiver) = mpsc::channel(QUEUED);
        inputs.push(sender);
        let channel = u8::try_from(index * 2).unwrap_or(u8::MAX - 1);
        connections.push(connection(place.clone(), channel, port, receiver, outgoing.clone()));
    }
    drop(outgoing);
    let receive = async move {
        while let Some(Ok(message)) = reader.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => return,
                _ => continue,
            };
            let Some(Received::Data(channel, bytes)) = protocol.decode(&bytes) else { continue };
            if let Some(input) = inputs.get(usize::from(channel / 2)).filter(|_| channel % 2 == 0) {
                let _ = input.send(bytes).await;
            }
        }
    };
    let send = async {
        while let Some((channel, bytes)) = to_send.recv().await {
            let encoded = protocol.encode(channel, &bytes);
            let message = match String::from_utf8(encoded) {
                Ok(text) if base64 => Message::Text(text.into()),
                Ok(text) => Message::Binary(text.into_bytes().into()),
                Err(error) => Message::Binary(error.into_bytes().into()),
            };
            if writer.send(message).await.is_err() {
                return;
            }
        }
        let _ = writer.send(closed()).await;
    };
    let work = async {
        tokio::join!(join_all(connections), send);
    };
    tokio::select! {
        () = work => {}
        () = receive => {}
    }
}

async fn connection(
    place: Arc<Option<PathBuf>>,
    channel: u8,
    port: u16,
    mut input: mpsc::Receiver<Bytes>,
    outgoing: Outgoing,
) {
    // Both channels begin with the port's number.
    for first in [channel, channel + 1] {
        let _ = outgoing.send((first, Bytes::copy_from_slice(&port.to_le_bytes()))).await;
    }
    let stream = match dial::connect((*place).clone(), port).await {
        Ok(stream) => stream,
        Err(message) => {
            let text = format!("error forwarding port {port}: {message}");
            let _ = outgoing.send((channel + 1, text.into())).await;
            return;
        }
    };
    let (mut reader, mut writer) = stream.into_split();
    let inward = async move {
        while let Some(bytes) = input.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(read) = reader.read(&mut buffer).await {
            if read == 0 || outgoing.send((channel, Bytes::copy_from_slice(&buffer[..read]))).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = outward => {}
        () = inward => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        assert_eq!(ports("port=80,81&ports=82"), Ok(vec![80, 81, 82]));
        assert!(ports("").is_err());
        assert!(ports("port=x").is_err());
        assert!(ports("port=0").is_err());
    }
}
