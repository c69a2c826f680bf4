//! Attach: CRI answers with a URL; its server speaks SPDY/3.1 with one stream per standard stream.

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

use super::Containerd;
use crate::spdy::{self, Encoder, Frame};
use crate::{AttachRequest, Error, Process, ProcessControl, v1};

/// Bytes buffered per stream between the connection and the caller.
const BUFFER_BYTES: usize = 64 * 1024;
/// Window changes waiting to be sent; older ones are worth nothing.
const QUEUED_RESIZES: usize = 8;
/// Longest answer to the upgrade request.
const MAX_ANSWER_BYTES: usize = 8 * 1024;

const ERROR: u32 = 1;
const STDIN: u32 = 3;
const STDOUT: u32 = 5;
const STDERR: u32 = 7;
const RESIZE: u32 = 9;

struct Control {
    resizes: mpsc::Sender<(u16, u16)>,
    /// Taken by the first `wait`, which moves the bytes.
    pump: Mutex<Option<Pump>>,
}

struct Pump {
    socket: TcpStream,
    stdin: Option<DuplexStream>,
    stdout: Option<DuplexStream>,
    stderr: Option<DuplexStream>,
    resizes: mpsc::Receiver<(u16, u16)>,
}

/// The bytes flow while the control's `wait` is polled.
pub(super) async fn start(containerd: &Containerd, request: AttachRequest) -> Result<Process, Error> {
    let attach = v1::AttachRequest {
        container_id: request.container_id.clone(),
        stdin: request.stdin,
        tty: request.tty,
        stdout: request.stdout,
        stderr: request.stderr && !request.tty,
    };
    let answer = containerd.cri().attach(attach).await;
    let url = answer.map_err(|status| Error::rpc("attach", &status))?.into_inner().url;
    let mut socket = upgrade(&url).await?;
    open_streams(&mut socket, &request).await?;
    let (resizes, received) = mpsc::channel(QUEUED_RESIZES);
    let pipe = |wanted: bool| wanted.then(|| tokio::io::duplex(BUFFER_BYTES)).unzip();
    let (stdin, stdin_inner) = pipe(request.stdin);
    let (stdout, stdout_inner) = pipe(request.stdout);
    let (stderr, stderr_inner) = pipe(request.stderr && !request.tty);
    let pump = Pump { socket, stdin: stdin_inner, stdout: stdout_inner, stderr: stderr_inner, resizes: received };
    Ok(Process {
        stdin: stdin.map(|stream| Box::new(stream) as _),
        stdout: stdout.map(|stream| Box::new(stream) as _),
        stderr: stderr.map(|stream| Box::new(stream) as _),
        control: Box::new(Control { resizes, pump: Mutex::new(Some(pump)) }),
    })
}

fn broken(operation: &str) -> impl Fn(std::io::Error) -> Error + '_ {
    move |source| Error::io(format!("attach: {operation}"), source)
}

async fn upgrade(url: &str) -> Result<TcpStream, Error> {
    let rest = url.strip_prefix("http://").ok_or_else(|| Error::Streaming(format!("unexpected url {url}")))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut socket = TcpStream::connect(authority).await.map_err(broken("connect"))?;
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.map_err(broken("request"))?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        // Byte by byte: what follows the head belongs to the frames.
        answer.push(socket.read_u8().await.map_err(broken("read answer"))?);
        if answer.len() > MAX_ANSWER_BYTES {
            return Err(Error::Streaming("the answer to the upgrade is too long".into()));
        }
    }
    if answer.starts_with(b"HTTP/1.1 101") {
        return Ok(socket);
    }
    let line = String::from_utf8_lossy(&answer);
    Err(Error::Streaming(format!("upgrade refused: {}", line.lines().next().unwrap_or_default())))
}

/// The error stream first: servers wait for it.
async fn open_streams(socket: &mut TcpStream, request: &AttachRequest) -> Result<(), Error> {
    let wanted = [
        (ERROR, "error", true),
        (STDIN, "stdin", request.stdin),
        (STDOUT, "stdout", request.stdout),
        (STDERR, "stderr", request.stderr && !request.tty),
        (RESIZE, "resize", request.tty),
    ];
    let mut encoder = Encoder::default();
    for (id, name, _) in wanted.into_iter().filter(|(_, _, wanted)| *wanted) {
        let frame = encoder.syn_stream(id, &[("streamtype", name)]);
        socket.write_all(&frame).await.map_err(broken("open stream"))?;
    }
    Ok(())
}

#[async_trait]
impl ProcessControl for Control {
    async fn resize(&self, width: u16, height: u16) -> Result<(), Error> {
        // A full queue drops the change: a newer one follows.
        let _ = self.resizes.try_send((width, height));
        Ok(())
    }

    async fn close_stdin(&self) -> Result<(), Error> {
        // Dropping the stream was enough.
        Ok(())
    }

    async fn wait(&self) -> Result<i32, Error> {
        let pump = self.pump.lock().await.take();
        match pump {
            Some(pump) => pump.run().await.map(|()| 0),
            None => Ok(0),
        }
    }

    async fn abandon(&self) {
        self.pump.lock().await.take();
    }
}

impl Pump {
    /// Moves bytes both ways until the server closes the connection.
    async fn run(self) -> Result<(), Error> {
        let (reader, writer) = tokio::io::split(self.socket);
        let (pongs, pings) = mpsc::channel(QUEUED_RESIZES);
        let outward = outward(writer, self.stdin, self.resizes, pings);
        let inward = inward(reader, self.stdout, self.stderr, pongs);
        tokio::select! {
            outcome = inward => outcome,
            error = outward => Err(error),
        }
    }
}

/// Runs until writing fails; the end of stdin only closes that stream.
async fn outward(
    mut writer: WriteHalf<TcpStream>,
    mut stdin: Option<DuplexStream>,
    mut resizes: mpsc::Receiver<(u16, u16)>,
    mut pings: mpsc::Receiver<u32>,
) -> Error {
    let mut buffer = vec![0; spdy::MAX_DATA_BYTES];
    loop {
        let frame = tokio::select! {
            read = read_some(stdin.as_mut(), &mut buffer) => {
                let length = read.unwrap_or(0);
                if length == 0 {
                    stdin = None;
                }
                spdy::data(STDIN, &buffer[..length], length == 0)
            }
            Some((width, height)) = resizes.recv() => {
                let size = format!("{{\"Width\":{width},\"Height\":{height}}}\n");
                spdy::data(RESIZE, size.as_bytes(), false)
            }
            Some(id) = pings.recv() => spdy::ping(id),
        };
        if let Err(error) = writer.write_all(&frame).await {
            return broken("send")(error);
        }
    }
}

/// Pends for ever without a stream, so that a select over it goes on with the rest.
async fn read_some(stream: Option<&mut DuplexStream>, buffer: &mut [u8]) -> std::io::Result<usize> {
    match stream {
        Some(stream) => stream.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn inward(
    mut reader: ReadHalf<TcpStream>,
    mut stdout: Option<DuplexStream>,
    mut stderr: Option<DuplexStream>,
    pongs: mpsc::Sender<u32>,
) -> Result<(), Error> {
    while let Some(frame) = spdy::read(&mut reader).await.map_err(broken("receive"))? {
        match frame {
            Frame::Data { stream: STDOUT, bytes, last } => deliver(&mut stdout, &bytes, last).await,
            Frame::Data { stream: STDERR, bytes, last } => deliver(&mut stderr, &bytes, last).await,
            // Whatever the error stream says, the attachment is over.
            Frame::Data { stream: ERROR, .. } | Frame::GoAway => return Ok(()),
            Frame::Ping { id } => drop(pongs.try_send(id)),
            Frame::SynStream { .. } | Frame::Data { .. } | Frame::Reset { .. } | Frame::Other => {}
        }
    }
    Ok(())
}

/// A caller that no longer reads loses the rest, and the others go on.
async fn deliver(sink: &mut Option<DuplexStream>, bytes: &[u8], last: bool) {
    let Some(stream) = sink else { return };
    if stream.write_all(bytes).await.is_err() || last {
        *sink = None;
    }
}
