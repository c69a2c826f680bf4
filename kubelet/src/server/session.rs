//! One exec or attach: the process on one side, a client's streams on the other, whatever carries them.

use std::time::Duration;

use bytes::Bytes;
use cri::{ByteReader, ByteWriter, Process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// Messages between a session and its transport.
pub(super) const QUEUED: usize = 32;
const BUFFER_BYTES: usize = 32 * 1024;
/// A process may end while a child of it holds its outputs open: they are read a little longer.
const DRAIN: Duration = Duration::from_secs(2);

/// From the client.
#[derive(Debug)]
pub(super) enum Incoming {
    Stdin(Bytes),
    StdinEnd,
    Resize(u16, u16),
}

/// To the client.
#[derive(Debug)]
pub(super) enum Outgoing {
    Stdout(Bytes),
    Stderr(Bytes),
    /// The last message: how it ended.
    Status(Value),
}

pub(super) fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

pub(super) fn failure(message: &str) -> Value {
    json!({"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError",
        "details": {"causes": [{"message": message}]}, "code": 500})
}

fn exited(code: i32) -> Value {
    if code == 0 {
        return success();
    }
    json!({"metadata": {}, "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode", "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]}})
}

/// Moves bytes until the process ends or the client goes away.
pub(super) async fn run(process: Process, incoming: mpsc::Receiver<Incoming>, outgoing: mpsc::Sender<Outgoing>) {
    let Process { stdin, stdout, stderr, control } = process;
    let outputs = async {
        let stdout = copy(stdout, &outgoing, Outgoing::Stdout);
        let stderr = copy(stderr, &outgoing, Outgoing::Stderr);
        tokio::join!(stdout, stderr);
    };
    let ended = async {
        let work = async {
            tokio::pin!(outputs);
            let wait = control.wait();
            tokio::pin!(wait);
            tokio::select! {
                code = &mut wait => {
                    // The rest of the output, as far as it comes soon.
                    let _ = tokio::time::timeout(DRAIN, outputs).await;
                    code
                }
                () = &mut outputs => wait.await,
            }
        };
        let feed = feed(stdin, incoming, &*control);
        tokio::select! {
            code = work => Some(code),
            () = feed => None,
        }
    };
    tokio::select! {
        code = ended => match code {
            Some(Ok(code)) => drop(outgoing.send(Outgoing::Status(exited(code))).await),
            Some(Err(error)) => drop(outgoing.send(Outgoing::Status(failure(&error.to_string()))).await),
            None => control.abandon().await,
        },
        () = outgoing.closed() => control.abandon().await,
    }
}

async fn copy(reader: Option<ByteReader>, sender: &mpsc::Sender<Outgoing>, wrap: fn(Bytes) -> Outgoing) {
    let Some(mut reader) = reader else { return };
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(read) = reader.read(&mut buffer).await {
        if read == 0 || sender.send(wrap(Bytes::copy_from_slice(&buffer[..read]))).await.is_err() {
            return;
        }
    }
}

/// Returns when the client is gone. An end of stdin alone only closes it.
async fn feed(stdin: Option<ByteWriter>, mut incoming: mpsc::Receiver<Incoming>, control: &dyn cri::ProcessControl) {
    let mut stdin = stdin;
    while let Some(message) = incoming.recv().await {
        match message {
            Incoming::Stdin(bytes) => {
                let Some(writer) = stdin.as_mut() else { continue };
                // A process that does not read its input loses it, and goes on.
                if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                    stdin = None;
                }
            }
            Incoming::StdinEnd => {
                stdin = None;
                // A process that has ended has no input to close.
                let _ = control.close_stdin().await;
            }
            Incoming::Resize(width, height) => drop(control.resize(width, height).await),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Control {
        code: i32,
        abandoned: Arc<AtomicBool>,
        runs_on: bool,
    }

    #[async_trait::async_trait]
    impl cri::ProcessControl for Control {
        async fn resize(&self, _: u16, _: u16) -> Result<(), cri::Error> {
            Ok(())
        }
        async fn close_stdin(&self) -> Result<(), cri::Error> {
            Ok(())
        }
        async fn wait(&self) -> Result<i32, cri::Error> {
            if self.runs_on {
                std::future::pending::<()>().await;
            }
            Ok(self.code)
        }
        async fn abandon(&self) {
            self.abandoned.store(true, Ordering::SeqCst);
        }
    }

    fn process(code: i32, runs_on: bool) -> (Process, Arc<AtomicBool>) {
        let abandoned = Arc::new(AtomicBool::new(false));
        let control = Box::new(Control { code, abandoned: abandoned.clone(), runs_on });
        let stdout: ByteReader = Box::new(&b"out"[..]);
        (Process { stdin: None, stdout: Some(stdout), stderr: None, control }, abandoned)
    }

    #[tokio::test]
    async fn output_then_status() {
        let (process, _) = process(3, false);
        let (_keep, incoming) = mpsc::channel(QUEUED);
        let (sender, mut outgoing) = mpsc::channel(QUEUED);
        run(process, incoming, sender).await;
        assert!(matches!(outgoing.recv().await, Some(Outgoing::Stdout(bytes)) if bytes == "out"));
        let Some(Outgoing::Status(status)) = outgoing.recv().await else { panic!("no status") };
        assert_eq!(status["details"]["causes"][0]["message"], "3");
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_the_process() {
        let (process, abandoned) = process(0, true);
        let (gone, incoming) = mpsc::channel(QUEUED);
        let (sender, _outgoing) = mpsc::channel(QUEUED);
        drop(gone);
        run(process, incoming, sender).await;
        assert!(abandoned.load(Ordering::SeqCst));
    }
}
