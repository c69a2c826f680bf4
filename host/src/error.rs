//! What can go wrong with a host.

use std::fmt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// A failed operation on a host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory operation.
    #[error("cannot {action} {path}", path = path.display())]
    File {
        /// `read`, `write`, `make`, `remove` ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A system call.
    #[error("cannot {action}")]
    Call {
        /// What it was for, with its operands.
        action: String,
        /// Why.
        #[source]
        source: Errno,
    },
    /// A netlink request.
    #[error("cannot {action}")]
    Netlink {
        /// What it was for, with its operands.
        action: String,
        /// Why.
        #[source]
        source: rtnetlink::Error,
    },
    /// A link that should exist does not.
    #[error("there is no link {name}")]
    NoLink {
        /// Its name.
        name: String,
    },
    /// The init process said why it could not make the host.
    #[error("host {host}: {message}")]
    Init {
        /// The host.
        host: String,
        /// What init said.
        message: String,
    },
    /// A host is running under this directory already.
    #[error("host {host} is running already (pid {pid})")]
    Running {
        /// The host.
        host: String,
        /// Its first process.
        pid: i32,
    },
    /// A host should be running and is not.
    #[error("host {host} is not running")]
    NotRunning {
        /// The host.
        host: String,
    },
    /// A process did not end in time.
    #[error("pid {pid} of host {host} did not end within {seconds} s")]
    Stuck {
        /// The host.
        host: String,
        /// Its first process.
        pid: i32,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The directory's filesystem cannot carry a host.
    #[error("{path} lies on {filesystem}, which cannot hold a host's files; choose a directory on a disk (ext4, xfs, btrfs) or on tmpfs", path = path.display())]
    Filesystem {
        /// The directory.
        path: PathBuf,
        /// What it lies on.
        filesystem: &'static str,
    },
    /// A value that cannot be used.
    #[error("{what} {value:?} is not usable: {reason}")]
    Invalid {
        /// What it was for.
        what: &'static str,
        /// The value.
        value: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A thread that worked in another namespace ended without an answer.
    #[error("the thread that should {action} panicked")]
    Thread {
        /// What it was for.
        action: String,
    },
    /// A way out was asked for and no program gives one.
    #[error("no user-mode network is installed: install passt or slirp4netns, or do without a way out")]
    NoUplink,
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn call(action: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let action = action.into();
        move |source| Self::Call { action, source }
    }

    pub(crate) fn netlink(action: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let action = action.into();
        move |source| Self::Netlink { action, source }
    }

    /// The error and its sources in one line, for a peer that gets text only.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}

/// Everything that went wrong while taking something down. Teardown goes on after a failure.
#[derive(Debug, Default)]
pub struct Errors(Vec<Error>);

impl Errors {
    /// Keeps the error of a step that failed.
    pub fn collect<T>(&mut self, step: Result<T, Error>) -> Option<T> {
        step.map_err(|e| self.0.push(e)).ok()
    }

    /// Keeps all errors of a further teardown.
    pub fn absorb(&mut self, step: Result<(), Self>) {
        if let Err(more) = step {
            self.0.extend(more.0);
        }
    }

    /// Fine when nothing failed.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(Error::chain).collect();
        f.write_str(&texts.join("; "))
    }
}

impl std::error::Error for Errors {}
