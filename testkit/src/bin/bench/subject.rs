//! The server under test: ours or upstream's, behind one face.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{server::Server, upstream::Upstream};

/// A running API server with its store.
pub(crate) enum Subject {
    Ours { server: Server, program: PathBuf },
    Theirs(Upstream),
}

impl Subject {
    /// Starts one on an empty store.
    pub(crate) async fn start(program: &Path, is_ours: bool) -> Result<Self> {
        if !is_ours {
            return Upstream::start().await.map(Self::Theirs);
        }
        Ok(Self::Ours { server: Server::fresh(program).await?, program: program.to_owned() })
    }

    /// All processes of it.
    pub(crate) fn pids(&self) -> Vec<u32> {
        match self {
            Self::Ours { server, .. } => vec![server.pid()],
            Self::Theirs(upstream) => upstream.pids(),
        }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        match self {
            Self::Ours { server, .. } => server.kubeconfig(),
            Self::Theirs(upstream) => upstream.kubeconfig(),
        }
    }

    /// Kills it and starts it with the same store; how many seconds the start took, the store's own among them.
    pub(crate) async fn restart(self) -> Result<(Self, f64)> {
        match self {
            Self::Ours { server, program } => {
                let (server, seconds) = server.restart(&program).await?;
                Ok((Self::Ours { server, program }, seconds))
            }
            Self::Theirs(upstream) => {
                let (upstream, seconds) = upstream.restart().await?;
                Ok((Self::Theirs(upstream), seconds))
            }
        }
    }
}
