//! `ironclad image`: images from files, to the nodes.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use anyhow::{Context, Result, bail};
use cri::Containerd;

use crate::cluster::{Cluster, Directory};
use crate::{environment, node};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Import a docker or OCI archive into every node of a cluster
    Load(LoadArgs),
    /// Import an archive into the containerd of this host
    #[command(hide = true)]
    Import(ImportArgs),
}

#[derive(clap::Args)]
pub(super) struct LoadArgs {
    /// The archive, or - for standard input
    file: PathBuf,
    #[command(flatten)]
    cluster: super::up::ClusterArgs,
}

#[derive(clap::Args)]
pub(super) struct ImportArgs {
    /// The archive, or - for standard input
    file: PathBuf,
    /// containerd's socket
    #[arg(long, default_value = node::containerd::SOCKET)]
    containerd: PathBuf,
}

pub(super) async fn run(command: Command) -> Result<()> {
    match command {
        Command::Load(args) => tokio::task::spawn_blocking(move || load(&args)).await?,
        Command::Import(args) => import(&args.containerd, &args.file).await,
    }
}

async fn import(socket: &Path, file: &Path) -> Result<()> {
    let runtime = Containerd::connect(socket, Path::new("/run/ironclad/exec"), daemon::clock::now).await?;
    for name in node::images::import(&runtime, file).await? {
        println!("{name}");
    }
    Ok(())
}

/// The open file goes into each node as standard input: the nodes see no file of the machine.
fn load(args: &LoadArgs) -> Result<()> {
    let cluster = Cluster::load(&Directory::new(args.cluster.root(), &args.cluster.name))?;
    let mut archive = open(&args.file)?;
    let nodes = cluster.running_nodes()?;
    if nodes.is_empty() {
        bail!("cluster {} is not running; start it with: ironclad up --name {}", cluster.name(), cluster.name());
    }
    for host in nodes {
        archive.seek(SeekFrom::Start(0)).context("cannot rewind the archive")?;
        let status = Process::new(environment::executable()?)
            .args([
                "host-enter",
                &host.pid().to_string(),
                crate::cluster::EXECUTABLE,
                "--log",
                "warn",
                "image",
                "import",
                "-",
            ])
            .stdin(Stdio::from(archive.try_clone().context("cannot share the archive")?))
            .status()
            .context("cannot enter a node")?;
        if !status.success() {
            bail!("node {} could not import {}", host.name(), args.file.display());
        }
        eprintln!("loaded into {}", host.name());
    }
    Ok(())
}

fn open(file: &Path) -> Result<File> {
    if file != Path::new("-") {
        return File::open(file).with_context(|| format!("cannot open {}", file.display()));
    }
    let mut kept = tempfile::tempfile_in("/var/tmp").context("cannot make a temporary file")?;
    std::io::copy(&mut std::io::stdin().lock(), &mut kept).context("cannot keep standard input")?;
    Ok(kept)
}
