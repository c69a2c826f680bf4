//! Upstream's API server on an etcd of its own, both built from the Go module: what ours is compared with. It keeps its
//! promises the same way: every write waits for the disk, TLS, RBAC and Node authorization and all of admission are on.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::server::{Files, Process, wait};

/// It takes some seconds on an idle machine.
const READY_DEADLINE: Duration = Duration::from_secs(120);

/// Both processes end with their owner, the server first.
pub(crate) struct Upstream {
    server: Process,
    etcd: Process,
    files: Files,
}

impl Upstream {
    /// Starts both and waits until the server is ready.
    pub(crate) async fn start() -> Result<Self> {
        Self::start_in(Files::new()?).await
    }

    /// Kills both and starts them on what is stored; how many seconds that took.
    pub(crate) async fn restart(self) -> Result<(Self, f64)> {
        let Self { server, etcd, files } = self;
        drop(server);
        drop(etcd);
        let started = Instant::now();
        Ok((Self::start_in(files).await?, started.elapsed().as_secs_f64()))
    }

    async fn start_in(files: Files) -> Result<Self> {
        let [client, peer] = [free_port()?, free_port()?].map(|port| format!("http://127.0.0.1:{port}"));
        let etcd = Command::new(testkit::upstream::program("etcd")?)
            .arg(format!("--data-dir={}", files.path("etcd").display()))
            .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
            .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
            .args([format!("--initial-cluster=default={peer}"), "--log-level=warn".to_owned()])
            .stdout(Stdio::null())
            .stderr(File::create(files.path("etcd.log"))?)
            .spawn()?;
        let etcd = Process(etcd);
        let server = Command::new(testkit::upstream::program("kube-apiserver")?)
            .args(files.flags())
            .args([format!("--etcd-servers={client}"), "--service-cluster-ip-range=10.96.0.0/16".to_owned()])
            .stdout(Stdio::null())
            .stderr(File::create(files.path("log"))?)
            .spawn()?;
        let mut started = Self { server: Process(server), etcd, files };
        wait(&mut started.server, &started.files, Instant::now() + READY_DEADLINE).await?;
        Ok(started)
    }

    /// The server, and everything that it needs.
    pub(crate) fn pids(&self) -> Vec<u32> {
        vec![self.server.0.id(), self.etcd.0.id()]
    }

    pub(crate) fn kubeconfig(&self) -> std::path::PathBuf {
        self.files.path("kubeconfig")
    }
}

/// What the programs say of themselves.
pub(crate) fn versions() -> Result<String> {
    let first_line = |program: &Path| -> Result<String> {
        let output = Command::new(program).arg("--version").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
    };
    let [server, etcd] = ["kube-apiserver", "etcd"].map(testkit::upstream::program);
    Ok(format!("{}, {}", first_line(&server?)?, first_line(&etcd?)?))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
