//! A SPDY connection as server: streams that the client opens, carrying whatever it says they carry.

use bytes::Bytes;
use cri::spdy::{self, Encoder, Frame, Headers, Inflater, MAX_DATA_BYTES};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::channels::size;
use super::session::{Incoming, Outgoing, QUEUED};

/// Streams' events and frames between the connection and what uses it.
const QUEUED_FRAMES: usize = 64;

/// What the client did.
#[derive(Debug)]
pub(super) enum Event {
    Opened(u32, Headers),
    Data(u32, Bytes),
    Ended(u32),
}

/// What to tell the client.
#[derive(Debug)]
pub(super) enum Command {
    Data(u32, Bytes),
    End(u32),
    Pong(u32),
    Accept(u32),
}

/// The writing side, shared by the streams.
pub(super) type Commands = mpsc::Sender<Command>;

/// Runs the connection, and `work` on it; ends when either does.
pub(super) async fn serve<S, F>(io: S, work: impl FnOnce(mpsc::Receiver<Event>, Commands) -> F)
where
    S: AsyncRead + AsyncWrite + Send,
    F: Future<Output = ()>,
{
    let (mut reader, mut writer) = tokio::io::split(io);
    let (events, received) = mpsc::channel(QUEUED_FRAMES);
    let (commands, mut to_write) = mpsc::channel(QUEUED_FRAMES);
    let pongs = commands.clone();
    let read = async move {
        let mut inflater = Inflater::default();
        while let Ok(Some(frame)) = spdy::read(&mut reader).await {
            if handle(frame, &mut inflater, &events, &pongs).await.is_none() {
                return;
            }
        }
    };
    let write = async {
        let mut encoder = Encoder::default();
        while let Some(command) = to_write.recv().await {
            if write(&mut writer, &mut encoder, command).await.is_err() {
                return;
            }
        }
        let _ = writer.shutdown().await;
    };
    let work = async {
        let work = work(received, commands);
        tokio::pin!(work);
        tokio::select! {
            () = &mut work => {}
            // The client is gone: the events end, and with them the work.
            () = read => work.await,
        }
    };
    tokio::pin!(write);
    tokio::select! {
        () = work => {
            // What was said last is still written.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), write).await;
        }
        () = &mut write => {}
    }
}

/// None when the connection is over.
async fn handle(frame: Frame, inflater: &mut Inflater, events: &mpsc::Sender<Event>, pongs: &Commands) -> Option<()> {
    match frame {
        Frame::SynStream { stream, headers, last } => {
            let headers = inflater.read(&headers).ok()?;
            pongs.send(Command::Accept(stream)).await.ok()?;
            events.send(Event::Opened(stream, headers)).await.ok()?;
            if last {
                events.send(Event::Ended(stream)).await.ok()?;
            }
        }
        Frame::Data { stream, bytes, last } => {
            if !bytes.is_empty() {
                events.send(Event::Data(stream, bytes.into())).await.ok()?;
            }
            if last {
                events.send(Event::Ended(stream)).await.ok()?;
            }
        }
        Frame::Reset { stream } => events.send(Event::Ended(stream)).await.ok()?,
        Frame::Ping { id } => pongs.send(Command::Pong(id)).await.ok()?,
        Frame::GoAway => return None,
        Frame::Other => {}
    }
    Some(())
}

async fn write<W: AsyncWrite + Unpin>(writer: &mut W, encoder: &mut Encoder, command: Command) -> std::io::Result<()> {
    match command {
        Command::Data(stream, bytes) => {
            for piece in bytes.chunks(MAX_DATA_BYTES) {
                writer.write_all(&spdy::data(stream, piece, false)).await?;
            }
        }
        Command::End(stream) => writer.write_all(&spdy::data(stream, &[], true)).await?,
        Command::Pong(id) => writer.write_all(&spdy::ping(id)).await?,
        Command::Accept(stream) => writer.write_all(&encoder.syn_reply(stream, &[])).await?,
    }
    writer.flush().await
}

/// Streams of an exec or attach, by their id.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Streams {
    error: Option<u32>,
    stdin: Option<u32>,
    stdout: Option<u32>,
    stderr: Option<u32>,
    resize: Option<u32>,
}

impl Streams {
    fn add(&mut self, id: u32, kind: &str) {
        let place = match kind {
            "error" => &mut self.error,
            "stdin" => &mut self.stdin,
            "stdout" => &mut self.stdout,
            "stderr" => &mut self.stderr,
            "resize" => &mut self.resize,
            _ => return,
        };
        *place = Some(id);
    }

    fn count(self) -> usize {
        [self.error, self.stdin, self.stdout, self.stderr, self.resize].iter().flatten().count()
    }
}

/// Runs `session` once the client has opened the `expected` number of streams.
pub(super) async fn session<F>(
    mut events: mpsc::Receiver<Event>,
    commands: Commands,
    expected: usize,
    session: impl FnOnce(mpsc::Receiver<Incoming>, mpsc::Sender<Outgoing>) -> F,
) where
    F: Future<Output = ()>,
{
    let mut streams = Streams::default();
    while streams.count() < expected {
        match events.recv().await {
            Some(Event::Opened(id, headers)) => streams.add(id, headers.get("streamtype").map_or("", String::as_str)),
            Some(_) => {}
            None => return,
        }
    }
    let (to_session, incoming) = mpsc::channel(QUEUED);
    let (outgoing, mut from_session) = mpsc::channel(QUEUED);
    let receive = async move {
        while let Some(event) = events.recv().await {
            if let Some(message) = incoming_of(streams, event) {
                let _ = to_session.send(message).await;
            }
        }
    };
    let send = async {
        while let Some(message) = from_session.recv().await {
            let (stream, bytes) = match message {
                Outgoing::Stdout(bytes) => (streams.stdout, bytes),
                Outgoing::Stderr(bytes) => (streams.stderr, bytes),
                Outgoing::Status(status) => (streams.error, Bytes::from(status.to_string())),
            };
            if let Some(stream) = stream
                && commands.send(Command::Data(stream, bytes)).await.is_err()
            {
                return;
            }
        }
        for stream in [streams.stdout, streams.stderr, streams.error].into_iter().flatten() {
            let _ = commands.send(Command::End(stream)).await;
        }
    };
    let work = async {
        tokio::join!(session(incoming, outgoing), send);
    };
    tokio::pin!(work);
    tokio::select! {
        () = &mut work => {}
        () = receive => work.await,
    }
}

fn incoming_of(streams: Streams, event: Event) -> Option<Incoming> {
    match event {
        Event::Data(id, bytes) if Some(id) == streams.stdin => Some(Incoming::Stdin(bytes)),
        Event::Data(id, bytes) if Some(id) == streams.resize => size(&bytes).map(|(w, h)| Incoming::Resize(w, h)),
        Event::Ended(id) if Some(id) == streams.stdin => Some(Incoming::StdinEnd),
        _ => None,
    }
}
