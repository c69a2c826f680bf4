//! `/portForward`: connections into a pod's network.
//!
//! Over SPDY (bare, or inside a WebSocket as newer clients do) each connection is a pair of streams, one for data and
//! one for errors. The older form over a WebSocket has a pair of channels per port.

mod channels;
mod dial;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::header;
use axum::response::Response;
use bytes::Bytes;
use cri::spdy::Headers;
use futures::stream::FuturesUnordered;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::exec::switch;
use super::spdy::{self, Command, Commands, Event};
use super::websocket::closed;
use super::{Context, Failure, bad_request, internal, not_found};

const SPDY_PROTOCOL: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const CHANNELS: [&str; 4] =
    ["v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io"];
/// Bytes between a WebSocket and the connection inside it.
const TUNNEL_BYTES: usize = 128 * 1024;
/// Pieces waiting for a slow receiver in the pod.
const QUEUED: usize = 32;
const BUFFER_BYTES: usize = 32 * 1024;

pub(super) async fn serve(
    State(context): State<Context>,
    Path(params): Path<HashMap<String, String>>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let get = |key: &str| params.get(key).map(String::as_str).unwrap_or_default();
    let found = context.kubelet.pods.find(get("namespace"), get("pod"), params.get("uid").map(String::as_str));
    let view = found.ok_or_else(|| not_found("pod does not exist"))?;
    let place = Arc::new(place(&context, crate::pod::uid(&view.pod)).await?);
    let Ok(upgrade) = upgrade else {
        return switch(&context, request, &[SPDY_PROTOCOL], move |io| {
            spdy::serve(io, move |events, commands| forward(place, events, commands))
        });
    };
    let asked = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    if asked.is_some_and(|asked| asked.split(',').any(|name| name.trim() == TUNNEL)) {
        let upgrade = upgrade.protocols([TUNNEL]);
        return Ok(upgrade.on_upgrade(move |socket| tunnel(socket, place)));
    }
    let ports = channels::ports(query.as_deref().unwrap_or_default()).map_err(bad_request)?;
    let base64 = asked.is_some_and(|asked| !asked.contains("v4.channel") && asked.contains("base64"));
    let upgrade = upgrade.protocols(CHANNELS);
    Ok(upgrade.on_upgrade(move |socket| channels::serve(socket, place, ports, base64)))
}

/// The network that a pod's connections are made in; none is the host's own.
async fn place(context: &Context, uid: &str) -> Result<Option<PathBuf>, Failure> {
    let runtime = &context.kubelet.runtime;
    let observed = crate::observe::pod(&**runtime, uid).await.map_err(|error| internal(error.to_string()))?;
    let sandbox = observed.active_sandbox().ok_or_else(|| internal("pod not found: it has no running sandbox"))?;
    let namespace = runtime.sandbox_network_namespace(&sandbox.id).await;
    namespace.map_err(|error| internal(error.to_string()))
}

/// Unpacks the byte stream inside binary messages and serves SPDY on it.
async fn tunnel(socket: WebSocket, place: Arc<Option<PathBuf>>) {
    let (inner, outer) = tokio::io::duplex(TUNNEL_BYTES);
    let (mut from_spdy, mut to_spdy) = tokio::io::split(outer);
    let (mut writer, mut reader) = socket.split();
    let inward = async move {
        while let Some(Ok(message)) = reader.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Close(_) => break,
                _ => continue,
            };
            if to_spdy.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to_spdy.shutdown().await;
    };
    let outward = async move {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(read) = from_spdy.read(&mut buffer).await {
            if read == 0 || writer.send(Message::Binary(Bytes::copy_from_slice(&buffer[..read]))).await.is_err() {
                break;
            }
        }
        let _ = writer.send(closed()).await;
    };
    let served = spdy::serve(inner, move |events, commands| forward(place, events, commands));
    tokio::join!(served, inward, outward);
}

/// One connection, as far as its streams have come.
#[derive(Default)]
struct Pair {
    data: Option<u32>,
    error: Option<u32>,
    port: u16,
}

/// Serves every pair of streams until the client is gone.
async fn forward(place: Arc<Option<PathBuf>>, mut events: mpsc::Receiver<Event>, commands: Commands) {
    let mut pairs: HashMap<String, Pair> = HashMap::new();
    let mut inputs: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    let mut connections = FuturesUnordered::new();
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            Some(()) = connections.next() => continue,
        };
        match event {
            None => return,
            Some(Event::Opened(stream, headers)) => {
                let Some(pair) = pair_up(&mut pairs, stream, &headers) else {
                    continue;
                };
                let (Some(data), Some(error)) = (pair.data, pair.error) else { continue };
                let (sender, receiver) = mpsc::channel(QUEUED);
                inputs.insert(data, sender);
                let connection = Connection { data, error, port: pair.port, commands: commands.clone() };
                connections.push(connection.run(place.clone(), receiver));
            }
            Some(Event::Data(stream, bytes)) => {
                let lost = match inputs.get(&stream) {
                    // Others wait while one is full: a client's connections share one connection anyway.
                    Some(input) => give(input, bytes, &mut connections).await,
                    None => false,
                };
                if lost {
                    inputs.remove(&stream);
                }
            }
            Some(Event::Ended(stream)) => {
                inputs.remove(&stream);
            }
        }
    }
}

/// Hands bytes over while the connections go on. True when nobody takes them any more.
async fn give<S>(input: &mpsc::Sender<Bytes>, bytes: Bytes, connections: &mut S) -> bool
where
    S: futures::Stream<Item = ()> + Unpin,
{
    let send = input.send(bytes);
    tokio::pin!(send);
    loop {
        tokio::select! {
            sent = &mut send => return sent.is_err(),
            Some(()) = connections.next() => {}
        }
    }
}

/// The pair that the stream completes, if it does.
fn pair_up(pairs: &mut HashMap<String, Pair>, stream: u32, headers: &Headers) -> Option<Pair> {
    let get = |key: &str| headers.get(key).map(String::as_str).unwrap_or_default();
    // Clients without request ids number their streams so that the error stream comes just before the data stream.
    let id = match (get("requestid"), get("streamtype")) {
        ("", "error") => stream.to_string(),
        ("", _) => stream.saturating_sub(2).to_string(),
        (id, _) => id.to_owned(),
    };
    let pair = pairs.entry(id.clone()).or_default();
    pair.port = get("port").parse().unwrap_or(pair.port);
    match get("streamtype") {
        "data" => pair.data = Some(stream),
        "error" => pair.error = Some(stream),
        _ => return None,
    }
    let complete = pair.data.is_some() && pair.error.is_some();
    if complete { pairs.remove(&id) } else { None }
}

struct Connection {
    data: u32,
    error: u32,
    port: u16,
    commands: Commands,
}

impl Connection {
    async fn run(self, place: Arc<Option<PathBuf>>, input: mpsc::Receiver<Bytes>) {
        if let Err(message) = self.copy(place, input).await {
            let text = format!("an error occurred forwarding to port {}: {message}", self.port);
            let _ = self.commands.send(Command::Data(self.error, text.into())).await;
        }
        for stream in [self.data, self.error] {
            let _ = self.commands.send(Command::End(stream)).await;
        }
    }

    async fn copy(&self, place: Arc<Option<PathBuf>>, mut input: mpsc::Receiver<Bytes>) -> Result<(), String> {
        let stream = dial::connect((*place).clone(), self.port).await?;
        let (mut reader, mut writer) = stream.into_split();
        let inward = async move {
            while let Some(bytes) = input.recv().await {
                if writer.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            let _ = writer.shutdown().await;
        };
        let outward = async {
            let mut buffer = vec![0; BUFFER_BYTES];
            while let Ok(read) = reader.read(&mut buffer).await {
                let bytes = Bytes::copy_from_slice(&buffer[..read]);
                if read == 0 || self.commands.send(Command::Data(self.data, bytes)).await.is_err() {
                    return;
                }
            }
        };
        // The pod's side decides when it is over; an end of the client's input is only passed on.
        let inward = async {
            inward.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = outward => {}
            () = inward => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        let headers = |kind: &str, id: &str| -> Headers {
            let list = [("streamtype", kind), ("port", "80"), ("requestid", id)];
            list.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| ((*k).into(), (*v).into())).collect()
        };
        let mut open = HashMap::new();
        assert!(pair_up(&mut open, 1, &headers("error", "0")).is_none());
        assert!(pair_up(&mut open, 5, &headers("error", "1")).is_none());
        let pair = pair_up(&mut open, 3, &headers("data", "0")).unwrap();
        assert_eq!((pair.data, pair.error, pair.port), (Some(3), Some(1), 80));
        assert!(pair_up(&mut open, 7, &headers("error", "")).is_none());
        let pair = pair_up(&mut open, 9, &headers("data", "")).unwrap();
        assert_eq!((pair.data, pair.error), (Some(9), Some(7)));
    }
}
