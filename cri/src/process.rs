//! A process with its streams: what exec and attach hand out.

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Error;

pub type ByteReader = Box<dyn AsyncRead + Send + Unpin>;
pub type ByteWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// Streams of a process in a container. Absent ones were not asked for.
///
/// To give the process an end of file, drop `stdin` and call [`ProcessControl::close_stdin`].
pub struct Process {
    pub stdin: Option<ByteWriter>,
    pub stdout: Option<ByteReader>,
    pub stderr: Option<ByteReader>,
    pub control: Box<dyn ProcessControl>,
}

#[async_trait]
pub trait ProcessControl: Send + Sync {
    /// Sets the size of the terminal, in characters.
    async fn resize(&self, width: u16, height: u16) -> Result<(), Error>;

    /// To be called when `stdin` was dropped: whoever else holds the process's input open lets go of it.
    async fn close_stdin(&self) -> Result<(), Error>;

    /// Waits for the end and returns the exit code. Attach has none to give and returns 0.
    async fn wait(&self) -> Result<i32, Error>;

    /// Ends an exec'ed process whose caller went away; leaves an attached container alone.
    async fn abandon(&self);
}
